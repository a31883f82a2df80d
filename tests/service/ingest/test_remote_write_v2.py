from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.ingest.prometheus import Request
from models.telemetry.assembler import Assembler
from service.formats.errors import MalformedInputError
from service.ingest import remote_write, remote_write_v2
from tests.service.ingest.test_remote_write import LABELS, SERIES, Samples, T
from tests.service.ingest.test_remote_write import body as body_v1
from tests.support.feeds import GAUGE, mapping_of
from tests.support.points import Receiving


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(remote_write_v2.decode)


def request(*series: tuple[dict[str, str], Samples]) -> Any:
    """A request, made by the protobuf library, with the table of symbols that it needs."""
    made, symbols = Request(), {"": 0}
    for labels, samples in series:
        one = made.timeseries.add()
        for text in (part for label in labels.items() for part in label):
            one.labels_refs.append(symbols.setdefault(text, len(symbols)))
        for value, time in samples:
            one.samples.add(value=value, timestamp=time)
        one.metadata.type = 1
    made.symbols.extend(symbols)
    return made


def body(*series: tuple[dict[str, str], Samples]) -> bytes:
    content: bytes = request(*series).SerializeToString()
    return content


@given(st.lists(SERIES, max_size=5))
def test_any_request_gives_the_points_of_remote_write_1(
    requests: list[tuple[Any, Samples]],
) -> None:
    named = [({"__name__": "m"} | labels, samples) for labels, samples in requests]
    first, second = Receiving(remote_write.decode), Receiving(remote_write_v2.decode)
    for _ in range(2):  # first unknown series, then known ones
        assert repr(second.rows(body(*named))) == repr(first.rows(body_v1(*named)))
    assert {*map(repr, second.placed)} == {*map(repr, first.placed)}


def test_a_series_is_the_same_in_both_versions(receiving: Receiving) -> None:
    receiving.decode(body((LABELS, [(1.0, T)])))
    remote_write.decode(body_v1((LABELS, [(1.0, T)])), receiving.table, 0)
    assert receiving.placed[0] == receiving.placed[1]


@given(st.permutations([*LABELS.items(), ("port", "1"), ("empty", "")]), st.integers(0, 300))
def test_labels_in_any_order_and_with_any_symbols_are_the_same_series(
    labels: list[tuple[str, str]], more: int
) -> None:
    receiving = Receiving(remote_write_v2.decode)
    first = [(LABELS | {"port": "1", "empty": ""}, [(1.0, T)])]
    others = [(LABELS | {"other": str(number)}, [(1.0, T)]) for number in range(more)]
    receiving.decode(body(*first))
    decoded = receiving.decode(body(*others, (dict(labels), [(2.0, T)])))
    assert decoded.points.series[-1] == 0
    assert len(receiving.placed) == 1 + more


@given(st.lists(SERIES, min_size=2, max_size=6, unique_by=lambda series: str(sorted(series[0]))))
def test_exchanged_names_and_values_are_other_series(series: list[tuple[Any, Samples]]) -> None:
    receiving = Receiving(remote_write_v2.decode)
    exchanged = [({"__name__": "m", "a": "x", "b": "y"}, [(1.0, T)])]
    exchanged += [({"__name__": "m", "a": "y", "b": "x"}, [(1.0, T)])]
    exchanged += [({"__name__": "m", "x": "a", "y": "b"}, [(1.0, T)])]
    named = [({"__name__": "n"} | labels, [(1.0, T)]) for labels, _ in series]
    receiving.decode(body(*named, *exchanged))
    assert len(receiving.placed) == len(named) + len(exchanged)


def test_many_symbols_take_more_bytes(receiving: Receiving) -> None:
    many = [(LABELS | {"port": str(number)}, [(float(number), T)]) for number in range(20_000)]
    rows = receiving.rows(body(*many))
    assert [row[1]["port"] for row in rows] == [labels["port"] for labels, _ in many]


def test_symbols_may_come_last_and_series_may_be_of_any_shape(receiving: Receiving) -> None:
    made = request((LABELS, [(1.0, T), (2.0, T + 1)]))
    made.timeseries[0].exemplars.add(value=1.0, timestamp=T)
    made.timeseries[0].histograms.add(count_int=5, timestamp=T)
    made.timeseries[0].created_timestamp = T
    made.timeseries[0].samples[0].start_timestamp = T
    made.timeseries[0].metadata.help_ref = 1 << 20
    symbols = Request(symbols=made.symbols)
    del made.symbols[:]
    content = made.SerializeToString() + symbols.SerializeToString()
    decoded = receiving.decode(content)
    assert decoded.points.values.tolist() == [1.0, 2.0]
    assert decoded.reasons == {remote_write.HISTOGRAMS: 1}


def test_bad_labels_cost_only_their_samples(receiving: Receiving) -> None:
    decoded = receiving.decode(body(({"a": "b"}, [(1.0, T)]), (LABELS, [(1.0, T)]), ({}, [])))
    assert (len(decoded.points), decoded.reasons) == (1, {"series without a name": 1})


@pytest.mark.parametrize("references", [[1], [1, 99], [0, 1, 2], [1 << 27, 1], [1 << 31, 1]])
def test_references_to_nothing_are_malformed(receiving: Receiving, references: list[int]) -> None:
    made = request((LABELS, [(1.0, T)]))
    made.timeseries[0].labels_refs[:] = references
    with pytest.raises(MalformedInputError):
        receiving.decode(made.SerializeToString())


def test_a_reference_that_breaks_off_is_malformed(receiving: Receiving) -> None:
    content = body((LABELS, [(1.0, T)]), (LABELS, [(1.0, T)]))
    assert content.count(b"\x0a\x04\x01\x02\x03\x04") == 2
    with pytest.raises(MalformedInputError):
        receiving.decode(content.replace(b"\x0a\x04\x01\x02\x03\x04", b"\x0a\x04\x01\x02\x03\x84"))


def test_a_long_symbol_costs_only_the_samples_that_refer_to_it(receiving: Receiving) -> None:
    long = LABELS | {"long": "x" * 100_000}
    decoded = receiving.decode(body((long, [(1.0, T)]), (LABELS, [(2.0, T)]), (long, [(3.0, T)])))
    assert decoded.points.values.tolist() == [2.0]
    assert decoded.reasons == {"series whose names take more than 4096 bytes": 2}


def test_an_empty_request_has_no_points(receiving: Receiving) -> None:
    assert len(receiving.decode(b"").points) == 0
    assert len(receiving.decode(Request(symbols=[""]).SerializeToString()).points) == 0


def test_a_request_that_breaks_off_anywhere_is_malformed_or_shorter(receiving: Receiving) -> None:
    content = body(*[(LABELS | {"port": str(number)}, [(1.0, T)]) for number in range(20)])
    malformed = 0
    for end in range(len(content)):
        try:
            assert len(receiving.decode(content[:end]).points) < 20
        except MalformedInputError:
            malformed += 1
    assert malformed > len(content) * 0.8


def test_restarts_leave_no_tokens_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = mapping_of(GAUGE)
    assembler = Assembler(mapping)
    series = [
        ({"__name__": "load", "device": f"r{number}"}, [(1.0, T)] * (1 + number % 2))
        for number in range(20)
    ]
    remote_write.decode(body_v1(*series[:5]), assembler.series, 0)  # of which tokens are kept
    sizes = []
    for key in (b"first", b"second", b"third"):
        monkeypatch.setattr(remote_write_v2, "_KEY", key)
        remote_write_v2._kept_factors.cache_clear()
        assembler = Assembler.restore(mapping, assembler.snapshot())
        for _ in range(2):  # first unknown tokens, then known ones
            points = remote_write_v2.decode(body(*series), assembler.series, 0).points
            assert {*points.series.tolist()} == {*range(20)}
        sizes.append(len(assembler.series.ids))
    remote_write_v2._kept_factors.cache_clear()
    assert sizes == [25, 25, 25]
