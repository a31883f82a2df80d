"""The table that is shipped, against what its README says of it."""

from __future__ import annotations

import hashlib
import re
from pathlib import Path

import polars as pl
import pytest

from training.dataset.splits import PARTS
from training.dataset.tables import read_labelled
from training.recipe import Recipe

TRAINING = Path(__file__).parents[2] / "training"
DATA = TRAINING / "data/cisco-iosxr"
TABLE = DATA / "cisco_iosxr_features.csv.gz"
UNUSED = ("recovering", "port_flap_elsewhere")
KEYS = ("run", "event_index")


@pytest.fixture(scope="module")
def readme() -> str:
    return (DATA / "README.md").read_text()


@pytest.fixture(scope="module")
def splits() -> pl.DataFrame:
    return pl.read_csv(DATA / "splits.csv.gz")


def table_rows(text: str, header: str) -> list[list[str]]:
    """Cells of the Markdown table that starts with this header."""
    lines = text[text.index(header) :].split("\n\n", maxsplit=1)[0].splitlines()[2:]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_is_the_one_whose_hash_the_readme_states(readme: str) -> None:
    digest = hashlib.sha256(TABLE.read_bytes()).hexdigest()
    assert digest in readme


def test_rows_runs_and_devices_are_as_stated(readme: str, shipped: pl.DataFrame) -> None:
    assert "15,771 records of 11 IOS-XR routers" in " ".join(readme.split())
    assert len(shipped) == 15_771
    assert shipped["device"].n_unique() == 11
    runs = {row[0] for row in table_rows(readme, "| run | when |")}
    assert set(shipped["run"]) == runs


def test_every_label_has_as_many_rows_as_stated(readme: str, shipped: pl.DataFrame) -> None:
    stated = {row[0]: int(row[-1]) for row in table_rows(readme, "| label | meaning |")}
    assert dict(shipped["label"].value_counts().iter_rows()) == stated


def test_as_many_faults_were_injected_as_stated(readme: str, shipped: pl.DataFrame) -> None:
    stated = {row[0]: int(row[2].split()[0]) for row in table_rows(readme, "| run | when |")}
    events = shipped.filter(pl.col("event_index") >= 0).group_by("run")
    counts = dict(events.agg(pl.col("event_index").n_unique()).iter_rows())
    assert counts == stated


def test_ten_columns_are_no_fields_and_46_are(readme: str, shipped: pl.DataFrame) -> None:
    recipe = Recipe.read(TRAINING / "iosxr.toml", {})
    columns = set(shipped.columns) - {"all", "split_a"}
    others = {*recipe.ignore, *recipe.context, recipe.label}
    assert others < columns
    assert len(others) == 10
    assert len(columns - others) == 46
    for name in others:
        assert f"`{name}`" in readme
    for name in columns - others:
        assert re.match(r"(rel|rate|relsum|minratio|maxratio|stdratio|fracdown)_", name)


def test_the_shipped_recipe_leaves_out_the_labels_that_the_readme_leaves_out(
    readme: str,
) -> None:
    recipe = Recipe.read(TRAINING / "iosxr.toml", {})
    left_out = {r[0] for r in table_rows(readme, "| label | meaning |") if "left out" in r[1]}
    assert set(recipe.drop_labels) == left_out == set(UNUSED)


def test_split_all_is_that_of_the_boundaries_in_the_readme(
    readme: str, shipped: pl.DataFrame, splits: pl.DataFrame
) -> None:
    borders = {r[0]: (int(r[1]), int(r[2])) for r in table_rows(readme, "| run | dev from |")}
    assert set(borders) == set(shipped["run"])
    expected = [
        PARTS[(time >= borders[run][0]) + (time >= borders[run][1])]
        for run, time in shipped.select("run", "time").iter_rows()
    ]
    assert splits["all"].to_list() == expected
    assert splits["row"].to_list() == list(range(len(shipped)))


def test_split_a_is_that_of_the_readme(
    readme: str, shipped: pl.DataFrame, splits: pl.DataFrame
) -> None:
    found = re.search(r"train on run bgpclear_first before (\d+)", readme)
    assert found
    border = int(found[1])
    expected = [
        {"bgpclear_first": PARTS[time >= border], "bgpclear_second": "test"}.get(run, "none")
        for run, time in shipped.select("run", "time").iter_rows()
    ]
    given = [part if part in PARTS else "none" for part in splits["a"].to_list()]
    assert given == expected


@pytest.mark.parametrize("split", ["all", "split_a"])
def test_no_event_has_records_on_two_sides(shipped: pl.DataFrame, split: str) -> None:
    used = shipped.filter(
        ~pl.col("label").is_in(UNUSED) & (pl.col("event_index") >= 0) & pl.col(split).is_in(PARTS)
    )
    assert len(used) > 500
    sides = used.group_by(KEYS).agg(pl.col(split).n_unique().alias("sides"))
    assert sides.filter(pl.col("sides") > 1).is_empty()


def test_both_splits_have_every_part_and_the_recipe_can_cut_by_them() -> None:
    recipe = Recipe.read(TRAINING / "iosxr.toml", {})
    for split in (recipe.split, *(each.split for each in recipe.backtests)):
        parts = read_labelled(recipe, split).parts
        faults = {part: set(rows["label"]) - {"normal"} for part, rows in parts.items()}
        assert all(len(found) >= 2 for found in faults.values())
        assert faults["test"] <= faults["train"]


def test_the_licence_of_the_data_travels_with_it(readme: str) -> None:
    text = (DATA / "LICENSE.CDLA-Permissive-1.0.txt").read_text()
    assert "Community Data License Agreement" in text
    assert "Permissive" in text
    assert "1.0" in text
    assert len(text) > 8000
    assert "LICENSE.CDLA-Permissive-1.0.txt" in readme
    assert "Permissive, 1.0" in Recipe.read(TRAINING / "iosxr.toml", {}).about
