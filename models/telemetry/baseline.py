"""The baseline of a key, medians of its first records, and the records held until it is known."""

from __future__ import annotations

from collections.abc import Mapping as Mappings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.telemetry.aggregation import SILENT, Entries, Values, aggregate
from models.telemetry.mapping import Mapping
from models.telemetry.places import Members, series_of
from models.telemetry.runs import firsts, lengths
from models.telemetry.snapshot import cut, ragged
from models.telemetry.views import Views

__all__ = ["Baselines", "Held", "medians"]


@dataclass(slots=True)
class Held:
    """Records of a key that wait until its baseline is known.

    Attributes:
        series: of the key, in the order of `Members.series`: int32 [n].
        times: of the records, nanoseconds: int64 [most].
        values: of each series in each of them: float64 [most, n].
        count: number of records.
    """

    series: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]
    count: int = 0

    @classmethod
    def empty(cls, series: NDArray[np.int32], most: int) -> Held:
        """Return room for so many records."""
        return cls(series, np.empty(most, np.int64), np.full((most, len(series)), SILENT))

    def fit(self, series: NDArray[np.int32]) -> None:
        """Make room for series that have joined the key since."""
        if not np.array_equal(self.series, series):
            order = np.argsort(series)
            at = order[np.searchsorted(series, self.series, sorter=order)]
            values = np.full((len(self.values), len(series)), SILENT)
            values[:, at] = self.values
            self.series, self.values = series, values


class Baselines:
    """What keys and series usually are, and the records of keys of which that is not yet known.

    Attributes:
        known: which keys have a baseline: bool [max_keys].
        of_key: median of each field of the relation `baseline`: float64 [max_keys, some].
        last: level of the same fields in the last record.
        of_series: median of each series of the relation `each`: float64 [max_series].
        recent: its value in the last record that had it; empty if that is its level anyway.
        held: records by key.
    """

    def __init__(self, views: Views, max_keys: int, max_series: int) -> None:
        mapping = views.mapping
        self._views = views
        self._rules = _Rules(mapping)
        self.needed = any(field.relation != "none" for field in mapping.fields)
        self.known = np.zeros(max_keys, np.bool_)
        self.of_key = np.empty((max_keys, len(self._rules.related)))
        self.last = np.empty_like(self.of_key)
        self.of_series = np.empty(max_series if views.each.any() else 0)
        rates = any(field.relation == "each" and field.kind != "gauge" for field in mapping.fields)
        self.recent = np.empty(max_series if rates else 0)
        self.held: dict[int, Held] = {}
        self._learn = mapping.learn

    def arrays(self, keys: int, series: int) -> dict[str, NDArray[Any]]:
        """Return the state of so many keys and series, to read or to fill."""
        return {
            "baseline known": self.known[:keys],
            "baseline": self.of_key[:keys],
            "baseline last": self.last[:keys],
            "usual": self.of_series[:series],
            "usual recent": self.recent[:series],
        }

    def pack(self) -> dict[str, NDArray[Any]]:
        """Return the records that are held."""
        held = self.held.values()
        return {
            "held keys": np.array([*self.held], np.int64),
            **ragged("held series", (one.series for one in held), np.int32),
            **ragged("held times", (one.times[: one.count] for one in held), np.int64),
            **ragged("held values", (one.values[: one.count].ravel() for one in held), np.float64),
        }

    def unpack(self, arrays: Mappings[str, NDArray[Any]]) -> None:
        """Take up what `pack` returned."""
        parts = [cut(f"held {name}", arrays) for name in ("series", "times", "values")]
        for key, series, times, values in zip(arrays["held keys"].tolist(), *parts, strict=True):
            held = self.held[key] = Held.empty(series, self._learn)
            held.count = len(times)
            held.times[: held.count] = times
            held.values[: held.count] = values.reshape(-1, len(series))

    def hold(
        self, key: int, time: int, series: NDArray[np.int32], values: NDArray[np.float64]
    ) -> bool:
        """Hold a record of a key, and return whether there are enough for its baseline."""
        held = self.held.get(key)
        if held is None:
            held = self.held[key] = Held.empty(series, self._learn)
        held.fit(series)
        held.times[held.count], held.values[held.count] = time, values
        held.count += 1
        return held.count == self._learn

    def remember(self, series: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        """Remember the last value of series that are related to their medians."""
        if len(self.recent):
            there = np.isfinite(values)
            self.recent[series[there]] = values[there]

    def place_key(self, key: int) -> None:
        """Begin a key anew."""
        self.known[key] = not self.needed
        self.of_key[key] = self.last[key] = np.nan

    def place_series(self, series: int) -> None:
        """Begin a series."""
        if len(self.of_series):
            self.of_series[series] = np.nan
        if len(self.recent):
            self.recent[series] = np.nan

    def fields(
        self, keys: NDArray[np.int64], entries: Entries
    ) -> tuple[NDArray[np.float64], Values]:
        """Return the fields of one record of each of some keys, all of which have a baseline."""
        values = aggregate(self._views, entries, len(keys), self.of_series)
        self.last[keys] = values.levels[:, self._rules.related]
        return self._rules.apply(values, self.of_key[keys]), values

    def learn(
        self, keys: Sequence[int], members: Sequence[Members]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Values]:
        """Make the baseline of keys from the records that are held of them, and release these.

        Args:
            keys: which have held records.
            members: of each key.

        Returns:
            key of each record, its time in nanoseconds, its fields, its values.
        """
        held = [self.held.pop(key) for key in keys]
        for one, member in zip(held, members, strict=True):
            one.fit(member.series)
        counts = np.array([one.count for one in held])
        entries = Entries.of(
            [member for member, count in zip(members, counts, strict=True) for _ in range(count)],
            np.concatenate([np.tile(one.series, one.count) for one in held], dtype=np.intp),
            np.concatenate([one.values[: one.count].ravel() for one in held]),
        )
        if len(self.of_series):
            self.of_series[series_of(members)] = np.nan
            which = self._views.each[entries.views] & np.isfinite(entries.values)
            # A series of two views comes twice, which leaves its median as it is.
            series, usual = medians(entries.series[which], entries.values[which])
            self.of_series[series] = usual
        values = aggregate(self._views, entries, int(counts.sum()), self.of_series)
        levels, slots = values.levels[:, self._rules.related], np.asarray(keys, np.int64)
        of_row = np.repeat(np.arange(len(keys)), counts)
        self.of_key[slots] = _medians_of_groups(levels, of_row, len(keys))
        self.last[slots] = levels[np.cumsum(counts) - 1]
        self.known[slots] = True
        times = np.concatenate([one.times[: one.count] for one in held])
        rows = slots[of_row]
        return rows, times, self._rules.apply(values, self.of_key[rows]), values

    def follow(
        self,
        keys: NDArray[np.int64],
        series: NDArray[np.intp],
        levels: NDArray[np.float64],
        share: float,
    ) -> None:
        """Move the medians of keys, and of series, a share towards their last values.

        Args:
            keys: int64 [n].
            series: those of the keys that had a value in the last record: int64 [m].
            levels: these values: float64 [m].
            share: 0 to 1.
        """
        self.of_key[keys] = _moved(self.of_key[keys], self.last[keys], share)
        if len(self.of_series):
            last = self.recent[series] if len(self.recent) else levels
            self.of_series[series] = _moved(self.of_series[series], last, share)


class _Rules:
    """The relation of every field to its baseline, its limits, and its value where it is absent."""

    def __init__(self, mapping: Mapping) -> None:
        fields = mapping.fields
        self.related = np.flatnonzero([field.relation == "baseline" for field in fields])
        self._floor = np.array([fields[at].floor for at in self.related])
        self._absent = np.array([np.nan if f.absent is None else f.absent for f in fields])
        self._clip = np.array([np.inf if f.clip is None else f.clip for f in fields])

    def apply(self, values: Values, usual: NDArray[np.float64]) -> NDArray[np.float64]:
        fields = values.levels.copy()
        with np.errstate(over="ignore", invalid="ignore"):
            away = fields[:, self.related] - usual
            fields[:, self.related] = away / np.maximum(np.abs(usual), self._floor)
        np.clip(fields, -self._clip, self._clip, out=fields)
        np.copyto(fields, self._absent, where=values.absent)
        return fields


def medians(
    groups: NDArray[np.int64], values: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the groups that there are, and the median of each one's values."""
    order = np.lexsort((values, groups))
    groups, values = groups[order], values[order]
    starts = np.flatnonzero(firsts(groups))
    counts = lengths(starts, len(groups))
    low, high = starts + (counts - 1) // 2, starts + counts // 2
    return groups[starts], values[low] / 2 + values[high] / 2


def _medians_of_groups(
    levels: NDArray[np.float64], groups: NDArray[np.int64], count: int
) -> NDArray[np.float64]:
    """Return the median of each column in each group of rows, NaN where there is no value."""
    width = levels.shape[1]
    found = np.full(count * width, np.nan)
    cells = (groups[:, None] * width + np.arange(width)).ravel()
    there = ~np.isnan(levels).ravel()
    which, middle = medians(cells[there], levels.ravel()[there])
    found[which] = middle
    return found.reshape(count, width)


def _moved(
    usual: NDArray[np.float64], last: NDArray[np.float64], share: float
) -> NDArray[np.float64]:
    """Return usual values moved a share towards the last; what has none takes the last."""
    with np.errstate(over="ignore"):
        moved = np.where(np.isnan(last), usual, usual + share * (last - usual))
    return np.where(np.isnan(usual), last, moved)
