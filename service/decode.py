"""From a body's bytes to the encoder's input.

A decoder made of the schema says yes or no, and stops at the first thing that does not fit. Only
after a no does a slower pass look for what is wrong, in as little of the body as shows it: what is
sent to hurt costs less than what is sent to be classified.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import islice
from typing import Any, Final, Literal

import msgspec
import numpy as np
from pydantic_core import from_json

from models import Field, RecordError, Schema
from models.schema import Matrix, describe
from service.problems import Unfit, Unreadable

__all__ = ["Batch", "Decoder", "decoder_for"]

_MOST_FAULTS = 10
_FIRST_LOOK = 1 << 18
"""Bytes of a body that the slower pass looks at before it looks at more."""

_ABSENT: Final = object()


@dataclass(frozen=True, slots=True)
class Batch:
    """A request's records as float32 [n, fields], NaN where missing, and its options."""

    matrix: Matrix
    options: Mapping[str, bool] = field(default_factory=dict)


@lru_cache(maxsize=16)
def decoder_for(schema: Schema, most: int, options: frozenset[str]) -> Decoder:
    """The decoder for a schema, made once."""
    return Decoder(schema, most, options)


class Decoder:
    """Decodes bodies for one schema.

    Args:
        schema: what a record holds.
        most: how many records a body may hold.
        options: keys that may stand beside `records`, each with true or false.
    """

    def __init__(self, schema: Schema, most: int, options: frozenset[str]) -> None:
        self.schema, self.most, self.options = schema, most, options
        # A struct's fields without a default come first.
        self._fields = sorted(schema.fields, key=lambda each: not each.required)
        self._order = [self._fields.index(each) for each in schema.fields]
        self._fast = msgspec.json.Decoder(_body_type(self._fields, options))

    def decode(self, body: bytes | bytearray) -> Batch:
        """Decode a body.

        Raises:
            Unreadable: it is not JSON.
            Unfit: it is, but not `{"records": [...]}` with records of the schema.
        """
        return self._accept(body) or self._explain(body)

    def _accept(self, body: bytes | bytearray) -> Batch | None:
        try:
            content: Any = self._fast.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None
        if not 1 <= len(content.records) <= self.most:
            return None
        rows = map(msgspec.structs.astuple, content.records)
        columns: list[Matrix] = []
        for described, values in zip(self._fields, zip(*rows, strict=True), strict=True):
            column = described.encode(values)
            if column is None:
                return None
            columns.append(column)
        matrix = np.stack([columns[i] for i in self._order], axis=1)
        return Batch(matrix, {name: getattr(content, name) for name in self.options})

    def _explain(self, body: bytes | bytearray) -> Batch:
        """Say what is wrong; where nothing is, the decoder was stricter than it had to be."""
        size = _FIRST_LOOK
        while size < len(body):
            self._look(_parse(body[:size], partial=True), partial=True)
            size *= 8
        document = _parse(body, partial=False)
        matrix = self._look(document, partial=False)
        return Batch(matrix, {name: document.get(name, False) for name in self.options})

    def _look(self, document: Any, *, partial: bool) -> Matrix:
        if not isinstance(document, dict):
            wanted = 'an object like {"records": [...]}'
            raise Unfit([(None, None, wanted, describe(document))])
        faults = islice(self._faults(document, partial=partial), _MOST_FAULTS)
        if found := [(None, *fault) for fault in faults]:
            raise Unfit(found)
        records = document.get("records", [])
        if partial and records:
            self._look_at_cut(len(records) - 1, records.pop())
        try:
            return self.schema.encode(records, most_faults=_MOST_FAULTS)
        except RecordError as error:
            raise Unfit.of(error.faults) from error

    def _look_at_cut(self, index: int, record: object) -> None:
        """The last record of a part may be cut off: of it, only what is too much is a fault."""
        known = self.schema.names
        if isinstance(record, Mapping) and (more := [key for key in record if key not in known]):
            wanted = ("only fields of the schema", "a field it does not have")
            raise Unfit([(index, key, *wanted) for key in more[:_MOST_FAULTS]])

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
        known = " and ".join(["records", *sorted(self.options)])
        for key, value in document.items():
            if key != "records" and key not in self.options:
                yield key, f"only {known} in the body", "a key that is not known"
            elif key != "records" and not isinstance(value, bool):
                yield key, "true or false", describe(value)


def _parse(body: bytes | bytearray, *, partial: bool) -> Any:
    try:
        return from_json(body, allow_partial=partial)
    except ValueError as error:
        raise Unreadable(f"The body is not JSON: {error}.") from error


def _body_type(fields: list[Field], options: frozenset[str]) -> type[msgspec.Struct]:
    names = {f"field_{i}": each.name for i, each in enumerate(fields)}
    record = msgspec.defstruct(
        "Record",
        [
            (name, _type(each)) if each.required else (name, _type(each) | None, None)
            for name, each in zip(names, fields, strict=True)
        ],
        rename=names,
        forbid_unknown_fields=True,
        gc=False,
    )
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
    return float
