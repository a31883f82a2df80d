"""Records that are still open: the values that have come for them, by series."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.telemetry.runs import firsts, lasts

__all__ = ["NEVER", "OpenRecords"]

NEVER = -(1 << 62)
"""A time before all others, from which a lateness can be taken without overflow."""
_MORE = 8
"""Slots beyond those that the lateness needs, taken when records are closer than the interval;
then a key is crowded."""


class OpenRecords:
    """A few slots for each key, and in each a value for each of its series.

    Slot 0 is nobody's: it holds records that come and go in one step.

    Attributes:
        slots: number of slots beside slot 0; grows when a key needs more.
        times: time of the record in each slot of a key, NEVER if free: int64 [max_keys, most].
    """

    def __init__(self, max_keys: int, max_series: int, slots: int, *, timed: bool) -> None:
        self.slots, self._most = slots, slots + _MORE
        self._timed, self._series = timed, max_series
        self.times = np.empty((max_keys, self._most), np.int64)
        self._values = np.empty((self._most + 1, max_series))
        self._at = np.empty((self._most + 1, max_series) if timed else (0, 0), np.int64)

    def place_key(self, key: int) -> None:
        """Begin a key."""
        self.times[key] = NEVER

    def place_series(self, series: int | slice) -> None:
        """Begin a series, or some."""
        self._values[: self.slots + 1, series] = np.nan

    def arrays(self, keys: int, series: int) -> dict[str, NDArray[Any]]:
        """Return the state of so many keys and series, to read or to fill."""
        slots = slice(1, self.slots + 1)
        return {
            "open": self.times[:keys],
            "open values": self._values[slots, :series],
            "open times": self._at[slots, : series if self._timed else 0],
        }

    def find(self, keys: NDArray[np.int64], records: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the slots of open records, 0 for those that have none."""
        here = self.times[keys, : self.slots] == records[:, None]
        return np.where(here.any(axis=1), here.argmax(axis=1) + 1, 0)

    def claim(
        self, keys: NDArray[np.int64], records: NDArray[np.int64], series: int
    ) -> NDArray[np.int64]:
        """Return the slots of records, which are given one if they have none; 0 if none is free.

        Args:
            keys: of each record, never decreasing.
            records: their times, of which those of a key differ.
            series: number of series that there are.
        """
        slots = self.find(keys, records)
        new = np.flatnonzero(slots == 0)
        while len(new):
            one = firsts(keys[new])  # of each key at a time
            first = new[one]
            free = self.times[keys[first], : self.slots] == NEVER
            has = free.any(axis=1)
            if not has.all() and self.slots < self._most:
                self.slots += 1
                self._values[self.slots, :series] = np.nan
                continue
            found = first[has]
            slots[found] = free.argmax(axis=1)[has] + 1
            self.times[keys[found], slots[found] - 1] = records[found]
            new = new[~one]
        return slots

    def release(self, keys: NDArray[np.int64], slots: NDArray[np.int64]) -> None:
        """Free slots."""
        held = slots > 0
        self.times[keys[held], slots[held] - 1] = NEVER

    def open(self, keys: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return the times of open records, NEVER where a slot is free: int64 [keys, slots]."""
        return self.times[keys, : self.slots]

    def write(
        self,
        slots: NDArray[np.int64],
        series: NDArray[np.int32],
        times: NDArray[np.int64],
        values: NDArray[np.float64],
    ) -> int:
        """Put points into records; of a series the last counts. Returns how many were there before.

        Args:
            slots: of each point's record: int64 [n].
            series: of each point: int32 [n].
            times: nanoseconds: int64 [n].
            values: NaN and infinite end a series: float64 [n].
        """
        cells = slots * self._series + series
        flat = self._values.reshape(-1)
        finite = np.isfinite(values)
        if not finite.all():
            values = np.where(finite, values, np.inf)
        if self._timed:
            return self._write_timed(cells, times, values)
        numbers = np.arange(len(cells), dtype=np.float64)
        vacant = np.isnan(flat[cells])
        flat[cells] = numbers
        last = flat[cells] == numbers
        flat[cells[last]] = values[last]
        return len(cells) - int(np.count_nonzero(vacant & last))

    def _write_timed(
        self, cells: NDArray[np.int64], times: NDArray[np.int64], values: NDArray[np.float64]
    ) -> int:
        """Put points into records by their times: the one with the last time counts."""
        flat, at = self._values.reshape(-1), self._at.reshape(-1)
        order = np.lexsort((times, cells)) if len(np.unique(cells)) < len(cells) else slice(None)
        cells, times, values = cells[order], times[order], values[order]
        there, before = ~np.isnan(flat[cells]), at[cells]
        again = there & (times == before)
        again[1:] |= (cells[1:] == cells[:-1]) & (times[1:] == times[:-1])
        last = lasts(cells)
        newer = last & (~there | (times >= before))
        flat[cells[newer]], at[cells[newer]] = values[newer], times[newer]
        return int(np.count_nonzero(again))

    def take(
        self, slots: NDArray[np.int64], series: NDArray[np.intp]
    ) -> tuple[NDArray[np.float64], NDArray[np.int64] | None]:
        """Return the values of series in their records, NaN where there is none, and take them out.

        The second array holds their times, where these are not the record's.
        """
        cells = slots * self._series + series
        values = self._values.reshape(-1)[cells]
        self._values.reshape(-1)[cells] = np.nan
        return values, self._at.reshape(-1)[cells] if self._timed else None
