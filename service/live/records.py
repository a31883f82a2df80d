"""The latest records in a ring: numbers in arrays, so that they take no more than they must."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from models import Decisions
from models.schema import Matrix

__all__ = ["KEPT_RECORDS", "Batch", "Ring"]

KEPT_RECORDS: Final = 20_000
"""Records that are kept, of all devices together."""
_MAX_BYTES = 64 << 20
"""Of their fields: of wide records, fewer are kept."""

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Records to keep.

    Attributes:
        keys: of their devices; None of records that named none.
        times: seconds since the epoch: float64 [n].
        matrix: float32 [n, fields].
        codes: of the verdicts: uint16 [n].
        states: indices into `STATES`: uint8 [n].
        decisions: of the model.
    """

    keys: Sequence[str | None]
    times: npt.NDArray[np.float64]
    matrix: Matrix
    codes: npt.NDArray[np.uint16]
    states: npt.NDArray[np.uint8]
    decisions: Decisions

    def __len__(self) -> int:
        return len(self.keys)


class Ring:
    """The latest records of one bundle, each by a number that is never used again.

    Attributes:
        first: number of the oldest record that is kept.
        next: number of the next one.
    """

    def __init__(self) -> None:
        self.first = self.next = 1
        self._fill(0)

    def _fill(self, fields: int) -> None:
        self._size = size = min(KEPT_RECORDS, _MAX_BYTES // (4 * max(fields, 1)))
        self._matrix = np.zeros((size, fields), np.float32)
        self._positions = np.full((size, 3), np.nan, np.float32)
        self._keys = np.empty(size, object)
        self._times = np.zeros(size)
        self._codes = np.zeros(size, np.uint16)
        self._states = np.zeros(size, np.uint8)
        self._distances = np.zeros(size, np.float32)
        self._confidences = np.zeros(size, np.float32)

    def clear(self, fields: int) -> None:
        """Forget all records; the next ones have so many fields."""
        self.first = self.next
        self._fill(fields)

    def forget_positions(self) -> None:
        """Forget where records are drawn: the axes have changed."""
        self._positions[:] = np.nan

    def add(self, batch: Batch) -> Indices:
        """Keep records, and return their numbers; of too many, the last are kept."""
        numbers = np.arange(self.next, self.next + len(batch))
        self.next += len(batch)
        kept = slice(max(len(batch) - self._size, 0), None)
        at = numbers[kept] % self._size
        decisions = batch.decisions
        self._matrix[at], self._keys[at] = batch.matrix[kept], np.array(batch.keys, object)[kept]
        self._times[at], self._codes[at] = batch.times[kept], batch.codes[kept]
        self._states[at], self._positions[at] = batch.states[kept], np.nan
        self._distances[at] = decisions.distance[kept]
        self._confidences[at] = decisions.confidence[kept]
        self.first = max(self.first, self.next - self._size)
        return numbers

    def kept(self, numbers: Indices) -> Indices:
        """Return those of some numbers whose records are kept."""
        return numbers[(numbers >= self.first) & (numbers < self.next)]

    def latest(self, limit: int) -> Indices:
        """Return the numbers of the latest records, oldest first."""
        return np.arange(max(self.first, self.next - limit), self.next)

    def matrix(self, numbers: Indices) -> Matrix:
        """Return records that are kept: float32 [n, fields]."""
        return self._matrix[numbers % self._size]

    def unplaced(self, numbers: Indices) -> Indices:
        """Return those of some numbers whose records have no position yet."""
        is_unplaced = np.isnan(self._positions[numbers % self._size, 0])
        unplaced: Indices = numbers[is_unplaced]
        return unplaced

    def place(self, numbers: Indices, positions: Matrix) -> None:
        """Keep where records are drawn: float32 [n, 3]."""
        at = (numbers >= self.first) & (numbers < self.next)
        self._positions[numbers[at] % self._size] = positions[at]

    def states(self, numbers: Indices) -> npt.NDArray[np.uint8]:
        """Return the states of records: uint8 [n]."""
        return self._states[numbers % self._size]

    def rows(
        self, numbers: Indices
    ) -> list[tuple[int, str | None, float, int, float, float, list[float]]]:
        """Return number, key, time, verdict, distance, confidence and position of records."""
        at = numbers % self._size
        columns = (
            numbers,
            self._keys[at],
            self._times[at].round(3),
            self._codes[at],
            self._distances[at].astype(np.float64).round(6),
            self._confidences[at].astype(np.float64).round(4),
            self._positions[at].astype(np.float64).round(4),
        )
        return [*zip(*(column.tolist() for column in columns), strict=True)]
