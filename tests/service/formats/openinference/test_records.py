from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Field, RecordError, Schema
from service.formats.openinference.request import read
from tests.support.tensors import (
    COLUMNS,
    INF,
    NAN,
    ROW,
    SCHEMA,
    binary,
    body,
    columns,
    errors,
    matrix,
    tensor,
    whole,
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "loss": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "rx rate": st.none() | st.floats(allow_nan=False, allow_infinity=False),
    "up": st.none() | st.booleans(),
    "link": st.none() | st.sampled_from(["fiber", "radio", "copper", ","]),
    "vendor": st.none() | st.sampled_from(["a", "b", "other", '","', "é"]),
}
GOOD: dict[str, Any] = {"loss": None, "rx rate": 2.5, "up": True, "link": "radio", "vendor": "c"}
RECORDS = st.lists(st.fixed_dictionaries(VALUES) | st.just(GOOD), min_size=1, max_size=300)
KINDS = {"loss": "FP64", "rx rate": "FP64", "up": "BOOL", "link": "BYTES", "vendor": "BYTES"}


@settings(deadline=None)
@given(records=RECORDS, order=st.permutations(SCHEMA.names), nested=st.booleans())
def test_tensors_of_fields_are_taken_exactly_when_the_schema_takes_their_records(
    records: list[dict[str, Any]], order: list[str], nested: bool
) -> None:
    inputs = []
    for name in order:
        values = [record[name] for record in records]
        shape = [len(records), 1] if nested else [len(records)]
        data = [[value] for value in values] if nested else values
        inputs.append(tensor(name, shape, KINDS[name], data))
    sent = body(*inputs)
    try:
        expected = SCHEMA.encode(records)
    except RecordError as error:
        first = error.faults[0]
        found = errors(sent)[0]
        assert found == {
            "record": first.record,
            "field": first.field,
            "expected": first.expected,
            "got": first.got,
        }
        return
    np.testing.assert_array_equal(matrix(sent), expected)


@settings(deadline=None)
@given(
    records=st.lists(st.fixed_dictionaries(VALUES), min_size=1, max_size=300), nested=st.booleans()
)
def test_the_tensor_of_all_fields_holds_what_the_schema_encodes(
    records: list[dict[str, Any]], nested: bool
) -> None:
    try:
        expected = SCHEMA.encode(records)
    except RecordError:
        return
    data = expected.astype(object)
    data[np.isnan(expected)] = None
    sent = whole((data if nested else data.ravel()).tolist(), len(records))
    np.testing.assert_array_equal(matrix(sent), expected)
    np.testing.assert_array_equal(matrix(*binary(("records", expected, "FP32"))), expected)


def test_a_field_may_be_called_records() -> None:
    schema = Schema([Field(name="records", kind="gauge")])
    (chunk,) = read(body(tensor("records", [2], "FP32", [1, 2])), None, schema, 5).chunks
    assert chunk.matrix.tolist() == [[1], [2]]


def test_an_empty_string_may_be_a_category() -> None:
    schema = Schema([Field(name="a", kind="category", categories=("x", ""))])
    sent, length = binary(("a", np.array(["", "x"], object), "BYTES"))
    (chunk,) = read(sent, length, schema, 5).chunks
    assert chunk.matrix.tolist() == [[1], [0]]


@pytest.mark.parametrize(
    ("at", "value", "expected", "got"),
    [
        (0, 1e39, SCHEMA["loss"].expected, "a number beyond ±3.4e+38"),
        (1, None, SCHEMA["rx rate"].expected, "null"),
        (2, 2, "a code from 0 to 1", "a number"),
        (2, 0.5, "a code from 0 to 1", "a number"),
        (2, None, "a code from 0 to 1", "null"),
        (3, 2, "a code from 0 to 1", "a number"),
        (3, -1, "a code from 0 to 1", "a number"),
        (4, 2, "a code from -1 to 1", "a number"),
        (4, -0.5, "a code from -1 to 1", "a number"),
    ],
)
def test_a_number_that_does_not_fit_is_named_with_what_it_is(
    at: int, value: float | None, expected: str, got: str
) -> None:
    row: list[float | None] = [*ROW]
    row[at] = value
    (error,) = errors(whole([*ROW, *row], 2, "FP64"))
    assert error == {"record": 1, "field": SCHEMA.names[at], "expected": expected, "got": got}
    if value is not None:
        (error,) = errors(*binary(("records", np.array([ROW, row]), "FP64")))
        assert (error["record"], error["got"]) == (1, got)


@pytest.mark.parametrize(
    ("value", "got"), [(NAN, "NaN"), (INF, "an infinite number"), (-INF, "an infinite number")]
)
def test_binary_numbers_that_are_not_finite_are_refused(value: float, got: str) -> None:
    array = np.array([[1, value, 1, 1, 0]], np.float32)
    for sent, length in (
        binary(("records", array, "FP32")),
        binary(("records", array.astype(np.float16), "FP16")),
    ):
        (error,) = errors(sent, length)
        assert (error["field"], error["got"]) == ("rx rate", got)


def test_a_number_is_bounded_exactly() -> None:
    largest = float(np.finfo(np.float32).max)
    beyond = float(np.nextafter(largest, INF))
    for sign in (1, -1):
        rate = tensor("rx rate", [1], "FP64", [sign * largest])
        assert matrix(columns(rx_rate=rate))[0, 1] == sign * largest
        assert matrix(whole([1, sign * largest, 1, 1, 0], 1, "FP64"))[0, 1] == sign * largest
        rate = tensor("rx rate", [1], "FP64", [sign * beyond])
        for sent in (columns(rx_rate=rate), whole([1, sign * beyond, 1, 1, 0], 1, "FP64")):
            assert errors(sent)[0]["got"] == "a number beyond ±3.4e+38"


def test_faults_are_told_by_their_place_and_at_most_ten_of_them() -> None:
    rows = np.tile(np.array(ROW, np.float32), (1000, 1))
    rows[600, 1] = rows[601, 2] = NAN
    found = errors(*binary(("records", rows, "FP32")))
    assert [(error["record"], error["field"]) for error in found] == [(600, "rx rate"), (601, "up")]
    rows[:] = INF
    assert len(errors(*binary(("records", rows, "FP32")))) == 10


@pytest.mark.parametrize(
    ("sent", "field", "expected"),
    [
        (body(), "rx rate", "a tensor of FP32"),
        (body(tensor("records", [1, 5], "FP32")), "records", "either data or"),
        (body(tensor("records", [1, 5], "BYTES", ["a"])), "records", "the data type FP16 or FP32"),
        (body(tensor("records", [1, 5], "odd", [1])), "records", "the data type"),
        (body(tensor("records", [5], "FP32", ROW)), "records", "the shape [n, 5]"),
        (body(tensor("records", [1, 4], "FP32", ROW)), "records", "the shape [n, 5]"),
        (body(tensor("records", [1, 5, 1], "FP32", ROW)), "records", "the shape [n, 5]"),
        (body(tensor("records", [], "FP32", ROW)), "records", "the shape [n, 5]"),
        (body(tensor("records", [1] * 100_000, "FP32", ROW)), "records", "the shape [n, 5]"),
        (body(tensor("records", ["1", 5], "FP32", ROW)), "records", "a shape like"),  # type: ignore[list-item]
        (body(tensor("records", [1.0, 5], "FP32", ROW)), "records", "a shape like"),  # type: ignore[list-item]
        (body(tensor("records", [10**30, 5], "FP32", ROW)), "inputs", "1 to 20000 records"),
        (whole(ROW, 0), "inputs", "1 to 20000 records"),
        (whole(ROW, -1), "inputs", "1 to 20000 records"),
        (whole(ROW, 20_001), "inputs", "1 to 20000 records"),
        (whole(ROW, 1 << 62), "inputs", "1 to 20000 records"),
        (whole(ROW, 2), "records", "data of its shape"),
        (whole(ROW * 2), "records", "data of its shape"),
        (whole([]), "records", "data of its shape"),
        (whole([ROW[:4], ROW[:4]]), "records", "data of its shape"),
        (whole([[ROW]]), "records", "data of its shape"),
        (whole([1, [2], 3, 4, 5]), "records", "data of its shape"),
        (whole(["1", 2, 3, 4, 5]), "records", "data of its shape"),
        (whole([True, 2, 3, 4, 5]), "records", "data of its shape"),
        (whole(5), "records", "data of its shape"),
        (whole("[1,2,3,4,5]"), "records", "data of its shape"),
        (whole({"cut": 0}), "records", "data of its shape"),
        (whole([1.5, 2, 3, 4, 5], 1, "INT32"), "records", "data of its shape"),
        (whole([10**400, 2, 1, 1, 0], 1, "INT64"), "records", "data of its shape"),
        (body(tensor("records", [1, 5], "FP32", ROW), COLUMNS["up"]), "records", "the tensor"),
        (body(tensor("other", [1], "FP32", [1])), "other", "the tensor records alone"),
        (body(COLUMNS["up"], COLUMNS["up"]), "up", "the tensor records alone"),
        (columns(up=None), "up", "a tensor of BOOL"),
        (columns(rx_rate=None), "rx rate", "a tensor of FP32"),
        (columns(up=tensor("up", [1], "FP32", [1])), "up", "the data type BOOL"),
        (columns(up=tensor("up", [1], "BOOL", [1])), "up", "data of its shape and of BOOL"),
        (columns(link=tensor("link", [1], "FP32", [1])), "link", "the data type BYTES"),
        (columns(link=tensor("link", [1], "BYTES", [1])), "link", "data of its shape"),
        (columns(link=tensor("link", [1], "BYTES", ["fiber"] * 2)), "link", "data of its shape"),
        (columns(link=tensor("link", [1], "BYTES", [["fiber"]])), "link", "data of its shape"),
        (columns(loss=tensor("loss", [1], "BOOL", [True])), "loss", "the data type FP16"),
        (columns(loss=tensor("loss", [1, 2], "FP32", [1, 2])), "loss", "the shape [n] or [n, 1]"),
        (columns(loss=tensor("loss", [2], "FP32", [1, 2])), "inputs", "tensors of one length"),
        (body(outputs=[{"name": "odd"}]), "odd", "outputs among label"),
        (body(outputs=[{"name": "label"}] * 2), "label", "outputs among label"),
        (
            body(outputs=[{"name": "label", "parameters": {"classification": 3}}]),
            "label",
            "an output as it is",
        ),
    ],
)
def test_a_tensor_that_does_not_fit_is_named_with_what_was_expected(
    sent: bytes, field: str, expected: str
) -> None:
    (error,) = errors(sent)
    assert error["field"] == field
    assert error["expected"].startswith(expected)
    assert "record" not in error
