"""A fair sample of a stream of records."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from models.schema import Matrix

__all__ = ["Reservoir"]


class Reservoir:
    """Keeps a random sample of the rows that it is offered, all with the same probability.

    The number of rows to skip is drawn in advance, so skipping costs a subtraction (algorithm L:
    Li, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", 1994).

    Args:
        size: most rows to keep.
        random: the source of randomness.

    Attributes:
        skip: rows to skip before the next one is kept.
    """

    def __init__(self, size: int, random: Random) -> None:
        self.size, self.random = size, random
        self.skip = 0
        self._rows: list[bytes] = []
        self._log_weight = 0.0

    def offer(self, matrix: Matrix) -> None:
        """Keep some rows, or none: float32 [n, fields]."""
        self.skip -= len(matrix)
        while self.skip < 0:  # it counts from the end of the matrix
            row = matrix[self.skip].tobytes()
            if len(self._rows) < self.size:
                self._rows.append(row)
            else:
                self._rows[self.random.randrange(self.size)] = row
            self.skip += 1 + self._gap()

    def rows(self, fields: int) -> Matrix:
        """Return the kept rows: float32 [n, fields]."""
        return np.frombuffer(b"".join(self._rows), np.float32).reshape(-1, fields)

    def _gap(self) -> int:
        if len(self._rows) < self.size:
            return 0
        self._log_weight += math.log(1 - self.random.random()) / self.size
        weight = math.exp(self._log_weight)
        if weight == 1:
            return 0
        return int(math.log(1 - self.random.random()) / math.log1p(-weight))
