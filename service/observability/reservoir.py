"""A fair sample of all that has passed by, without keeping it."""

from __future__ import annotations

import math
from random import Random

import numpy as np

from models.schema import Matrix

__all__ = ["Reservoir"]


class Reservoir:
    """Keeps some of the rows that it is offered, each with the same probability.

    What is passed over costs a subtraction: how many rows to skip is drawn beforehand (algorithm L:
    Li, "Reservoir-sampling algorithms of time complexity O(n(1 + log(N/n)))", 1994).

    Args:
        size: rows that are kept, at most.
        random: where chance comes from.

    Attributes:
        skip: rows to pass over before the next one is taken.
    """

    def __init__(self, size: int, random: Random) -> None:
        self.size, self.random = size, random
        self.skip = 0
        self._rows: list[bytes] = []
        self._log_weight = 0.0

    def offer(self, matrix: Matrix) -> None:
        """Take some rows, or none: float32 [n, fields]."""
        self.skip -= len(matrix)
        if self.skip < 0:
            self.take(matrix)

    def take(self, matrix: Matrix) -> None:
        """Take the row at `skip`, which is negative and counts from the end, and those after it."""
        while self.skip < 0:
            self._keep(matrix[self.skip].tobytes())
            self.skip += 1 + self._gap()

    def rows(self, fields: int) -> Matrix:
        """What is kept: float32 [n, fields]."""
        return np.frombuffer(b"".join(self._rows), np.float32).reshape(-1, fields)

    def _keep(self, row: bytes) -> None:
        if len(self._rows) < self.size:
            self._rows.append(row)
        else:
            self._rows[self.random.randrange(self.size)] = row

    def _gap(self) -> int:
        if len(self._rows) < self.size:
            return 0
        self._log_weight += math.log(1 - self.random.random()) / self.size
        weight = math.exp(self._log_weight)
        if weight == 1:
            return 0
        return int(math.log(1 - self.random.random()) / math.log1p(-weight))
