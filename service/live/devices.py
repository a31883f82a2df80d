"""The latest record of each device, and its last hour."""

from __future__ import annotations

from typing import Final

import numpy as np
import numpy.typing as npt

from service.live.records import Batch, Indices
from service.live.verdicts import STATES

__all__ = ["HISTORY", "KEPT_SECONDS", "Devices", "HistoryRows"]

HISTORY: Final = 720
"""Records of a device that are kept: an hour at one in five seconds."""
KEPT_SECONDS: Final = 3600
_BLOCK = 256
"""Devices whose history is taken from the system at once."""
_LATEST = np.dtype(
    [
        *(("time", "f8"), ("since", "f8"), ("seen", "f8"), ("n", "i8"), ("count", "i8")),
        *(("code", "u2"), ("state", "u1"), ("distance", "f4"), ("confidence", "f4")),
        *(("changed", "u1"), ("silent", "?")),
    ]
)
_OTHERS = [
    *(("time", "f8"), ("code", "u2"), ("state", "u1")),
    *(("distance", "f2"), ("confidence", "f2")),
]
# 19 bytes a record: 137 MB for 10,000 devices of 720 records each. Of a number the last 32 bits
# are kept: the records of an hour are never so many.
_RECORD, _HISTORY_ROW = np.dtype([("n", "u4"), *_OTHERS]), np.dtype([("n", "i8"), *_OTHERS])
_BITS = (1 << 32) - 1
_SILENT = len(STATES)
_REFRESHED, _CHANGED = 1, 2
HistoryRows = npt.NDArray[np.void]


class Devices:
    """What is kept of devices; one thread writes, under the lock of who reads.

    Args:
        limit: of devices. Beyond it, a new one takes the place of one that is silent for an hour,
            or is not kept.

    Attributes:
        slots: of each key, in the order of their first records.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self.slots: dict[str, int] = {}
        self._keys: list[str] = []
        self._free: list[int] = []
        self._swept = -np.inf
        self._latest = np.zeros(min(_BLOCK, limit), _LATEST)
        self._history: list[HistoryRows] = []
        self._turn = 0

    def add(self, batch: Batch, numbers: Indices, now: float) -> None:
        """Take records of devices, those of each in the order of time.

        Args:
            batch: with a key for each.
            numbers: of the records.
            now: seconds since the epoch.
        """
        slots = np.fromiter((self._slot(str(key), now) for key in batch.keys), np.int64, len(batch))
        rows = np.argsort(slots, kind="stable")
        rows = rows[np.searchsorted(slots[rows], 0) :]  # those without a place come first
        if not len(rows):
            return
        at = slots[rows]
        begins = np.flatnonzero(np.r_[True, at[1:] != at[:-1]])
        ends = np.r_[begins[1:], len(at)] - 1
        which, counts = at[begins], ends - begins + 1
        self._note_changes(batch, rows, at, begins)
        self._remember(batch, numbers, rows, at, begins, counts)
        last, latest = rows[ends], self._latest
        latest["time"][which], latest["n"][which] = batch.times[last], numbers[last]
        latest["code"][which], latest["state"][which] = batch.codes[last], batch.states[last]
        latest["distance"][which] = batch.decisions.distance[last]
        latest["confidence"][which] = batch.decisions.confidence[last]
        latest["seen"][which], latest["silent"][which] = now, False
        latest["count"][which] += counts

    def mark_silent(self, before: float) -> None:
        """Mark those as silent from which nothing was seen since a time."""
        latest = self._latest[: len(self._keys)]
        silent = (latest["seen"] < before) & ~latest["silent"]
        latest["silent"][silent], latest["changed"][silent] = True, _CHANGED

    def mark(self, keys: set[str]) -> None:
        """Mark devices as changed."""
        for key in keys & self.slots.keys():
            self._latest["changed"][self.slots[key]] = _CHANGED

    def take_changed(self, changed: int, refreshed: int) -> list[str]:
        """Return keys whose state changed, and in turn some of those with newer records.

        Args:
            changed: how many of the former, at most.
            refreshed: of the latter.
        """
        marks = self._latest["changed"]
        first = np.flatnonzero(marks == _CHANGED)[:changed]
        others = np.flatnonzero(marks == _REFRESHED)
        others = np.roll(others, -int(np.searchsorted(others, self._turn)))[:refreshed]
        if len(others):
            self._turn = int(others[-1]) + 1
        chosen = np.concatenate([first, others])
        marks[chosen] = 0
        return [self._keys[slot] for slot in chosen.tolist()]

    def rows(self, keys: list[str]) -> list[tuple[str, int, int, float, float, float, float]]:
        """Return key, verdict, state, since, time, distance and confidence of devices.

        The state is an index into `STATES`, or one more if it is silent.
        """
        latest = self._latest[[self.slots[key] for key in keys]] if keys else self._latest[:0]
        states = np.where(latest["silent"], _SILENT, latest["state"])
        columns = (
            latest["code"],
            states,
            np.where(latest["silent"], latest["time"], latest["since"]).round(3),
            latest["time"].round(3),
            latest["distance"].astype(np.float64).round(6),
            latest["confidence"].astype(np.float64).round(4),
        )
        return [*zip(keys, *(column.tolist() for column in columns), strict=True)]

    def history(self, key: str) -> HistoryRows:
        """Return the records of a device's last hour, oldest first."""
        slot = self.slots[key]
        count = int(self._latest["count"][slot])
        rows = self._history[slot // _BLOCK][slot % _BLOCK]
        rows = rows[:count] if count < HISTORY else np.roll(rows, -(count % HISTORY))
        rows = rows[rows["time"] > self._latest["time"][slot] - KEPT_SECONDS]
        copied: HistoryRows = rows.astype(_HISTORY_ROW)
        latest = int(self._latest["n"][slot])
        copied["n"] = latest - ((latest - copied["n"]) & _BITS)
        return copied

    def _slot(self, key: str, now: float) -> int:
        """Return the place of a device, -1 if there is none."""
        slot = self.slots.get(key)
        if slot is not None:
            return slot
        if len(self.slots) >= self._limit:
            self._sweep(now)
        if len(self.slots) >= self._limit:
            return -1
        if self._free:
            slot = self._free.pop()
            self._keys[slot] = key
        else:
            slot = len(self._keys)
            self._keys.append(key)
        self.slots[key] = slot
        if slot >= len(self._latest):
            room = min(2 * len(self._latest), self._limit)
            self._latest = np.concatenate(
                [self._latest, np.zeros(room - len(self._latest), _LATEST)]
            )
        if slot // _BLOCK >= len(self._history):
            self._history.append(np.zeros((_BLOCK, HISTORY), _RECORD))
        self._latest[slot] = 0
        self._latest["since"][slot] = np.nan
        return slot

    def _sweep(self, now: float) -> None:
        """Forget devices that are silent for an hour; once a minute at most."""
        if now - self._swept < 60:
            return
        self._swept = now
        seen = self._latest["seen"]
        gone = [key for key, slot in self.slots.items() if seen[slot] < now - KEPT_SECONDS]
        for key in gone:
            slot = self.slots.pop(key)
            self._latest[slot] = 0
            self._latest["silent"][slot] = True
            self._free.append(slot)

    def _note_changes(self, batch: Batch, rows: Indices, at: Indices, begins: Indices) -> None:
        """Note since when devices have their verdict; rows are sorted by device, then by time."""
        latest = self._latest
        codes = batch.codes[rows].astype(np.int64) << 8 | batch.states[rows]
        before = np.r_[0, codes[:-1]]
        first = at[begins]
        before[begins] = latest["code"][first].astype(np.int64) << 8 | latest["state"][first]
        changes = codes != before
        changes[begins] |= np.isnan(latest["since"][first])
        latest["changed"][at] = np.maximum(latest["changed"][at], _REFRESHED)
        latest["changed"][at[changes]] = _CHANGED
        latest["changed"][first[latest["silent"][first]]] = _CHANGED
        latest["since"][at[changes]] = batch.times[rows[changes]]  # of several, the last stays

    def _remember(
        self,
        batch: Batch,
        numbers: Indices,
        rows: Indices,
        at: Indices,
        begins: Indices,
        counts: Indices,
    ) -> None:
        """Add records to the histories; of more than fit in, the last stay."""
        ordinal = np.arange(len(at)) - np.repeat(begins, counts)
        last = ordinal >= np.repeat(counts, counts) - HISTORY
        at, rows, ordinal = at[last], rows[last], ordinal[last]
        records = np.empty(len(at), _RECORD)
        records["n"], records["time"] = numbers[rows] & _BITS, batch.times[rows]
        records["code"], records["state"] = batch.codes[rows], batch.states[rows]
        records["distance"] = batch.decisions.distance[rows]
        records["confidence"] = batch.decisions.confidence[rows]
        places = (self._latest["count"][at] + ordinal) % HISTORY
        blocks = at // _BLOCK
        for block in np.unique(blocks):
            here = blocks == block
            self._history[block][at[here] % _BLOCK, places[here]] = records[here]
