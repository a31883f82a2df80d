"""The slow pass over JSON that the fast decoder rejected: what is wrong, and which records fit.

It parses as little of a body as shows a fault, so that a hostile body costs less than a good one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from typing import Any, Final, NoReturn

import msgspec
import numpy as np
from pydantic_core import from_json

from models import FieldError, RecordError, Schema
from models.schema import Matrix, describe
from service.formats.chunk import CHUNK_RECORDS, Chunk
from service.formats.errors import MalformedInputError, count_error
from service.formats.json_text import check_unique

__all__ = ["DECODE_ERRORS", "MAX_DETAILED", "Diagnosis", "parse"]

DECODE_ERRORS = (msgspec.DecodeError, UnicodeDecodeError, RecursionError)
MAX_DETAILED = 100
"""Faults of a reported request that name their field."""
_MAX_FAULTS = 10
_FIRST_LOOK = 1 << 18
"""Bytes that are parsed first; eight times as many follow when they show no fault."""
_ABSENT: Final = object()
_VAGUE = FieldError(0, None, "a record of the schema", "something else")


_raw_list = msgspec.json.Decoder(list[msgspec.Raw])


class Diagnosis:
    """Finds the faults of bodies, and reads what the fast decoder was too strict for.

    Args:
        schema: of a record.
        max_records: records that a body may hold.
        options: keys that may stand beside `records`, each with true or false.
        encode: returns the row of a record's text, or None if it does not fit.
        ignore_extra: whether records may have fields that the schema does not have.
    """

    def __init__(
        self,
        schema: Schema,
        max_records: int,
        options: frozenset[str],
        encode: Callable[[msgspec.Raw], Matrix | None],
        *,
        ignore_extra: bool,
    ) -> None:
        self._schema, self._max_records, self._options = schema, max_records, options
        self._encode, self._ignore_extra = encode, ignore_extra

    def read(self, body: bytes | bytearray) -> tuple[dict[str, bool], Chunk]:
        """Read a short body as a whole.

        Returns:
            Its options and its records.

        Raises:
            MalformedInputError: it is not JSON.
            RecordError: it is not `{"records": [...]}`, or a record does not fit.
        """
        document = parse(body)
        self._check_document(document, partial=False)
        check_unique(body, "records")
        options = {name: document.get(name, False) for name in self._options}
        return options, self._chunk(document["records"], 0)

    def refuse(self, body: bytes | bytearray, *, strict: bool) -> NoReturn:
        """Raise why a body has no list of records that could be read in chunks.

        Args:
            body: as it was sent.
            strict: whether a record that does not fit is a reason, too.

        Raises:
            MalformedInputError: it is not JSON.
            RecordError: it is not `{"records": [...]}`.
        """
        size = _FIRST_LOOK
        while size < len(body):
            document = parse(body[:size], partial=True)
            self._check_document(document, partial=True)
            if strict:
                self._check_part(document.get("records", []), 0)
            size *= 8
        self._check_document(parse(body), partial=False)
        raise RecordError.of_request(None, "each key once", "one that comes twice")

    def read_list(self, text: bytes, first: int) -> Chunk:
        """Read a list of records; `first` is the index of its first in the request.

        Raises:
            MalformedInputError: it is not JSON.
            RecordError: a record does not fit.
        """
        size = _FIRST_LOOK
        while size < len(text):
            self._check_part(parse(text[:size], partial=True), first)
            size *= 8
        return self._chunk(parse(text), first)

    def entries(self, text: bytes) -> Sequence[object]:
        """Return the entries of a list as text or, where only the slow parser reads it, as values.

        Raises:
            MalformedInputError: it is not JSON.
        """
        try:
            text.decode()  # the fast decoder skips the characters of text
            return _raw_list.decode(text)
        except DECODE_ERRORS:
            return list(parse(text))

    def report(self, entries: Sequence[object], first: int, max_detailed: int) -> Iterator[Chunk]:
        """Take the records that fit, and report the fault of each other one, chunk by chunk.

        Args:
            entries: records, or their text.
            first: index of the first in the request.
            max_detailed: faults that name a field; the others only name their record.
        """
        for start in range(0, len(entries), CHUNK_RECORDS):
            matrices = [np.empty((0, len(self._schema)), np.float32)]
            faults: dict[int, FieldError] = {}
            for index, entry in enumerate(entries[start : start + CHUNK_RECORDS]):
                row = self._row(entry, detailed=len(faults) < max_detailed)
                if isinstance(row, FieldError):
                    faults[index] = replace(row, record=first + start + index)
                else:
                    matrices.append(row)
            max_detailed -= len(faults)
            yield Chunk(np.concatenate(matrices), faults)

    def _row(self, entry: object, *, detailed: bool) -> Matrix | FieldError:
        if isinstance(entry, msgspec.Raw):
            if (row := self._encode(entry)) is not None:
                return row
            if not detailed or len(memoryview(entry)) > _FIRST_LOOK:
                return _VAGUE
            entry = parse(bytes(entry))
        try:
            return self._schema.encode([entry], max_faults=1, ignore_extra=self._ignore_extra)
        except RecordError as error:
            return error.faults[0]

    def _chunk(self, records: Sequence[object], first: int) -> Chunk:
        try:
            return Chunk(self._schema.encode(records, ignore_extra=self._ignore_extra))
        except RecordError as error:
            faults = [replace(fault, record=(fault.record or 0) + first) for fault in error.faults]
            raise RecordError(faults) from error

    def _check_part(self, records: list[object], first: int) -> None:
        """Check records of which the last may be cut off: its missing fields are no faults."""
        if not records:
            return
        last = records.pop()
        if isinstance(last, Mapping) and not self._ignore_extra:
            extra = self._schema.extra_faults(first + len(records), last)
            if faults := [*islice(extra, _MAX_FAULTS)]:
                raise RecordError(faults)
        self._chunk(records, first)

    def _check_document(self, document: Any, *, partial: bool) -> None:
        """Raise what is wrong around the records."""
        if not isinstance(document, dict):
            raise RecordError.of_request(
                None, 'an object like {"records": [...]}', describe(document)
            )
        if faults := [*islice(self._faults(document, partial=partial), _MAX_FAULTS)]:
            raise RecordError(faults)

    def _faults(self, document: Mapping[str, object], *, partial: bool) -> Iterator[FieldError]:
        records = document.get("records", [] if partial else _ABSENT)
        got = None
        if records is _ABSENT:
            got = "no such key"
        elif not isinstance(records, list):
            got = describe(records)
        elif len(records) > self._max_records:
            got = f"{len(records)} records" + (" or more" if partial else "")
        elif not records and not partial:
            got = "an empty list"
        if got is not None:
            yield from count_error(self._max_records, got).faults
        *others, last = ["records", *sorted(self._options)]
        names = f"{', '.join(others)} and {last}" if others else last
        for key, value in document.items():
            if key != "records" and key not in self._options:
                yield FieldError(None, key, f"only {names} in the body", "a key that is not known")
            elif key != "records" and not isinstance(value, bool):
                yield FieldError(None, key, "true or false", describe(value))


def parse(text: bytes | bytearray, *, partial: bool = False) -> Any:
    """Parse JSON, also NaN and Infinity; a partial text may be cut off.

    Raises:
        MalformedInputError: it is not JSON.
    """
    try:
        return from_json(text, allow_partial=partial)
    except ValueError as error:
        raise MalformedInputError(f"The body is not JSON: {error}.") from error
