"""A tensor of an inference request, as JSON or as binary data."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np

from models import RecordError
from models.schema import Numbers, describe
from service.formats.chunk import CHUNK_RECORDS
from service.formats.errors import MalformedInputError
from service.formats.openinference.document import CHUNK, Input

__all__ = ["LENGTH", "NUMBERS", "Tensor"]

NUMBERS: Final = {
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
"""Data types of numbers."""
_STRINGS = 8 * CHUNK_RECORDS
"""Binary strings that are encoded at a time."""
LENGTH = struct.Struct("<I")
"""The length of a binary string, which comes before it."""
_NESTED = re.compile(rb"\[\s*\[")
_COMMA = re.compile(rb"(,)")
_COMMA_OF_STRINGS = re.compile(rb'[^\\]"\s*(,)')
_COMMA_OF_ROWS = re.compile(rb"\]\s*(,)")

_shape = msgspec.json.Decoder(list[int])
_lists: dict[tuple[Any, bool], msgspec.json.Decoder[list[Any]]] = {
    (kind, nested): msgspec.json.Decoder(list[list[kind | None]] if nested else list[kind | None])  # type: ignore[valid-type]
    for kind in (float, int, bool, str)
    for nested in (False, True)
}


class Tensor:
    """An input as it was sent.

    Args:
        declared: name, shape and data type, and the data if that is JSON.
        cuts: data that was cut out of the document; this tensor's is removed from it.
        body: holds the data if that is binary.
        start: where in the body that is.

    Attributes:
        size: bytes of the body that it takes.
        is_json: whether its data is JSON.
    """

    def __init__(
        self, declared: Input, cuts: dict[bytes, memoryview], body: bytes | bytearray, start: int
    ) -> None:
        self.name, self.datatype = declared.name, declared.datatype
        size = None if declared.parameters is None else declared.parameters.binary_data_size
        self._raw, self._body, self._start = memoryview(declared.data), body, start
        if cuts and len(self._raw) < 100:
            self._raw = cuts.pop(bytes(self._raw), self._raw)
        self.is_json = size is None
        self.size = size or 0
        if self.size < 0 or self.is_json != bool(self._raw):
            raise self._error("either data or a binary_data_size", "both, or neither")
        try:
            shape = declared.shape
            self.shape = _shape.decode(shape) if len(memoryview(shape)) < 100 else []
        except msgspec.DecodeError as error:
            raise self._error("a shape like [2, 3]", "something else") from error

    def numbers(self, count: int) -> Iterator[Numbers]:
        """Yield the numbers in parts; null is NaN."""
        dtype = NUMBERS[self.datatype]
        if not self.is_json:
            self._check_size(count * dtype.itemsize)
            yield np.frombuffer(self._body, dtype, count, self._start)
            return
        for values in self._values(float if dtype.kind == "f" else int):
            try:
                yield _array(values)
            except OverflowError as error:
                raise self.mismatch() from error

    def flags(self, count: int) -> Iterator[Numbers]:
        """Yield the booleans in parts, as 0 or 1; null is NaN."""
        if self.is_json:
            yield from (np.array(values, np.float64) for values in self._values(bool))
            return
        self._check_size(count)
        flags = np.frombuffer(self._body, np.uint8, count, self._start)
        yield np.where(flags > 1, np.inf, flags)

    def strings(self, encode: Callable[[list[Any]], Numbers]) -> Iterator[Numbers]:
        """Yield the encoded strings in parts."""
        if self.is_json:
            yield from map(encode, self._values(str))
            return
        strings = _strings(bytes(memoryview(self._body)[self._start : self._start + self.size]))
        while part := list(islice(strings, _STRINGS)):
            yield encode(part)

    def _values(self, kind: Any) -> Iterator[list[Any]]:
        """Yield the values of JSON in parts.

        The text is cut at commas. If one of them was in a string, then the part before it is not
        JSON, and the rest is parsed as a whole.
        """
        nested = len(self.shape) == 2 and _NESTED.match(self._raw) is not None
        comma = _COMMA_OF_STRINGS if kind is str else _COMMA
        comma = _COMMA_OF_ROWS if nested else comma
        start, last = 1, len(self._raw) - 1
        while start <= last:
            cut = comma.search(self._raw, start + CHUNK, last) if last - start > CHUNK else None
            end = cut.start(1) if cut else last
            values = self._list(_lists[kind, nested], start, end)
            if values is None and kind is str and end < last:
                end = last
                values = self._list(_lists[kind, nested], start, end)
            if values is None:
                raise self.mismatch()
            yield self._flat(values) if nested else values
            start = end + 1

    def _list(
        self, decoder: msgspec.json.Decoder[list[Any]], start: int, end: int
    ) -> list[Any] | None:
        """Decode a part of the text as a list; None if it is something else."""
        raw = self._raw
        whole = start == 1 and end == len(raw) - 1
        try:
            return decoder.decode(raw if whole else b"".join((b"[", raw[start:end], b"]")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _flat(self, rows: list[list[Any]]) -> list[Any]:
        if any(len(row) != self.shape[1] for row in rows):
            raise self.mismatch()
        return [value for row in rows for value in row]

    def _check_size(self, size: int) -> None:
        if self.size != size:
            expected = f"a binary_data_size of {size}, as its shape and data type have it"
            raise self._error(expected, str(self.size))

    def describe(self, number: float) -> str:
        """Return the kind of thing that a value is which does not fit."""
        if np.isnan(number) and self.is_json:
            return "null"
        if self.datatype in NUMBERS:
            return describe(float(number))
        if self.datatype != "BYTES":
            return "another byte"
        return "an empty string" if np.isnan(number) else "a string"

    def mismatch(self) -> RecordError:
        """Return the error of data that does not match shape and data type."""
        return self._error(f"data of its shape and of {self.datatype}", "other data")

    def _error(self, expected: str, got: str) -> RecordError:
        return RecordError.of_request(self.name, expected, got)


def _array(values: list[float | None]) -> Numbers:
    """Return float64 [n], NaN where None."""
    try:
        # Packing takes less than half the time, but knows nothing of None.
        return np.frombuffer(struct.pack(f"{len(values)}d", *values))
    except struct.error:
        return np.array(values, np.float64)


def _strings(data: bytes) -> Iterator[bytes]:
    """Yield binary strings, each of which follows its length."""
    start, unpack = LENGTH.size, LENGTH.unpack_from
    while start <= len(data):
        end = start + unpack(data, start - LENGTH.size)[0]
        if end > len(data):
            break
        yield data[start:end]
        start = end + LENGTH.size
    if start != len(data) + LENGTH.size:
        raise MalformedInputError("A tensor's last string is longer than its binary_data_size.")
