"""JSON bodies: from bytes to the encoder's input, chunk by chunk.

A decoder made of the schema says yes or no, and stops at the first thing that does not fit. Only
after a no does a slower pass look for what is wrong, in as little of the body as shows it: what is
sent to hurt costs less than what is sent to be classified.

A long body is never parsed as a whole, because nothing else is done meanwhile. It is cut where one
record seems to end and the next to begin, and the chunks are parsed one by one. Should such a place
have been inside a string, then the chunk is no JSON, and is parsed again with the next one: when
every chunk is a list's content, then so are all of them in a row.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from typing import Annotated, Any, Final, Literal

import msgspec
import numpy as np
from pydantic_core import from_json

from models import Fault, Field, RecordError, Schema
from models.schema import LARGEST, UNSEEN, Matrix, describe
from service.formats.chunk import CHUNK_BYTES, Chunk
from service.formats.errors import MalformedInputError

__all__ = ["Body", "Decoder"]

_MOST_FAULTS = 10
_MOST_DETAILED = 100
"""Faults of a request that is answered in part which are told field by field."""
_FIRST_LOOK = 1 << 18
"""Bytes of a body that the slower pass looks at before it looks at more."""
_SHORT, _LONGER = CHUNK_BYTES, 2 * CHUNK_BYTES
"""Where a chunk is first cut, and where when that was inside a string; after that, at the end."""
_MOST_REPORTED = 1 << 20
"""Bytes of a chunk that are told of entry by entry: cut at records, it is longer by malice only."""

_ABSENT: Final = object()
_START = re.compile(rb'"records"\s*:\s*\[')
_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_Number = Annotated[float, msgspec.Meta(ge=-LARGEST, le=LARGEST)]
_REFUSALS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
_VAGUE = Fault(0, None, "a record of the schema", "something else")


class _RawBody(msgspec.Struct):
    records: list[msgspec.Raw]


@dataclass(slots=True)
class Body:
    """A body that is about to be read.

    Attributes:
        options: keys that stand beside the records.
        chunks: the records, read as they are asked for.
    """

    options: Mapping[str, bool]
    chunks: Iterator[Chunk]


class Decoder:
    """Decodes bodies for one schema.

    Args:
        schema: what a record holds.
        most: how many records a body may hold.
        options: keys that may stand beside `records`, each with true or false.
    """

    def __init__(self, schema: Schema, most: int, options: frozenset[str] = frozenset()) -> None:
        self.schema, self.most, self.options = schema, most, options
        self._rows = _Rows(schema.fields)
        record = _record_type(schema.fields)
        self._body = msgspec.json.Decoder(_body_type(record, options))
        self._list = msgspec.json.Decoder(list[record])  # type: ignore[valid-type]
        self._raw = msgspec.json.Decoder(list[msgspec.Raw])
        self._raw_body = msgspec.json.Decoder(_RawBody)
        self._record = msgspec.json.Decoder(record)

    def read(self, body: bytes | bytearray, *, report: bool = False) -> Body:
        """Read a body; a long one chunk by chunk.

        Args:
            body: what was sent.
            report: whether a record that does not fit is told of in its place, and the others
                are taken.

        Raises:
            MalformedInputError: it is not JSON. Asking for a chunk may raise it too.
            RecordError: it is, but not `{"records": [...]}` with records of the schema. Asking
                for a chunk may raise it too.
        """
        if len(body) <= CHUNK_BYTES:
            return self._read_whole(body, report=report)
        if (cut := self._envelope(body)) is None:
            return self._explain(body, report=report)
        options, start, end = cut
        return Body(options, self._read_pieces(memoryview(body)[start:end], report=report))

    def _read_whole(self, body: bytes | bytearray, *, report: bool) -> Body:
        try:
            content: Any = self._body.decode(body)
        except _REFUSALS:
            return self._explain(body, report=report)
        if not 1 <= len(content.records) <= self.most:
            return self._explain(body, report=report)
        chunk = Chunk(self._rows.encode(content.records))
        return Body(self._options_of(content), iter((chunk,)))

    def _options_of(self, content: Any) -> dict[str, bool]:
        return {name: getattr(content, name) for name in self.options}

    def _envelope(self, body: bytes | bytearray) -> tuple[dict[str, bool], int, int] | None:
        """What stands around the records, and where they are."""
        found, end = _START.search(body), body.rfind(b"]")
        if found is None or end <= found.end():
            return None
        try:
            content: Any = self._body.decode(body[: found.end()] + body[end:])
        except _REFUSALS:
            return None
        return self._options_of(content), found.end(), end

    def _read_pieces(self, text: memoryview, *, report: bool) -> Iterator[Chunk]:
        start, done, detailed = 0, 0, _MOST_DETAILED
        while start < len(text):
            end, rows = self._parse(text, start)
            if rows is not None:
                chunk = Chunk(self._rows.encode(rows))
            elif report and end - start <= _MOST_REPORTED:
                entries = self._entries(_listed(text, start, end))
                if done + len(entries) > self.most:
                    raise self._too_many(done + len(entries), or_more=end < len(text))
                chunk = self._report(entries, done, detailed)
                detailed -= len(chunk.faults)
            else:
                chunk = self._refuse(_listed(text, start, end), done)
            done += len(chunk)
            if done > self.most:
                raise self._too_many(done, or_more=end < len(text))
            yield chunk
            start = end + 1

    def _parse(self, text: memoryview, start: int) -> tuple[int, list[Any] | None]:
        """Parse the chunk that begins here.

        Returns:
            Where it ends, and its records, or None when they do not all fit.

        Raises:
            MalformedInputError: it is not JSON.
        """
        for length in (_SHORT, _LONGER, len(text)):
            end = _record_end(text, start + length)
            listed = _listed(text, start, end)
            try:
                return end, self._list.decode(listed)
            except _REFUSALS as error:
                if end == len(text):
                    if isinstance(error, msgspec.ValidationError):
                        return end, None
                    break
                try:  # a misfit may be seen before that the chunk was cut inside a record
                    self._entries(listed)
                except MalformedInputError:
                    continue
                return end, None
        _parse_slowly(listed, partial=False)
        return end, None

    def _refuse(self, listed: bytes, first: int) -> Chunk:
        """Say which records of a list do not fit; `first` is the index of its first."""
        size = _FIRST_LOOK
        while size < len(listed):
            self._look_at_part(_parse_slowly(listed[:size], partial=True), first)
            size *= 8
        return self._piece(_parse_slowly(listed, partial=False), first)

    def _piece(self, records: Sequence[object], first: int) -> Chunk:
        try:
            return Chunk(self.schema.encode(records, most_faults=_MOST_FAULTS))
        except RecordError as error:
            faults = [replace(fault, record=(fault.record or 0) + first) for fault in error.faults]
            raise RecordError(faults) from error

    def _entries(self, listed: bytes) -> Sequence[object]:
        """What a list holds, as text or, when only the slower pass can read it, as values."""
        try:
            listed.decode()  # text is passed over without a look at its characters
            return self._raw.decode(listed)
        except _REFUSALS:
            return list(_parse_slowly(listed, partial=False))

    def _report(self, entries: Sequence[object], first: int, detailed: int) -> Chunk:
        """Take the records of a list that fit, and tell of the others.

        Args:
            entries: records, or their text.
            first: index of the first in the request.
            detailed: of how many to say what is wrong, rather than that something is.
        """
        matrices = [np.empty((0, len(self.schema)), np.float32)]
        faults: dict[int, Fault] = {}
        for place, entry in enumerate(entries):
            row: Matrix | Fault | None = self._row(entry)
            if row is None:
                told = len(faults) < detailed or not isinstance(entry, msgspec.Raw)
                row = self._row_or_fault(entry) if told else _VAGUE
            if isinstance(row, Fault):
                faults[place] = replace(row, record=first + place)
            else:
                matrices.append(row)
        return Chunk(np.concatenate(matrices), faults)

    def _row(self, entry: object) -> Matrix | None:
        if not isinstance(entry, msgspec.Raw):
            return None
        try:
            return self._rows.encode([self._record.decode(entry)])
        except _REFUSALS:
            return None

    def _row_or_fault(self, entry: object) -> Matrix | Fault:
        if isinstance(entry, msgspec.Raw):
            text = bytes(entry)
            if len(text) > _FIRST_LOOK:
                return _VAGUE
            entry = _parse_slowly(text, partial=False)
        try:
            return self.schema.encode([entry], most_faults=1)
        except RecordError as error:
            return error.faults[0]

    def _explain(self, body: bytes | bytearray, *, report: bool) -> Body:
        """Say what is wrong; where nothing is, the decoder was stricter than it had to be."""
        size = _FIRST_LOOK
        while size < len(body):
            document = _parse_slowly(body[:size], partial=True)
            self._look(document, partial=True)
            if not report:
                self._look_at_part(document.get("records", []), 0)
            size *= 8
        document = _parse_slowly(body, partial=False)
        self._look(document, partial=False)
        options = {name: document.get(name, False) for name in self.options}
        if report:
            chunk = self._report(self._texts(body) or document["records"], 0, _MOST_DETAILED)
        else:
            chunk = self._piece(document["records"], 0)
        return Body(options, iter((chunk,)))

    def _texts(self, body: bytes | bytearray) -> list[msgspec.Raw] | None:
        """The text of each record, which is cheaper to try than its values."""
        try:
            return self._raw_body.decode(body).records
        except _REFUSALS:
            return None

    def _look(self, document: Any, *, partial: bool) -> None:
        """Refuse what is wrong around the records."""
        if not isinstance(document, dict):
            wanted = 'an object like {"records": [...]}'
            raise RecordError([Fault(None, None, wanted, describe(document))])
        faults = islice(self._faults(document, partial=partial), _MOST_FAULTS)
        if found := [Fault(None, *fault) for fault in faults]:
            raise RecordError(found)

    def _look_at_part(self, records: list[object], first: int) -> None:
        """Refuse what is wrong with records of which the last may be cut off."""
        if records:
            self._look_at_cut(first + len(records) - 1, records.pop())
            self._piece(records, first)

    def _look_at_cut(self, index: int, record: object) -> None:
        """The last record of a part may be cut off: of it, only what is too much is a fault."""
        known = self.schema.names
        if isinstance(record, Mapping) and (more := [key for key in record if key not in known]):
            wanted = ("only fields of the schema", "a field it does not have")
            raise RecordError([Fault(index, key, *wanted) for key in more[:_MOST_FAULTS]])

    def _faults(
        self, document: Mapping[str, object], *, partial: bool
    ) -> Iterator[tuple[str, str, str]]:
        records = document.get("records", [] if partial else _ABSENT)
        wanted = f"a list of 1 to {self.most} records"
        if records is _ABSENT:
            yield "records", wanted, "no such key"
        elif not isinstance(records, list):
            yield "records", wanted, describe(records)
        elif len(records) > self.most:
            yield "records", wanted, f"{len(records)} records" + (" or more" if partial else "")
        elif not records and not partial:
            yield "records", wanted, "an empty list"
        *others, last = ["records", *sorted(self.options)]
        known = f"{', '.join(others)} and {last}" if others else last
        for key, value in document.items():
            if key != "records" and key not in self.options:
                yield key, f"only {known} in the body", "a key that is not known"
            elif key != "records" and not isinstance(value, bool):
                yield key, "true or false", describe(value)

    def _too_many(self, number: int, *, or_more: bool) -> RecordError:
        got = f"{number} records" + (" or more" if or_more else "")
        return RecordError([Fault(None, "records", f"a list of 1 to {self.most} records", got)])


class _Rows:
    """Turns decoded records into a matrix.

    Args:
        fields: of the schema, in its order.
    """

    def __init__(self, fields: Sequence[Field]) -> None:
        self._width = len(fields)
        self._codes = {
            i: ({c: float(k) for k, c in enumerate(f.categories)} | {None: float("nan")}, UNSEEN)
            for i, f in enumerate(fields)
            if f.kind == "category"
        }
        # Packing takes half the time, but knows nothing of None.
        plain = not self._codes and all(field.required for field in fields)
        self._pack = struct.Struct(f"={self._width}f").pack if plain else None

    def encode(self, records: Sequence[msgspec.Struct]) -> Matrix:
        """Encode records: float32 [n, fields], NaN where missing."""
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


def _listed(text: memoryview, start: int, end: int) -> bytes:
    return b"".join((b"[", text[start:end], b"]"))


def _record_end(text: memoryview, place: int) -> int:
    """Where the first comma between two records after a place is, or the text's end."""
    while place < len(text):
        window = text[max(place - 1, 0) : place + CHUNK_BYTES]
        if found := _BETWEEN.search(window):
            return max(place - 1, 0) + found.start() + bytes(found.group()).index(b",")
        place += CHUNK_BYTES
    return len(text)


def _parse_slowly(text: bytes | bytearray, *, partial: bool) -> Any:
    try:
        return from_json(text, allow_partial=partial)
    except ValueError as error:
        raise MalformedInputError(f"The body is not JSON: {error}.") from error


def _record_type(fields: Sequence[Field]) -> type[msgspec.Struct]:
    names = {f"field_{i}": each.name for i, each in enumerate(fields)}
    return msgspec.defstruct(
        "Record",
        [
            (name, _type(each)) if each.required else (name, _type(each) | None, None)
            for name, each in zip(names, fields, strict=True)
        ],
        rename=names,
        forbid_unknown_fields=True,
        kw_only=True,
        gc=False,
    )


def _body_type(record: type[msgspec.Struct], options: frozenset[str]) -> type[msgspec.Struct]:
    return msgspec.defstruct(
        "Body",
        [("records", list[record]), *((name, bool, False) for name in sorted(options))],  # type: ignore[valid-type]
        forbid_unknown_fields=True,
    )


def _type(described: Field) -> Any:
    match described.kind:
        case "boolean":
            return bool
        case "category" if described.open:
            return str
        case "category":
            return Literal[described.categories]
    return _Number
