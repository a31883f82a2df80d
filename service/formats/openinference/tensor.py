"""A tensor of an inference request, as JSON or as binary data."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Iterator
from itertools import islice
from typing import Any, Final

import msgspec
import numpy as np
import numpy.typing as npt

from models import RecordError
from models.schema import describe
from service.formats.chunk import CHUNK_RECORDS
from service.formats.errors import MalformedInputError
from service.formats.openinference.document import CHUNK, Input, unfit

__all__ = ["LENGTH", "NUMBERS", "Numbers", "Tensor"]

NUMBERS: Final = {
    **{f"FP{bits}": np.dtype(f"<f{bits // 8}") for bits in (16, 32, 64)},
    **{f"INT{bits}": np.dtype(f"<i{bits // 8}") for bits in (8, 16, 32, 64)},
    **{f"UINT{bits}": np.dtype(f"<u{bits // 8}") for bits in (8, 16, 32, 64)},
}
"""Data types of numbers."""
_STRINGS = 8 * CHUNK_RECORDS
"""Binary strings that are read at a time."""
LENGTH = struct.Struct("<I")
"""What stands in front of a binary string."""
_NESTED = re.compile(rb"\[\s*\[")
_COMMA = re.compile(rb"(,)")
_COMMA_OF_STRINGS = re.compile(rb'[^\\]"\s*(,)')
_COMMA_OF_ROWS = re.compile(rb"\]\s*(,)")

Numbers = npt.NDArray[Any]
"""A column as numbers of any kind [n]: NaN where missing, infinite where it does not fit."""

_shape = msgspec.json.Decoder(list[int])
_lists: dict[tuple[Any, bool], msgspec.json.Decoder[list[Any]]] = {
    (kind, nested): msgspec.json.Decoder(list[list[kind | None]] if nested else list[kind | None])  # type: ignore[valid-type]
    for kind in (float, int, bool, str)
    for nested in (False, True)
}


class Tensor:
    """An input as it was sent.

    Args:
        sent: name, shape and data type, and the data where it is JSON.
        cuts: data that was cut out; what is this tensor's is taken from it.
        body: holds the data where it is binary.
        place: where in the body that is.

    Attributes:
        size: bytes of the body that it takes.
        is_json: whether its data is JSON.
    """

    def __init__(
        self, sent: Input, cuts: dict[bytes, memoryview], body: bytes | bytearray, place: int
    ) -> None:
        self.name, self.datatype = sent.name, sent.datatype
        size = None if sent.parameters is None else sent.parameters.binary_data_size
        self._raw, self._body, self._place = memoryview(sent.data), body, place
        if cuts and len(self._raw) < 100:
            self._raw = cuts.pop(bytes(self._raw), self._raw)
        self.is_json = size is None
        self.size = size or 0
        if self.size < 0 or self.is_json != bool(self._raw):
            raise unfit(self.name, "either data or a binary_data_size", "both, or neither")
        try:
            self.shape = _shape.decode(sent.shape) if len(memoryview(sent.shape)) < 100 else []
        except msgspec.DecodeError as error:
            raise unfit(self.name, "a shape like [2, 3]", "something else") from error

    def numbers(self, count: int) -> Iterator[Numbers]:
        """The numbers, in parts; null is NaN."""
        dtype = NUMBERS[self.datatype]
        if not self.is_json:
            self._expect(count * dtype.itemsize)
            yield np.frombuffer(self._body, dtype, count, self._place)
            return
        for values in self._values(float if dtype.kind == "f" else int):
            try:
                yield np.array(values, np.float64)
            except OverflowError as error:
                raise self.odd() from error

    def flags(self, count: int) -> Iterator[Numbers]:
        """The booleans, 0 or 1, in parts; null is NaN."""
        if self.is_json:
            yield from (np.array(values, np.float64) for values in self._values(bool))
            return
        self._expect(count)
        flags = np.frombuffer(self._body, np.uint8, count, self._place)
        yield np.where(flags > 1, np.inf, flags)

    def strings(self, encode: Callable[[list[Any]], Numbers]) -> Iterator[Numbers]:
        """What is made of the strings, in parts."""
        if self.is_json:
            yield from map(encode, self._values(str))
            return
        strings = _strings(bytes(memoryview(self._body)[self._place : self._place + self.size]))
        while part := list(islice(strings, _STRINGS)):
            yield encode(part)

    def _values(self, kind: Any) -> Iterator[list[Any]]:
        """The values of JSON, in parts.

        The text is cut at commas. Should one have been in a string, then the part before it is no
        JSON, and the rest is parsed as a whole.
        """
        nested = len(self.shape) == 2 and _NESTED.match(self._raw) is not None
        comma = _COMMA_OF_STRINGS if kind is str else _COMMA
        comma = _COMMA_OF_ROWS if nested else comma
        start, last = 1, len(self._raw) - 1
        while start <= last:
            found = None
            if last - start > CHUNK:
                found = comma.search(self._raw, start + CHUNK, last)
            end = found.start(1) if found else last
            values = self._list(_lists[kind, nested], start, end)
            if values is None and kind is str and end < last:
                end = last
                values = self._list(_lists[kind, nested], start, end)
            if values is None:
                raise self.odd()
            yield self._flat(values) if nested else values
            start = end + 1

    def _list(
        self, decoder: msgspec.json.Decoder[list[Any]], start: int, end: int
    ) -> list[Any] | None:
        """What is between two places of the text, or None when it is something else."""
        raw = self._raw
        whole = start == 1 and end == len(raw) - 1
        try:
            return decoder.decode(raw if whole else b"".join((b"[", raw[start:end], b"]")))
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return None

    def _flat(self, rows: list[list[Any]]) -> list[Any]:
        if any(len(row) != self.shape[1] for row in rows):
            raise self.odd()
        return [value for row in rows for value in row]

    def _expect(self, size: int) -> None:
        if self.size != size:
            wanted = f"a binary_data_size of {size}, as its shape and data type have it"
            raise unfit(self.name, wanted, str(self.size))

    def name_of(self, number: float) -> str:
        """What one of its values is, where it does not fit."""
        if np.isnan(number) and self.is_json:
            return "null"
        if self.datatype in NUMBERS:
            return describe(float(number))
        kind = ("an empty string", "a string") if self.datatype == "BYTES" else ("", "another byte")
        return kind[0] if np.isnan(number) else kind[1]

    def odd(self) -> RecordError:
        """Say that the data is not what shape and data type say."""
        return unfit(self.name, f"data of its shape and of {self.datatype}", "other data")


def _strings(data: bytes) -> Iterator[bytes]:
    """Binary strings, each with its length in front of it."""
    start, unpack = LENGTH.size, LENGTH.unpack_from
    while start <= len(data):
        end = start + unpack(data, start - LENGTH.size)[0]
        if end > len(data):
            break
        yield data[start:end]
        start = end + LENGTH.size
    if start != len(data) + LENGTH.size:
        raise MalformedInputError("A tensor's last string is longer than its binary_data_size.")
