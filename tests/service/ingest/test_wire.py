from __future__ import annotations

import pytest
from google.protobuf.message import DecodeError
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.metrics.v1.metrics_pb2 import NumberDataPoint

from service.formats.errors import MalformedInputError
from service.ingest.wire import MAX_PARTS, fields, parts, signed, varint


def encoded(number: int) -> bytes:
    digits = bytearray()
    while number >= 0x80:
        digits.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes((*digits, number))


@given(st.integers(0, 2**64 - 1), st.binary(max_size=3))
def test_numbers_are_read_and_their_end_is_told(number: int, after: bytes) -> None:
    data = encoded(number) + after
    assert varint(data, 0, len(data)) == (number, len(data) - len(after))


@given(st.integers(-(2**63), 2**63 - 1))
def test_numbers_may_be_negative(number: int) -> None:
    assert signed(number % 2**64) == number


@given(
    st.integers(0, 2**64 - 1),
    st.integers(-(2**63), 2**63 - 1),
    st.lists(st.text(max_size=300), max_size=4),
    st.integers(1, 2**32 - 1),
)
def test_fields_are_those_that_the_library_wrote(
    time: int, value: int, keys: list[str], flags: int
) -> None:
    point = NumberDataPoint(time_unix_nano=time, as_int=value, flags=flags)
    for key in keys:
        point.attributes.add(key=key)
    data = point.SerializeToString()
    found = [(tag, data[start:end]) for tag, start, end in fields(data, 0, len(data))]
    expected = [(0x19, time.to_bytes(8, "little"))] if time else []
    expected += [(0x31, (value % 2**64).to_bytes(8, "little"))]
    expected += [(0x3A, attribute.SerializeToString()) for attribute in point.attributes]
    assert found == [*expected, (0x40, encoded(flags))]


@given(st.binary(max_size=30))
def test_bytes_are_fields_or_no_message(data: bytes) -> None:
    """What the library refuses may pass, because groups and texts are not looked into."""
    try:
        found = parts(data, 0, len(data))
    except MalformedInputError:
        return
    assert all(0 <= start <= end <= len(data) for _, start, end in found)
    if not found:
        assert data == b""


@given(st.binary(max_size=30))
def test_what_the_library_takes_has_the_same_end(data: bytes) -> None:
    try:
        NumberDataPoint.FromString(data)
    except DecodeError:
        return
    if not any(byte & 7 in {3, 4} for byte in data):  # no group
        parts(data, 0, len(data))


def test_messages_of_too_many_parts_are_refused() -> None:
    assert len(parts(b"\x0a\x00" * MAX_PARTS, 0, 2 * MAX_PARTS)) == MAX_PARTS
    with pytest.raises(MalformedInputError, match="more than 262144 parts"):
        parts(b"\x0a\x00" * (MAX_PARTS + 1), 0, 2 * MAX_PARTS + 2)


@pytest.mark.parametrize(
    "data",
    [
        *(b"\x0a", b"\x0a\x01", b"\x0a\xff\xff\xff\xff\x0f", b"\x08", b"\x08" + b"\xff" * 11),
        *(b"\x09" + bytes(7), b"\x0d" + bytes(3), b"\xff"),
        *(b"\x0b", b"\x0c", b"\x0e", b"\x0f", b"\x00\x00"),
    ],
)
def test_what_is_no_message_is_malformed(data: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no protobuf message"):
        parts(data, 0, len(data))
