"""A chunk of a request: the records processed before yielding to other requests."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.schema import Fault, Matrix

__all__ = ["CHUNK_BYTES", "CHUNK_RECORDS", "Chunk"]

CHUNK_RECORDS = 256
"""Maximum records of a chunk in a format that is cheap to read."""
CHUNK_BYTES = 1 << 18
"""Maximum bytes of a chunk that has to be parsed: about two milliseconds of work."""


@dataclass(slots=True)
class Chunk:
    """Some of a request's records, in order.

    Attributes:
        matrix: float32 [n, fields] of those that fit the schema, NaN where missing.
        faults: of the other records, by index in the chunk.
    """

    matrix: Matrix
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.matrix) + len(self.faults)
