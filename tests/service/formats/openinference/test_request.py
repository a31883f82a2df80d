from __future__ import annotations

import json
import struct
import time
import tracemalloc

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import RecordError
from service.api.openinference import error_response
from service.formats.errors import MalformedInputError
from service.formats.openinference.document import OUTPUTS
from service.formats.openinference.request import read
from service.web.problems import problem_of
from tests.support.tensors import (
    COLUMNS,
    NUMBERS,
    ROW,
    SCHEMA,
    binary,
    by_hand,
    matrix,
    size_of,
    tensor,
    whole,
)


def test_a_body_may_be_a_bytearray() -> None:
    sent, length = binary(("records", np.array([ROW], np.float32), "FP32"))
    for each, size in ((sent, length), (whole(ROW), None), (whole(ROW * 5000, 5000), None)):
        (*_, chunk) = read(bytearray(each), size, SCHEMA, 5000).chunks
        assert chunk.matrix[-1].tolist() == ROW


@pytest.mark.parametrize("length", [0, -1, 10**9])
def test_a_header_that_is_longer_than_the_body_is_refused(length: int) -> None:
    with pytest.raises(MalformedInputError, match="Inference-Header-Content-Length"):
        matrix(whole(ROW), length)


@pytest.mark.parametrize(("size", "more"), [(20, 1), (20, -1), (1 << 62, 0), (20, -20)])
def test_sizes_that_lie_are_refused(size: int, more: int) -> None:
    document = {"inputs": [tensor("records", [1, 5], "FP32") | size_of(size)]}
    data = struct.pack("<5f", *ROW)
    with pytest.raises(MalformedInputError, match="binary_data_size"):
        matrix(*by_hand(document, (data + b"x" * max(more, 0))[: 20 + more]))


@pytest.mark.parametrize(
    "chunk",
    [
        b'{"name":"a","shape":[],"datatype":"x"},',
        b'"data":[',
        b'{"data":[1',
        b'"data"',
        b"[",
        b'{"name":"records","shape":[1,5],"datatype":"FP32","data":[1,2,1,1,0]},',
    ],
)
def test_a_body_of_16_mib_that_does_not_fit_costs_little(chunk: bytes) -> None:
    sent = b'{"inputs":[' + chunk * ((16 << 20) // len(chunk))
    for hostile in (sent, sent + b"0]}", sent[:-1] + b"]}"):
        start = time.perf_counter()
        tracemalloc.start()
        try:
            with pytest.raises((MalformedInputError, RecordError)):
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
        except (MalformedInputError, RecordError) as problem:
            assert json.loads(bytes(error_response(problem_of(problem), "id").body))["error"]  # noqa: PT017 - either is fine


@given(sent=st.binary(), length=st.none() | st.integers(-1, 100))
def test_no_bytes_whatever_give_anything_but_a_problem(sent: bytes, length: int | None) -> None:
    with pytest.raises((MalformedInputError, RecordError)):
        matrix(sent, length)


@pytest.mark.parametrize("count", [10, 100_000])
def test_data_that_no_input_takes_is_passed_over_when_it_is_json(count: int) -> None:
    more = b'"x": [{"data": [' + b"1," * count + b"1]}]}"
    sent = whole(ROW)[:-1] + b", " + more
    assert matrix(sent, None).tolist() == [ROW]
    with pytest.raises(MalformedInputError):
        matrix(sent.replace(b"1,1,1]", b"1,,1]"), None)
