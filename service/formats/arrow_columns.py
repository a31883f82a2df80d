"""The columns of an Arrow stream: whether they are a schema's, and their values as numbers."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models import Field, FieldError, RecordError, Schema
from models.schema import Matrix, Numbers
from service.formats.errors import MalformedInputError

__all__ = ["CategoryEncoder", "check_columns", "numbers_of"]

_MAX_FAULTS = 10
_MAX_STRINGS = 1 << 16
"""Strings of a dictionary: a millisecond of work."""

_KINDS = {
    getattr(pa.lib, name): name.removeprefix("Type_").lower()
    for name in dir(pa.lib)
    if name.startswith("Type_")
}
_STRINGS = frozenset({pa.string(), pa.large_string(), pa.string_view()})


def check_columns(schema: Schema, columns: pa.Schema, *, ignore_extra: bool) -> None:
    """Compare a stream's columns with the fields of a schema.

    Raises:
        RecordError: a column is absent or of another type or, unless `ignore_extra`, no field.
    """
    names, types = columns.names, dict(zip(columns.names, columns.types, strict=True))
    faults = [
        FieldError(None, name, "only fields of the schema", "a column it does not have")
        for name in types.keys() - set(schema.names)
        if not ignore_extra
    ]
    for field in schema.fields:
        kind = types.get(field.name)
        if kind is None and field.required:
            faults.append(FieldError(None, field.name, _expected(field), "no such column"))
        elif kind is not None and not _fits(field, kind):
            got = f"a column of {_KINDS.get(kind.id, 'another type')}"
            faults.append(FieldError(None, field.name, _expected(field), got))
        elif len(types) < len(names) and names.count(field.name) > 1:
            faults.append(FieldError(None, field.name, "one column", "several"))
    if faults:
        raise RecordError(faults[:_MAX_FAULTS])


def _expected(field: Field) -> str:
    match field.kind:
        case "boolean":
            return "a column of bool"
        case "category":
            return "a column of strings, or of a dictionary of strings"
    return "a column of integers, floats or decimals"


def _fits(field: Field, kind: pa.DataType) -> bool:
    if pa.types.is_null(kind):
        return True
    match field.kind:
        case "boolean":
            return bool(pa.types.is_boolean(kind))
        case "category":
            return (kind.value_type if pa.types.is_dictionary(kind) else kind) in _STRINGS
    return _is_plain(kind) or pa.types.is_decimal(kind)


def _is_plain(kind: pa.DataType) -> bool:
    return bool(pa.types.is_integer(kind) or pa.types.is_floating(kind))


def numbers_of(column: pa.Array) -> Numbers:
    """Convert a column of numbers or booleans."""
    column.validate(full=True)
    if column.null_count or not _is_plain(column.type):
        column = column.cast(pa.float64(), safe=False)
    numbers: Numbers = column.to_numpy(zero_copy_only=False)
    return numbers


class CategoryEncoder:
    """Converts a column of strings into a category's codes.

    Args:
        field: a category.
    """

    def __init__(self, field: Field) -> None:
        self._name = field.name
        self._categories = pa.array(field.categories, pa.string())
        self._longest = max(len(category.encode()) for category in field.categories)
        self._codes = np.array([*range(len(field.categories)), field.unseen_code], np.float32)
        # Kept with its codes: while it lives, nothing else has its address.
        self._dictionary = pa.nulls(0)
        self._dictionary_codes = np.array([np.nan], np.float32)

    def __call__(self, column: pa.Array) -> Matrix:
        """Return float32 [n], NaN where null and infinite where no category of a closed field."""
        match column.type.id:
            case pa.lib.Type_NA:
                return np.full(len(column), np.nan, np.float32)
            case pa.lib.Type_DICTIONARY:
                return self._encode_dictionary(column)
        return self._encode(column)

    def _encode(self, strings: pa.Array) -> Matrix:
        nulls = strings.is_null().to_numpy(zero_copy_only=False)
        too_long = nulls
        if strings.type.id == pa.lib.Type_STRING_VIEW:
            strings, too_long = self._short_strings(strings, nulls)
        strings.validate(full=True)
        unseen = len(self._categories)
        indices = pc.index_in(strings, value_set=self._categories).fill_null(unseen).to_numpy()
        codes: Matrix = self._codes[np.where(too_long, unseen, indices)]
        codes[nulls] = np.nan
        return codes

    def _short_strings(
        self, views: pa.Array, nulls: npt.NDArray[np.bool_]
    ) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """Copy views of strings, and return which of them are too long to be a category.

        Many views may show the same long string, so only short ones are copied.
        """
        _, words, *texts = views.buffers()
        headers = np.zeros((0, 4), np.int32)
        if len(views):
            flat = np.frombuffer(words, np.int32, 4 * len(views), 16 * views.offset)
            headers = flat.reshape(-1, 4).copy()
        too_long = headers[:, 0] > self._longest
        headers[too_long | nulls] = 0
        buffers = [None, pa.py_buffer(headers), *texts]
        short = pa.Array.from_buffers(pa.string_view(), len(views), buffers)
        short.validate(full=True)
        return short.cast(pa.string()), too_long

    def _encode_dictionary(self, column: pa.Array) -> Matrix:
        """Encode indices of a dictionary, each of whose strings is encoded once."""
        dictionary = column.dictionary
        if _address(dictionary) != _address(self._dictionary):
            if (size := len(dictionary)) > _MAX_STRINGS:
                expected = f"a dictionary of at most {_MAX_STRINGS} strings"
                raise RecordError.of_request(self._name, expected, f"{size} strings")
            self._dictionary_codes = np.append(self._encode(dictionary), np.float32(np.nan))
            self._dictionary = dictionary
        nulls = column.indices.is_null().to_numpy(zero_copy_only=False)
        indices = column.indices.fill_null(0).to_numpy().astype(np.int64)
        if np.any(((indices < 0) | (indices >= len(dictionary))) & ~nulls):
            raise MalformedInputError(
                "The stream refers to strings that a dictionary does not have."
            )
        codes: Matrix = self._dictionary_codes[np.where(nulls, len(dictionary), indices)]
        return codes


def _address(array: pa.Array) -> tuple[object, ...]:
    buffers = [buffer and (buffer.address, buffer.size) for buffer in array.buffers()]
    return (len(array), array.offset, *buffers)
