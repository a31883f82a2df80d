from __future__ import annotations

import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.dataset.labels import (
    Counts,
    carried_classes,
    describe,
    merged,
    small_classes,
    spellings,
)
from training.recipe import Recipe, RecipeError

LABELS = pl.Series(["Normal"] * 3 + ["NORMAL", "flap", "bgp  clear", "bgp clear", None])


def test_labels_that_differ_in_case_or_blanks_are_one_group_with_counts() -> None:
    assert spellings(LABELS) == [{"Normal": 3, "NORMAL": 1}, {"bgp  clear": 1, "bgp clear": 1}]


def test_a_group_of_spellings_is_one_line_that_says_what_to_do() -> None:
    line = describe({"Normal": 3, "NORMAL": 1})
    assert "'Normal' (3 rows), 'NORMAL' (1 rows)" in line
    assert "--merge-labels" in line


def test_spellings_are_united_to_the_named_or_else_the_most_common_one() -> None:
    united = merged(LABELS, LABELS, ["BGP Clear"])
    assert united.to_list() == ["Normal"] * 4 + ["flap", "BGP Clear", "BGP Clear", None]
    assert merged(pl.Series(["FLAP", "new"]), LABELS, []).to_list() == ["flap", "new"]


@given(st.lists(st.text("aAbB \t", min_size=1), min_size=1))
def test_united_labels_have_one_spelling_each(labels: list[str]) -> None:
    series = pl.Series(labels)
    assert spellings(merged(series, series, [])) == []


def counts(train: dict[str, int], dev: dict[str, int]) -> Counts:
    names = [[name for name, rows in each.items() for _ in range(rows)] for each in (train, dev)]
    return Counts.of(*(pl.Series(each, dtype=pl.String) for each in names))


def test_classes_that_are_carried_or_have_few_train_rows_or_no_dev_row_are_named() -> None:
    rows = counts({"good": 50, "rare": 2, "new": 10, "odd": 3}, {"good": 9, "rare": 18, "odd": 4})
    notes = [*small_classes(["good", "new", "rare", "odd"], ["odd"], rows, 10)]
    assert len(notes) == 3
    assert notes[0].startswith("class 'new' has no dev row")
    assert notes[1].startswith("class 'rare' has 2 train rows")
    assert notes[2].startswith("class 'odd' has 7 train and dev rows: it is not fitted")
    (first, *_) = small_classes(["good", "new", "rare", "odd"], ["odd"], rows, 30)
    assert first.startswith("no fault class has 30 train and dev rows")


@given(
    st.dictionaries(st.sampled_from("abcdef"), st.integers(1, 30), min_size=1),
    st.dictionaries(st.sampled_from("abcdef"), st.integers(0, 30)),
    st.integers(1, 40),
)
def test_what_is_carried_has_too_few_rows_and_a_fault_is_left_to_fit(
    train: dict[str, int], dev: dict[str, int], least: int
) -> None:
    train = {"good": 40} | train
    recipe = Recipe.model_validate(
        {"name": "x", "table": "t", "label": "l", "good": "good", "split": {"by": "random"}}
        | {"least_records": least}
    )
    rows = {name: train[name] + dev.get(name, 0) for name in train}
    if max(count for name, count in train.items() if name != "good") < 2:
        with pytest.raises(RecipeError, match="no fault class has two training rows"):
            carried_classes(counts(train, dev), recipe)
        return
    carried = carried_classes(counts(train, dev), recipe)
    left = train.keys() - {*carried, "good"}
    assert left
    assert "good" not in carried
    assert all(train[name] > 1 for name in left)
    assert all(train[name] == 1 or rows[name] < least for name in carried)
    assert all(rows[name] >= least for name in left) or all(train[name] == 1 for name in carried)


def test_too_little_good_traffic_is_refused_with_what_is_needed() -> None:
    recipe = Recipe.model_validate(
        {"name": "x", "table": "t", "label": "l", "good": "good", "split": {"by": "random"}}
    )
    with pytest.raises(RecipeError, match="'good', has 9 train and dev rows, 10 are needed"):
        carried_classes(counts({"good": 4, "slow": 30}, {"good": 5}), recipe)


def test_a_class_without_dev_rows_is_only_noted_where_they_calibrate() -> None:
    rows = counts({"good": 50, "new": 50}, {"good": 9})
    assert [*small_classes(["good", "new"], [], rows, 10, dev_calibrates=False)] == []
    assert len([*small_classes(["good", "new"], [], rows, 10)]) == 1
