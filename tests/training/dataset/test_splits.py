from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.dataset.splits import PARTS, assign_parts, rows_of_no_part
from training.recipe import RecipeError, Split


def cut_by(rows: pl.DataFrame, split: Split, seed: int = 0) -> pl.DataFrame:
    """The rows with their parts; all of one label, unless they have labels."""
    if "label" not in rows.columns:
        rows = rows.with_columns(label=pl.lit("good"))
    return assign_parts(rows, split, seed, "label")


def parts_of(rows: pl.DataFrame, seed: int = 0, **split: Any) -> list[str | None]:
    parts: list[str | None] = cut_by(rows, Split(**split), seed)["__part__"].to_list()
    return parts


@given(st.integers(20, 300), st.integers(0, 5), st.sampled_from(["random", "time"]))
def test_random_and_time_splits_keep_their_shares(rows: int, seed: int, by: str) -> None:
    table = pl.DataFrame({"t": np.random.default_rng(seed).permutation(rows)})
    column = "t" if by == "time" else None
    parts = parts_of(table, seed, by=by, column=column, shares=(0.5, 0.2, 0.3))
    assert [parts.count(part) for part in PARTS] == pytest.approx(
        [0.5 * rows, 0.2 * rows, 0.3 * rows], abs=1
    )


def test_a_random_split_is_decided_by_the_seed() -> None:
    table = pl.DataFrame({"a": range(100)})
    assert parts_of(table, 1, by="random") == parts_of(table, 1, by="random")
    assert parts_of(table, 1, by="random") != parts_of(table, 2, by="random")


def test_a_random_split_gives_every_label_its_shares() -> None:
    labels = ["good"] * 400 + ["slow"] * 40 + ["rare"] * 8
    split = Split(by="random", shares=(0.5, 0.25, 0.25))
    cut = cut_by(pl.DataFrame({"label": labels}), split, seed=3)
    for (label,), rows in cut.group_by("label"):
        counts = [(rows["__part__"] == part).sum() for part in PARTS]
        whole = labels.count(str(label))
        assert counts == [whole // 2, whole // 4, whole // 4]


def test_a_time_split_trains_before_dev_and_dev_before_test() -> None:
    table = pl.DataFrame({"t": np.random.default_rng(0).permutation(200) * 0.5})
    cut = cut_by(table, Split(by="time", column="t"))
    t = {part: cut.filter(pl.col("__part__") == part)["t"].to_numpy() for part in PARTS}
    assert t["train"].max() < t["dev"].min()
    assert t["dev"].max() < t["test"].min()


def test_a_time_split_within_runs_cuts_each_run_on_its_own() -> None:
    runs = ["a"] * 40 + ["b"] * 80 + [None] * 20
    time = np.random.default_rng(0).permutation(140)
    table = pl.DataFrame({"run": runs, "t": time})
    split = Split(by="time", column="t", within="run", shares=(0.5, 0.25, 0.25))
    cut = cut_by(table, split)
    for (_,), rows in cut.group_by("run"):
        pieces = [rows.filter(pl.col("__part__") == part) for part in PARTS]
        assert [len(piece) for piece in pieces] == [len(rows) // 2, len(rows) // 4, len(rows) // 4]
        ends = [(piece["t"].to_numpy().min(), piece["t"].to_numpy().max()) for piece in pieces]
        assert ends[0][1] < ends[1][0]
        assert ends[1][1] < ends[2][0]


def test_words_that_are_no_part_are_noted_and_empty_cells_are_not() -> None:
    table = pl.DataFrame({"part": ["Train", "train", "dev ", "Train", None, "", "test"]})
    assert rows_of_no_part(table, Split(by="column", column="part"), None) == [
        "2 rows have 'Train' in 'part', which is no part, and are left out",
        "1 rows have 'dev ' in 'part', which is no part, and are left out",
    ]
    assert rows_of_no_part(table, Split(by="random"), None) == []


@given(st.lists(st.integers(1, 30), min_size=4, max_size=40), st.integers(0, 9))
def test_a_group_split_keeps_groups_whole(sizes: list[int], seed: int) -> None:
    groups = np.repeat(np.arange(len(sizes)), sizes)
    cut = cut_by(pl.DataFrame({"g": groups}), Split(by="group", column="g"), seed)
    assert cut.group_by("g").agg(pl.col("__part__").n_unique())["__part__"].max() == 1
    assert cut["__part__"].null_count() == 0


@given(st.integers(40, 80), st.integers(0, 9))
def test_a_group_split_keeps_its_shares_to_within_a_group(groups: int, seed: int) -> None:
    parts = parts_of(pl.DataFrame({"g": range(groups)}), seed, by="group", column="g")
    assert [parts.count(part) / groups for part in PARTS] == pytest.approx(
        [0.6, 0.15, 0.25], abs=1.01 / groups
    )


@pytest.mark.parametrize("groups", range(3, 13))
def test_a_group_split_leaves_no_part_empty(groups: int) -> None:
    table = pl.DataFrame({"g": [i % groups for i in range(groups * 10)]})
    for seed in range(5):
        assert set(parts_of(table, seed, by="group", column="g")) == set(PARTS)


def test_rows_without_a_group_stay_together() -> None:
    table = pl.DataFrame({"g": ["a", None, "b", None, "c", "d", None, "e"] * 5})
    cut = cut_by(table, Split(by="group", column="g"))
    assert cut.filter(pl.col("g").is_null())["__part__"].n_unique() == 1


def test_fewer_than_three_groups_are_refused() -> None:
    table = pl.DataFrame({"site": ["a", "b"] * 10})
    with pytest.raises(RecipeError, match="'site' has 2 groups; a split needs at least three"):
        cut_by(table, Split(by="group", column="site"))


def test_a_given_column_leaves_out_rows_with_any_other_value() -> None:
    given_parts = ["train", "dev", "test", "later", None, "", "Train", "train"]
    parts = parts_of(pl.DataFrame({"part": given_parts}), by="column", column="part")
    assert parts == ["train", "dev", "test", None, None, None, None, "train"]


def test_a_split_may_come_from_a_second_table(tmp_path: Path) -> None:
    pl.DataFrame({"s": ["test", "train", "dev"]}).write_csv(tmp_path / "s.csv")
    split: dict[str, Any] = {"by": "column", "column": "s", "table": tmp_path / "s.csv"}
    assert parts_of(pl.DataFrame({"a": [1, 2, 3]}), **split) == ["test", "train", "dev"]
    with pytest.raises(RecipeError, match=r"s\.csv has 3 rows, the table 4"):
        parts_of(pl.DataFrame({"a": [1, 2, 3, 4]}), **split)


@pytest.mark.parametrize(
    ("split", "role"),
    [
        ({"by": "column", "column": "no"}, "split column"),
        ({"by": "time", "column": "no"}, "time column"),
        ({"by": "time", "column": "a", "within": "no"}, "column to split within"),
        ({"by": "group", "column": "no"}, "group column"),
    ],
)
def test_a_column_that_is_not_there_is_named_with_those_that_are(
    split: dict[str, Any], role: str
) -> None:
    with pytest.raises(RecipeError, match=f"no {role} 'no'; its columns are a, b, label"):
        parts_of(pl.DataFrame({"a": [1, 2], "b": [3, 4]}), **split)


def test_times_written_as_text_are_ordered_as_times() -> None:
    hours = [f"2026-01-31 {hour}:00:00" for hour in ("09", "10", "23", "11")]
    table = pl.DataFrame({"t": hours, "label": ["a"] * 4})
    split = Split(by="time", column="t", shares=(0.5, 0.25, 0.25))
    parts = assign_parts(table, split, 0, "label").to_series(-1).to_list()
    assert parts == ["train", "train", "test", "dev"]


ORDERED = [
    ["2026-01-31T23:59:59Z", "2026-02-01T00:00:00.5Z", "2026-02-01T02:00:00+01:00"],
    ["2026-01-31 23:59:59+0000", "2026-01-31 19:00:00.000000001-05:00", "2026-02-01 00:00:01 UTC"],
    ["31.1.2026 9:30", "31.01.2026 10:30", "01.02.2026 00:00:00,5"],
    ["30.12.2025", "31.12.2025", "1.1.2026"],
    ["2026-01-31", "2026-02-01", "2026-02-02"],
    ["2026-01-31T10:00", "2026-01-31 10:01:00", "2026-01-31T10:01:00.25"],
]


@pytest.mark.parametrize("times", ORDERED)
def test_times_of_every_form_are_ordered_as_times(times: list[str]) -> None:
    table = pl.DataFrame({"t": times[::-1], "label": ["a"] * 3})
    split = Split(by="time", column="t", shares=(0.34, 0.33, 0.33))
    assert assign_parts(table, split, 0, "label")["__part__"].to_list() == ["test", "dev", "train"]


@pytest.mark.parametrize(
    ("times", "complaint"),
    [
        (["1/1/2017 0:00", "10/1/2017 0:00"], "text that is no time, such as '1/1/2017 0:00'"),
        (["2026-02-30", "2026-02-01"], "text that is no time, such as '2026-02-30'"),
        (["2026-01-31T10:00Z", "2026-01-31T10:01"], "some times of 't' have an offset and some"),
        ([1, None], "1 rows have no"),
    ],
)
def test_times_that_cannot_be_ordered_are_refused(times: list[object], complaint: str) -> None:
    table = pl.DataFrame({"t": times, "label": ["a"] * 2})
    with pytest.raises(RecipeError, match=complaint):
        assign_parts(table, Split(by="time", column="t"), 0, "label")


def test_a_column_name_with_blanks_is_shown_with_them() -> None:
    with pytest.raises(RecipeError, match=r"its columns are a, ' b', label"):
        parts_of(pl.DataFrame({"a": [1], " b": [2]}), by="column", column="b")
