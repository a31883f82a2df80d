"""The latest traffic, on which a change is tried before it is made."""

from __future__ import annotations

from collections import deque

import numpy as np

from models.schema import Matrix

__all__ = ["Recent"]

_CHUNKS = 256
_ROWS = 64
"""Of each chunk, at most: one large request must not replace all others."""


class Recent:
    """Some of the latest records; one thread writes, any may read."""

    def __init__(self) -> None:
        self._chunks: deque[Matrix] = deque(maxlen=_CHUNKS)

    def offer(self, matrix: Matrix) -> None:
        """Keep records that were answered, the last ones of a large chunk: float32 [n, fields]."""
        self._chunks.append(matrix if len(matrix) <= _ROWS else matrix[-_ROWS:].copy())

    def matrix(self, fields: int) -> Matrix:
        """Return all kept records: float32 [n, fields]."""
        return np.concatenate([np.empty((0, fields), np.float32), *self._chunks.copy()])
