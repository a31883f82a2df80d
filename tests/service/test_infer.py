from __future__ import annotations

import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput

from models import Field, Model, RecordError, Schema
from models.schema import UNSEEN
from service.infer import (
    OUTPUTS,
    Request,
    Wanted,
    failure,
    metadata,
    read,
    server_metadata,
    write,
)
from service.piece import PIECE_RECORDS
from service.problems import Problem, TooLarge, Unfit, Unreadable

NAN, INF = float("nan"), float("inf")
SCHEMA = Schema(
    [
        Field(name="loss", kind="gauge", unit="%", required=False),
        Field(name="rx rate", kind="rate"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("fiber", "radio")),
        Field(name="vendor", kind="category", categories=("a", "b"), open=True, required=False),
    ]
)
ROW = [1.5, 2.5, 1, 1, UNSEEN]
NUMBERS = ["FP16", "FP32", "FP64", "INT8", "INT16", "INT32", "INT64"]
NUMBERS += ["UINT8", "UINT16", "UINT32", "UINT64"]
DTYPES = dict(zip(NUMBERS, list("efdbhiqBHIQ"), strict=True))


def tensor(name: str, shape: list[int], datatype: str, data: Any = None) -> dict[str, Any]:
    found = {"name": name, "shape": shape, "datatype": datatype}
    return found if data is None else found | {"data": data}


def body(*inputs: dict[str, Any], **more: Any) -> bytes:
    return json.dumps({"inputs": inputs, **more}).encode()


def whole(data: Any, records: int = 1, datatype: str = "FP32") -> bytes:
    return body(tensor("records", [records, 5], datatype, data))


COLUMNS: dict[str, Any] = {
    "loss": tensor("loss", [1], "FP32", [1.5]),
    "rx rate": tensor("rx rate", [1], "FP64", [2.5]),
    "up": tensor("up", [1], "BOOL", [True]),
    "link": tensor("link", [1], "BYTES", ["radio"]),
    "vendor": tensor("vendor", [1], "BYTES", ["c"]),
}


def columns(**changed: Any) -> bytes:
    """A tensor for each field, some of them changed; None leaves one out."""
    inputs = COLUMNS | {name.replace("_", " "): each for name, each in changed.items()}
    return body(*[each for each in inputs.values() if each is not None])


def matrix(sent: bytes, length: int | None = None, most: int = 20_000) -> Any:
    request = read(sent, length, SCHEMA, most)
    pieces = list(request.pieces)
    assert all(len(piece) <= PIECE_RECORDS and not piece.faults for piece in pieces)
    assert sum(map(len, pieces)) == request.records
    return np.concatenate([piece.matrix for piece in pieces])


def errors(sent: bytes, length: int | None = None, most: int = 20_000) -> list[dict[str, Any]]:
    with pytest.raises(Unfit) as refusal:
        matrix(sent, length, most)
    return refusal.value.errors


def binary(*tensors: tuple[str, Any, str], **more: Any) -> tuple[bytes, int]:
    """A request as Triton's client makes it."""
    return _triton(True, *tensors, **more)


def _triton(as_binary: bool, *tensors: tuple[str, Any, str], **more: Any) -> tuple[bytes, int]:
    inputs = []
    for name, array, datatype in tensors:
        inputs.append(InferInput(name, list(array.shape), datatype))
        inputs[-1].set_data_from_numpy(array, binary_data=as_binary)
    made: tuple[bytes, int] = InferenceServerClient.generate_request_body(inputs, **more)
    return made


def by_hand(document: dict[str, Any], data: bytes) -> tuple[bytes, int]:
    header = json.dumps(document).encode()
    return header + data, len(header)


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


def test_an_empty_string_may_be_a_category() -> None:
    schema = Schema([Field(name="a", kind="category", categories=("x", ""))])
    sent, length = binary(("a", np.array(["", "x"], object), "BYTES"))
    (piece,) = read(sent, length, schema, 5).pieces
    assert piece.matrix.tolist() == [[1], [0]]


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


@pytest.mark.parametrize(
    ("sent", "field", "got"),
    [
        (b"[]", None, "array"),
        (b"{}", None, "something else"),
        (b'{"inputs": {}}', "inputs", "object"),
        (b'{"inputs": [1]}', "inputs[0]", "int"),
        (b'{"inputs": [{"name": "a"}]}', None, "something else"),
        (b'{"inputs": [], "id": 7}', "id", "int"),
        (b'{"inputs": [], "parameters": 7}', "parameters", "int"),
    ],
)
def test_a_document_that_does_not_fit_is_named_by_its_place(
    sent: bytes, field: str | None, got: str
) -> None:
    (error,) = errors(sent)
    assert (error.get("field"), error["got"]) == (field, got)
    assert "the Open Inference Protocol" in error["expected"]


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"{",
        whole([NAN, 2, 1, 1, 0]),
        whole([INF, 2, 1, 1, 0]),
        b'{"inputs": ' + b"[" * 100_000,
        b'{"inputs": [], "x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
        b"\xff\xfe",
    ],
)
def test_what_is_not_json_is_unreadable(sent: bytes) -> None:
    with pytest.raises(Unreadable):
        matrix(sent)


@pytest.mark.parametrize("length", [0, -1, 10**9])
def test_a_header_that_is_longer_than_the_body_is_refused(length: int) -> None:
    with pytest.raises(Unreadable, match="Inference-Header-Content-Length"):
        matrix(whole(ROW), length)


@pytest.mark.parametrize(("size", "more"), [(20, 1), (20, -1), (1 << 62, 0), (20, -20)])
def test_sizes_that_lie_are_refused(size: int, more: int) -> None:
    document = {"inputs": [tensor("records", [1, 5], "FP32") | _size(size)]}
    data = struct.pack("<5f", *ROW)
    with pytest.raises(Unreadable, match="binary_data_size"):
        matrix(*by_hand(document, (data + b"x" * max(more, 0))[: 20 + more]))


@pytest.mark.parametrize("size", [-20, 16, 24, 0])
def test_a_size_that_is_not_that_of_the_shape_is_refused(size: int) -> None:
    document = {"inputs": [tensor("records", [1, 5], "FP32") | _size(size)]}
    (error,) = errors(*by_hand(document, bytes(max(size, 0))))
    assert error["field"] == "records"
    both = {"inputs": [tensor("records", [1, 5], "FP32", ROW) | _size(20)]}
    assert errors(*by_hand(both, bytes(20)))[0]["got"] == "both, or neither"


def _size(size: int) -> dict[str, Any]:
    return {"parameters": {"binary_data_size": size}}


@pytest.mark.parametrize(
    "data", [b"\x01", b"\x01\x00\x00\x00", b"\xff\xff\xff\xffabc", b"\x01\x00\x00\x00ab"]
)
def test_binary_strings_that_break_off_are_unreadable(data: bytes) -> None:
    schema = Schema([Field(name="a", kind="category", categories=("a",), open=True)])
    document = {"inputs": [tensor("a", [1], "BYTES") | _size(len(data))]}
    with pytest.raises(Unreadable, match="longer than its binary_data_size"):
        list(read(*by_hand(document, data), schema, 5).pieces)


def test_binary_strings_must_be_as_many_as_the_shape_says() -> None:
    schema = Schema([Field(name="a", kind="category", categories=("a",), open=True)])
    for count in (0, 1, 3, 100_000):
        data = b"\x01\x00\x00\x00a" * count
        document = {"inputs": [tensor("a", [2], "BYTES") | _size(len(data))]}
        with pytest.raises(Unfit, match="data of its shape"):
            list(read(*by_hand(document, data), schema, 5).pieces)


def test_outputs_are_asked_for_by_name_and_form() -> None:
    default = read(whole(ROW), None, SCHEMA, 5).outputs
    names = ["label", "good", "distance", "confidence"]
    assert default == tuple(Wanted(name) for name in names)
    sent = whole(ROW)[:-1] + b', "outputs": [], "parameters": {"binary_data_output": true}}'
    assert read(sent, None, SCHEMA, 5).outputs == tuple(Wanted(name, True) for name in names)
    outputs = [
        {"name": "distances", "parameters": {"binary_data": False}},
        {"name": "label"},
        {"name": "good", "parameters": {"binary_data": True, "other": {"a": [1]}}},
    ]
    for every in (True, False):
        more = {"outputs": outputs, "parameters": {"binary_data_output": every, "x": "y"}}
        sent = whole(ROW)[:-1] + b"," + json.dumps(more).encode()[1:]
        wanted = (Wanted("distances"), Wanted("label", every), Wanted("good", True))
        assert read(sent, None, SCHEMA, 5).outputs == wanted


def test_a_body_may_be_a_bytearray() -> None:
    sent, length = binary(("records", np.array([ROW], np.float32), "FP32"))
    for each, size in ((sent, length), (whole(ROW), None), (whole(ROW * 5000, 5000), None)):
        (*_, piece) = read(bytearray(each), size, SCHEMA, 5000).pieces
        assert piece.matrix[-1].tolist() == ROW


def test_a_field_may_be_called_records() -> None:
    schema = Schema([Field(name="records", kind="gauge")])
    (piece,) = read(body(tensor("records", [2], "FP32", [1, 2])), None, schema, 5).pieces
    assert piece.matrix.tolist() == [[1], [2]]


def many(records: int) -> Any:
    rows = np.random.default_rng(0).random((records, 5)).astype(np.float32)
    rows[:, 2:] = np.random.default_rng(1).integers(0, 2, (records, 3))
    return rows


@pytest.mark.parametrize("nested", [False, True])
@pytest.mark.parametrize("separators", [(",", ":"), (" ,\n ", " :\t")])
def test_a_long_document_is_cut_and_read_in_steps(nested: bool, separators: Any) -> None:
    rows = many(20_000)
    data = rows.tolist() if nested else rows.ravel().tolist()
    other = {"parameters": {"data": [1] * 5000}, "id": '"data": ['}
    document = {"inputs": [tensor("records", [20_000, 5], "FP32", data)]} | other
    sent = json.dumps(document, separators=separators).encode()
    request = read(sent, None, SCHEMA, 20_000)
    assert request.id == '"data": ['
    np.testing.assert_array_equal(matrix(sent), rows)
    longer = sent.replace(b"1]", b"1" + b",1" * 50_000 + b"]")
    wrong = [sent.replace(old, new, 1) for old, new in ((b"[0.", b"[,0."), (b"[0.", b"[[0."))]
    for each in (longer, sent.replace(b"0.", b"0.,0.", 1), *wrong):
        assert each != sent
        with pytest.raises((Unfit, Unreadable)):
            matrix(each)


def test_what_stands_for_long_data_is_not_taken_from_others() -> None:
    long = tensor("loss", [20_000], "FP32", [1.5] * 20_000)
    for mark in ({"cut": 0}, {"cut": 1}):
        sent = body(long, tensor("rx rate", [20_000], "FP32", mark)).replace(b": 0}", b":0}")
        with pytest.raises(Unfit):
            matrix(sent)


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
    sent, length = _triton(as_binary, *tensors)
    np.testing.assert_array_equal(matrix(sent, length), rows)


def test_strings_that_look_like_the_end_of_strings_are_read() -> None:
    schema = Schema([Field(name="a", kind="category", categories=(',"', '",'))])
    words = [',"', '",'] * 20_000
    sent = body(tensor("a", [40_000], "BYTES", words))
    found = np.concatenate([piece.matrix for piece in read(sent, None, schema, 40_000).pieces])
    assert found.ravel().tolist() == [0, 1] * 20_000


@pytest.mark.parametrize(
    "piece",
    [
        b'{"name":"a","shape":[],"datatype":"x"},',
        b'"data":[',
        b'{"data":[1',
        b'"data"',
        b"[",
        b'{"name":"records","shape":[1,5],"datatype":"FP32","data":[1,2,1,1,0]},',
    ],
)
def test_a_body_of_16_mib_that_does_not_fit_costs_little(piece: bytes) -> None:
    sent = b'{"inputs":[' + piece * ((16 << 20) // len(piece))
    for hostile in (sent, sent + b"0]}", sent[:-1] + b"]}"):
        start = time.perf_counter()
        tracemalloc.start()
        try:
            with pytest.raises(Problem):
                matrix(hostile)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 96 << 20
        assert time.perf_counter() - start < 5


LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text()
ANYTHING = st.recursive(
    LEAVES, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)
SHAPES = st.lists(st.integers(-1, 6) | st.integers(), max_size=3) | ANYTHING
TENSORS = st.fixed_dictionaries(
    {
        "name": st.sampled_from(["records", *SCHEMA.names]) | ANYTHING,
        "shape": SHAPES,
        "datatype": st.sampled_from([*NUMBERS, "BOOL", "BYTES"]) | ANYTHING,
    },
    optional={
        "data": st.lists(LEAVES, max_size=10) | st.just(ROW) | ANYTHING,
        "parameters": st.fixed_dictionaries({"binary_data_size": st.integers(0, 40)}) | ANYTHING,
    },
)
DOCUMENTS = st.fixed_dictionaries(
    {"inputs": st.lists(TENSORS, max_size=3) | ANYTHING},
    optional={
        "id": ANYTHING,
        "parameters": ANYTHING,
        "outputs": st.lists(st.fixed_dictionaries({"name": st.sampled_from([*OUTPUTS, "x"])})),
    },
)


@settings(max_examples=400, deadline=None)
@given(document=DOCUMENTS | ANYTHING, data=st.binary(max_size=60), at=st.integers(-2, 2))
@example(document={"inputs": [COLUMNS["up"]]}, data=b"x", at=0)
def test_no_request_whatever_gives_anything_but_pieces_or_a_problem(
    document: object, data: bytes, at: int
) -> None:
    header = json.dumps(document).encode()
    for sent, length in ((header, None), (header + data, len(header) + at)):
        try:
            assert np.isfinite(matrix(sent, length)[:, 1:4]).all()
        except Problem as problem:
            assert json.loads(failure(problem))["error"]  # noqa: PT017 - either is fine


@given(sent=st.binary(), length=st.none() | st.integers(-1, 100))
def test_no_bytes_whatever_give_anything_but_a_problem(sent: bytes, length: int | None) -> None:
    with pytest.raises((Unreadable, Unfit)):
        matrix(sent, length)


VERDICTS: dict[str, Any] = {
    "nearest": np.array([0, 1, 2, 1]),
    "accepted": np.array([True, True, False, False]),
    "distance": np.array([0.25, 0.5, 0.75, 1], np.float32),
    "confidence": np.array([1, 0.5, 0.25, 0.125], np.float32),
    "names": ["normal", "link-döwn", "overload"],
    "good": [True, False, False],
    "embedding": np.arange(8, dtype=np.float32).reshape(4, 2),
    "distances": np.arange(12, dtype=np.float32).reshape(4, 3),
}
ANSWERS: dict[str, Any] = {
    "label": ["normal", "link-döwn", "unknown", "unknown"],
    "good": [True, False, False, False],
    "distance": [0.25, 0.5, 0.75, 1.0],
    "confidence": [1.0, 0.5, 0.25, 0.125],
    "nearest": ["normal", "link-döwn", "overload", "link-döwn"],
    "embedding": VERDICTS["embedding"].tolist(),
    "distances": VERDICTS["distances"].tolist(),
}
FORMS: dict[str, Callable[[int], bool]] = {
    "JSON": lambda _: False,
    "binary": lambda _: True,
    "mixed": lambda place: place % 2 == 0,
}


@pytest.mark.parametrize("form", FORMS)
def test_tritons_client_reads_what_is_written(form: str) -> None:
    outputs = tuple(Wanted(name, FORMS[form](i)) for i, name in enumerate(OUTPUTS))
    request = Request("7", 4, outputs, iter(()))
    headers, content = write(request, ("toy", "abc"), **VERDICTS)
    told = {name.decode(): value.decode() for name, value in headers}
    length = told.get("inference-header-content-length")
    kind = "application/json" if length is None else "application/octet-stream"
    assert told["content-type"] == kind
    assert (length is None) == (form == "JSON")
    header_length = None if length is None else int(length)
    answer = InferenceServerClient.parse_response_body(content, header_length=header_length)
    assert answer.get_response()["id"] == "7"
    assert answer.get_response()["model_name"] == "toy"
    assert answer.get_response()["model_version"] == "abc"
    for wanted in outputs:
        found = answer.as_numpy(wanted.name)
        assert answer.get_output(wanted.name)["datatype"] == OUTPUTS[wanted.name]
        values = found.tolist()
        if wanted.binary and OUTPUTS[wanted.name] == "BYTES":
            values = [value.decode() for value in values]
        assert values == ANSWERS[wanted.name]


def test_a_request_without_an_id_is_answered_without_one() -> None:
    request = read(whole(ROW), None, SCHEMA, 5)
    headers, content = write(request, ("toy", "abc"), **VERDICTS)
    assert headers == [(b"content-type", b"application/json")]
    document = json.loads(content)
    assert document.keys() == {"model_name", "model_version", "outputs"}
    assert [output["name"] for output in document["outputs"]] == list(ANSWERS)[:4]


def test_what_tritons_client_asks_for_is_understood() -> None:
    outputs = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("embedding")]
    array = ("records", np.array([ROW], np.float32), "FP32")
    sent, length = binary(array, outputs=outputs, request_id="9", priority=1, timeout=5)
    request = read(sent, length, SCHEMA, 5)
    assert (request.id, request.records) == ("9", 1)
    assert request.outputs == (Wanted("label"), Wanted("embedding", True))
    sent, length = binary(array, sequence_id=3, parameters={"custom": 1})
    assert all(wanted.binary for wanted in read(sent, length, SCHEMA, 5).outputs)


def test_a_model_says_what_it_takes_and_gives(bundle: Path) -> None:
    told = metadata(Model.load(bundle))
    (records,) = told["inputs"]
    assert (records["name"], records["datatype"], records["shape"]) == ("records", "FP32", [-1, 5])
    assert records["parameters"]["columns"][0] == "cpu load"
    assert told["name"] == "toy"
    shapes = {output["name"]: output["shape"] for output in told["outputs"]}
    assert list(shapes) == list(OUTPUTS)
    assert (shapes["label"], shapes["embedding"], shapes["distances"]) == ([-1], [-1, 3], [-1, 3])
    json.dumps(told)


def test_a_model_with_a_field_called_records_takes_a_tensor_for_each_field(
    make_bundle: Callable[..., Path],
) -> None:
    fields = (
        Field(name="records", kind="gauge"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("a", "b")),
    )
    folder = make_bundle(fields, [{"records": 1.0, "up": True, "link": "a"}])
    inputs = metadata(Model.load(folder))["inputs"]
    assert [each["datatype"] for each in inputs] == ["FP32", "BOOL", "BYTES"]


def test_the_server_says_that_it_speaks_binary() -> None:
    told = server_metadata()
    assert told["name"] == "faultcube"
    assert told["version"]
    assert told["extensions"] == ["binary_tensor_data"]


def test_a_problem_is_told_in_the_protocols_words() -> None:
    assert json.loads(failure(TooLarge("Too much."))) == {"error": "Too much."}
    unfit = Unfit([(3, "loss", "a number", "null")])
    assert json.loads(failure(unfit)) == {
        "error": "record 3, field 'loss': expected a number, got null"
    }
