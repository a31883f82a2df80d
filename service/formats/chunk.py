"""A chunk of a request: the records processed before yielding to other requests."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NoReturn

import numpy as np

from models import RecordError
from models.schema import FieldError, Matrix, Misfits

__all__ = ["CHUNK_BYTES", "CHUNK_RECORDS", "Chunk", "FieldErrorOf", "reject"]

CHUNK_RECORDS = 256
"""Records of a chunk whose format is cheap to read, at most."""
CHUNK_BYTES = 1 << 18
"""Bytes of a chunk that has to be parsed, at most: about two milliseconds of work."""
_MAX_FAULTS = 10

FieldErrorOf = Callable[[int, int], FieldError]
"""Returns the fault of a cell, by its row in the chunk and the index of its field."""


@dataclass(slots=True)
class Chunk:
    """Some of a request's records, in order.

    Attributes:
        matrix: float32 [n, fields] of those that fit the schema, NaN where missing.
        faults: what is wrong with each of the others, by its row in the chunk.
    """

    matrix: Matrix
    faults: Mapping[int, FieldError] = field(default_factory=dict)

    @classmethod
    def checked(
        cls,
        matrix: Matrix,
        misfits: Misfits | None,
        fault_of: FieldErrorOf,
        *,
        report: bool = False,
    ) -> Chunk:
        """Make a chunk of the records that fit.

        Raises:
            RecordError: some do not fit, and they are not to be reported in place.
        """
        if misfits is None:
            return cls(matrix)
        if not report:
            reject(misfits, fault_of)
        rows = np.flatnonzero(misfits.any(axis=1))
        columns = misfits[rows].argmax(axis=1).tolist()
        faults = {row: fault_of(row, at) for row, at in zip(rows.tolist(), columns, strict=True)}
        return cls(np.delete(matrix, rows, axis=0), faults)

    def __len__(self) -> int:
        return len(self.matrix) + len(self.faults)

    def split(self, records: int = CHUNK_RECORDS) -> Iterator[Chunk]:
        """Yield chunks of no more than so many records, together the same as this one."""
        if len(self) <= records:
            yield self
            return
        done = 0
        for start in range(0, len(self), records):
            rows = range(start, min(start + records, len(self)))
            faults = {row - start: self.faults[row] for row in rows if row in self.faults}
            end = done + len(rows) - len(faults)
            yield Chunk(self.matrix[done:end], faults)
            done = end


def reject(misfits: Misfits, fault_of: FieldErrorOf) -> NoReturn:
    """Raise the first faults as a `RecordError`."""
    raise RecordError(
        [fault_of(row, at) for row, at in np.argwhere(misfits)[:_MAX_FAULTS].tolist()]
    )
