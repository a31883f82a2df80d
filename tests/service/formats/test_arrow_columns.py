from __future__ import annotations

import time
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest

from models import Field, Schema
from models.schema import UNSEEN
from service.formats.arrow_reader import read
from service.formats.errors import MalformedInputError
from tests.support.streams import (
    NAN,
    batch,
    chunks,
    errors,
    matrix,
    stream,
)


@pytest.mark.parametrize(
    "kind",
    [
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
        *(pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    ],
)
def test_a_number_may_be_of_any_width(kind: pa.DataType) -> None:
    value = np.float16(3) if pa.types.is_float16(kind) else 3
    rate, loss = pa.array([value, value], kind), pa.array([value, None], kind)
    found = matrix(stream(batch(2, rx_rate=rate, loss=loss)))
    np.testing.assert_array_equal(found[:, :2], [[3, 3], [NAN, 3]])


@pytest.mark.parametrize("kind", [pa.decimal32(5, 1), pa.decimal128(20, 1), pa.decimal256(60, 1)])
def test_a_number_may_be_a_decimal(kind: pa.DataType) -> None:
    rate = pa.array([Decimal("1.5"), Decimal("-2.5")], kind)
    assert matrix(stream(batch(2, rx_rate=rate)))[:, 1].tolist() == [1.5, -2.5]
    huge = pa.array([Decimal(10) ** 50], pa.decimal256(60, 1))
    assert errors(stream(batch(rx_rate=huge)))[0]["got"] == "a number beyond ±3.4e+38"


@pytest.mark.parametrize(
    ("columns", "field", "got"),
    [
        ({"rx_rate": None}, "rx rate", "no such column"),
        ({"link": None}, "link", "no such column"),
        ({"other": pa.array([1])}, "other", "a column it does not have"),
        ({"rx_rate": pa.array(["1"])}, "rx rate", "a column of string"),
        ({"rx_rate": pa.array([True])}, "rx rate", "a column of bool"),
        ({"rx_rate": pa.array([1]).dictionary_encode()}, "rx rate", "a column of dictionary"),
        ({"rx_rate": pa.array([1], pa.timestamp("s"))}, "rx rate", "a column of timestamp"),
        ({"up": pa.array([1])}, "up", "a column of int64"),
        ({"up": pa.array([1], pa.int8()).cast(pa.bool8())}, "up", "a column of another type"),
        ({"link": pa.array([1])}, "link", "a column of int64"),
        ({"link": pa.array([b"fiber"])}, "link", "a column of binary"),
        ({"link": pa.array([1]).dictionary_encode()}, "link", "a column of dictionary"),
        ({"link": pa.array([["s3cr3t"]])}, "link", "a column of list"),
        ({"vendor": pa.array([{"s3cr3t": "a"}])}, "vendor", "a column of struct"),
        ({"vendor": pa.array(["a"]).cast(pa.json_())}, "vendor", "a column of another type"),
        (
            {"loss": pa.RunEndEncodedArray.from_arrays([1], [2.5])},
            "loss",
            "a column of run_end_encoded",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_named_with_what_it_is(
    columns: dict[str, pa.Array], field: str, got: str
) -> None:
    (error,) = errors(stream(batch(**columns)))
    assert error["field"] == field
    assert error["got"] == got
    assert "s3cr3t" not in str(error)
    assert "record" not in error


def test_a_column_that_is_there_twice_is_refused() -> None:
    one = batch()
    twice = pa.record_batch([*one.columns, one.column("up")], [*one.schema.names, "up"])
    (error,) = errors(stream(twice))
    assert (error["field"], error["expected"]) == ("up", "one column")


def test_a_column_that_is_not_required_may_be_absent_or_of_nulls() -> None:
    expected = [[NAN, 2.5, 1, 1, NAN]]
    np.testing.assert_array_equal(matrix(stream(batch(loss=None, vendor=None))), expected)
    body = stream(batch(loss=pa.nulls(1), vendor=pa.nulls(1)))
    np.testing.assert_array_equal(matrix(body), expected)


def test_nan_in_a_column_that_is_not_required_is_missing() -> None:
    body = stream(batch(2, loss=pa.array([NAN, 1.5])))
    np.testing.assert_array_equal(matrix(body)[:, 0], [NAN, 1.5])


def test_a_dictionary_of_many_strings_is_refused() -> None:
    words = pa.array([str(i) for i in range(70_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), words)
    (error,) = errors(stream(batch(vendor=column)))
    assert error["field"] == "vendor"
    assert error["got"] == "70000 strings"


def test_places_that_a_dictionary_does_not_have_are_refused() -> None:
    words = pa.array(["fiber", "radio"])
    for kind, value in ((pa.int8(), 2), (pa.int8(), -1), (pa.uint64(), 2**64 - 1)):
        indices = pa.array([0, value], kind)
        column = pa.DictionaryArray.from_arrays(indices, words, safe=False)
        with pytest.raises(MalformedInputError, match="a dictionary does not have"):
            chunks(stream(batch(2, link=column)))


@pytest.mark.alone
def test_many_views_of_one_long_string_cost_no_more_than_one() -> None:
    views = np.zeros((10_000, 4), np.int32)
    views[:, 0] = 1 << 20
    views[:, 1] = int.from_bytes(b"aaaa", "little")
    buffers = [None, pa.py_buffer(views), pa.py_buffer(b"a" * (1 << 20))]
    column = pa.Array.from_buffers(pa.string_view(), 10_000, buffers)
    words = pa.DictionaryArray.from_arrays([1] * 10_000, column)
    for vendor in (column, words):
        body = stream(batch(10_000, vendor=vendor))
        before, start = pa.total_allocated_bytes(), time.perf_counter()
        assert set(matrix(body)[:, 4].tolist()) == {UNSEEN}
        assert pa.total_allocated_bytes() - before < 1 << 22
        assert time.perf_counter() - start < 1


def test_strings_that_are_not_what_they_say_are_refused() -> None:
    rows = 3
    offsets = pa.py_buffer(np.array([0, 5, 4000, 10], np.int32))
    outside = pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(b"fiberradio")])
    latin = pa.array([b"fiber", b"\xff", b""]).view(pa.string())
    headers = np.array([[20, 0, 0, 999], [5, 0, 0, 0], [-1, 0, 0, 0]], np.int32)
    viewed = [None, pa.py_buffer(headers), pa.py_buffer(b"x" * 20)]
    views = pa.Array.from_buffers(pa.string_view(), rows, viewed)
    schema = Schema([Field(name="a", kind="category", categories=("a", "b" * 30), open=True)])
    for column in (outside, latin, views, pa.DictionaryArray.from_arrays([0, 0, 0], latin)):
        with pytest.raises(MalformedInputError, match="corrupt"):
            list(read(stream(pa.record_batch([column], ["a"])), schema, 50))
