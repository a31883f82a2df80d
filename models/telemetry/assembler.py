"""The assembler: metric points become the records of a model.

The same points give the same records to the bit, however they are split into bodies, and in any
order within the lateness that the mapping allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from collections.abc import Mapping as Mappings
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.telemetry.aggregation import Entries, Values
from models.telemetry.baseline import Baselines
from models.telemetry.batch import Batch, Clock
from models.telemetry.deltas import Deltas
from models.telemetry.findings import about_fields, about_interval, about_key
from models.telemetry.mapping import Mapping
from models.telemetry.open_records import NEVER, OpenRecords
from models.telemetry.places import Members, Places
from models.telemetry.points import REFUSED, Points, Series, SeriesTable
from models.telemetry.readings import Moment, Readings
from models.telemetry.records import Counts, Records
from models.telemetry.runs import firsts, lasts, lengths, ranges
from models.telemetry.snapshot import (
    SnapshotError,
    cut,
    pack,
    pack_tokens,
    ragged,
    unpack,
    unpack_tokens,
)
from models.telemetry.views import Views

__all__ = ["Assembler"]

_PIECE = 1024
"""Records that are made at once: their temporary arrays stay in a processor's cache."""


class Assembler:
    """Holds the state of all keys, takes points and returns the records that they complete.

    Args:
        mapping: what to make of points.
        max_keys: keys beyond it are refused.
        max_series: series beyond it are refused.

    Attributes:
        mapping: as given.
        series: ids of series, for receivers.
        counts: what became of the points.
    """

    def __init__(
        self, mapping: Mapping, *, max_keys: int = 100_000, max_series: int = 2_000_000
    ) -> None:
        self.mapping = mapping
        self.counts = Counts()
        self.series = SeriesTable(self)
        self._nothing = Records.joined([], len(mapping.fields))
        self._views = Views(mapping)
        self._places = Places(self._views, self.counts, max_keys, max_series)
        self._readings = Readings(self._views, self._places, self.counts)
        self._baselines = Baselines(self._views, max_keys, max_series)
        step = round(mapping.interval * 1e9) if mapping.align == "interval" else 0
        self._clock = Clock(round(mapping.lateness * 1e9), step)
        slots = int(np.ceil(mapping.lateness / mapping.interval)) + 1
        self._open = OpenRecords(max_keys, max_series, slots, timed=step > 0)
        self._forget = round(mapping.forget * 1e9)
        self._newest = np.empty(max_keys, np.int64)  # point of each key
        self._closed = np.empty(max_keys, np.int64)  # newest complete record
        self._before = np.empty(max_keys, np.int64)  # last record since the key began
        self._born = np.empty(max_keys, np.int64)  # first time that belongs to it
        self._deadline = np.empty(max_keys)
        self._deadlines: deque[tuple[float, NDArray[np.int64]]] = deque()
        self._now = -np.inf
        self._deltas: dict[int, Deltas] = {}  # by key, of records that are open
        self._number = np.empty(max_keys, np.int64)  # of its records since then
        self._crowded: set[int] = set()
        self._valued = np.zeros(len(mapping.fields), np.bool_)

    def place(self, series: Series) -> int:
        """Return the id of a series, UNMAPPED or REFUSED."""
        keys, count = len(self._places.keys), self._places.count
        placed = self._places.place(series)
        if len(self._places.keys) > keys:
            self._newest[keys] = self._closed[keys] = NEVER
            self._before[keys] = self._born[keys] = NEVER
            self._deadline[keys], self._number[keys] = np.inf, 0
            self._open.place_key(keys)
            self._baselines.place_key(keys)
        if self._places.count > count:
            self._readings.place_series(placed)
            self._open.place_series(placed)
            self._baselines.place_series(placed)
        return placed

    def key(self, slot: int) -> tuple[str, ...]:
        """Return the values of a key's tags."""
        return self._places.keys[slot]

    def slot(self, key: tuple[str, ...]) -> int | None:
        """Return the slot of a key, None if no point of it has come."""
        return self._places.slots.get(key)

    def add(self, points: Points, arrived: float) -> Records:
        """Take points, and return the records that were due by then or are complete with them.

        Args:
            points: of series of `self.series`.
            arrived: seconds since the Unix epoch, by the clock on the wall.
        """
        parts = [self.advance(arrived)]
        self.counts.points += len(points)
        batch = self._grouped(points)
        if batch is not None:
            last = lasts(batch.keys)
            touched = batch.keys[last]
            self._newest[touched] = np.maximum(self._newest[touched], batch.newest[last])
            self._deadline[touched] = self._now + self.mapping.wait
            self._deadlines.append((self._now + self.mapping.wait, touched))
            parts.append(self._close_passed(touched, batch))
        return self._joined(parts)

    def advance(self, now: float) -> Records:
        """Return the records whose deadline has come, in the order of the deadlines."""
        self._now = max(self._now, now)
        due: list[NDArray[np.int64]] = []
        while self._deadlines and self._deadlines[0][0] <= self._now:
            deadline, keys = self._deadlines.popleft()
            due.append(keys[self._deadline[keys] == deadline])
        if not due:
            return self._joined([])
        keys = np.concatenate(due)
        self._deadline[keys] = np.inf
        return self._close_all(keys)

    def finish(self) -> Records:
        """Return all records that are open or held, complete or not."""
        keys = np.arange(len(self._places.keys), dtype=np.int64)
        self._deadlines.clear()
        self._deadline[keys] = np.inf
        return self._joined([self._close_all(keys), self._release([*self._baselines.held])])

    def renew(self, keys: Iterable[int]) -> None:
        """Learn the baseline of keys anew, from their next records."""
        chosen = np.fromiter(keys, np.int64)
        if self._baselines.needed:
            self._baselines.known[chosen] = False

    def follow(self, keys: Iterable[int], share: float) -> None:
        """Move the baseline of keys a share towards their last record."""
        chosen = np.fromiter(keys, np.int64)
        chosen = chosen[self._baselines.known[chosen]]
        if len(chosen):
            series = np.concatenate([self._places.members(key).series for key in chosen])
            now = self._readings.time[series] >= self._clock.starts(
                self._before[self._places.key[series]]
            )
            series = series[now]
            self._baselines.follow(chosen, series, self._readings.value[series], share)

    def findings(self) -> list[str]:
        """Return what is odd about the mapping by the points so far, a line each."""
        keys = len(self._places.keys)
        counts = self._number[:keys]
        lasted = (self._before[:keys] - self._born[:keys] - self._clock.step) / 1e9
        steps = lasted / np.maximum(counts - 1, 1)
        lines = [*about_key(self.mapping, self._places.unkeyed)]
        if self.counts.records:
            lines += about_interval(self.mapping, steps, counts)
            lines += about_fields(self._views, self._readings, self._crowded, self._valued)
        return lines

    def snapshot(self) -> bytes:
        """Return the state as bytes."""
        meta, arrays = self._places.pack()
        meta |= {
            "mapping": self.mapping.fingerprint,
            "slots": self._open.slots,
            "crowded": sorted(self._crowded),
            "now": self._now,
            "counts": asdict(self.counts),
        }
        deltas = self._deltas.values()
        arrays |= {
            **self._arrays(),
            **self._baselines.pack(),
            **pack_tokens(self.series.ids),
            "delta keys": np.array([*self._deltas], np.int64),
            **ragged("delta series", (kept.series for kept in deltas), np.int32),
            **ragged("delta times", (kept.times for kept in deltas), np.int64),
            **ragged("delta values", (kept.values for kept in deltas), np.float64),
        }
        return pack(meta, arrays)

    @classmethod
    def restore(
        cls,
        mapping: Mapping,
        data: bytes,
        *,
        max_keys: int = 100_000,
        max_series: int = 2_000_000,
    ) -> Self:
        """Return an assembler in the state of a snapshot.

        Raises:
            SnapshotError: it is damaged, or was made with another mapping or larger limits.
        """
        meta, arrays = unpack(data, mapping.fingerprint)
        if len(meta["keys"]) > max_keys or meta["series"] > max_series:
            raise SnapshotError(
                f"the snapshot of telemetry holds {len(meta['keys'])} keys and {meta['series']} "
                f"series, and the limits are {max_keys} and {max_series}"
            )
        made = cls(mapping, max_keys=max_keys, max_series=max_series)
        for name, count in meta["counts"].items():
            setattr(made.counts, name, count)
        made._take_up(meta, arrays)
        return made

    def _take_up(self, meta: Mappings[str, Any], arrays: Mappings[str, NDArray[Any]]) -> None:
        self._now, self._crowded = meta["now"], {*meta["crowded"]}
        self._places.unpack(meta, arrays)
        self._open.slots = meta["slots"]
        self._open.place_series(slice(0, self._places.count))
        for name, array in self._arrays().items():
            array[...] = arrays[name]
        self._baselines.unpack(arrays)
        self.series.ids.update(unpack_tokens(arrays))
        parts = [cut(f"delta {name}", arrays) for name in ("series", "times", "values")]
        for key, *columns in zip(arrays["delta keys"].tolist(), *parts, strict=True):
            self._deltas[key] = Deltas(*columns)
        deadline = self._deadline[: len(self._places.keys)]
        for due in np.unique(deadline[deadline < np.inf]):
            self._deadlines.append((float(due), np.flatnonzero(deadline == due)))

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state of all keys and series, to read or to fill."""
        keys, series = len(self._places.keys), self._places.count
        names = "newest", "closed", "before", "born", "number", "deadline"
        return {
            **{name: getattr(self, f"_{name}")[:keys] for name in names},
            "valued": self._valued,
            **self._places.arrays(),
            **self._readings.arrays(series),
            **self._baselines.arrays(keys, series),
            **self._open.arrays(keys, series),
        }

    def _grouped(self, points: Points) -> Batch | None:
        """Return the points that can be used, None if there are none."""
        series, times, values = points.series, points.times, points.values
        ahead = round(min(self._now + self.mapping.ahead, 9e9) * 1e9)
        usable = (series >= 0) & (times >= 0) & (times <= ahead)
        if not usable.all():
            refused = int(np.count_nonzero(series == REFUSED))
            foreign = int(np.count_nonzero(series < 0))
            self.counts.refused += refused
            self.counts.unmapped += foreign - refused
            self.counts.misdated += len(series) - foreign - int(np.count_nonzero(usable))
            series, times, values = series[usable], times[usable], values[usable]
        if not len(series):
            return None
        batch = Batch.of(
            self._clock,
            self._places.key[series],
            (series, times, values),
            self._newest,
            self._closed,
        )
        self.counts.late += batch.late
        return batch if len(batch.keys) else None

    def _close_passed(self, touched: NDArray[np.int64], batch: Batch) -> Records:
        """Close what the newest points have passed, and keep the points of the others."""
        closing = self._clock.closes(batch.records, self._newest[batch.keys])
        groups = np.flatnonzero(closing)
        keys, records = batch.keys[groups], batch.records[groups]
        slots = self._open.find(keys, records)
        waiting = self._open.open(touched)
        passed = self._clock.closes(waiting, self._newest[touched, None]) & (waiting != NEVER)
        found = slots > 0
        passed[np.searchsorted(touched, keys[found]), slots[found] - 1] = False
        row, slot = np.nonzero(passed)
        parts = self._close(
            np.concatenate([keys, touched[row]]),
            np.concatenate([records, waiting[row, slot]]),
            np.concatenate([slots, slot + 1]),
            np.concatenate([groups, np.full(len(row), -1)]),
            batch,
        )
        rest = np.flatnonzero(~closing)
        slots = self._open.claim(batch.keys[rest], batch.records[rest], self._places.count)
        self.counts.crowded += int(batch.sizes[rest[slots == 0]].sum())
        self._write(batch, rest[slots > 0], slots[slots > 0])
        return parts

    def _close_all(self, keys: NDArray[np.int64]) -> Records:
        """Close all open records of keys, which come in this order."""
        waiting = self._open.open(keys)
        row, slot = np.nonzero(waiting != NEVER)
        return self._close(
            keys[row], waiting[row, slot], slot + 1, np.full(len(row), -1), None, order=keys
        )

    def _write(self, batch: Batch, groups: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
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
        self.counts.repeated += self._open.write(slots, series, times, values)

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
            self.counts.repeated += repeated
            at = np.full(len(sums), slot)
            self._open.write(at, sums.series, sums.times, sums.values)

    def _close(
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
            return self._nothing
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
                self._write(batch, groups[rows[given]], slots[rows[given]])
            parts += self._wave(keys[rows], records[rows], slots[rows])
        made = self._joined(parts)
        rank = made.keys.astype(np.int64)
        if order is not None:
            place = np.empty(len(self._places.keys), np.int64)
            place[order] = np.arange(len(order))
            rank = place[rank]
        if (rank[1:] > rank[:-1]).all():
            return made
        return made.take(np.lexsort((made.times, rank)))

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
        sizes = np.array([len(member.series) for member in members])
        series = np.concatenate([member.series for member in members], dtype=np.intp)
        values = self._read(keys, records, slots, series, sizes)
        self._before[keys] = records
        self._closed[keys] = np.maximum(self._closed[keys], records)
        known = self._baselines.known[keys]
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
        raw, times = self._open.take(np.repeat(slots, sizes), series)
        self._open.release(keys, slots)
        moment = Moment(times, records, self._before[keys], self._born[keys], sizes)
        values = self._readings.read(series, raw, moment)
        self._baselines.remember(series, values)
        return values

    def _made(
        self, keys: NDArray[np.int64], records: NDArray[np.int64], entries: Entries
    ) -> Records:
        matrix, values = self._baselines.fields(keys, entries)
        self._note(values)
        return self._counted(keys, records, matrix, learning=False)

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
            if self._baselines.hold(int(keys[row]), int(records[row]), series, own):
                enough.append(int(keys[row]))
        return self._release(enough)

    def _release(self, keys: list[int]) -> Records:
        """Make the baseline of keys from their held records, and return these."""
        if not keys:
            return self._joined([])
        members = [self._places.members(key) for key in keys]
        slots, times, matrix, values = self._baselines.learn(keys, members)
        self._note(values)
        return self._counted(slots, times, matrix, learning=True)

    def _begin_anew(self, keys: NDArray[np.int64]) -> Records:
        """Forget what keys were, after a long silence."""
        released = self._release([key for key in keys.tolist() if key in self._baselines.held])
        for key in keys.tolist():
            self._baselines.place_key(key)
        self._before[keys] = NEVER
        self.counts.anew += len(keys)
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
        sufficient = present >= self.mapping.required * matrix.shape[1]
        self.counts.records += len(keys)
        self.counts.insufficient += int(np.count_nonzero(~sufficient))
        return Records(
            keys.astype(np.int32), records / 1e9, matrix, np.full(len(keys), learning), sufficient
        )

    def _joined(self, parts: list[Records]) -> Records:
        parts = [part for part in parts if len(part)]
        if not parts:
            return self._nothing
        return Records.joined(parts, len(self.mapping.fields))


def _ends(sizes: NDArray[np.int64]) -> list[int]:
    """Return where waves of some sizes end, and within them where pieces that fit a cache end."""
    ends, start = [], 0
    for size in sizes.tolist():
        ends += [*range(start + _PIECE, start + size, _PIECE), start + size]
        start += size
    return ends
