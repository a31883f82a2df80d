"""What a series says in a record: its level, its rate, or why it has none."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.telemetry.aggregation import LACKING, RATELESS, SILENT, VALUE
from models.telemetry.counters import increases
from models.telemetry.open_records import NEVER
from models.telemetry.places import Places
from models.telemetry.records import Counts
from models.telemetry.views import Views

__all__ = ["Moment", "Readings"]


class Moment:
    """Where series stand when their records are read: one value of each for each series.

    Attributes:
        times: of the points, or of the records where none came, nanoseconds: int64 [n].
        records: times of the records.
        before: times of the records before, of the same keys, NEVER without one.
        born: times at which the keys began.
    """

    __slots__ = ("before", "born", "records", "times")

    def __init__(
        self,
        times: NDArray[np.int64] | None,
        records: NDArray[np.int64],
        before: NDArray[np.int64],
        born: NDArray[np.int64],
    ) -> None:
        self.records, self.before, self.born = records, before, born
        self.times = records if times is None else times


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
        self.value = np.empty(places.max_series)
        self.time = np.empty(places.max_series, np.int64)
        self.rises = np.zeros(len(views.views), np.int64)
        self.falls = np.zeros(len(views.views), np.int64)

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
        self, series: NDArray[np.int32], raw: NDArray[np.float64], moment: Moment
    ) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
        """Return the value of each series and how it stands in its record, and remember it.

        Args:
            series: each one once.
            raw: NaN where no point came, infinite where the series ended.
            moment: when that was.
        """
        last = self.time[series]
        goes_on, delta = last >= moment.born, self._places.delta[series]
        came, finite = ~np.isnan(raw), np.isfinite(raw)
        lacking = ~came & goes_on & ~delta & (last >= moment.records - self._stale)
        states = np.full(len(series), SILENT, np.uint8)
        states[finite], states[lacking] = VALUE, LACKING
        self._counts.missing += int(np.count_nonzero(lacking))
        values, reading = raw.copy(), self._places.reading[series]
        values[~finite] = np.nan
        self._count_steps(series, raw, finite & goes_on & ~self._is_counter[reading])
        if self._is_counter.any():
            counter = self._is_counter[reading] & finite
            running = np.flatnonzero(counter & goes_on & ~delta)
            values[counter] = np.nan
            values[running] = self._rates(series[running], raw[running], moment, running)
            increase = np.flatnonzero(counter & delta & (moment.before != NEVER))
            since = (moment.records - moment.before)[increase] / 1e9
            values[increase] = raw[increase] / since
        for number, (sent, meant) in self._states:
            of = np.flatnonzero((reading == number) & finite)
            at = np.minimum(np.searchsorted(sent, raw[of]), len(sent) - 1)
            values[of] = np.where(sent[at] == raw[of], meant[at], np.nan)
        states[finite & np.isnan(values)] = RATELESS
        self._remember(series, raw, moment.times, came, finite)
        return values, states

    def _rates(
        self,
        series: NDArray[np.int32],
        raw: NDArray[np.float64],
        moment: Moment,
        which: NDArray[np.intp],
    ) -> NDArray[np.float64]:
        bits = self._bits[self._places.reading[series]]
        grown, resets, wraps = increases(raw, self.value[series], bits)
        self._counts.resets += resets
        self._counts.wraps += wraps
        return grown / ((moment.times[which] - self.time[series]) / 1e9)

    def _count_steps(
        self, series: NDArray[np.int32], raw: NDArray[np.float64], which: NDArray[np.bool_]
    ) -> None:
        chosen = series[which]
        steps = raw[which] - self.value[chosen]
        views = self._places.view
        self.rises += np.bincount(views[chosen[steps > 0]], minlength=len(self.rises))
        self.falls += np.bincount(views[chosen[steps < 0]], minlength=len(self.falls))

    def _remember(
        self,
        series: NDArray[np.int32],
        raw: NDArray[np.float64],
        times: NDArray[np.int64],
        came: NDArray[np.bool_],
        finite: NDArray[np.bool_],
    ) -> None:
        self.value[series[finite]] = raw[finite]
        self.time[series[finite]] = times[finite]
        ended = came & ~finite
        if ended.any():
            self.time[series[ended]] = NEVER
            self._counts.ended += int(np.count_nonzero(ended))


def _numbers(states: dict[str, float]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the values that states are sent as, ascending, and what they mean.

    A state that is text is sent as what it means (`Mapping.number`).
    """
    numbers = {}
    for text, meant in states.items():
        try:
            numbers[float(text)] = meant
        except ValueError:
            numbers.setdefault(meant, meant)
    sent = sorted(numbers)
    return np.array(sent), np.array([numbers[value] for value in sent])
