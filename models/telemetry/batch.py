"""Points of a body in groups, one for each record, and which of them are late."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from models.telemetry.runs import firsts, lengths, ranges

__all__ = ["Batch", "Clock"]


@dataclass(frozen=True, slots=True)
class Clock:
    """When records are complete.

    Attributes:
        lateness: nanoseconds by which points may be late.
        step: nanoseconds between records that are aligned to intervals; 0 if they are samples.
    """

    lateness: int
    step: int

    def records(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the time of the record that each point belongs to."""
        return (times // self.step + 1) * self.step if self.step else times

    def starts(self, records: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the first time that belongs to records."""
        return records - self.step

    def closes(self, records: NDArray[np.int64], newest: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Return which records are complete when the newest point of their key has this time."""
        passed = newest - self.lateness
        return records <= passed if self.step else records < passed


@dataclass(frozen=True, slots=True)
class Batch:
    """Points in groups, one for each key and record, in the order of both.

    Attributes:
        keys: of each group: int64 [g].
        records: time of its record: int64 [g].
        newest: time of its newest point: int64 [g].
        starts: its first point: int64 [g].
        sizes: number of its points: int64 [g].
        series: of each point: int32 [n].
        times: int64 [n].
        values: float64 [n].
        late: keys of points that were left out because their record was complete: int64 [l].
    """

    keys: NDArray[np.int64]
    records: NDArray[np.int64]
    newest: NDArray[np.int64]
    starts: NDArray[np.int64]
    sizes: NDArray[np.int64]
    series: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    late: NDArray[np.int64]

    @classmethod
    def of(
        cls,
        clock: Clock,
        keys: NDArray[np.int32],
        points: tuple[NDArray[np.int32], NDArray[np.int64], NDArray[np.float64]],
        newest: NDArray[np.int64],
        closed: NDArray[np.int64],
    ) -> Batch:
        """Group points.

        Args:
            clock: says which record a point belongs to.
            keys: of each point: int32 [n], at least one.
            points: their series, times and values, in the order in which they came.
            newest: time of the newest point of every key so far.
            closed: time of the newest complete record of every key.
        """
        series, times, values = points
        records = clock.records(times)
        # A run of points of one key and record is handled as one.
        runs = np.flatnonzero(firsts(keys) | firsts(records))
        of_key, of_record = keys[runs].astype(np.int64), records[runs]
        sizes = lengths(runs, len(keys))
        latest = np.maximum.reduceat(times, runs) if clock.step else of_record
        before = _newest_before(of_key, latest, newest)
        late = clock.closes(of_record, before) | (of_record <= closed[of_key])
        late_keys, late_sizes = of_key[late], sizes[late]
        kept = np.flatnonzero(~late)
        if len(kept) > 1:
            kept = kept[np.lexsort((of_record[kept], of_key[kept]))]
        if len(kept) < len(runs) or (kept[1:] < kept[:-1]).any():
            which = ranges(runs[kept], sizes[kept])
            series, times, values = series[which], times[which], values[which]
        of_key, of_record, latest, sizes = of_key[kept], of_record[kept], latest[kept], sizes[kept]
        groups = np.flatnonzero(firsts(of_key) | firsts(of_record))
        ends = np.cumsum(sizes)
        starts = (ends - sizes)[groups]
        return cls(
            of_key[groups],
            of_record[groups],
            np.maximum.reduceat(latest, groups) if len(groups) else latest,
            starts,
            lengths(starts, len(series)),
            series,
            times,
            values,
            np.repeat(late_keys, late_sizes),
        )


def _newest_before(
    keys: NDArray[np.int64], times: NDArray[np.int64], newest: NDArray[np.int64]
) -> NDArray[np.int64]:
    """Return for each run the newest time that its key had before it."""
    order = np.argsort(keys, kind="stable")
    keys, times = keys[order], times[order]
    first = firsts(keys)
    before = np.empty_like(times)
    before[1:] = times[:-1]
    before[first] = newest[keys[first]]
    if not (first[1:] | (before[1:] >= before[:-1])).all():
        known, rank = np.unique(before, return_inverse=True)
        # Keys apart from each other by more than any rank: one running maximum serves all.
        apart = np.cumsum(first) * len(known)
        before = known[np.maximum.accumulate(rank + apart) - apart]
    # The newest so far may be newer than all that came with this batch.
    found = np.empty_like(before)
    found[order] = before
    return found
