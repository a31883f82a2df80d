from __future__ import annotations

import struct
from decimal import Decimal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import RecordError
from service.formats.arrow_reader import read
from service.formats.errors import MalformedInputError
from service.web.problems import problem_of
from tests.support.streams import (
    ROW,
    SCHEMA,
    batch,
    chunks,
    matrix,
    stream,
)


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_before_they_are_inflated(codec: str) -> None:
    rows = 4_000_000
    columns = [pa.repeat(2.5, rows)] * 2 + [pa.repeat(True, rows)] + [pa.nulls(rows)] * 2
    bomb = stream(pa.record_batch(columns, SCHEMA.names), compression=codec)
    assert len(bomb) < 1 << 20
    words = pa.array(["fiber"] * 4).dictionary_encode()
    for body in (bomb, stream(batch(4, link=words), compression=codec)):
        before = pa.total_allocated_bytes()
        with pytest.raises(MalformedInputError, match="compressed buffers"):
            chunks(body, most=10_000_000)
        assert pa.total_allocated_bytes() - before < 1 << 20


def test_buffers_compressed_as_of_old_are_refused_too() -> None:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, batch().schema, options=options) as writer:
        writer.write_batch(batch())
        writer.write_batch(batch(), {"ARROW:experimental_compression": "zstd"})
    with pytest.raises(MalformedInputError, match="compressed buffers"):
        chunks(bytes(sink.getvalue()))


def test_old_versions_of_the_format_are_read() -> None:
    for options in (
        {"metadata_version": pa.ipc.MetadataVersion.V4},
        {"metadata_version": pa.ipc.MetadataVersion.V4, "use_legacy_format": True},
    ):
        np.testing.assert_array_equal(matrix(stream(batch(), **options)), [ROW])


def test_a_dictionary_may_be_sent_anew_but_not_grow() -> None:
    one = batch(3, link=pa.array(["fiber", None, "radio"]).dictionary_encode(), loss=None)
    more = batch(2, link=pa.array(["radio", "fiber"]).dictionary_encode(), loss=None)
    with pytest.raises(RecordError, match=r"record 1, field 'link': .* got null"):
        matrix(stream(one, more))
    good = batch(3, link=pa.array(["fiber", "", "radio"]).dictionary_encode(), loss=None)
    assert matrix(stream(good, more, good))[:, 3].tolist() == [0, 2, 1, 1, 0, 0, 2, 1]
    words = pa.array(["fiber", "radio"])
    small = batch(link=pa.DictionaryArray.from_arrays([0], words[:1]))
    grown = batch(link=pa.DictionaryArray.from_arrays([1], words))
    with pytest.raises(MalformedInputError, match="a dictionary that grows"):
        chunks(stream(small, grown, emit_dictionary_deltas=True))


def test_more_dictionaries_than_columns_are_refused() -> None:
    column = pa.array(["fiber"]).dictionary_encode()
    body = stream(batch(link=column), batch(link=pa.array(["radio"]).dictionary_encode()))
    ends = [0]
    source = pa.BufferReader(body)
    kinds = []
    for message in pa.ipc.MessageReader.open_stream(source):
        ends.append(source.tell())
        kinds.append(message.type)
    at = kinds.index("dictionary", 2)
    again = body[ends[at] : ends[at + 1]] * 10
    with pytest.raises(MalformedInputError, match="more dictionaries than columns"):
        chunks(body[: ends[at]] + again + body[ends[at] :])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 8,
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff" + struct.pack("<i", -5) + b"x" * 100,
        b'{"records": []}',
        b"ARROW1\x00\x00" + stream(batch()),
        stream(batch()) + b"x",
        stream(batch()) + stream(batch()),
    ],
)
def test_what_is_no_stream_is_unreadable(body: bytes) -> None:
    with pytest.raises(MalformedInputError):
        chunks(body)


def test_a_stream_that_breaks_off_is_refused_or_ends_between_two_batches() -> None:
    body = stream(batch(3), batch(2), batch(link=pa.array(["radio"])))
    taken = set()
    for end in range(len(body) - 8):
        try:
            taken.add(len(matrix(body[:end])))
        except (MalformedInputError, RecordError):
            continue
    assert taken <= {3, 5, 6}


def test_a_schema_that_is_too_long_is_refused() -> None:
    columns = [pa.array([1])] * 20_000
    body = stream(pa.record_batch(columns, [f"column {i}" for i in range(20_000)]))
    with pytest.raises(MalformedInputError, match="too large"):
        chunks(body)


SAMPLES = [
    stream(batch(5)),
    stream(
        batch(3, link=pa.array(["fiber", "", "radio"]).dictionary_encode()),
        batch(3, link=pa.array(["radio", "fiber", ""]).dictionary_encode()),
    ),
    stream(
        batch(
            2,
            link=pa.array(["fiber", "radio"], pa.string_view()),
            vendor=pa.array(["a long string of a vendor", None], pa.string_view()),
            loss=pa.array([Decimal(1), None], pa.decimal128(9, 2)),
            up=pa.array([True, False]),
            rx_rate=pa.array([1, 2], pa.uint64()),
        )
    ),
]
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 14), st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=500, deadline=None)
@given(sample=st.sampled_from(SAMPLES), changes=CHANGES, report=st.booleans())
@example(sample=SAMPLES[0], changes=[(0, 0)], report=True)
def test_no_stream_whatever_gives_anything_but_pieces_or_a_problem(
    sample: bytes, changes: list[tuple[int, int]], report: bool
) -> None:
    body = bytearray(sample)
    for place, value in changes:
        body[place % len(body)] = value
    records = 0
    try:
        for chunk in read(body, SCHEMA, 50, report=report):
            records += len(chunk)
            assert chunk.matrix.dtype == np.float32
            assert not np.isinf(chunk.matrix).any()
    except (MalformedInputError, RecordError) as problem:
        assert problem_of(problem).status in {400, 422}  # noqa: PT017 - either is fine
    assert records <= 50


@given(body=st.binary(max_size=300))
def test_no_bytes_whatever_give_anything_but_a_problem(body: bytes) -> None:
    with pytest.raises((MalformedInputError, RecordError)):
        chunks(body)
