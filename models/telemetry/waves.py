"""Waves: complete records are made at once, the first of each key, then the second of each."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Mappings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.telemetry.aggregation import Entries, Values
from models.telemetry.baseline import Baselines
from models.telemetry.batch import Batch, Clock
from models.telemetry.deltas import Deltas
from models.telemetry.findings import about_fields, about_interval
from models.telemetry.open_records import NEVER, OpenRecords
from models.telemetry.places import Members, Places, series_of
from models.telemetry.readings import Moment, Readings
from models.telemetry.records import Counts, Records
from models.telemetry.runs import firsts, lengths, ranges
from models.telemetry.snapshot import cut, ragged
from models.telemetry.views import Views

__all__ = ["Waves"]

_PIECE = 1024
"""Records that are made at once: their temporary arrays stay in a processor's cache."""


class Waves:
    """Holds what is known of keys and series, and makes records of it.

    Args:
        views: of the mapping.
        places: of keys and series.
        counts: what became of the points.
        clock: of the mapping.

    Attributes:
        open: values of records that are not complete.
        baselines: what keys and series usually are.
        closed: time of the newest complete record of each key: int64 [max_keys].
        is_good: tells which records are good traffic, for baselines that follow; None for nobody.
    """

    def __init__(self, views: Views, places: Places, counts: Counts, clock: Clock) -> None:
        mapping, keys, series = views.mapping, places.max_keys, places.max_series
        self._views, self._places, self._counts, self._clock = views, places, counts, clock
        self._mapping, self._forget = mapping, round(mapping.forget * 1e9)
        slots = int(np.ceil(mapping.lateness / mapping.interval)) + 1
        self.open = OpenRecords(keys, series, slots, timed=clock.step > 0)
        self.baselines = Baselines(views, keys, series)
        self.nothing = Records.joined([], len(mapping.fields))
        self._readings = Readings(views, places, counts)
        self.closed = np.empty(keys, np.int64)
        self._before = np.empty(keys, np.int64)  # last record since the key began
        self._born = np.empty(keys, np.int64)  # first time that belongs to it
        self._number = np.empty(keys, np.int64)  # of its records since then
        self._deltas: dict[int, Deltas] = {}  # by key, of records that are open
        self._crowded: set[int] = set()
        self._valued = np.zeros(len(mapping.fields), np.bool_)
        self.is_good: Callable[[Records], NDArray[np.bool_]] | None = None

    def place_key(self, key: int) -> None:
        """Begin a key."""
        self.closed[key] = self._before[key] = self._born[key] = NEVER
        self._number[key] = 0
        self.open.place_key(key)
        self.baselines.place_key(key)

    def place_series(self, series: int) -> None:
        """Begin a series."""
        self._readings.place_series(series)
        self.open.place_series(series)
        self.baselines.place_series(series)

    def forget_times(self) -> None:
        """Let no record follow another: those so far have times of a clock that was wrong."""
        keys, series = len(self._places.keys), self._places.count
        self.closed[:keys] = self._before[:keys] = NEVER
        self._readings.time[:series] = NEVER

    def follow(self, keys: NDArray[np.int64], share: float) -> None:
        """Move the baseline of keys that have one a share towards their last record."""
        keys = keys[self.baselines.known[keys]]
        if len(keys):
            series = series_of([self._places.members(key) for key in keys])
            last = self._clock.starts(self._before[self._places.key[series]])
            series = series[self._readings.time[series] >= last]
            self.baselines.follow(keys, series, self._readings.value[series], share)

    def findings(self) -> list[str]:
        """Return what is odd about the mapping by the records so far, a line each."""
        keys = len(self._places.keys)
        counts = self._number[:keys]
        lasted = (self._before[:keys] - self._born[:keys] - self._clock.step) / 1e9
        steps = lasted / np.maximum(counts - 1, 1)
        return [
            *about_interval(self._mapping, steps, counts),
            *about_fields(self._views, self._readings, self._crowded, self._valued),
        ]

    def arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state of all keys and series, to read or to fill."""
        keys, series = len(self._places.keys), self._places.count
        return {
            "closed": self.closed[:keys],
            "before": self._before[:keys],
            "born": self._born[:keys],
            "number": self._number[:keys],
            "valued": self._valued,
            **self._readings.arrays(series),
            **self.baselines.arrays(keys, series),
            **self.open.arrays(keys, series),
        }

    def pack(self) -> tuple[dict[str, object], dict[str, NDArray[Any]]]:
        """Return the rest of the state: what fits into JSON, and arrays."""
        deltas = self._deltas.values()
        return {"slots": self.open.slots, "crowded": sorted(self._crowded)}, {
            **self.baselines.pack(),
            "delta keys": np.array([*self._deltas], np.int64),
            **ragged("delta series", (kept.series for kept in deltas), np.int32),
            **ragged("delta times", (kept.times for kept in deltas), np.int64),
            **ragged("delta values", (kept.values for kept in deltas), np.float64),
        }

    def unpack(self, meta: Mappings[str, Any], arrays: Mappings[str, NDArray[Any]]) -> None:
        """Take up what `pack` returned, and make room for what `arrays` did."""
        self._crowded, self.open.slots = {*meta["crowded"]}, meta["slots"]
        self.open.place_series(slice(0, self._places.count))
        self.baselines.unpack(arrays)
        parts = [cut(f"delta {name}", arrays) for name in ("series", "times", "values")]
        for key, *columns in zip(arrays["delta keys"].tolist(), *parts, strict=True):
            self._deltas[key] = Deltas(*columns)

    def close(
        self,
        keys: NDArray[np.int64],
        records: NDArray[np.int64],
        slots: NDArray[np.int64],
        groups: NDArray[np.int64],
        batch: Batch | None,
        order: NDArray[np.int64] | None = None,
    ) -> Records:
        """Make records, wave by wave: the first of each key, the second of each, and so on.

        Args:
            keys: of each record: int64 [n].
            records: their times.
            slots: their slots, 0 for those that have none.
            groups: of points in the batch that belong to them, -1 for none.
            batch: with the groups.
            order: of keys in the result; ascending if not given.
        """
        if not len(keys):
            return self.nothing
        by_key = np.lexsort((records, keys))
        first = np.flatnonzero(firsts(keys[by_key]))
        wave = np.arange(len(keys)) - np.repeat(first, lengths(first, len(keys)))
        by_wave = by_key[np.argsort(wave, kind="stable")]
        ends = _ends(np.bincount(wave))
        parts: list[Records] = []
        start = 0
        for end in ends:
            rows = by_wave[start:end]
            start = end
            given = groups[rows] >= 0
            if batch is not None and given.any():
                self.write(batch, groups[rows[given]], slots[rows[given]])
            parts += self._wave(keys[rows], records[rows], slots[rows])
        made = self.joined(parts)
        rank = made.keys.astype(np.int64)
        if order is not None:
            place = np.empty(len(self._places.keys), np.int64)
            place[order] = np.arange(len(order))
            rank = place[rank]
        if (rank[1:] > rank[:-1]).all():
            return made
        return made.take(np.lexsort((made.times, rank)))

    def write(self, batch: Batch, groups: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        """Put the points of groups into their slots."""
        if not len(groups):
            return
        sizes = batch.sizes[groups]
        if len(groups) == len(batch.keys):
            series, times, values = batch.series, batch.times, batch.values
        else:
            which = ranges(batch.starts[groups], sizes)
            series, times, values = batch.series[which], batch.times[which], batch.values[which]
        slots = np.repeat(slots, sizes)
        if self._clock.step and self._places.deltas:
            delta = self._places.delta[series]
            self._keep_deltas(Deltas(series[delta], times[delta], values[delta]))
            series, times, values = series[~delta], times[~delta], values[~delta]
            slots = slots[~delta]
        self._counts.repeated += self.open.write(slots, series, times, values)

    def _keep_deltas(self, points: Deltas) -> None:
        """Keep increases until their record closes: then they are summed in the order of time."""
        keys = self._places.key[points.series]
        for key in np.unique(keys).tolist():
            mine = points.take(keys == key)
            self._deltas[key] = self._deltas[key].joined(mine) if key in self._deltas else mine

    def _sum_deltas(
        self, keys: NDArray[np.int64], records: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> None:
        """Put the sums of increases of some records into these."""
        for key, record, slot in zip(keys.tolist(), records, slots, strict=True):
            kept = self._deltas.pop(key, None)
            if kept is None:
                continue
            inside = self._clock.records(kept.times) == record
            if not inside.all():
                self._deltas[key] = kept.take(~inside)
            if not inside.any():
                continue
            sums, repeated = kept.take(inside).summed()
            self._counts.repeated += repeated
            at = np.full(len(sums), slot)
            self.open.write(at, sums.series, sums.times, sums.values)

    def _wave(
        self, keys: NDArray[np.int64], records: NDArray[np.int64], slots: NDArray[np.int64]
    ) -> list[Records]:
        """Make one record of each of some keys."""
        parts = []
        silent = records - self._before[keys] > self._forget
        silent &= self._before[keys] != NEVER
        if silent.any():
            parts.append(self._begin_anew(keys[silent]))
        begins = self._before[keys] == NEVER
        self._born[keys[begins]] = self._clock.starts(records[begins])
        self._number[keys[begins]] = 0
        self._number[keys] += 1
        members = [self._places.members(key) for key in keys.tolist()]
        sizes, series = np.array([len(member) for member in members]), series_of(members)
        values = self._read(keys, records, slots, series, sizes)
        self._before[keys] = records
        self.closed[keys] = np.maximum(self.closed[keys], records)
        known = self.baselines.known[keys]
        if not known.all():
            unknown = np.flatnonzero(~known)
            parts.append(self._hold(keys, records, unknown, members, values, sizes))
            of_known = np.repeat(known, sizes)
            series, values = series[of_known], values[of_known]
            members = [member for member, one in zip(members, known, strict=True) if one]
        if members:
            entries = Entries.of(members, series, values)
            parts.append(self._made(keys[known], records[known], entries))
        return parts

    def _read(
        self,
        keys: NDArray[np.int64],
        records: NDArray[np.int64],
        slots: NDArray[np.int64],
        series: NDArray[np.intp],
        sizes: NDArray[np.int64],
    ) -> NDArray[np.float64]:
        """Take the values of series out of their open records, and return what they say."""
        if self._deltas:
            self._sum_deltas(keys, records, slots)
        raw, times = self.open.take(np.repeat(slots, sizes), series)
        self.open.release(keys, slots)
        moment = Moment(times, records, self._before[keys], self._born[keys], sizes)
        values = self._readings.read(series, raw, moment)
        self.baselines.remember(series, values)
        return values

    def _made(
        self, keys: NDArray[np.int64], records: NDArray[np.int64], entries: Entries
    ) -> Records:
        matrix, values = self.baselines.fields(keys, entries)
        self._note(values)
        made = self._counted(keys, records, matrix, learning=False)
        if self.is_good is not None and self._mapping.follow:
            # At once, so that the next record of a key is related to the moved baseline, whether
            # or not it came in the same body.
            good = self.is_good(made) & made.sufficient
            self.follow(keys[good], self._mapping.follow)
        return made

    def _hold(
        self,
        keys: NDArray[np.int64],
        records: NDArray[np.int64],
        rows: NDArray[np.intp],
        members: list[Members],
        values: NDArray[np.float64],
        sizes: NDArray[np.int64],
    ) -> Records:
        """Hold records of learning keys, and release those of keys that have learned enough."""
        ends = np.cumsum(sizes).tolist()
        enough = []
        for row in rows.tolist():
            series = members[row].series
            own = values[ends[row] - len(series) : ends[row]]
            if self.baselines.hold(int(keys[row]), int(records[row]), series, own):
                enough.append(int(keys[row]))
        return self.release(enough)

    def release(self, keys: list[int]) -> Records:
        """Make the baseline of keys from their held records, and return these."""
        if not keys:
            return self.joined([])
        members = [self._places.members(key) for key in keys]
        slots, times, matrix, values = self.baselines.learn(keys, members)
        self._note(values)
        return self._counted(slots, times, matrix, learning=True)

    def _begin_anew(self, keys: NDArray[np.int64]) -> Records:
        """Forget what keys were, after a long silence."""
        released = self.release([key for key in keys.tolist() if key in self.baselines.held])
        for key in keys.tolist():
            self.baselines.place_key(key)
        self._before[keys] = NEVER
        self._counts.anew += len(keys)
        return released

    def _note(self, values: Values) -> None:
        self._crowded.update(values.crowded.tolist())
        self._valued |= ~np.isnan(values.levels).all(axis=0)

    def _counted(
        self,
        keys: NDArray[np.int64],
        records: NDArray[np.int64],
        matrix: NDArray[np.float64],
        *,
        learning: bool,
    ) -> Records:
        present = np.count_nonzero(~np.isnan(matrix), axis=1)
        sufficient = present >= self._mapping.required * matrix.shape[1]
        self._counts.records += len(keys)
        self._counts.insufficient += int(np.count_nonzero(~sufficient))
        return Records(
            keys.astype(np.int32), records / 1e9, matrix, np.full(len(keys), learning), sufficient
        )

    def joined(self, parts: list[Records]) -> Records:
        """Return all records of some parts."""
        parts = [part for part in parts if len(part)]
        if not parts:
            return self.nothing
        return Records.joined(parts, len(self._mapping.fields))


def _ends(sizes: NDArray[np.int64]) -> list[int]:
    """Return where waves of some sizes end, and within them where pieces that fit a cache end."""
    ends, start = [], 0
    for size in sizes.tolist():
        ends += [*range(start + _PIECE, start + size, _PIECE), start + size]
        start += size
    return ends
