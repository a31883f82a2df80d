from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ingest.prometheus import WriteRequest
from service.formats.errors import MalformedInputError
from service.ingest import remote_write
from service.ingest.decoded import BAD_TIME
from service.ingest.snappy import inflate
from tests.support.points import Receiving, recorded

T = 1_795_965_610_517
STALE = 0x7FF0000000000002
LABELS = {"__name__": "ifHCInOctets", "device": "router1"}
Samples = list[tuple[float, int]]


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(remote_write.decode)


def body(*series: tuple[dict[str, str], Samples]) -> bytes:
    """A request, made by the protobuf library."""
    request = WriteRequest()
    for labels, samples in series:
        made = request.timeseries.add()
        for name, text in labels.items():
            made.labels.add(name=name, value=text)
        for value, time in samples:
            made.samples.add(value=value, timestamp=time)
    content: bytes = request.SerializeToString()
    return content


def test_labels_are_tags_but_for_the_name(receiving: Receiving) -> None:
    expected = [("ifHCInOctets", {"device": "router1"}, T * 10**6, 5.0)]
    assert receiving.rows(body((LABELS, [(5.0, T)]))) == expected
    assert receiving.rows(body((LABELS, [(5.0, T)]))) == expected
    assert len(receiving.placed) == 1


@pytest.mark.parametrize("file", ["prometheus.snappy", "vmagent.snappy", "vmagent-stale.snappy"])
def test_bodies_of_real_clients_are_what_the_library_reads(file: str) -> None:
    receiving, content = Receiving(remote_write.decode), inflate(recorded(file), 1 << 20)
    request = WriteRequest.FromString(content)
    expected = [
        ({label.name: label.value for label in series.labels}, sample.timestamp, sample.value)
        for series in request.timeseries
        for sample in series.samples
    ]
    assert expected
    for _ in range(2):  # first unknown series, then known ones
        rows = receiving.rows(content)
        found = [({"__name__": name} | tags, time // 10**6) for name, tags, time, _ in rows]
        assert found == [row[:2] for row in expected]
        assert repr([row[3] for row in rows]) == repr([row[2] for row in expected])
    assert receiving.decode(content).rejected == 0


def test_the_stale_marker_of_a_real_client_is_a_nan(receiving: Receiving) -> None:
    receiving.decode(inflate(recorded("vmagent.snappy"), 1 << 20))
    before = len(receiving.placed)
    values = receiving.decode(inflate(recorded("vmagent-stale.snappy"), 1 << 20)).points.values
    assert len(receiving.placed) == before
    assert values.view(np.uint64).tolist() == [STALE] * 6


VALUES = st.floats() | st.sampled_from([0.0, -0.0, 1e308])
TIMES = st.integers(1_500_000_000_000, 2_000_000_000_000) | st.integers(-(2**63), 2**63 - 1)
SERIES = st.tuples(
    st.dictionaries(st.text(min_size=1, max_size=9), st.text(min_size=1, max_size=40), max_size=4),
    st.lists(st.tuples(VALUES, TIMES), max_size=3),
)


@given(st.lists(SERIES, max_size=5))
def test_any_request_is_what_the_library_reads(requests: list[tuple[Any, Samples]]) -> None:
    named = [({"__name__": "m"} | labels, samples) for labels, samples in requests]
    receiving = Receiving(remote_write.decode)
    expected = [
        (labels, time * 10**6, value)
        for labels, samples in named
        for value, time in samples
        if abs(time * 10**6) < 2**63
    ]
    for _ in range(2):  # first unknown series, then known ones
        rows = receiving.rows(body(*named))
        found = [({"__name__": name} | tags, time) for name, tags, time, _ in rows]
        assert found == [row[:2] for row in expected]
        assert repr([row[3] for row in rows]) == repr([row[2] for row in expected])


def test_the_order_of_labels_does_not_matter_and_empty_ones_are_none(receiving: Receiving) -> None:
    turned = {"none": "", **dict(reversed(LABELS.items()))}
    for labels in (LABELS, turned, LABELS, turned):
        assert receiving.decode(body((labels, [(1.0, T)]))).points.series.tolist() == [0]


def test_something_like_a_sample_inside_a_label_is_none(receiving: Receiving) -> None:
    receiving.decode(body((LABELS, [(1.0, T)])))
    sample = WriteRequest().timeseries.add().samples.add(value=2.0, timestamp=T)
    text = b"\x12\x10" + sample.SerializeToString()
    label = b"\x0a\x01a\x12" + bytes([len(text)]) + text
    series = body((LABELS, []))[2:] + b"\x0a" + bytes([len(label)]) + label
    decoded = receiving.decode(b"\x0a" + bytes([len(series)]) + series)
    assert (len(decoded.points), decoded.rejected) == (0, 0)


@pytest.mark.parametrize(
    ("labels", "reason"),
    [
        ({"device": "router1"}, "series without a name"),
        (LABELS | {f"l{number}": "x" for number in range(100)}, "series with more than 64 tags"),
        (LABELS | {"long": "x" * 5000}, "series whose names take more than 4096 bytes"),
        ({}, "series without a name"),
    ],
)
def test_bad_labels_cost_only_their_samples(
    receiving: Receiving, labels: dict[str, str], reason: str
) -> None:
    decoded = receiving.decode(body((labels, [(1.0, T), (2.0, T)]), (LABELS, [(1.0, T)])))
    assert (len(decoded.points), decoded.reasons) == (1, {reason: 2})


def test_a_label_twice_and_one_that_is_not_utf_8_are_refused(receiving: Receiving) -> None:
    good = body((LABELS, [(1.0, T)]))
    decoded = receiving.decode(good.replace(b"router1", b"router\xff"))
    assert decoded.reasons == {"series whose names are not UTF-8": 1}
    request = WriteRequest.FromString(good)
    request.timeseries[0].labels.add(name="device", value="other")
    decoded = receiving.decode(request.SerializeToString())
    assert decoded.reasons == {"series with a label twice": 1}


def test_a_million_labels_are_refused_and_not_kept(receiving: Receiving) -> None:
    labels = {f"label{number}": "x" for number in range(1_000_000)}
    assert receiving.decode(body((labels, [(1.0, T)]))).rejected == 1
    assert not receiving.table.ids


def test_a_time_beyond_int64_costs_its_sample(receiving: Receiving) -> None:
    for _ in range(2):
        decoded = receiving.decode(body((LABELS, [(1.0, 2**62), (2.0, T), (3.0, -(2**62))])))
        assert (decoded.points.values.tolist(), decoded.reasons) == ([2.0], {BAD_TIME: 2})


def test_native_histograms_are_counted_and_exemplars_and_metadata_skipped(
    receiving: Receiving,
) -> None:
    request = WriteRequest.FromString(body((LABELS, [(1.0, T)])))
    request.timeseries[0].exemplars.add(value=1.0, timestamp=T).labels.add(name="a", value="b")
    request.timeseries[0].histograms.add(count_int=5, timestamp=T)
    request.metadata.add(metric_family_name="m", help="what it counts")
    decoded = receiving.decode(request.SerializeToString())
    assert (len(decoded.points), decoded.reasons) == (1, {remote_write.HISTOGRAMS: 1})


def test_an_empty_request_has_no_points(receiving: Receiving) -> None:
    assert len(receiving.decode(b"").points) == 0


def test_a_request_that_breaks_off_anywhere_is_malformed_or_shorter(receiving: Receiving) -> None:
    content = inflate(recorded("prometheus.snappy"), 1 << 20)
    whole = len(receiving.decode(content).points)
    malformed = 0
    for end in range(len(content)):
        try:
            assert len(receiving.decode(content[:end]).points) < whole
        except MalformedInputError:
            malformed += 1
    assert malformed > len(content) * 0.9


@pytest.mark.parametrize(
    "bad", [b"\x0a", b"\x0a\xff", b"\x0b", b"{}", b"\xff" * 20, b"\x0a\x02\x0a\x05", b"\x00\x01"]
)
def test_what_is_no_message_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no protobuf message"):
        receiving.decode(bad)


def test_infinities_and_nan_are_values(receiving: Receiving) -> None:
    values = [math.inf, -math.inf, math.nan, 1e308]
    decoded = receiving.decode(body(*((LABELS, [(value, T)]) for value in values)))
    assert repr(decoded.points.values.tolist()) == repr(values)
