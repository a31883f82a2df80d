from __future__ import annotations

import polars as pl
from hypothesis import given
from hypothesis import strategies as st

from training.dataset.labels import describe, merged, small_classes, spellings

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


def test_classes_of_few_train_rows_or_no_dev_row_are_named_with_their_counts() -> None:
    notes = [
        *small_classes(
            ["good", "rare", "new"], {"good": 50, "rare": 2, "new": 10}, {"good": 9, "rare": 1}
        )
    ]
    assert len(notes) == 2
    assert notes[0].startswith("class 'rare' has 2 train rows")
    assert notes[1].startswith("class 'new' has no dev row")
