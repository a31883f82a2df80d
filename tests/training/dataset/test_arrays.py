from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import Field, Schema
from training.dataset.arrays import (
    FitError,
    check_columns,
    checked_label,
    classes_of,
    hold_out,
    labelled,
    schema_of,
)
from training.dataset.dataset import Rows
from training.recipe import RecipeError


def numbered(labels: list[int]) -> Rows:
    """Rows whose only value is their place."""
    return Rows(np.arange(len(labels), dtype=np.float32)[:, None], np.array(labels, dtype=np.int64))


@given(
    st.lists(st.integers(2, 30), min_size=2, max_size=5).filter(lambda counts: max(counts) > 2),
    st.floats(0.01, 0.99),
    st.integers(0, 100),
)
def test_each_class_gives_a_share_and_keeps_two_records(
    counts: list[int], share: float, seed: int
) -> None:
    rows = numbered(np.repeat(range(len(counts)), counts).tolist())
    left, drawn = hold_out(rows, share, np.random.default_rng(seed))
    places = np.concatenate([left.matrix, drawn.matrix])[:, 0].astype(int)
    assert sorted(places.tolist()) == list(range(len(rows.labels)))
    for part in (left, drawn):
        np.testing.assert_array_equal(rows.labels[part.matrix[:, 0].astype(int)], part.labels)
    for c, count in enumerate(counts):
        taken = int((drawn.labels == c).sum())
        assert count - taken >= 2
        assert taken >= min(1, count - 2)
        if 1 <= round(count * share) <= count - 2:
            assert taken == round(count * share)


def test_where_every_class_has_two_records_none_can_be_set_aside() -> None:
    with pytest.raises(FitError, match="no class has a third record"):
        hold_out(numbered([0, 0, 1, 1]), 0.5, np.random.default_rng(0))


def test_classes_are_sorted_and_indexed() -> None:
    classes, labels = classes_of(np.array(["b", "a", "b", "c", "a", "c"]))
    assert classes.tolist() == ["a", "b", "c"]
    assert labels.tolist() == [1, 0, 1, 2, 0, 2]


def test_labels_of_other_records_are_found_among_the_classes() -> None:
    matrix = np.zeros((3, 1), dtype=np.float32)
    rows = labelled(matrix, np.array([30, 10, 30]), np.array([10, 20, 30]))
    assert rows.labels.tolist() == [2, 0, 2]
    assert rows.labels.dtype == np.int64
    with pytest.raises(FitError, match="dev has the class 40"):
        labelled(matrix, np.array([30, 40, 30]), np.array([10, 20, 30]))


def test_a_column_of_numbers_needs_one_and_a_column_of_categories_does_not() -> None:
    schema = Schema(
        [Field(name="g", kind="gauge"), Field(name="c", kind="category", categories=("a",))]
    )
    nan = float("nan")
    check_columns(schema, np.array([[1, nan], [nan, nan]], dtype=np.float32))
    with pytest.raises(FitError, match="'g' is missing in every training record"):
        check_columns(schema, np.array([[nan, 0], [nan, 0]], dtype=np.float32))


def test_a_matrix_has_the_fields_it_is_given_or_numbers() -> None:
    made = schema_of(None, 2, None)
    assert made.names == ("x0", "x1")
    assert {field.kind for field in made.fields} == {"gauge"}
    assert schema_of(None, 2, ["a", "b"]).names == ("a", "b")
    assert schema_of(made, 2, None) is made
    assert schema_of(made, 2, ["x0", "x1"]) is made
    with pytest.raises(FitError, match="not the schema's fields"):
        schema_of(made, 2, ["x1", "x0"])
    with pytest.raises(FitError, match="X has 3 columns, the schema 2 fields"):
        schema_of(made, 3, None)


def test_an_error_is_a_value_error_and_a_recipe_error() -> None:
    assert issubclass(FitError, ValueError)
    assert issubclass(FitError, RecipeError)


@pytest.mark.parametrize(
    ("label", "classes", "expected"),
    [
        ("c", ["a", "b"], "c"),
        (np.str_("c"), ["a", "b"], "c"),
        (5, [1, 2], 5),
        (np.int8(5), [1, 2], 5),
        (5.0, [1, 2], 5),
        (2**62 + 1, [1, 2], 2**62 + 1),
        (True, [False, True], 1),
        (np.bool_(True), [False, True], 1),
        (5, [1.5, 2.5], 5),
        (0.25, [1.5, 2.5], 0.25),
    ],
)
def test_a_label_is_taken_in_the_kind_of_the_classes(
    label: Any, classes: list[Any], expected: Any
) -> None:
    found = checked_label(label, np.array(classes))
    assert found == expected
    assert type(found) is not float or isinstance(classes[0], float)


@pytest.mark.parametrize(
    ("label", "classes", "kind"),
    [
        (1, ["a", "b"], "text"),
        (None, ["a", "b"], "text"),
        (b"c", ["a", "b"], "text"),
        ("1", [1, 2], "whole numbers"),
        (2.5, [1, 2], "whole numbers"),
        (math.nan, [1, 2], "whole numbers"),
        (math.inf, [1, 2], "whole numbers"),
        (math.nan, [1.5, 2.5], "numbers"),
        (np.float32("nan"), [1.5, 2.5], "numbers"),
        (1j, [1.5, 2.5], "numbers"),
        ([1], [1, 2], "whole numbers"),
    ],
)
def test_a_label_of_another_kind_is_refused(label: Any, classes: list[Any], kind: str) -> None:
    with pytest.raises(ValueError, match=f"cannot be enrolled: labels of this model are {kind}$"):
        checked_label(label, np.array(classes))
