"""The plan that turns the tensors of an inference request into chunks of records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
import numpy.typing as npt

from models import Fault, Field, RecordError, Schema
from models.schema import LARGEST, UNSEEN
from service.formats.chunk import CHUNK_RECORDS, Chunk
from service.formats.openinference.document import unfit
from service.formats.openinference.tensor import NUMBERS, Numbers, Tensor

__all__ = ["RECORDS", "Plan", "datatype_of", "plan_of"]

RECORDS = "records"
"""The tensor of all fields."""
_MOST_FAULTS = 10


@lru_cache(maxsize=16)
def plan_of(schema: Schema) -> Plan:
    """The plan for a schema, made once."""
    return Plan(schema)


class Plan:
    """Turns tensors into records.

    Args:
        schema: what a record holds.
    """

    def __init__(self, schema: Schema) -> None:
        self._fields = schema.fields
        self._places = {name: at for at, name in enumerate(schema.names)}
        self._optional = np.array([not each.required for each in schema.fields])
        self._encoders = {
            each.name: _encoder(each) for each in schema.fields if each.kind == "category"
        }
        # In the tensor of all fields these are codes, and lie between two of them.
        coded = [
            (at, UNSEEN if each.open else 0, len(each.categories or "01") - 1)
            for at, each in enumerate(schema.fields)
            if each.kind in {"boolean", "category"}
        ]
        self._codes = {at: f"a code from {low:g} to {high}" for at, low, high in coded}
        self._coded = np.array([*self._codes], np.intp)
        low, high = np.full(len(schema), -LARGEST), np.full(len(schema), LARGEST)
        for at, least, most in coded:
            low[at], high[at] = least, most
        # Comparing is fastest among numbers of one kind.
        self._bounds = (low.astype(np.float32), high.astype(np.float32)), (low, high)

    def read(self, tensors: Sequence[Tensor], most: int) -> tuple[int, Iterator[Chunk]]:
        """How many records the tensors hold, and these.

        Raises:
            RecordError: they are not the tensors of the schema.
        """
        if len(tensors) == 1 and tensors[0].name == RECORDS and RECORDS not in self._places:
            (whole,) = tensors
            _check(whole, NUMBERS, [[len(self._fields)]])
            records = _count(tensors, most)
            return records, self._from_whole(whole, records)
        columns = self._columns(tensors)
        records = _count(tensors, most)
        return records, self._from_columns(columns, records)

    def _from_whole(self, tensor: Tensor, records: int) -> Iterator[Chunk]:
        first = 0
        for block in _blocks(tensor, records, len(self._fields)):
            low, high = self._bounds[block.dtype.itemsize == 8]
            fits = (block >= low) & (block <= high)
            if len(self._coded):
                codes = block.take(self._coded, axis=1)
                fits[:, self._coded] &= codes == np.rint(codes)
            if np.count_nonzero(fits) < fits.size:
                self._refuse(block, ~fits, partial(self._fault_of_whole, tensor, block, first))
            yield Chunk(block.astype(np.float32))
            first += len(block)

    def _from_columns(self, tensors: dict[int, Tensor], records: int) -> Iterator[Chunk]:
        columns: dict[int, Numbers] = {}
        for at, tensor in tensors.items():
            parts, left = [], records
            for part in self._parts(at, tensor, records):
                parts.append(part)
                left -= len(part)
                if left < 0:
                    break
                if records > CHUNK_RECORDS:
                    yield Chunk(np.empty((0, len(self._fields)), np.float32))
            if left:
                raise tensor.odd()
            columns[at] = np.concatenate(parts) if len(parts) != 1 else parts[0]
        for first in range(0, records, CHUNK_RECORDS):
            last = min(first + CHUNK_RECORDS, records)
            matrix = np.full((last - first, len(self._fields)), np.nan, np.float32)
            with np.errstate(over="ignore"):
                for at, column in columns.items():
                    matrix[:, at] = column[first:last]
            bad = ~(np.abs(matrix) < LARGEST)
            if bad.any():
                # A number that is a little beyond is rounded to the largest there is.
                for at, column in columns.items():
                    bad[:, at] = ~(np.abs(column[first:last].astype(np.float64)) <= LARGEST)
                self._refuse(matrix, bad, partial(self._fault_of_column, tensors, columns, first))
            yield Chunk(matrix)

    def _parts(self, at: int, tensor: Tensor, records: int) -> Iterator[Numbers]:
        match self._fields[at].kind:
            case "boolean":
                return tensor.flags(records)
            case "category":
                return tensor.strings(self._encoders[tensor.name])
        return tensor.numbers(records)

    def _refuse(
        self, block: Numbers, bad: npt.NDArray[np.bool_], fault: Callable[[int, int], Fault]
    ) -> None:
        """Refuse what does not fit, unless it may be missing and is."""
        bad &= ~(np.isnan(block) & self._optional)
        if places := np.argwhere(bad)[:_MOST_FAULTS].tolist():
            raise RecordError([fault(row, at) for row, at in places])

    def _fault_of_whole(
        self, tensor: Tensor, block: Numbers, first: int, row: int, at: int
    ) -> Fault:
        expected = self._codes.get(at) or self._fields[at].expected
        return Fault(first + row, self._fields[at].name, expected, tensor.name_of(block[row, at]))

    def _fault_of_column(
        self,
        tensors: dict[int, Tensor],
        columns: dict[int, Numbers],
        first: int,
        row: int,
        at: int,
    ) -> Fault:
        got = tensors[at].name_of(columns[at][first + row])
        return Fault(first + row, self._fields[at].name, self._fields[at].expected, got)

    def _columns(self, tensors: Sequence[Tensor]) -> dict[int, Tensor]:
        columns: dict[int, Tensor] = {}
        for tensor in tensors:
            at = self._places.get(tensor.name)
            if at is None or at in columns:
                wanted = f"the tensor {RECORDS} alone, or one for each field of the schema"
                raise unfit(tensor.name, wanted, "another one")
            _check(tensor, _datatypes(self._fields[at]), [[], [1]])
            columns[at] = tensor
        for at, each in enumerate(self._fields):
            if each.required and at not in columns:
                raise unfit(each.name, f"a tensor of {datatype_of(each)}", "no such tensor")
        return columns


def _check(tensor: Tensor, datatypes: Collection[str], shapes: list[list[int]]) -> None:
    """Refuse a tensor of another data type, or of a shape that does not go on like one of these."""
    if tensor.datatype not in datatypes:
        raise unfit(tensor.name, f"the data type {' or '.join(datatypes)}", "another")
    if tensor.shape[1:] not in shapes or not tensor.shape:
        wanted = " or ".join(str(["n", *shape]).replace("'", "") for shape in shapes)
        raise unfit(tensor.name, f"the shape {wanted}", "another")


def _count(tensors: Sequence[Tensor], most: int) -> int:
    counts = {tensor.shape[0] for tensor in tensors}
    if len(counts) != 1:
        wanted = "tensors of one length for each field"
        raise unfit("inputs", wanted, "tensors of several" if counts else "none")
    (count,) = counts
    if not 1 <= count <= most:
        raise unfit("inputs", f"1 to {most} records", "none" if count < 1 else "more of them")
    return count


def _blocks(tensor: Tensor, records: int, width: int) -> Iterator[Numbers]:
    """A tensor's rows, as many at a time as a chunk may have: [n, width]."""
    rest, left = None, records * width
    for part in tensor.numbers(left):
        left -= len(part)
        if left < 0:
            break
        flat = part if rest is None else np.concatenate([rest, part])
        whole = len(flat) - len(flat) % width
        for start in range(0, whole, CHUNK_RECORDS * width):
            end = min(start + CHUNK_RECORDS * width, whole)
            yield flat[start:end].reshape(-1, width)
        rest = flat[whole:]
    if left:
        raise tensor.odd()


def _encoder(described: Field) -> Callable[[list[Any]], Numbers]:
    """What turns strings, which may be bytes, into a category's codes."""
    codes: dict[str | bytes | None, float] = {b"": np.nan, None: np.nan}
    for code, category in enumerate(described.categories):
        codes[category] = codes[category.encode()] = code
    unknown = UNSEEN if described.open else np.inf

    def encode(strings: list[Any]) -> Numbers:
        return np.array([codes.get(string, unknown) for string in strings], np.float32)

    return encode


def _datatypes(described: Field) -> Collection[str]:
    return {"boolean": ("BOOL",), "category": ("BYTES",)}.get(described.kind, tuple(NUMBERS))


def datatype_of(described: Field) -> str:
    """The data type that a field's tensor has as a rule."""
    return {"boolean": "BOOL", "category": "BYTES"}.get(described.kind, "FP32")
