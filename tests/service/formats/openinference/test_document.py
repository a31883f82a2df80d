from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from tritonclient.http import InferRequestedOutput

from models import RecordError
from service.formats.errors import MalformedInputError
from service.formats.openinference.document import RequestedOutput
from service.formats.openinference.request import read
from tests.support.tensors import (
    INF,
    NAN,
    ROW,
    SCHEMA,
    binary,
    body,
    errors,
    many,
    matrix,
    tensor,
    whole,
)


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
    with pytest.raises(MalformedInputError):
        matrix(sent)


def test_outputs_are_asked_for_by_name_and_form() -> None:
    default = read(whole(ROW), None, SCHEMA, 5).outputs
    names = ["label", "good", "distance", "confidence"]
    assert default == tuple(RequestedOutput(name) for name in names)
    sent = whole(ROW)[:-1] + b', "outputs": [], "parameters": {"binary_data_output": true}}'
    assert read(sent, None, SCHEMA, 5).outputs == tuple(
        RequestedOutput(name, True) for name in names
    )
    outputs = [
        {"name": "distances", "parameters": {"binary_data": False}},
        {"name": "label"},
        {"name": "good", "parameters": {"binary_data": True, "other": {"a": [1]}}},
    ]
    for every in (True, False):
        more = {"outputs": outputs, "parameters": {"binary_data_output": every, "x": "y"}}
        sent = whole(ROW)[:-1] + b"," + json.dumps(more).encode()[1:]
        wanted = (
            RequestedOutput("distances"),
            RequestedOutput("label", every),
            RequestedOutput("good", True),
        )
        assert read(sent, None, SCHEMA, 5).outputs == wanted


def test_what_tritons_client_asks_for_is_understood() -> None:
    outputs = [InferRequestedOutput("label", binary_data=False), InferRequestedOutput("embedding")]
    array = ("records", np.array([ROW], np.float32), "FP32")
    sent, length = binary(array, outputs=outputs, request_id="9", priority=1, timeout=5)
    request = read(sent, length, SCHEMA, 5)
    assert (request.id, request.records) == ("9", 1)
    assert request.outputs == (RequestedOutput("label"), RequestedOutput("embedding", True))
    sent, length = binary(array, sequence_id=3, parameters={"custom": 1})
    assert all(wanted.binary for wanted in read(sent, length, SCHEMA, 5).outputs)


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
    np.testing.assert_array_equal(matrix(longer), rows)
    wrong = [sent.replace(old, new, 1) for old, new in ((b"[0.", b"[,0."), (b"[0.", b"[[0."))]
    for each in (sent.replace(b"0.", b"0.,0.", 1), *wrong):
        assert each != sent
        with pytest.raises((RecordError, MalformedInputError)):
            matrix(each)


def test_what_stands_for_long_data_is_not_taken_from_others() -> None:
    long = tensor("loss", [20_000], "FP32", [1.5] * 20_000)
    for mark in ({"cut": 0}, {"cut": 1}):
        sent = body(long, tensor("rx rate", [20_000], "FP32", mark)).replace(b": 0}", b":0}")
        with pytest.raises(RecordError):
            matrix(sent)


@pytest.mark.parametrize("second", ["inputs", "\\u0069nputs"])
def test_a_second_list_of_inputs_is_refused(second: str) -> None:
    sent = whole(ROW)
    listed = sent[sent.index(b"[") : sent.rindex(b"]") + 1]
    (error,) = errors(b'{"inputs": %b, "%b": %b}' % (listed, second.encode(), listed))
    assert (error["field"], error["got"]) == ("inputs", "a second one")


def test_a_byte_order_mark_is_no_part_of_the_document() -> None:
    sent = b"\xef\xbb\xbf" + whole(ROW)
    assert read(sent, None, SCHEMA, 10).records == read(sent, len(sent), SCHEMA, 10).records == 1
