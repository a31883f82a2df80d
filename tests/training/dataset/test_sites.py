from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.profile import LEAST_RECORDS, level_of
from models.schema import Field, Schema
from training.dataset.dataset import load_dataset
from training.dataset.sites import adapt_sites
from training.recipe import Recipe, RecipeError

SCHEMA = Schema(
    (
        Field(name="load", kind="gauge", typical=100.0, spread=10.0),
        Field(name="ratio", kind="gauge", typical=0.5, spread=0.1, relative=True),
    )
)
RECIPE = Recipe.model_validate(
    {
        "name": "x",
        "table": "x.csv",
        "label": "label",
        "good": "good",
        "time": "at",
        "sites": ["network", "device"],
        "split": {"by": "random"},
    }
)


def two_sites(rows: int = 400) -> tuple[np.ndarray, pl.DataFrame]:
    """The same traffic at two devices, one of which sends it in other units; rows alternate."""
    random = np.random.default_rng(0)
    load, second = random.normal(size=rows), np.arange(rows) % 2 == 1
    matrix = np.stack([np.where(second, 7 + 3 * load, load), load], axis=1).astype(np.float32)
    table = pl.DataFrame(
        {
            "network": "a",
            "device": np.where(second, "r2", "r1"),
            "at": np.arange(rows, dtype=float),
        }
    )
    return matrix, table


def test_every_site_comes_to_the_levels_of_the_schema() -> None:
    matrix, table = two_sites()
    adapted = adapt_sites(matrix, table, SCHEMA, RECIPE)
    for device in ("r1", "r2"):
        first = (table["device"] == device).to_numpy().nonzero()[0][:LEAST_RECORDS]
        level = level_of(adapted[first, 0])
        assert level.typical == pytest.approx(100, abs=1e-3)
        assert level.spread == pytest.approx(10)
    np.testing.assert_array_equal(adapted[:, 1], matrix[:, 1])  # relative already


def test_a_profile_is_of_the_first_records_in_time_whatever_the_order_of_rows() -> None:
    matrix, table = two_sites()
    late = table["at"].to_numpy() > 300
    matrix[late, 0] *= 1000  # a fault after the learning period changes no other record
    adapted = adapt_sites(matrix, table, SCHEMA, RECIPE)
    order = np.random.default_rng(1).permutation(len(matrix))
    shuffled = adapt_sites(matrix[order], table[order], SCHEMA, RECIPE)
    np.testing.assert_array_equal(shuffled, adapted[order])
    matrix[late, 0] /= 1000
    np.testing.assert_allclose(
        adapt_sites(matrix, table, SCHEMA, RECIPE)[~late], adapted[~late], rtol=1e-6
    )


@settings(max_examples=30, deadline=None)
@given(scale=st.floats(0.01, 100), shift=st.floats(-1000, 1000))
def test_units_and_levels_of_a_site_make_no_difference(scale: float, shift: float) -> None:
    matrix, table = two_sites()
    plain = adapt_sites(matrix, table, SCHEMA, RECIPE)
    moved = matrix.astype(np.float64)
    second = (table["device"] == "r2").to_numpy()
    moved[second, 0] = moved[second, 0] * scale + shift
    adapted = adapt_sites(moved.astype(np.float32), table, SCHEMA, RECIPE)
    np.testing.assert_allclose(adapted, plain, atol=0.1 + 1e-4 * abs(shift) / scale)


def test_rows_without_a_site_are_at_the_common_levels_already() -> None:
    matrix, table = two_sites()
    table = table.with_columns(
        device=pl.when(pl.col("at") < 10).then(None).otherwise(pl.col("device"))
    )
    np.testing.assert_array_equal(adapt_sites(matrix, table, SCHEMA, RECIPE)[:10], matrix[:10])


def test_a_site_of_too_few_rows_is_refused_by_its_name() -> None:
    matrix, table = two_sites(100)
    with pytest.raises(RecipeError, match=r"site a / r1 has 50 rows, and a profile needs 100"):
        adapt_sites(matrix, table, SCHEMA, RECIPE)


def test_the_parts_of_a_dataset_share_the_profiles_of_their_sites(tmp_path: Path) -> None:
    matrix, table = two_sites()
    table = table.with_columns(
        load=matrix[:, 0], label=pl.Series(["good", "good", "bad", "bad"] * 100)
    )
    table.write_csv(tmp_path / "table.csv")
    split = {"by": "time", "column": "at"}
    recipe = Recipe.model_validate(
        RECIPE.model_dump() | {"table": tmp_path / "table.csv", "split": split}
    )
    dataset = load_dataset(recipe)
    assert dataset.schema.names == ("load",)
    assert any("needs a profile of each site" in note for note in dataset.notes)
    test = dataset.test
    np.testing.assert_array_equal(test.table["load"].to_numpy(), test.matrix[:, 0])
    of_device = [test.matrix[(test.table["device"] == d).to_numpy(), 0] for d in ("r1", "r2")]
    assert abs(np.median(of_device[0]) - np.median(of_device[1])) < np.std(of_device[0])
