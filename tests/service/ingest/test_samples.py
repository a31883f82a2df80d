from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ingest.prometheus import WriteRequest
from service.formats.errors import MalformedInputError
from service.ingest.decoded import BAD_TIME
from service.ingest.samples import HEAD, SIZE, ZERO, ZERO_HEAD, ZERO_SIZE, Samples

TIMES = st.integers(2**35, 2**42 - 1)
"""Milliseconds that take six bytes."""


def sample(value: float, time: int) -> bytes:
    """A sample as the protobuf library writes it inside of its series."""
    series = WriteRequest().timeseries.add()
    series.samples.add(value=value, timestamp=time)
    content: bytes = series.SerializeToString()
    return content


def bits(values: list[float]) -> list[bytes]:
    return [struct.pack("<d", value) for value in values]


@given(st.lists(st.tuples(st.floats(), TIMES)))
def test_samples_of_the_two_shapes_are_decoded_at_once(pairs: list[tuple[float, int]]) -> None:
    samples = Samples()
    for number, (value, time) in enumerate(pairs):
        cut = sample(value, time)
        if len(cut) == ZERO_SIZE:
            assert cut.startswith(ZERO_HEAD)
            cut = ZERO + cut[3:]
        assert len(cut) == SIZE
        assert cut.startswith(HEAD)
        samples.series.append(number)
        samples.cuts.append(cut)
    points = samples.decoded().points
    assert points.series.tolist() == [*range(len(pairs))]
    assert points.times.tolist() == [time * 10**6 for _, time in pairs]
    assert bits(points.values.tolist()) == bits([value for value, _ in pairs])


@given(st.lists(st.tuples(st.floats(), st.integers(-(2**63), 2**63 - 1))))
def test_samples_of_any_shape_keep_their_order(pairs: list[tuple[float, int]]) -> None:
    samples = Samples()
    for number, (value, time) in enumerate(pairs):
        data = sample(value, time)
        samples.add(number, data, 2, len(data))
    decoded = samples.decoded()
    kept = [(n, v, t) for n, (v, t) in enumerate(pairs) if abs(t * 10**6) < 2**63]
    assert decoded.points.series.tolist() == [number for number, _, _ in kept]
    assert decoded.points.times.tolist() == [time * 10**6 for _, _, time in kept]
    assert bits(decoded.points.values.tolist()) == bits([value for _, value, _ in kept])
    late = len(pairs) - len(kept)
    assert decoded.reasons == ({BAD_TIME: late} if late else {})


def test_something_else_of_the_same_size_is_looked_at_properly() -> None:
    other = HEAD + struct.pack("<d", 2.5) + b"\x10\x05" + b"\x18\x80\x80\x80\x01"
    samples = Samples()
    samples.series.append(0)
    samples.cuts.append(other)
    points = samples.decoded().points
    assert (points.times.tolist(), points.values.tolist()) == ([5_000_000], [2.5])
    samples.cuts[0] = other[:-1] + b"\x80"
    with pytest.raises(MalformedInputError):
        samples.decoded()
