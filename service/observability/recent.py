"""The most recent traffic: what a change is tried on before it is made."""

from __future__ import annotations

from collections import deque

import numpy as np

from models.schema import Matrix

__all__ = ["Recent"]

_PIECES = 256
_ROWS = 64
"""Of each piece, at most: one large request is not all that there is."""


class Recent:
    """Some of the records that were answered last; one thread writes and any may read."""

    def __init__(self) -> None:
        self._pieces: deque[Matrix] = deque(maxlen=_PIECES)

    def offer(self, matrix: Matrix) -> None:
        """Keep records that were answered: float32 [n, fields], of a large piece the last."""
        self._pieces.append(matrix if len(matrix) <= _ROWS else matrix[-_ROWS:].copy())

    def matrix(self, fields: int) -> Matrix:
        """All that is kept: float32 [n, fields]."""
        return np.concatenate([np.empty((0, fields), np.float32), *self._pieces.copy()])
