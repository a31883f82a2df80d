from __future__ import annotations

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import Field, RecordError, Schema
from models.schema import Matrix
from service.formats.chunk import CHUNK_BYTES, CHUNK_RECORDS, Chunk
from service.formats.errors import MalformedInputError
from service.formats.json_reader import Body, JsonDecoder
from tests.support.problems import errors_of

SCHEMA = Schema(
    [
        Field(name="loss", kind="gauge", unit="%", required=False),
        Field(name="rx rate", kind="rate"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("fiber", "radio")),
        Field(name="vendor", kind="category", categories=("a", "b"), open=True, required=False),
    ]
)
GOOD = {"loss": None, "rx rate": 2.5, "up": True, "link": "radio", "vendor": "c"}
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.sampled_from(["fiber", "radio", "a", "1", ""]),
    st.just([]),
    st.just(10**400),
)


def decoder(most: int = 10_000) -> JsonDecoder:
    return JsonDecoder(SCHEMA, most, frozenset({"distances"}))


def whole(body: Body) -> Matrix:
    """All that fits, in one matrix."""
    return np.concatenate([chunk.matrix for chunk in body.chunks])


def chunks(
    body: bytes, *, report: bool = False, most: int = 10_000, ignore_extra: bool = False
) -> list[Chunk]:
    return list(decoder(most).read(body, report=report, ignore_extra=ignore_extra).chunks)


RECORDS = st.lists(
    st.dictionaries(st.sampled_from([*SCHEMA.names, "else"]), VALUES).map(
        lambda changes: GOOD | changes
    ),
    min_size=1,
    max_size=4,
)
LONG = "x" * CHUNK_BYTES
"""More than one chunk; no closed field takes it."""


@given(RECORDS)
def test_a_body_is_taken_exactly_when_the_schema_takes_its_records(records: list[Any]) -> None:
    body = json.dumps({"records": records}).encode()
    found: list[dict[str, Any]] = []
    try:
        expected = SCHEMA.encode(records)
    except RecordError as error:
        found = errors_of(error)
    if not found:
        np.testing.assert_array_equal(whole(decoder().read(body)), expected)
        return
    with pytest.raises(RecordError) as refusal:
        chunks(body)
    assert errors_of(refusal.value) == found


def test_options_are_false_unless_given() -> None:
    for extra, value in (("", False), (', "distances": true', True)):
        body = f'{{"records": [{json.dumps(GOOD)}]{extra}}}'.encode()
        assert decoder().read(body).options == {"distances": value}


@pytest.mark.parametrize(
    "item",
    ["{}", "[]", '{"":0}', '{"rx rate":1}', json.dumps(GOOD | {"else": 1}), "1", '"x"'],
)
def test_a_body_of_16_mib_that_does_not_fit_costs_little_memory(item: str) -> None:
    body = ('{"records":[' + (item + ",") * (16 * 2**20 // (len(item) + 1)) + item + "]}").encode()
    tracemalloc.start()
    try:
        with pytest.raises(RecordError) as refusal:
            chunks(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert len(errors_of(refusal.value)) <= 10
    assert peak < 64 * 2**20


def test_one_record_with_a_million_fields_costs_little_memory() -> None:
    fields = ",".join(f'"f{i}":0' for i in range(1_000_000))
    body = f'{{"records":[{json.dumps(GOOD)},{{{fields}}}]}}'.encode()
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            chunks(body)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 64 * 2**20


def test_a_fault_behind_the_first_look_is_found_at_its_place() -> None:
    records = [GOOD] * 9_000 + [GOOD | {"up": 1}] + [GOOD] * 10
    body = json.dumps({"records": records}).encode()
    assert len(body) > 1 << 19
    with pytest.raises(RecordError) as refusal:
        chunks(body)
    (error,) = errors_of(refusal.value)
    assert (error["record"], error["field"]) == (9_000, "up")


def test_a_large_body_that_breaks_off_is_not_json() -> None:
    body = json.dumps({"records": [GOOD] * 9_000}).encode()[:-30]
    with pytest.raises(MalformedInputError):
        chunks(body)


def test_a_large_body_with_too_many_good_records_is_refused_for_their_number() -> None:
    body = json.dumps({"records": [GOOD] * 9_000}).encode()
    with pytest.raises(RecordError, match="a list of 1 to 5000 records"):
        chunks(body, most=5_000)


@given(RECORDS, st.sampled_from(["", "},{", "}, {", "]", '"', "\\"]), st.integers(0, 3))
def test_a_long_body_is_read_as_a_short_one_is(records: list[Any], text: str, place: int) -> None:
    filler = GOOD | {"vendor": text + LONG + text}
    every = [*records[:place], filler, filler, *records[place:]]
    body = json.dumps({"records": every}).encode()
    short = json.dumps({"records": records}).encode()
    try:
        expected = SCHEMA.encode(every)
    except RecordError:
        with pytest.raises(RecordError):
            chunks(body)
    else:
        np.testing.assert_array_equal(whole(decoder().read(body)), expected)
        np.testing.assert_array_equal(whole(decoder().read(short)), SCHEMA.encode(records))


@given(RECORDS, st.booleans())
def test_a_report_takes_the_records_that_fit_and_tells_of_each_other_one(
    records: list[Any], long: bool
) -> None:
    filler = [GOOD | {"vendor": LONG}] * 2 if long else []
    every = filler + records
    body = json.dumps({"records": every}).encode()
    expected: list[Any] = []
    for record in every:
        try:
            expected.append(SCHEMA.encode([record])[0])
        except RecordError as error:
            expected.append((error.faults[0].field, error.faults[0].got))
    found: list[Any] = []
    for chunk in chunks(body, report=True):
        rows = iter(chunk.matrix)
        for index in range(len(chunk)):
            fault = chunk.faults.get(index)
            if fault is not None:
                assert fault.record == len(found)
            found.append(next(rows) if fault is None else (fault.field, fault.got))
    assert len(found) == len(expected)
    for one, other in zip(found, expected, strict=True):
        assert isinstance(one, tuple) == isinstance(other, tuple)
        if isinstance(one, tuple):
            assert one == other
        else:
            np.testing.assert_array_equal(one, other)


def test_a_report_of_records_that_are_all_bad_stays_short() -> None:
    found = chunks(b'{"records": [' + b",".join([b"{}"] * 10_000) + b"]}", report=True)
    faults = [fault for chunk in found for fault in chunk.faults.values()]
    assert [fault.record for fault in faults] == [*range(10_000)]
    assert not any(len(chunk.matrix) for chunk in found)
    assert sum(fault.field is not None for fault in faults) == 100


@pytest.mark.parametrize("report", [False, True])
@pytest.mark.parametrize(
    "records",
    [
        '{"x": 1}' + ", 1}" * 2**18,
        "{" + '"a": 0, ' * 2**18 + "}",
        '"' + "x" * 2**19,
        "[" * 2**19,
        "{" * 2**19,
        '{"up": true}' * 2**16,
        "{},{}" * 2**17 + ",",
    ],
)
def test_a_long_body_that_is_not_json_is_refused(records: str, report: bool) -> None:
    with pytest.raises((MalformedInputError, RecordError)):
        chunks(f'{{"records": [{records}]}}'.encode(), report=report)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999"])
@pytest.mark.parametrize("long", [False, True])
def test_a_number_that_is_none_is_told_of_in_its_place(literal: str, long: bool) -> None:
    bad = json.dumps(GOOD).replace("2.5", literal)
    filler = json.dumps(GOOD | {"vendor": LONG if long else "a"})
    body = f'{{"records": [{filler}, {filler}, {bad}, {filler}]}}'.encode()
    with pytest.raises(RecordError) as refusal:
        chunks(body)
    assert (errors_of(refusal.value)[0]["record"], errors_of(refusal.value)[0]["field"]) == (
        2,
        "rx rate",
    )
    read = chunks(body, report=True)
    assert [fault.record for chunk in read for fault in chunk.faults.values()] == [2]
    assert sum(len(chunk.matrix) for chunk in read) == 3


def test_a_piece_is_read_when_it_is_asked_for_and_not_before() -> None:
    body = json.dumps({"records": [GOOD] * 9_000 + [{}]}).encode()
    reading = decoder().read(body)
    assert 0 < len(next(reading.chunks)) < 9_000
    with pytest.raises(RecordError, match="record 9000"):
        list(reading.chunks)


@pytest.mark.parametrize("item", ["0", "[]", '""', '"' + "x" * 40 + '"', "{}"])
def test_a_report_of_millions_of_things_that_are_no_records_is_refused_cheaply(item: str) -> None:
    body = ('{"records":[' + (item + ",") * (16 * 2**20 // (len(item) + 1)) + item + "]}").encode()
    tracemalloc.start()
    try:
        with pytest.raises(RecordError):
            chunks(body, report=True)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 96 * 2**20


@pytest.mark.parametrize("literal", ["1", "NaN"])
@pytest.mark.parametrize("long", [False, True])
def test_a_good_record_after_many_bad_ones_is_taken(literal: str, long: bool) -> None:
    good = json.dumps(GOOD | {"vendor": LONG if long else "a"})
    bad = f'{{"no such field": {literal}}}'
    body = f'{{"records": [{", ".join([bad] * 200 + [good])}]}}'.encode()
    (chunk,) = chunks(body, report=True)
    assert (len(chunk.faults), len(chunk.matrix)) == (200, 1)
    assert [*chunk.faults] == [*range(200)]


def test_a_piece_that_is_cut_inside_a_record_is_no_misfit() -> None:
    within = {"up": [{"a": 1}, {"b": "x" * 600_000}]}
    cut = {"up": [{"a": 1}] * 40_000}
    for odd in (within, cut):
        body = json.dumps({"records": [odd, GOOD]}).encode()
        read = chunks(body, report=True)
        assert [fault.record for chunk in read for fault in chunk.faults.values()] == [0]
        assert sum(len(chunk.matrix) for chunk in read) == 1
        with pytest.raises(RecordError, match="record 0"):
            chunks(body)


EXTRA = st.dictionaries(
    st.text(min_size=1, max_size=8).filter(lambda name: name not in SCHEMA.names),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text('ab}],{[\\"', max_size=9),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner),
        max_leaves=5,
    ),
    max_size=3,
)


def outcome(body: bytes, *, report: bool) -> list[Any]:
    """Rows and faults of a body by record, or its first error."""
    try:
        read = chunks(body, report=report, ignore_extra=True)
    except RecordError as error:
        return errors_of(error)[:1]
    found: list[Any] = []
    for chunk in read:
        rows = iter(chunk.matrix)
        found += [chunk.faults.get(i) or str(next(rows).tolist()) for i in range(len(chunk))]
    return found


@given(
    st.lists(
        st.tuples(
            st.dictionaries(st.sampled_from(SCHEMA.names), VALUES).map(lambda some: GOOD | some),
            EXTRA,
        ),
        min_size=1,
        max_size=4,
    ),
    st.booleans(),
    st.booleans(),
)
def test_fields_that_are_ignored_change_nothing(
    records: list[tuple[dict[str, Any], dict[str, Any]]], report: bool, long: bool
) -> None:
    filler = GOOD | {"else": [{"a": 1}, {"b": "x}, {" * (CHUNK_BYTES // 4 if long else 1)}]}
    without = json.dumps({"records": [GOOD, *[record for record, _ in records]]}).encode()
    extended = [filler, *[extra | record for record, extra in records]]
    body = json.dumps({"records": extended}).encode()
    assert outcome(body, report=report) == outcome(without, report=report)


@pytest.mark.parametrize("report", [False, True])
def test_many_records_with_fields_that_are_ignored_are_read_in_chunks(report: bool) -> None:
    records = [GOOD | {"else": {"nested": [{}, {}]}, "rx rate": i} for i in range(9_000)]
    body = json.dumps({"records": records}).encode()
    read = chunks(body, report=report, ignore_extra=True)
    assert len(read) > 2
    found = np.concatenate([chunk.matrix for chunk in read])
    assert found[:, 1].tolist() == list(range(9_000))
    records[8_000] |= {"up": "s3cr3t"}
    body = json.dumps({"records": records}).encode()
    if report:
        read = chunks(body, report=True, ignore_extra=True)
        (fault,) = [fault for chunk in read for fault in chunk.faults.values()]
        assert (fault.record, fault.field, fault.got) == (8_000, "up", "a string")
    else:
        with pytest.raises(RecordError, match="record 8000, field 'up'"):
            chunks(body, ignore_extra=True)


@pytest.mark.parametrize("length", [10, 3 * CHUNK_BYTES])
def test_keys_beside_the_records_are_never_ignored(length: int) -> None:
    body = json.dumps({"records": [GOOD | {"else": "x" * length}], "other": 1}).encode()
    with pytest.raises(RecordError, match="field 'other': expected only records and distances"):
        chunks(body, ignore_extra=True)


def test_fields_are_not_ignored_unless_that_is_asked_for() -> None:
    both = decoder()
    body = json.dumps({"records": [GOOD | {"else": 1}]}).encode()
    assert len(whole(both.read(body, ignore_extra=True))) == 1
    with pytest.raises(RecordError, match="field 'else': expected only fields of the schema"):
        both.read(body)


@pytest.mark.parametrize("long", [False, True])
def test_text_that_is_no_utf_8_is_refused_in_a_report_too(long: bool) -> None:
    odd = b'"' + b"x" * (600_000 if long else 10) + b'\xf0"'
    with pytest.raises(MalformedInputError):
        chunks(b'{"records": [' + odd + b", " + json.dumps(GOOD).encode() + b"]}", report=True)


@pytest.mark.parametrize("long", [False, True])
@pytest.mark.parametrize("report", [False, True])
@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("records", "records"),
        ("\\u0072ecords", "records"),
        ("records", "rec\\u006Frds"),
        ("rec\\u006frds", "rec\\u006frds"),
    ],
)
@pytest.mark.parametrize("content", [json.dumps([GOOD]), json.dumps([GOOD, {}]), "[]", "5"])
@pytest.mark.parametrize("order", [1, -1])
def test_a_second_list_of_records_is_refused(
    long: bool, report: bool, first: str, second: str, content: str, order: int
) -> None:
    whole_list = json.dumps([GOOD] * (5_000 if long else 1))
    one, two = [whole_list, content][::order]
    body = f'{{"{first}": {one}, "distances": true, "{second}": {two}}}'
    with pytest.raises((RecordError, MalformedInputError)):
        chunks(body.encode(), report=report)


@pytest.mark.parametrize("long", [False, True])
def test_of_a_second_list_of_records_the_reason_is_told(long: bool) -> None:
    records = json.dumps([GOOD] * (5_000 if long else 1))
    with pytest.raises(RecordError) as refusal:
        chunks(f'{{"records": {records}, "records": {records}}}'.encode())
    (fault,) = refusal.value.faults
    assert (fault.field, fault.got) == ("records", "a second one")


@pytest.mark.parametrize("count", [1, 5_000])
@pytest.mark.parametrize("vendor", ["]", r"],\"records\":[", "records", "[["])
def test_brackets_and_names_within_a_text_are_no_second_list(count: int, vendor: str) -> None:
    record = json.dumps(GOOD).replace('"c"', f'"{vendor}"')
    body = f'{{"records": [{", ".join([record] * count)}]}}'
    assert len(whole(decoder().read(body.encode()))) == count


@pytest.mark.parametrize("count", [1, 5_000])
def test_fields_that_are_ignored_may_hold_lists_called_records(count: int) -> None:
    record = GOOD | {"more": {"records": [1], "x": [[]]}}
    body = json.dumps({"records": [record] * count}).encode()
    assert sum(map(len, chunks(body, ignore_extra=True))) == count


@pytest.mark.parametrize("count", [1, 5_000])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_a_byte_order_mark_is_no_part_of_the_body(count: int, kind: type[bytes]) -> None:
    body = kind(b"\xef\xbb\xbf" + json.dumps({"records": [GOOD] * count}).encode())
    assert len(whole(decoder().read(body))) == count
    with pytest.raises(MalformedInputError):
        chunks(b"\xef\xbb\xbf" + body)


@pytest.mark.parametrize("report", [False, True])
@pytest.mark.parametrize("count", [300, 10_000])
@pytest.mark.parametrize("bad", [{}, {"rx rate": "s3cr3t"}])
def test_no_chunk_has_more_records_than_the_model_takes_in_a_time_slice(
    report: bool, count: int, bad: dict[str, Any]
) -> None:
    records = json.dumps({"records": [GOOD | bad] * count}, separators=(",", ":"))
    if bad and not report:
        return
    found = chunks(records.encode(), report=report)
    assert sum(map(len, found)) == count
    assert max(map(len, found)) <= CHUNK_RECORDS


@pytest.mark.parametrize("report", [False, True])
def test_a_long_list_of_nothing_is_empty(report: bool) -> None:
    with pytest.raises(RecordError, match="an empty list"):
        chunks(b'{"records": [' + b" " * 2 * CHUNK_BYTES + b"]}", report=report)
