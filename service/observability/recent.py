"""The latest traffic, on which a change is tried before it is made."""

from __future__ import annotations

from collections import deque

import numpy as np

from models.schema import Matrix

__all__ = ["Recent"]


class Recent:
    """Some of the latest records; one thread writes, any may read.

    Args:
        chunks: how many of the latest chunks have records here.
        rows: of each chunk, at most: one large request must not replace all others.
    """

    def __init__(self, chunks: int = 256, rows: int = 64) -> None:
        self._chunks: deque[Matrix] = deque(maxlen=chunks)
        self._rows = rows

    def offer(self, matrix: Matrix) -> None:
        """Keep records that were answered, the last ones of a large chunk: float32 [n, fields]."""
        if not len(matrix):
            return
        rows = self._rows
        self._chunks.append(matrix if len(matrix) <= rows else matrix[-rows:].copy())

    def matrix(self, fields: int) -> Matrix:
        """Return all kept records: float32 [n, fields]."""
        return np.concatenate([np.empty((0, fields), np.float32), *self._chunks.copy()])
