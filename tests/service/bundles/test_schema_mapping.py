from __future__ import annotations

import re

import numpy as np
import pytest

from models import Field
from models.schema import UNSEEN
from service.bundles.schema_mapping import SchemaMapping, SchemaMismatchError

NAN = np.nan
LOAD = Field(name="load", kind="gauge")
UP = Field(name="up", kind="boolean")
STATE = Field(name="state", kind="category", categories=("idle", "busy"))


def category(*names: str, is_open: bool = False, required: bool = True) -> Field:
    return Field(name="state", kind="category", categories=names, open=is_open, required=required)


def test_the_same_schema_returns_the_same_matrix() -> None:
    matrix = np.array([[1, 0], [NAN, 1]], np.float32)
    converted, fits = SchemaMapping((LOAD, STATE), (LOAD, STATE)).convert(matrix)
    assert converted is matrix
    assert fits.tolist() == [True, True]


def test_columns_and_categories_are_mapped_by_name() -> None:
    target = (category("lost", "busy", "idle"), Field(name="new", kind="rate", required=False), UP)
    matrix = np.array([[0, 1, 12.5], [1, 0, 3]], np.float32)
    converted, fits = SchemaMapping((STATE, UP, LOAD), target).convert(matrix)
    np.testing.assert_array_equal(converted, np.array([[2, NAN, 1], [1, NAN, 0]], np.float32))
    assert converted.dtype == np.float32
    assert fits.tolist() == [True, True]
    assert matrix.tolist() == [[0, 1, 12.5], [1, 0, 3]]


@pytest.mark.parametrize("required", [True, False])
def test_a_category_that_is_unseen_fits_an_open_field_only(required: bool) -> None:
    source = category("idle", "lost", is_open=True, required=False)
    matrix = np.array([[0], [1], [UNSEEN]], np.float32)
    is_open = category("idle", is_open=True, required=required)
    converted, fits = SchemaMapping((source,), (is_open,)).convert(matrix)
    assert (converted[:, 0].tolist(), fits.tolist()) == ([0, UNSEEN, UNSEEN], [True] * 3)
    closed = category("idle", required=required)
    converted, fits = SchemaMapping((source,), (closed,)).convert(matrix)
    np.testing.assert_array_equal(converted[:, 0], np.array([0, NAN, NAN], np.float32))
    assert fits.tolist() == [True, False, False]


@pytest.mark.parametrize("field", [LOAD, UP, STATE, category("idle", "busy", is_open=True)])
def test_a_missing_value_stays_missing_and_fits_unless_it_is_required(field: Field) -> None:
    optional = field.model_copy(update={"required": False})
    other = field.model_copy(update={"required": False, "typical": 0.5})
    matrix = np.array([[NAN], [1]], np.float32)
    converted, fits = SchemaMapping((optional,), (other,)).convert(matrix)
    np.testing.assert_array_equal(converted, matrix)
    assert fits.tolist() == [True, True]
    _, fits = SchemaMapping((optional,), (field,)).convert(matrix)
    assert fits.tolist() == [False, True]


def test_a_required_field_that_is_not_there_is_a_mismatch() -> None:
    with pytest.raises(SchemaMismatchError, match="it needs the field 'load'"):
        SchemaMapping((UP,), (UP, LOAD))


def test_kinds_of_numbers_are_one_type_and_others_are_not() -> None:
    counter = LOAD.model_copy(update={"kind": "counter"})
    converted, _ = SchemaMapping((LOAD,), (counter,)).convert(np.array([[7.5]], np.float32))
    assert converted.tolist() == [[7.5]]
    boolean = Field(name="load", kind="boolean")
    why = "'load' is a boolean to it, and a gauge to the bundle that answers"
    with pytest.raises(SchemaMismatchError, match=re.escape(why)):
        SchemaMapping((LOAD,), (boolean,))


def test_no_records_are_converted_to_none() -> None:
    converted, fits = SchemaMapping((STATE, LOAD), (LOAD,)).convert(np.empty((0, 2), np.float32))
    assert (converted.shape, fits.shape) == ((0, 1), (0,))
