"""A chunk of a request: so many of its records as are worked on before others get their turn."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from models.schema import Fault, Matrix

__all__ = ["CHUNK_BYTES", "CHUNK_RECORDS", "Chunk"]

CHUNK_RECORDS = 256
"""Records of a chunk whose form is cheap to read, at most."""
CHUNK_BYTES = 1 << 18
"""Bytes of a chunk that has to be parsed, at most: about two milliseconds of work."""


@dataclass(slots=True)
class Chunk:
    """Some of a request's records, in order.

    Attributes:
        matrix: float32 [n, fields] of those that fit the schema, NaN where missing.
        faults: what is wrong with each of the others, by its place in the chunk.
    """

    matrix: Matrix
    faults: Mapping[int, Fault] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.matrix) + len(self.faults)
