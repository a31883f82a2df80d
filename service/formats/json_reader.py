"""JSON bodies: from bytes to the encoder's input, chunk by chunk.

A decoder made from the schema rejects a body at the first thing that does not fit. Only then does
the slow pass of `json_diagnosis` search for what is wrong.

A long body is never parsed as a whole, because that would block all other requests. It is cut where
one record seems to end and the next to begin, and each chunk is parsed by itself. If the cut was
inside a string, the chunk is no JSON, and is parsed again together with the next one: chunks that
are each the content of a list are so together, too.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Annotated, Any, Literal

import msgspec
import numpy as np

from models import Field, RecordError, Schema
from models.schema import LARGEST, Matrix
from service.formats.chunk import CHUNK_BYTES, Chunk
from service.formats.errors import MalformedInputError, count_error
from service.formats.json_diagnosis import DECODE_ERRORS, MAX_DETAILED, Diagnosis, parse
from service.formats.json_text import check_unique, without_bom

__all__ = ["Body", "JsonDecoder"]

_SHORT, _LONGER = CHUNK_BYTES, 2 * CHUNK_BYTES
"""Where a chunk is cut first, and second if that was inside a string; then, at the end."""
_MAX_REPORTED = 1 << 20
"""Bytes of a chunk whose faults are reported in place: it is longer by malice only."""

_SECOND = re.compile(rb'\]\s*,\s*"records"\s*:')
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_FIRST_KEY = re.compile(rb'\s*\{\s*("[^"\\]{0,200}")')
_Number = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]


@dataclass(slots=True)
class Body:
    """A body that is about to be read.

    Attributes:
        options: keys that stand beside the records.
        chunks: the records, read on demand.
    """

    options: Mapping[str, bool]
    chunks: Iterator[Chunk]


class JsonDecoder:
    """Decodes bodies for one schema.

    Args:
        schema: of a record.
        max_records: records that a body may hold.
        options: keys that may stand beside `records`, each with true or false.
    """

    def __init__(
        self, schema: Schema, max_records: int, options: frozenset[str] = frozenset()
    ) -> None:
        self._content = schema, max_records, options
        self._strict = _BodyReader(*self._content, ignore_extra=False)

    def read(
        self, body: bytes | bytearray, *, report: bool = False, ignore_extra: bool = False
    ) -> Body:
        """Read a body; a long one chunk by chunk.

        Args:
            body: as it was sent.
            report: whether to report records that do not fit in place, and take the others.
            ignore_extra: whether to skip fields of records that the schema does not have.

        Raises:
            MalformedInputError: it is not JSON. Reading a chunk may raise it too.
            RecordError: it is, but not `{"records": [...]}` with records of the schema. Reading a
                chunk may raise it too.
        """
        reader = self._lenient if ignore_extra else self._strict
        return reader.read(without_bom(body), report=report)

    @cached_property
    def _lenient(self) -> _BodyReader:
        return _BodyReader(*self._content, ignore_extra=True)


class _BodyReader:
    """Reads bodies whose records may or may not have fields that the schema does not have."""

    def __init__(
        self, schema: Schema, max_records: int, options: frozenset[str], *, ignore_extra: bool
    ) -> None:
        self._max_records, self._options, self._ignore_extra = max_records, options, ignore_extra
        self._rows = _Rows(schema.fields)
        record = _record_type(schema.fields, ignore_extra=ignore_extra)
        self._body = msgspec.json.Decoder(_body_type(record, options))
        self._list = msgspec.json.Decoder(list[record])  # type: ignore[valid-type]
        self._record = msgspec.json.Decoder(record)
        self._diagnosis = Diagnosis(
            schema, max_records, options, self._row, ignore_extra=ignore_extra
        )

    def read(self, body: bytes | bytearray, *, report: bool) -> Body:
        if len(body) <= CHUNK_BYTES:
            try:
                content: Any = self._body.decode(body)
                if 1 <= len(content.records) <= self._max_records:
                    if body.find(b"]") != body.rfind(b"]"):  # as there is of a single list
                        check_unique(body, "records")
                    chunk = Chunk(self._rows.encode(content.records))
                    return Body(self._options_of(content), chunk.split())
            except DECODE_ERRORS:
                pass
        if report or len(body) > CHUNK_BYTES:
            if (envelope := self._envelope(body)) is None:
                self._diagnosis.refuse(body, strict=not report)
            options, start, end = envelope
            return Body(options, self._chunks(memoryview(body)[start:end], report=report))
        options, chunk = self._diagnosis.read(body)
        return Body(options, chunk.split())

    def _row(self, text: msgspec.Raw) -> Matrix | None:
        try:
            return self._rows.encode([self._record.decode(text)])
        except DECODE_ERRORS:
            return None

    def _options_of(self, content: Any) -> dict[str, bool]:
        return {name: getattr(content, name) for name in self._options}

    def _envelope(self, body: bytes | bytearray) -> tuple[dict[str, bool], int, int] | None:
        """Return the options, and where the records start and end: nothing else has brackets."""
        start, end = body.find(b"[") + 1, body.rfind(b"]")
        if end <= start:
            return None
        try:
            content: Any = self._body.decode(body[:start] + body[end:])
        except DECODE_ERRORS:
            return None
        return self._options_of(content), start, end

    def _chunks(self, text: memoryview, *, report: bool) -> Iterator[Chunk]:
        between = _between(text) if self._ignore_extra else _BETWEEN
        start, records, detailed = 0, 0, MAX_DETAILED
        while start < len(text):
            end, rows = self._parse(text, start, between)
            more = " or more" if end < len(text) else ""
            if rows == []:  # nothing but space is between the brackets
                raise count_error(self._max_records, "an empty list")
            if rows is not None:
                self._check_count(records + len(rows), more)
                chunks = Chunk(self._rows.encode(rows)).split()
            elif report and end - start <= _MAX_REPORTED:
                entries = self._diagnosis.entries(_listed(text, start, end))
                self._check_count(records + len(entries), more)
                chunks = self._diagnosis.report(entries, records, detailed)
            else:
                chunk = self._diagnosis.read_list(_listed(text, start, end), records)
                self._check_count(records + len(chunk), more)
                chunks = chunk.split()
            for chunk in chunks:
                records += len(chunk)
                detailed -= len(chunk.faults)
                yield chunk
            start = end + 1

    def _check_count(self, records: int, more: str) -> None:
        if records > self._max_records:
            raise count_error(self._max_records, f"{records} records{more}")

    def _parse(
        self, text: memoryview, start: int, between: re.Pattern[bytes]
    ) -> tuple[int, list[Any] | None]:
        """Parse the chunk that begins here.

        Returns:
            Where it ends, and its records, or None if some do not fit.

        Raises:
            MalformedInputError: it is not JSON.
        """
        for length in (_SHORT, _LONGER, len(text)):
            end = _record_end(text, start + length, between)
            listed = _listed(text, start, end)
            try:
                return end, self._list.decode(listed)
            except DECODE_ERRORS as error:
                if end == len(text):
                    if not isinstance(error, msgspec.ValidationError):
                        _check_whole(listed)
                    return end, None
            try:  # a misfit may come before the place where a record was cut
                self._diagnosis.entries(listed)
            except MalformedInputError:
                continue
            break
        return end, None


class _Rows:
    """Encodes decoded records as a matrix.

    Args:
        fields: of the schema, in its order.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._width = len(fields)
        self._codes = {
            i: (field.codes(), field.unseen_code)
            for i, field in enumerate(fields)
            if field.kind == "category"
        }
        # Packing takes half the time, but knows nothing of None.
        plain = not self._codes and all(field.required for field in fields)
        self._pack = struct.Struct(f"={self._width}f").pack if plain else None

    def encode(self, records: Sequence[msgspec.Struct]) -> Matrix:
        """Return float32 [n, fields], NaN where missing."""
        rows = map(msgspec.structs.astuple, records)
        if self._pack is not None:
            pack = self._pack
            data = b"".join([pack(*row) for row in rows])
            return np.frombuffer(data, np.float32).reshape(-1, self._width)
        if not self._codes:
            return np.array([*rows], np.float32)
        columns = list(zip(*rows, strict=True))
        for i, (codes, unseen) in self._codes.items():
            columns[i] = tuple(codes.get(value, unseen) for value in columns[i])
        return np.ascontiguousarray(np.array(columns, np.float32).T)


def _check_whole(listed: bytes) -> None:
    """Raise why a list is not JSON; or that it ends early, and another one follows."""
    if second := _SECOND.search(listed):
        parse(listed[: second.start() + 1])
        raise RecordError.of_request("records", "this key once", "a second one")
    parse(listed)


def _listed(text: memoryview, start: int, end: int) -> bytes:
    return b"".join((b"[", text[start:end], b"]"))


def _between(text: memoryview) -> re.Pattern[bytes]:
    """Return a pattern of what separates records, not objects in the fields that are ignored.

    It is a guess: that every record begins with the same key, and no such object does.
    """
    key = _FIRST_KEY.match(text)
    if key is None:
        return _BETWEEN
    return re.compile(rb"\}\s*,\s*(?=\{\s*" + re.escape(bytes(key[1])) + rb"\s*:)")


def _record_end(text: memoryview, start: int, between: re.Pattern[bytes]) -> int:
    """Return where the first comma between two records after `start` is, or the text's end."""
    while start < len(text):
        window = text[max(start - 1, 0) : start + CHUNK_BYTES]
        if match := between.search(window):
            return max(start - 1, 0) + match.start() + bytes(match.group()).index(b",")
        start += CHUNK_BYTES
    return len(text)


def _record_type(fields: Sequence[Field], *, ignore_extra: bool) -> type[msgspec.Struct]:
    names = {f"field_{i}": field.name for i, field in enumerate(fields)}
    return msgspec.defstruct(
        "Record",
        [
            (name, _type(field)) if field.required else (name, _type(field) | None, None)
            for name, field in zip(names, fields, strict=True)
        ],
        rename=names,
        forbid_unknown_fields=not ignore_extra,
        kw_only=True,
        gc=False,
    )


def _body_type(record: type[msgspec.Struct], options: frozenset[str]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        "Body",
        [("records", list[record]), *((name, bool, False) for name in sorted(options))],  # type: ignore[valid-type]
        forbid_unknown_fields=True,
    )


def _type(field: Field) -> Any:
    match field.kind:
        case "boolean":
            return bool
        case "category" if field.open:
            return str
        case "category":
            return Literal[field.categories]
    return _Number
