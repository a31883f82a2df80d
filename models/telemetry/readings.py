"""What a series says in a record: its level, its rate, or why it has none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.telemetry.aggregation import LACKING, RATELESS, SILENT
from models.telemetry.counters import increases
from models.telemetry.mapping import is_text, meanings
from models.telemetry.open_records import NEVER
from models.telemetry.places import Places
from models.telemetry.records import Counts
from models.telemetry.views import Views

__all__ = ["Moment", "Readings"]

_ENOUGH = 1_000_000
"""Steps of gauges that are counted."""


@dataclass(frozen=True, slots=True)
class Moment:
    """When records are read; the series of one record come after those of another.

    Attributes:
        points: time of each series' point, None if it is that of the record: int64 [n].
        records: nanoseconds: int64 [records].
        before: times of the records before, of the same keys, NEVER without one.
        born: times at which the keys began.
        sizes: number of series of each record.
    """

    points: NDArray[np.int64] | None
    records: NDArray[np.int64]
    before: NDArray[np.int64]
    born: NDArray[np.int64]
    sizes: NDArray[np.int64]

    def of_series(self, times: NDArray[np.int64]) -> NDArray[np.int64]:
        """Return times of records for each of their series."""
        return np.repeat(times, self.sizes)


class Readings:
    """The last value of every series, and what the next says.

    Attributes:
        value: last value of each series: float64 [max_series].
        time: of that value, nanoseconds, NEVER if it has none that counts: int64 [max_series].
        rises: steps up of the gauges of each view: int64 [views].
        falls: steps down.
    """

    def __init__(self, views: Views, places: Places, counts: Counts) -> None:
        self._places, self._counts = places, counts
        mapping = views.mapping
        stale = 3 * mapping.interval if mapping.stale is None else mapping.stale
        self._stale = round(stale * 1e9)
        kinds = [reading.kind for reading in views.readings]
        self._is_counter = np.array([kind == "counter" for kind in kinds])
        self._bits = np.array([reading.bits for reading in views.readings], np.int64)
        self._states = [
            (number, _numbers(dict(reading.states)))
            for number, reading in enumerate(views.readings)
            if reading.states
        ]
        self._has_states = np.array([bool(reading.states) for reading in views.readings])
        codes = {code for _, (sent, _) in self._states for code in sent.tolist()}
        self._texts = np.array([code for code in codes if is_text(code)])
        self.value = np.empty(places.max_series)
        self.time = np.empty(places.max_series, np.int64)
        self.rises = np.zeros(len(views.views), np.int64)
        self.falls = np.zeros(len(views.views), np.int64)
        self._steps = 0

    def place_series(self, series: int) -> None:
        """Begin a series."""
        self.time[series] = NEVER

    def arrays(self, series: int) -> dict[str, NDArray[Any]]:
        """Return the state of so many series, to read or to fill."""
        return {
            "last value": self.value[:series],
            "last time": self.time[:series],
            "rises": self.rises,
            "falls": self.falls,
        }

    def read(
        self, series: NDArray[np.intp], raw: NDArray[np.float64], moment: Moment
    ) -> NDArray[np.float64]:
        """Return the value of each series, SILENT, LACKING or RATELESS, and remember it.

        Args:
            series: each one once.
            raw: NaN where no point came, infinite where the series ended.
            moment: when that was.
        """
        last, reading = self.time[series], self._places.reading[series]
        finite, goes_on = np.isfinite(raw), last >= moment.of_series(moment.born)
        times = moment.of_series(moment.records) if moment.points is None else moment.points
        delta = self._places.delta[series] if self._places.deltas else np.zeros(1, np.bool_)
        values = raw.copy()
        if not finite.all():
            fresh = last >= moment.of_series(moment.records) - self._stale
            lacking = np.isnan(raw) & goes_on & ~delta & fresh
            self._counts.missing += int(np.count_nonzero(lacking))
            values[~finite] = SILENT
            values[lacking] = LACKING
        counter = self._is_counter[reading] & finite
        before = self.value[series]
        with np.errstate(invalid="ignore", over="ignore"):  # of series that had none
            step = raw - before
        self._count_steps(series, step, finite & goes_on & ~counter)
        running = np.flatnonzero(counter & goes_on & ~delta)
        values[counter] = RATELESS
        rise = self._risen(before[running], step[running], reading[running])
        with np.errstate(over="ignore"):
            rate = rise / ((times[running] - last[running]) / 1e9)
        values[running] = np.where(np.isfinite(rate), rate, RATELESS)
        if self._places.deltas:
            since = moment.of_series(moment.records - moment.before) / 1e9
            increase = np.flatnonzero(counter & delta & (moment.of_series(moment.before) != NEVER))
            with np.errstate(over="ignore"):
                rate = raw[increase] / since[increase]
            values[increase] = np.where(np.isfinite(rate), rate, RATELESS)
        for number, (sent, meant) in self._states:
            of = np.flatnonzero((reading == number) & finite)
            at = np.minimum(np.searchsorted(sent, raw[of]), len(sent) - 1)
            values[of] = np.where(sent[at] == raw[of], meant[at], RATELESS)
        if len(self._texts):  # to a field without states, text says nothing
            alien = finite & ~self._has_states[reading]
            alien &= np.isin(raw, self._texts)
            values[alien] = RATELESS
            finite &= ~alien
        self._remember(series, raw, times, finite)
        return values

    def _risen(
        self, before: NDArray[np.float64], step: NDArray[np.float64], reading: NDArray[np.int16]
    ) -> NDArray[np.float64]:
        """Return the increase of counters, NaN where they were reset."""
        risen, resets, wraps = increases(before, step, self._bits[reading])
        self._counts.resets += resets
        self._counts.wraps += wraps
        return risen

    def _count_steps(
        self, series: NDArray[np.intp], step: NDArray[np.float64], which: NDArray[np.bool_]
    ) -> None:
        """Count rises and falls of gauges, until there are enough to tell them from counters."""
        if self._steps < _ENOUGH:
            views, step = self._places.view[series[which]], step[which]
            self._steps += len(step)
            self.rises += np.bincount(views[step > 0], minlength=len(self.rises))
            self.falls += np.bincount(views[step < 0], minlength=len(self.falls))

    def _remember(
        self,
        series: NDArray[np.intp],
        raw: NDArray[np.float64],
        times: NDArray[np.int64],
        finite: NDArray[np.bool_],
    ) -> None:
        if not finite.all():
            ended = series[np.isinf(raw)]
            self.time[ended] = NEVER
            self._counts.ended += len(ended)
            series, raw, times = series[finite], raw[finite], times[finite]
        self.value[series], self.time[series] = raw, times


def _numbers(states: dict[str, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the numbers that states are sent as, ascending, and what they mean."""
    meant = meanings(states)
    sent = sorted(meant)
    return np.array(sent), np.array([meant[code] for code in sent])
