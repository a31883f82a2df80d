"""The assembler: metric points become the records of a model.

The same points give the same records to the bit, however they are split into bodies, and in any
order within the lateness that the mapping allows.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Sequence
from collections.abc import Mapping as Mappings
from dataclasses import asdict
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from models.telemetry.batch import Batch, Clock
from models.telemetry.findings import about_key
from models.telemetry.mapping import Mapping
from models.telemetry.open_records import NEVER
from models.telemetry.places import Places
from models.telemetry.points import ELSEWHERE, REFUSED, Points, Series, SeriesTable
from models.telemetry.records import Counts, Records
from models.telemetry.runs import lasts
from models.telemetry.share import Share
from models.telemetry.snapshot import SnapshotError, pack, pack_tokens, unpack, unpack_tokens
from models.telemetry.views import Views
from models.telemetry.waves import Waves

__all__ = ["Assembler"]


class Assembler:
    """Holds the state of all keys, takes points and returns the records that they complete.

    Args:
        mapping: what to make of points.
        max_keys: keys beyond it are refused.
        max_series: series beyond it are refused.
        share: of the keys; points of others are counted and left out.

    Attributes:
        mapping: as given.
        series: ids of series, for receivers.
        counts: what became of the points.
    """

    def __init__(
        self,
        mapping: Mapping,
        *,
        max_keys: int = 100_000,
        max_series: int = 2_000_000,
        share: Share = Share(),  # noqa: B008 - it cannot change
    ) -> None:
        self.mapping = mapping
        self.counts = Counts()
        self.series = SeriesTable(self, mapping.state)
        self._views = Views(mapping)
        self._places = Places(self._views, self.counts, max_keys, max_series, share)
        step = round(mapping.interval * 1e9) if mapping.align == "interval" else 0
        self._clock = Clock(round(mapping.lateness * 1e9), step)
        self._waves = Waves(self._views, self._places, self.counts, self._clock)
        self._newest = np.empty(max_keys, np.int64)  # point of each key
        self._deadline = np.empty(max_keys)  # of its open records
        self._strays = np.zeros(max_keys, np.int64)  # points, late or misdated
        self._deadlines: deque[tuple[float, NDArray[np.int64]]] = deque()
        self._now = -np.inf

    def place(self, series: Series) -> int:
        """Return the id of a series, UNMAPPED, REFUSED or ELSEWHERE."""
        keys, count = len(self._places.keys), self._places.count
        placed = self._places.place(series)
        if len(self._places.keys) > keys:
            self._newest[keys], self._deadline[keys] = NEVER, np.inf
            self._waves.place_key(keys)
        if self._places.count > count:
            self._waves.place_series(placed)
        return placed

    @property
    def now(self) -> float:
        """The latest time that it was told, in seconds; minus infinity before the first."""
        return self._now

    @property
    def is_new(self) -> bool:
        """Whether no key has come yet: there is no state to keep."""
        return not self._places.keys

    def key(self, slot: int) -> tuple[str, ...]:
        """Return the values of a key's tags."""
        return self._places.keys[slot]

    @property
    def keys(self) -> Sequence[tuple[str, ...]]:
        """All keys that points have come of, by slot."""
        return self._places.keys

    def add(self, points: Points, arrived: float) -> Records:
        """Take points, and return the records that were due by then or are complete with them.

        Args:
            points: of series of `self.series`.
            arrived: seconds since the Unix epoch, by the clock on the wall.
        """
        parts = [self.advance(arrived)]
        self.counts.points += len(points)
        if self.mapping.clock == "arrival":
            times = np.full(len(points), round(self._now * 1e9), np.int64)
            points = Points(points.series, times, points.values)
        batch = self._grouped(points)
        if batch is not None:
            last = lasts(batch.keys)
            touched = batch.keys[last]
            self._newest[touched] = np.maximum(self._newest[touched], batch.newest[last])
            self._deadline[touched] = self._now + self.mapping.wait
            self._deadlines.append((self._now + self.mapping.wait, touched))
            parts.append(self._close_passed(touched, batch))
        return self._waves.joined(parts)

    def advance(self, now: float) -> Records:
        """Return the records whose deadline has come, in the order of the deadlines."""
        self._now = max(self._now, now)
        due: list[NDArray[np.int64]] = []
        while self._deadlines and self._deadlines[0][0] <= self._now:
            deadline, keys = self._deadlines.popleft()
            keys = keys[self._deadline[keys] == deadline]  # of others, points have come since
            self._deadline[keys] = np.inf
            due.append(keys)
        return self._close_all(np.concatenate(due)) if due else self._waves.nothing

    def set_back(self, now: float) -> Records:
        """Go on from an earlier time, as the clock on the wall was wrong.

        Where points have the times of their arrival, or times that are ahead now, all that is open
        is closed, and the next record of each key follows none: there is no time between them.
        """
        are_wrong = self.mapping.clock == "arrival" or self.is_ahead(now)
        by, self._now = now - self._now, now
        if not are_wrong:
            self._deadline[: len(self._places.keys)] += by
            self._deadlines = deque((due + by, keys) for due, keys in self._deadlines)
            return self._waves.nothing
        records = self._close_open()
        self._newest[: len(self._places.keys)] = NEVER
        self._waves.forget_times()
        return records

    def is_ahead(self, now: float) -> bool:
        """Return whether points have come that would be dated too far ahead by now."""
        newest = self._newest[: len(self._places.keys)]
        return bool(newest.max(initial=NEVER) > round((now + self.mapping.ahead) * 1e9))

    def finish(self) -> Records:
        """Return all records that are open or held, complete or not."""
        return self._waves.joined(
            [self._close_open(), self._waves.release([*self._waves.baselines.held])]
        )

    def renew(self, keys: Iterable[int]) -> None:
        """Learn the baseline of keys anew, from their next records."""
        if self._waves.baselines.needed:
            self._waves.baselines.known[np.fromiter(keys, np.int64)] = False

    def judge_by(self, is_good: Callable[[Records], NDArray[np.bool_]]) -> None:
        """Let baselines follow the records that are good, by the share that the mapping says.

        Args:
            is_good: tells which of some records are: bool [n].
        """
        self._waves.is_good = is_good

    def strays(self) -> dict[tuple[str, ...], int]:
        """Return keys that had points late or misdated, with their number: clocks may be wrong."""
        slots = np.flatnonzero(self._strays[: len(self._places.keys)]).tolist()
        return {self.key(slot): int(self._strays[slot]) for slot in slots}

    def findings(self) -> list[str]:
        """Return what is odd about the mapping by the points so far, a line each."""
        lines = [*about_key(self.mapping, self._places.unkeyed)]
        return lines + self._waves.findings() if self.counts.records else lines

    def snapshot(self) -> bytes:
        """Return the state as bytes."""
        placed, arrays = self._places.pack()
        made, more = self._waves.pack()
        meta = {
            **placed,
            **made,
            "mapping": self.mapping.fingerprint,
            "now": self._now,
            "counts": asdict(self.counts),
        }
        return pack(meta, {**arrays, **more, **self._arrays(), **pack_tokens(self.series.ids)})

    @classmethod
    def restore(
        cls,
        mapping: Mapping,
        data: bytes,
        *,
        max_keys: int = 100_000,
        max_series: int = 2_000_000,
        share: Share = Share(),  # noqa: B008 - it cannot change
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
        made = cls(mapping, max_keys=max_keys, max_series=max_series, share=share)
        for name, count in meta["counts"].items():
            setattr(made.counts, name, count)
        try:
            made._take_up(meta, arrays)
        except (KeyError, ValueError, IndexError) as error:  # of a version that kept other things
            raise SnapshotError(f"the snapshot of telemetry does not fit: {error}") from error
        return made

    def _take_up(self, meta: Mappings[str, Any], arrays: Mappings[str, NDArray[Any]]) -> None:
        self._now = meta["now"]
        self._places.unpack(meta, arrays)
        self._waves.unpack(meta, arrays)
        for name, array in self._arrays().items():
            array[...] = arrays[name]
        self.series.ids.update(self._own(unpack_tokens(arrays)))
        deadline = self._deadline[: len(self._places.keys)]
        for due in np.unique(deadline[deadline < np.inf]):
            self._deadlines.append((float(due), np.flatnonzero(deadline == due)))

    def _own(self, ids: dict[Hashable, int]) -> dict[Hashable, int]:
        """Return the series without those that are placed anew: the share may be another one."""
        places = self._places
        own = [places.owns(key) for key in places.keys]
        return {
            token: id_
            for token, id_ in ids.items()
            if (own[places.key[id_]] if id_ >= 0 else id_ != ELSEWHERE)
        }

    def _arrays(self) -> dict[str, NDArray[Any]]:
        """Return the state of all keys and series, to read or to fill."""
        keys = len(self._places.keys)
        own: dict[str, NDArray[Any]] = {
            "newest": self._newest[:keys],
            "deadline": self._deadline[:keys],
            "strays": self._strays[:keys],
        }
        return {**own, **self._places.arrays(), **self._waves.arrays()}

    def _grouped(self, points: Points) -> Batch | None:
        """Return the points that can be used, None if there are none."""
        series, times, values = points.series, points.times, points.values
        ahead = round(min(self._now + self.mapping.ahead, 9e9) * 1e9)
        usable = (series >= 0) & (times >= 0) & (times <= ahead)
        if not usable.all():
            refused = int(np.count_nonzero(series == REFUSED))
            elsewhere = int(np.count_nonzero(series == ELSEWHERE))
            misdated = series[(series >= 0) & ~usable]
            self.counts.refused += refused
            self.counts.elsewhere += elsewhere
            self.counts.unmapped += int(np.count_nonzero(series < 0)) - refused - elsewhere
            self.counts.misdated += len(misdated)
            np.add.at(self._strays, self._places.key[misdated], 1)
            series, times, values = series[usable], times[usable], values[usable]
        if not len(series):
            return None
        batch = Batch.of(
            self._clock,
            self._places.key[series],
            (series, times, values),
            self._newest,
            self._waves.closed,
        )
        if len(batch.late):
            self.counts.late += len(batch.late)
            np.add.at(self._strays, batch.late, 1)
        return batch if len(batch.keys) else None

    def _close_passed(self, touched: NDArray[np.int64], batch: Batch) -> Records:
        """Close what the newest points have passed, and keep the points of the others."""
        closing = self._clock.closes(batch.records, self._newest[batch.keys])
        waiting = self._waves.open.open(touched)
        passed = self._clock.closes(waiting, self._newest[touched, None]) & (waiting != NEVER)
        made = self._waves.nothing
        if closing.any() or passed.any():
            made = self._close(touched, waiting, passed, batch, np.flatnonzero(closing))
        if not closing.all():
            rest = np.flatnonzero(~closing)
            keys, records = batch.keys[rest], batch.records[rest]
            slots = self._waves.open.claim(keys, records, self._places.count)
            self.counts.crowded += int(batch.sizes[rest[slots == 0]].sum())
            self._waves.write(batch, rest[slots > 0], slots[slots > 0])
        return made

    def _close(
        self,
        touched: NDArray[np.int64],
        waiting: NDArray[np.int64],
        passed: NDArray[np.bool_],
        batch: Batch,
        groups: NDArray[np.intp],
    ) -> Records:
        """Close groups of a batch, and open records that are passed.

        Args:
            touched: keys of the batch.
            waiting: times of their open records: int64 [keys, slots].
            passed: which of these close: bool [keys, slots].
            batch: with the groups.
            groups: that close.
        """
        keys, records = batch.keys[groups], batch.records[groups]
        slots = self._waves.open.find(keys, records)
        found = slots > 0
        passed[np.searchsorted(touched, keys[found]), slots[found] - 1] = False
        row, slot = np.nonzero(passed)
        return self._waves.close(
            np.concatenate([keys, touched[row]]),
            np.concatenate([records, waiting[row, slot]]),
            np.concatenate([slots, slot + 1]),
            np.concatenate([groups, np.full(len(row), -1)]),
            batch,
        )

    def _close_open(self) -> Records:
        """Close all open records of every key: nothing is waited for."""
        keys = np.arange(len(self._places.keys), dtype=np.int64)
        self._deadlines.clear()
        self._deadline[keys] = np.inf
        return self._close_all(keys)

    def _close_all(self, keys: NDArray[np.int64]) -> Records:
        """Close all open records of keys, which come in this order."""
        waiting = self._waves.open.open(keys)
        row, slot = np.nonzero(waiting != NEVER)
        return self._waves.close(
            keys[row], waiting[row, slot], slot + 1, np.full(len(row), -1), None, order=keys
        )
