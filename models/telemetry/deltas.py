"""Increases that are sent as such: all of one record are summed, in the order of time."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.telemetry.runs import firsts

__all__ = ["Deltas"]


@dataclass(frozen=True, slots=True)
class Deltas:
    """Points of series whose values are increases.

    Attributes:
        series: int32 [n].
        times: nanoseconds: int64 [n].
        values: float64 [n].
    """

    series: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.series)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> Deltas:
        """Return some points."""
        return Deltas(self.series[which], self.times[which], self.values[which])

    def joined(self, others: Deltas) -> Deltas:
        """Return these points and then others."""
        return Deltas(
            np.concatenate([self.series, others.series]),
            np.concatenate([self.times, others.times]),
            np.concatenate([self.values, others.values]),
        )

    def summed(self) -> tuple[Deltas, int]:
        """Return one point for each series, the sum at its last time, and how many came twice."""
        ordered = self.take(np.lexsort((self.times, self.series)))
        series, times = ordered.series, ordered.times
        last = np.ones(len(series), np.bool_)
        last[:-1] = (series[1:] != series[:-1]) | (times[1:] != times[:-1])
        once = ordered.take(last)
        starts = np.flatnonzero(firsts(once.series))
        ends = np.append(starts[1:], len(once)) - 1
        sums = np.zeros(len(starts))
        np.add.at(sums, np.repeat(np.arange(len(starts)), ends - starts + 1), once.values)
        return Deltas(once.series[starts], once.times[ends], sums), len(self) - len(once)
