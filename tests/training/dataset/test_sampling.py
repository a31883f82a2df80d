from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from training.dataset import sampling
from training.dataset.dataset import load_dataset
from training.dataset.reading import read_file
from training.dataset.sampling import Plan, Sample, choose
from training.recipe import Reading, Recipe, RecipeError


def plan(**changes: Any) -> Plan:
    given: dict[str, Any] = {
        "rows": 100,
        "label": "label",
        "left_out": (),
        "groups": ("device",),
        "time": "time",
        "seed": 0,
    }
    return Plan(**given | changes)


def taken_of(table: pl.DataFrame, how: Plan, batch: int = 1_000_000) -> Sample:
    """Choose from a table that comes in batches."""
    return choose(
        lambda names: table.select(names).iter_slices(batch), table.columns, len(table), how
    )


@st.composite
def tables(draw: st.DrawFn) -> pl.DataFrame:
    """Tables of a few classes of very different sizes, on a few devices, in any order of time."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    sizes = draw(st.lists(st.integers(1, 400), min_size=1, max_size=5))
    labels = random.permutation(np.repeat([f"c{c}" for c in range(len(sizes))], sizes))
    devices = draw(st.integers(1, 6))
    return pl.DataFrame(
        {
            "label": labels,
            "device": random.integers(0, devices, len(labels)),
            "time": random.permutation(len(labels)).astype(float),
        }
    )


@settings(max_examples=200, deadline=None)
@given(table=tables(), share=st.floats(0.05, 0.95), seed=st.integers(0, 9))
def test_every_class_and_group_is_kept_in_proportion(
    table: pl.DataFrame, share: float, seed: int
) -> None:
    rows = max(round(share * len(table)), 1)
    sample = taken_of(table, plan(rows=rows, seed=seed))
    taken = table[sample.rows]
    assert len(sample.rows) == rows
    assert (np.diff(sample.rows) > 0).all()  # none twice
    classes = table["label"].n_unique()
    fair = int(rows / classes / 2)
    for label, size in table["label"].value_counts().iter_rows():
        of_class, all_of_class = (each.filter(label=label) for each in (taken, table))
        assert sample.classes[label] == (len(of_class), size)
        assert len(of_class) >= min(size, fair)
        groups = all_of_class["device"].value_counts()
        if len(of_class) < len(groups):
            continue
        assert of_class["device"].n_unique() == len(groups)
        for device, count in groups.iter_rows():
            expected = 1 + (count - 1) * (len(of_class) - len(groups)) / max(size - len(groups), 1)
            assert abs(len(of_class.filter(device=device)) - expected) <= 1


@settings(max_examples=50, deadline=None)
@given(table=tables(), batch=st.integers(1, 500))
def test_the_batches_in_which_a_table_comes_change_nothing(table: pl.DataFrame, batch: int) -> None:
    how = plan(rows=max(len(table) // 3, 1))
    np.testing.assert_array_equal(taken_of(table, how, batch).rows, taken_of(table, how).rows)


def test_rows_of_a_group_lie_evenly_in_time() -> None:
    random = np.random.default_rng(1)
    times = random.permutation(10_000)
    table = pl.DataFrame({"label": ["a"] * 10_000, "device": times % 2, "time": times})
    taken = table[taken_of(table, plan(rows=100)).rows]
    for device in range(2):
        at = taken.filter(device=device)["time"].sort().to_numpy()
        assert [int(time // 200) for time in at] == [*range(50)]


def test_a_seed_gives_the_same_rows_again_and_another_seed_others() -> None:
    table = pl.DataFrame({"label": ["a", "b"] * 500, "device": [0] * 1000, "time": range(1000)})
    first, again, other = (taken_of(table, plan(seed=seed)).rows.tolist() for seed in (3, 3, 4))
    assert first == again != other


def test_more_groups_than_rows_are_sampled_too() -> None:
    table = pl.DataFrame({"label": ["a"] * 1000, "device": range(1000), "time": range(1000)})
    assert len(taken_of(table, plan(rows=100)).rows) == 100


def test_rows_without_a_label_are_not_taken_and_a_label_to_leave_out_is_seen_once() -> None:
    labels = [None, " gone ", "a", "b"] * 250
    table = pl.DataFrame({"label": labels, "device": [0] * 1000, "time": range(1000)})
    sample = taken_of(table, plan(left_out=("gone",)))
    taken = dict(table[sample.rows]["label"].value_counts().iter_rows())
    assert taken == {" gone ": 1, "a": 50, "b": 50}
    assert sample.classes == {"a": (50, 250), "b": (50, 250)}
    assert sample.weight("a") == 5
    assert sample.weight("carried along") == 1
    merged = replace(sample, classes={"Normal": (1, 40), "NORMAL": (1, 2), "normal": (2, 10)})
    assert merged.weight("normal") == 52 / 4


def test_without_any_of_the_columns_rows_are_taken_evenly() -> None:
    table = pl.DataFrame({"x": range(1000)})
    assert np.diff(taken_of(table, plan(), 64).rows).tolist() == [10] * 99


def test_what_a_recipe_names_is_what_rows_are_chosen_by() -> None:
    recipe = Recipe.model_validate(
        {
            "name": "n",
            "table": "t",
            "label": "label",
            "good": "good",
            "rows": 1000,
            "series": ["run", "device"],
            "event": "outage",
            "drop_labels": ["odd"],
            "split": {"by": "time", "column": "at", "within": "site"},
            "backtests": [{"name": "b", "split": {"by": "group", "column": "half"}}],
            "fit": {"seed": 4},
        }
    )
    groups = ("run", "device", "outage", "half", "site")
    assert Plan.of(recipe) == Plan(1000, "label", ("odd",), groups, "at", 4)


@pytest.fixture
def parquet(tmp_path: Path, make_table: Callable[..., pl.DataFrame]) -> Path:
    path = tmp_path / "t.parquet"
    table = make_table(900).with_columns(pl.col("vendor").cast(pl.Categorical))
    table.write_parquet(path, row_group_size=100)
    return path


def test_a_parquet_file_is_read_in_batches_as_if_it_had_been_read_whole(
    parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held: list[int] = []
    batches = pq.ParquetFile.iter_batches

    def watched(self: pq.ParquetFile, _: int, **options: Any) -> Any:
        for batch in batches(self, 64, **options):
            held.append(len(batch))
            yield batch

    monkeypatch.setattr(pq.ParquetFile, "iter_batches", watched)
    table = read_file(parquet, plan=plan(rows=300))
    assert max(held) <= 64
    assert table.sample is not None
    assert (len(table.rows), table.sample.of) == (300, 900)
    whole = read_file(parquet).rows.with_columns(pl.col("vendor").cast(pl.String))
    assert_frame_equal(table.rows, whole[table.sample.rows])
    assert table.notes[0].startswith("300 of 900 rows of t.parquet were taken")


def test_layout_of_row_groups_and_format_change_nothing(parquet: Path, tmp_path: Path) -> None:
    whole = read_file(parquet).rows.with_columns(pl.col("vendor").cast(pl.String))
    whole.write_parquet(tmp_path / "one.parquet")
    whole.write_ipc(tmp_path / "t.arrow")
    sampled = [
        read_file(path, plan=plan(rows=300)).rows
        for path in (parquet, tmp_path / "one.parquet", tmp_path / "t.arrow")
    ]
    assert_frame_equal(sampled[0], sampled[1])
    assert_frame_equal(sampled[0], sampled[2])


def test_a_table_is_taken_whole_unless_it_is_too_large_or_fewer_rows_are_asked_for(
    parquet: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for rows in (None, 900):
        table = read_file(parquet, plan=plan(rows=rows))
        assert (len(table.rows), table.sample) == (900, None)
    monkeypatch.setattr(sampling, "CELLS", 8 * 500)
    parquet.touch()  # another file to the cache
    assert len(read_file(parquet, plan=plan(rows=None)).rows) == 500


def test_places_of_rows_are_those_in_the_file(parquet: Path) -> None:
    table = read_file(parquet, plan=plan(rows=300))
    assert table.sample is not None
    place = f"row {table.sample.rows[7] + 1} (from 1)"
    assert table.places([7], Reading()) == [place]


def test_a_sample_becomes_a_dataset_that_says_so(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
) -> None:
    table = make_table(900).with_columns(octets_total=pl.col("time") // 3 * 7.0)
    table = table.with_columns(
        label=pl.when(pl.col("time") % 60 == 1).then(pl.lit("rare")).otherwise("label")
    )
    recipe = make_recipe(table, rows=300, time="time", series="device", least_records=5)
    dataset = load_dataset(recipe)
    assert sum(map(len, dataset.parts.values())) == 300
    assert dataset.sample is not None
    assert dataset.sample.classes["rare"] == (15, 15)
    assert "300 of 900 rows" in dataset.notes[0]
    # Rates would need the rows between those that were taken.
    assert "octets_total_per_s" not in dataset.schema.names
    assert "a rate needs the rows between" in dataset.dropped["octets_total"]


def test_a_sample_of_the_test_table_alone_gives_no_rates_either(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    counter = (pl.col("time") // 3 * 7.0).alias("octets_total")
    make_table(900, seed=1).with_columns(counter).write_csv(tmp_path / "later.csv")
    table = make_table(300).with_columns(counter)
    split = {"by": "time", "column": "time"}
    tables = {"test_table": tmp_path / "later.csv", "split": split}
    dataset = load_dataset(make_recipe(table, rows=400, time="time", series="device", **tables))
    assert dataset.sample is None
    assert len(dataset.test) == 400
    assert "octets_total_per_s" not in dataset.schema.names
    assert "a rate needs the rows between" in dataset.dropped["octets_total"]


def test_parts_of_a_second_table_are_those_of_the_rows_taken(
    make_table: Callable[..., pl.DataFrame],
    make_recipe: Callable[..., Recipe],
    tmp_path: Path,
) -> None:
    table, path = make_table(900), tmp_path / "parts.csv"
    table.select("part").write_csv(path)
    split = {"by": "column", "column": "part", "table": path}
    recipe = make_recipe(table.drop("part"), rows=300, split=split, time="time")
    for part, rows in load_dataset(recipe).parts.items():
        expected = table.filter(part=part)["time"]
        assert set(rows.table["time"]) <= set(expected)
        assert len(rows) > 50
    table.head(299).select("part").write_csv(path)
    with pytest.raises(RecipeError, match="has 299 rows, the table 900"):
        load_dataset(recipe)
