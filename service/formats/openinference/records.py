"""The tensors of an inference request as chunks of records."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np

from models import Field, FieldError, RecordError, Schema
from models.schema import Numbers, with_quiet_nans
from service.formats.chunk import CHUNK_RECORDS, Chunk, reject
from service.formats.openinference.tensor import NUMBERS, Tensor

__all__ = ["RECORDS", "RecordTensors", "datatype_of", "record_tensors"]

RECORDS = "records"
"""The tensor of all fields."""


@lru_cache(maxsize=16)
def record_tensors(schema: Schema) -> RecordTensors:
    """Return the reader of a schema's tensors, made once."""
    return RecordTensors(schema)


class RecordTensors:
    """Reads tensors as records.

    Args:
        schema: of a record.
    """

    def __init__(self, schema: Schema) -> None:
        self._schema = schema
        self._indices = {name: at for at, name in enumerate(schema.names)}
        self._encoders = {
            field.name: _encoder(field) for field in schema.fields if field.kind == "category"
        }

    def read(self, tensors: Sequence[Tensor], max_records: int) -> tuple[int, Iterator[Chunk]]:
        """Return how many records the tensors hold, and these.

        Raises:
            RecordError: they are not the tensors of the schema.
        """
        if len(tensors) == 1 and tensors[0].name == RECORDS and RECORDS not in self._indices:
            (whole,) = tensors
            _check(whole, NUMBERS, [[len(self._schema)]])
            records = _count(tensors, max_records)
            return records, self._from_whole(whole, records)
        columns = self._columns(tensors)
        records = _count(tensors, max_records)
        return records, self._from_columns(columns, records)

    def _from_whole(self, tensor: Tensor, records: int) -> Iterator[Chunk]:
        first = 0
        for block in _blocks(tensor, records, len(self._schema)):
            if (misfits := self._schema.misfits_of_encoded(block)) is not None:
                reject(misfits, partial(self._fault_of_whole, tensor, block, first))
            yield Chunk(with_quiet_nans(block))
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
                if records > CHUNK_RECORDS:  # an empty chunk yields to other requests
                    yield Chunk(np.empty((0, len(self._schema)), np.float32))
            if left:
                raise tensor.mismatch()
            columns[at] = np.concatenate(parts) if len(parts) != 1 else parts[0]
        for first in range(0, records, CHUNK_RECORDS):
            last = min(first + CHUNK_RECORDS, records)
            fault_of = partial(self._fault_of_column, tensors, columns, first)
            yield Chunk.checked(*self._schema.matrix_of(columns, first, last), fault_of)

    def _parts(self, at: int, tensor: Tensor, records: int) -> Iterator[Numbers]:
        match self._schema.fields[at].kind:
            case "boolean":
                return tensor.flags(records)
            case "category":
                return tensor.strings(self._encoders[tensor.name])
        return tensor.numbers(records)

    def _fault_of_whole(
        self, tensor: Tensor, block: Numbers, first: int, row: int, at: int
    ) -> FieldError:
        field, expected = self._schema.fields[at], self._schema.fields[at].expected
        if field.is_coded:
            low, high = field.bounds
            expected = f"a code from {low:g} to {high:g}"
        return FieldError(first + row, field.name, expected, tensor.describe(block[row, at]))

    def _fault_of_column(
        self,
        tensors: dict[int, Tensor],
        columns: dict[int, Numbers],
        first: int,
        row: int,
        at: int,
    ) -> FieldError:
        got = tensors[at].describe(columns[at][first + row])
        return self._schema.fields[at].fault(first + row, got)

    def _columns(self, tensors: Sequence[Tensor]) -> dict[int, Tensor]:
        columns: dict[int, Tensor] = {}
        for tensor in tensors:
            at = self._indices.get(tensor.name)
            if at is None or at in columns:
                expected = f"the tensor {RECORDS} alone, or one for each field of the schema"
                raise RecordError.of_request(tensor.name, expected, "another one")
            _check(tensor, _datatypes(self._schema.fields[at]), [[], [1]])
            columns[at] = tensor
        for at, field in enumerate(self._schema.fields):
            if field.required and at not in columns:
                expected = f"a tensor of {datatype_of(field)}"
                raise RecordError.of_request(field.name, expected, "no such tensor")
        return columns


def _check(tensor: Tensor, datatypes: Collection[str], shapes: list[list[int]]) -> None:
    """Reject a tensor of another data type, or whose shape is not [n, *shape] for any shape."""
    if tensor.datatype not in datatypes:
        expected = f"the data type {' or '.join(datatypes)}"
    elif tensor.shape[1:] not in shapes or not tensor.shape:
        full = (str(["n", *shape]).replace("'", "") for shape in shapes)
        expected = f"the shape {' or '.join(full)}"
    else:
        return
    raise RecordError.of_request(tensor.name, expected, "another")


def _count(tensors: Sequence[Tensor], max_records: int) -> int:
    counts = {tensor.shape[0] for tensor in tensors}
    if len(counts) != 1:
        expected, got = "tensors of one length for each field", "tensors of several"
        raise RecordError.of_request("inputs", expected, got if counts else "none")
    (count,) = counts
    if not 1 <= count <= max_records:
        got = "none" if count < 1 else "more of them"
        raise RecordError.of_request("inputs", f"1 to {max_records} records", got)
    return count


def _blocks(tensor: Tensor, records: int, width: int) -> Iterator[Numbers]:
    """Yield a tensor's rows, as many at a time as a chunk may have: [n, width]."""
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
        raise tensor.mismatch()


def _encoder(field: Field) -> Callable[[list[Any]], Numbers]:
    """Return what encodes strings, which may be bytes, as a category's codes."""
    codes: dict[str | bytes | None, float] = {b"": np.nan}
    for category, code in field.codes().items():
        codes[category] = code
        if category is not None:
            codes[category.encode()] = code
    unseen = field.unseen_code

    def encode(strings: list[Any]) -> Numbers:
        return np.array([codes.get(string, unseen) for string in strings], np.float32)

    return encode


def _datatypes(field: Field) -> Collection[str]:
    return (datatype_of(field),) if field.is_coded else NUMBERS


def datatype_of(field: Field) -> str:
    """Return the usual data type of a field's tensor."""
    return {"boolean": "BOOL", "category": "BYTES"}.get(field.kind, "FP32")
