from __future__ import annotations

import struct

import numpy as np
import pytest

from models import Field, RecordError, Schema
from models.schema import UNSEEN
from service.formats.errors import MalformedInputError
from service.formats.openinference.request import read
from tests.support.tensors import (
    COLUMNS,
    NAN,
    NUMBERS,
    ROW,
    SCHEMA,
    binary,
    body,
    by_hand,
    columns,
    errors,
    many,
    matrix,
    size_of,
    tensor,
    triton,
    whole,
)

DTYPES = dict(zip(NUMBERS, list("efdbhiqBHIQ"), strict=True))


@pytest.mark.parametrize("datatype", NUMBERS)
def test_numbers_may_be_of_any_kind(datatype: str) -> None:
    array = np.array([[3, 2, 1, 1, 1], [1, 3, 0, 0, 0]], DTYPES[datatype])
    np.testing.assert_array_equal(matrix(*binary(("records", array, datatype))), array)
    for shape in ([2], [2, 1]):
        rate = array[:, 1].reshape(shape)
        rest = [each for name, each in COLUMNS.items() if name != "rx rate"]
        inputs = [
            tensor(each["name"], [2], each["datatype"], each["data"] * 2) for each in rest
        ]  # fmt: skip
        size = {"parameters": {"binary_data_size": rate.nbytes}}
        document = {"inputs": [*inputs, tensor("rx rate", shape, datatype) | size]}
        found = matrix(*by_hand(document, rate.tobytes()))
        assert found[:, 1].tolist() == [2, 3]
    assert matrix(whole(array.ravel().tolist(), 2, datatype)).tolist() == array.tolist()


def test_what_is_missing_is_null_nan_or_an_empty_string() -> None:
    expected = [[NAN, 2.5, 1, 1, NAN]]
    np.testing.assert_array_equal(matrix(whole([None, 2.5, 1, 1, None])), expected)
    array = np.array(expected, np.float32)
    np.testing.assert_array_equal(matrix(*binary(("records", array, "FP32"))), expected)
    np.testing.assert_array_equal(matrix(columns(loss=None, vendor=None)), expected)
    vendor = tensor("vendor", [1], "BYTES", [None])
    np.testing.assert_array_equal(matrix(columns(loss=None, vendor=vendor)), expected)
    tensors = [
        ("loss", np.array([NAN]), "FP64"),
        ("rx rate", np.array([2.5]), "FP64"),
        ("up", np.array([True]), "BOOL"),
        ("link", np.array(["radio"], object), "BYTES"),
        ("vendor", np.array([""], object), "BYTES"),
    ]
    np.testing.assert_array_equal(matrix(*binary(*tensors)), expected)


@pytest.mark.parametrize(
    ("name", "datatype", "data", "got"),
    [
        ("up", "BOOL", b"\x02", "another byte"),
        ("link", "BYTES", b"\x00\x00\x00\x00", "an empty string"),
        ("link", "BYTES", b"\x01\x00\x00\x00x", "a string"),
        ("link", "BYTES", b"\x01\x00\x00\x00\xff", "a string"),
        ("rx rate", "FP32", struct.pack("<f", NAN), "NaN"),
    ],
)
def test_a_binary_value_that_does_not_fit_is_named_with_what_it_is(
    name: str, datatype: str, data: bytes, got: str
) -> None:
    size = {"parameters": {"binary_data_size": len(data)}}
    inputs = [*(COLUMNS | {name: tensor(name, [1], datatype) | size}).values()]
    (error,) = errors(*by_hand({"inputs": inputs}, data))
    assert error == {
        "record": 0,
        "field": name,
        "expected": SCHEMA[name].expected,
        "got": got,
    }


@pytest.mark.parametrize("size", [-20, 16, 24, 0])
def test_a_size_that_is_not_that_of_the_shape_is_refused(size: int) -> None:
    document = {"inputs": [tensor("records", [1, 5], "FP32") | size_of(size)]}
    (error,) = errors(*by_hand(document, bytes(max(size, 0))))
    assert error["field"] == "records"
    both = {"inputs": [tensor("records", [1, 5], "FP32", ROW) | size_of(20)]}
    assert errors(*by_hand(both, bytes(20)))[0]["got"] == "both, or neither"


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x01\x00\x00\x00", b"\xff\xff\xff\xffabc", b"\x01\x00\x00\x00ab"]
)
def test_binary_strings_that_break_off_are_unreadable(data: bytes) -> None:
    schema = Schema([Field(name="a", kind="category", categories=("a",), open=True)])
    document = {"inputs": [tensor("a", [1], "BYTES") | size_of(len(data))]}
    with pytest.raises(MalformedInputError, match="longer than its binary_data_size"):
        list(read(*by_hand(document, data), schema, 5).chunks)


def test_binary_strings_must_be_as_many_as_the_shape_says() -> None:
    schema = Schema([Field(name="a", kind="category", categories=("a",), open=True)])
    for count in (0, 1, 3, 100_000):
        data = b"\x01\x00\x00\x00a" * count
        document = {"inputs": [tensor("a", [2], "BYTES") | size_of(len(data))]}
        with pytest.raises(RecordError, match="data of its shape"):
            list(read(*by_hand(document, data), schema, 5).chunks)


@pytest.mark.parametrize("as_binary", [False, True])
def test_long_columns_are_read_in_steps(as_binary: bool) -> None:
    rows = many(20_000)
    words = np.array([f"vendor, {'x' * (i % 7)}," for i in range(20_000)], object)
    links = np.array(["fiber", "radio"], object)[rows[:, 3].astype(int)]
    tensors = [
        ("loss", rows[:, 0].copy(), "FP32"),
        ("rx rate", rows[:, 1:2].copy(), "FP32"),
        ("up", rows[:, 2] == 1, "BOOL"),
        ("link", links, "BYTES"),
        ("vendor", words, "BYTES"),
    ]
    rows[:, 4] = UNSEEN
    sent, length = triton(as_binary, *tensors)
    np.testing.assert_array_equal(matrix(sent, length), rows)


def test_strings_that_look_like_the_end_of_strings_are_read() -> None:
    schema = Schema([Field(name="a", kind="category", categories=(',"', '",'))])
    words = [',"', '",'] * 20_000
    sent = body(tensor("a", [40_000], "BYTES", words))
    found = np.concatenate([chunk.matrix for chunk in read(sent, None, schema, 40_000).chunks])
    assert found.ravel().tolist() == [0, 1] * 20_000
