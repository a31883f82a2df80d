from __future__ import annotations

import json
import math
from typing import Any

import msgspec
import numpy as np
import pytest

from models import Field, FieldError, RecordError, Schema
from models.schema import Matrix
from service.formats.errors import MalformedInputError
from service.formats.json_diagnosis import Diagnosis, parse

SCHEMA = Schema(
    [Field(name="loss", kind="gauge", required=False), Field(name="up", kind="boolean")]
)
GOOD: dict[str, Any] = {"loss": 1.5, "up": True}
ROW = [1.5, 1.0]
FAST = [99.0, 1.0]
"""What the fast decoder makes of the good record: unlike the slow pass, so that they differ."""


def encode(text: msgspec.Raw) -> Matrix | None:
    """Stands in for the fast decoder, which takes one record that it knows by its letters."""
    return np.array([FAST], np.float32) if bytes(text) == json.dumps(GOOD).encode() else None


def diagnosis(*options: str, most: int = 5, ignore_extra: bool = False) -> Diagnosis:
    return Diagnosis(SCHEMA, most, frozenset(options), encode, ignore_extra=ignore_extra)


def body(*records: object, **members: object) -> bytes:
    return json.dumps({"records": records, **members}).encode()


def faults_of(content: bytes, *options: str) -> list[tuple[int | None, str | None, str]]:
    with pytest.raises(RecordError) as refusal:
        diagnosis(*options).read(content)
    return [(fault.record, fault.field, fault.got) for fault in refusal.value.faults]


def test_what_the_fast_decoder_was_too_strict_for_is_read() -> None:
    options, chunk = diagnosis("distances", "explain").read(
        body(GOOD, {"up": False}, distances=True)
    )
    assert options == {"distances": True, "explain": False}
    np.testing.assert_array_equal(chunk.matrix, np.array([ROW, [math.nan, 0]], np.float32))
    assert chunk.faults == {}


def test_all_that_is_wrong_around_the_records_is_told_at_once() -> None:
    content = json.dumps({"records": {}, "distances": 1, "other": None}).encode()
    assert faults_of(content, "distances") == [
        (None, "records", "an object"),
        (None, "distances", "a number"),
        (None, "other", "a key that is not known"),
    ]


@pytest.mark.parametrize(
    ("content", "got"),
    [
        (b"{}", "no such key"),
        (b'{"records": null}', "null"),
        (b'{"records": []}', "an empty list"),
        (body(*[GOOD] * 6), "6 records"),
    ],
)
def test_records_are_a_list_of_some_but_not_too_many(content: bytes, got: str) -> None:
    assert faults_of(content) == [(None, "records", got)]


def test_a_report_is_in_place_and_asks_the_fast_decoder_first() -> None:
    texts = [msgspec.Raw(json.dumps(each)) for each in (GOOD, 1, {"up": False}, {"up": "s3cr3t"})]
    (chunk,) = diagnosis().report(texts, 0, 100)
    np.testing.assert_array_equal(chunk.matrix, np.array([FAST, [math.nan, 0]], np.float32))
    assert [(at, fault.record, fault.got) for at, fault in chunk.faults.items()] == [
        (1, 1, "a number"),
        (3, 3, "a string"),
    ]


def test_only_so_many_faults_of_a_report_name_their_field() -> None:
    (chunk,) = diagnosis().report([{}, GOOD, {}, {}], 10, 2)
    fields = {at: fault.field for at, fault in chunk.faults.items()}
    assert fields == {0: "up", 2: "up", 3: "up"}  # values are looked at; text is not
    texts = [msgspec.Raw(b"{}")] * 3
    (chunk,) = diagnosis().report(texts, 10, 2)
    assert [(fault.record, fault.field) for fault in chunk.faults.values()] == [
        (10, "up"),
        (11, "up"),
        (12, None),
    ]


def test_a_report_of_many_records_comes_in_chunks() -> None:
    entries = [GOOD, {}] * 400
    found = [*diagnosis().report(entries, 10, 500)]
    assert [len(chunk) for chunk in found] == [256, 256, 256, 32]
    records = [fault.record for chunk in found for fault in chunk.faults.values()]
    assert records == [*range(11, 810, 2)]
    assert sum(len(chunk.matrix) for chunk in found) == 400


@pytest.mark.parametrize("strict", [False, True])
def test_what_cannot_be_read_in_chunks_is_refused_with_the_reason(strict: bool) -> None:
    for content, got in [
        (b'{"records": 1}', "a number"),
        (b'{"records": []}', "an empty list"),
        (b'{"records": 5, "records": [{"up": true}]}', "one that comes twice"),
    ]:
        with pytest.raises(RecordError, match=got):
            diagnosis().refuse(content, strict=strict)
    with pytest.raises(MalformedInputError):
        diagnosis().refuse(b'{"records": [', strict=strict)


def test_a_list_of_a_longer_request_is_told_by_its_place_there() -> None:
    with pytest.raises(RecordError) as refusal:
        diagnosis().read_list(json.dumps([GOOD, {"up": 1}, {"x": 1}]).encode(), 40)
    assert refusal.value.faults == (
        SCHEMA["up"].fault(41, "a number"),
        SCHEMA["up"].fault(42, "no such field"),
        FieldError(42, "x", "only fields of the schema", "a field it does not have"),
    )


def test_fields_of_others_are_ignored_only_where_that_is_wanted() -> None:
    text = json.dumps([GOOD | {"x": 1}]).encode()
    assert diagnosis(ignore_extra=True).read_list(text, 0).matrix.tolist() == [ROW]
    with pytest.raises(RecordError, match="'x'"):
        diagnosis().read_list(text, 0)


def test_entries_are_text_unless_only_the_slow_parser_reads_them() -> None:
    assert [bytes(each) for each in diagnosis().entries(b"[1, {}]")] == [b"1", b"{}"]  # type: ignore[call-overload]
    assert diagnosis().entries(b"[1, Infinity]") == [1, math.inf]
    for odd in (b'["\xff"]', b"[1"):
        with pytest.raises(MalformedInputError):
            diagnosis().entries(odd)


def test_only_a_partial_text_may_be_cut_off() -> None:
    assert parse(b'{"records": [1, 2', partial=True) == {"records": [1, 2]}
    with pytest.raises(MalformedInputError, match="not JSON"):
        parse(b'{"records": [1, 2')
