"""The columns of an Arrow stream: which of them a schema takes, and how they become numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models import Fault, Field, RecordError, Schema
from models.schema import UNSEEN, Matrix
from service.formats.errors import MalformedInputError

__all__ = ["Codes", "Numbers", "check_columns", "numbers_of"]

_MAX_FAULTS = 10
_MOST_STRINGS = 1 << 16
"""Strings of a dictionary: a millisecond of work."""

_KINDS = {
    getattr(pa.lib, name): name.removeprefix("Type_").lower()
    for name in dir(pa.lib)
    if name.startswith("Type_")
}
_STRINGS = frozenset({pa.lib.Type_STRING, pa.lib.Type_LARGE_STRING, pa.lib.Type_STRING_VIEW})
_PLAIN = frozenset(
    kind
    for kind, name in _KINDS.items()
    if name.rstrip("0123456789") in {"int", "uint", "half_float", "float", "double"}
)
_DECIMALS = frozenset(kind for kind, name in _KINDS.items() if name.startswith("decimal"))

Numbers = npt.NDArray[Any]
"""A column as numbers of any kind [n]: NaN where missing, infinite where it does not fit."""


def check_columns(schema: Schema, columns: pa.Schema) -> None:
    """Compare a stream's columns with the fields of a schema.

    Raises:
        RecordError: they are others, or of other types.
    """
    names, types = columns.names, dict(zip(columns.names, columns.types, strict=True))
    faults = [
        Fault(None, name, "only fields of the schema", "a column it does not have")
        for name in types.keys() - set(schema.names)
    ]
    for field in schema.fields:
        kind = types.get(field.name)
        if kind is None and field.required:
            faults.append(Fault(None, field.name, _wanted(field), "no such column"))
        elif kind is not None and not _fits(field, kind):
            got = f"a column of {_KINDS.get(kind.id, 'another type')}"
            faults.append(Fault(None, field.name, _wanted(field), got))
        elif len(types) < len(names) and names.count(field.name) > 1:
            faults.append(Fault(None, field.name, "one column", "several"))
    if faults:
        raise RecordError(faults[:_MAX_FAULTS])


def _wanted(field: Field) -> str:
    match field.kind:
        case "boolean":
            return "a column of bool"
        case "category":
            return "a column of strings, or of a dictionary of strings"
    return "a column of integers, floats or decimals"


def _fits(field: Field, kind: pa.DataType) -> bool:
    if kind.id == pa.lib.Type_NA:
        return True
    match field.kind:
        case "boolean":
            return bool(kind.id == pa.lib.Type_BOOL)
        case "category":
            held = kind.value_type if kind.id == pa.lib.Type_DICTIONARY else kind
            return held.id in _STRINGS
    return kind.id in _PLAIN or kind.id in _DECIMALS


def numbers_of(column: pa.Array) -> Numbers:
    """A column of numbers or booleans as numbers."""
    column.validate(full=True)
    if column.null_count or column.type.id not in _PLAIN:
        column = column.cast(pa.float64(), safe=False)
    numbers: Numbers = column.to_numpy(zero_copy_only=False)
    return numbers


class Codes:
    """Turns a column of strings into a category's codes.

    Args:
        field: a category.
    """

    def __init__(self, field: Field) -> None:
        self._name = field.name
        self._known = pa.array(field.categories, pa.string())
        self._longest = max(len(category.encode()) for category in field.categories)
        unknown = UNSEEN if field.open else np.inf
        self._codes = np.array([*range(len(field.categories)), unknown], np.float32)
        # Kept with its codes: as long as it is, nothing else has its address.
        self._dictionary = pa.nulls(0)
        self._dictionary_codes = np.array([np.nan], np.float32)

    def __call__(self, column: pa.Array) -> Numbers:
        """Encode a column: float32 [n]."""
        match column.type.id:
            case pa.lib.Type_NA:
                return np.full(len(column), np.nan, np.float32)
            case pa.lib.Type_DICTIONARY:
                return self._look_up(column)
        return self._encode(column)

    def _encode(self, strings: pa.Array) -> Matrix:
        nulls = strings.is_null().to_numpy(zero_copy_only=False)
        beyond = nulls
        if strings.type.id == pa.lib.Type_STRING_VIEW:
            strings, beyond = self._copied(strings, nulls)
        strings.validate(full=True)
        unknown = len(self._known)
        places = pc.index_in(strings, value_set=self._known).fill_null(unknown).to_numpy()
        codes: Matrix = self._codes[np.where(beyond, unknown, places)]
        codes[nulls] = np.nan
        return codes

    def _copied(
        self, views: pa.Array, nulls: npt.NDArray[np.bool_]
    ) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """Views of strings as strings, and which of them are too long to be known.

        Many views may show the same long string, and so only short ones are followed.
        """
        _, words, *shown = views.buffers()
        headers = np.zeros((0, 4), np.int32)
        if len(views):
            held = np.frombuffer(words, np.int32, 4 * len(views), 16 * views.offset)
            headers = held.reshape(-1, 4).copy()
        long = headers[:, 0] > self._longest
        headers[long | nulls] = 0
        buffers = [None, pa.py_buffer(headers), *shown]
        short = pa.Array.from_buffers(pa.string_view(), len(views), buffers)
        short.validate(full=True)
        return short.cast(pa.string()), long

    def _look_up(self, column: pa.Array) -> Matrix:
        """Encode a column of places in a dictionary, each of whose strings is encoded once."""
        dictionary = column.dictionary
        if _address(dictionary) != _address(self._dictionary):
            if len(dictionary) > _MOST_STRINGS:
                wanted = f"a dictionary of at most {_MOST_STRINGS} strings"
                raise RecordError([Fault(None, self._name, wanted, f"{len(dictionary)} strings")])
            self._dictionary_codes = np.append(self._encode(dictionary), np.float32(np.nan))
            self._dictionary = dictionary
        indices = column.indices
        nulls = indices.is_null().to_numpy(zero_copy_only=False)
        places = indices.fill_null(0).to_numpy().astype(np.int64)
        if np.any(((places < 0) | (places >= len(dictionary))) & ~nulls):
            raise MalformedInputError(
                "The stream refers to strings that a dictionary does not have."
            )
        codes: Matrix = self._dictionary_codes[np.where(nulls, len(dictionary), places)]
        return codes


def _address(array: pa.Array) -> tuple[object, ...]:
    buffers = [buffer and (buffer.address, buffer.size) for buffer in array.buffers()]
    return (len(array), array.offset, *buffers)
