"""The baseline of a key, medians of its first records, and the records held until it is known."""

from __future__ import annotations

from collections.abc import Mapping as Mappings
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.telemetry.aggregation import VALUE, Entries, Values, aggregate
from models.telemetry.mapping import Mapping
from models.telemetry.snapshot import cut, ragged
from models.telemetry.views import Views

__all__ = ["Baselines", "Held", "medians"]


@dataclass(frozen=True, slots=True)
class Held:
    """A record that waits until its key's baseline is known.

    Attributes:
        time: of the record, nanoseconds.
        views: of each of its entries: int16 [n].
        series: int32 [n].
        values: float64 [n].
        states: uint8 [n].
    """

    time: int
    views: NDArray[np.int16]
    series: NDArray[np.int32]
    values: NDArray[np.float64]
    states: NDArray[np.uint8]


class Baselines:
    """What keys and series usually are, and the records of keys of which that is not yet known.

    Attributes:
        known: which keys have a baseline: bool [max_keys].
        of_key: median of each field of the relation `baseline`: float64 [max_keys, some].
        last: level of the same fields in the last record.
        of_series: median of each series of the relation `each`: float64 [max_series].
        recent: its value in the last record that had it.
        held: records by key, in the order of time.
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
        self.recent = np.empty_like(self.of_series)
        self.held: dict[int, list[Held]] = {}

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
        held = [(key, one) for key, records in self.held.items() for one in records]
        return {
            "held keys": np.array([key for key, _ in held], np.int64),
            "held times": np.array([one.time for _, one in held], np.int64),
            **ragged("held views", (one.views for _, one in held), np.int16),
            **ragged("held series", (one.series for _, one in held), np.int32),
            **ragged("held values", (one.values for _, one in held), np.float64),
            **ragged("held states", (one.states for _, one in held), np.uint8),
        }

    def unpack(self, arrays: Mappings[str, NDArray[Any]]) -> None:
        """Take up what `pack` returned."""
        names = ("views", "series", "values", "states")
        parts = [cut(f"held {name}", arrays) for name in names]
        keys, times = arrays["held keys"].tolist(), arrays["held times"].tolist()
        for key, time, *columns in zip(keys, times, *parts, strict=True):
            self._hold(key, Held(time, *columns))

    def hold(self, key: int, time: int, entries: Entries, which: slice) -> int:
        """Hold a record of a key, and return how many are held of it."""
        return self._hold(
            key,
            Held(
                time,
                entries.views[which].astype(np.int16),
                entries.series[which].astype(np.int32),
                entries.values[which].copy(),
                entries.states[which].copy(),
            ),
        )

    def _hold(self, key: int, one: Held) -> int:
        held = self.held.setdefault(key, [])
        last = held[-1] if held else one
        if np.array_equal(last.series, one.series) and np.array_equal(last.views, one.views):
            # As always; one copy serves all.
            one = replace(one, views=last.views, series=last.series)
        held.append(one)
        return len(held)

    def remember(self, series: NDArray[np.intp], values: NDArray[np.float64]) -> None:
        """Remember the last value of series that are related to their medians."""
        if len(self.recent):
            there = ~np.isnan(values)
            self.recent[series[there]] = values[there]

    def place_key(self, key: int) -> None:
        """Begin a key anew."""
        self.known[key] = not self.needed
        self.of_key[key] = self.last[key] = np.nan

    def place_series(self, series: int) -> None:
        """Begin a series."""
        if len(self.of_series):
            self.of_series[series] = self.recent[series] = np.nan

    def fields(
        self, keys: NDArray[np.int64], entries: Entries
    ) -> tuple[NDArray[np.float64], Values]:
        """Return the fields of one record of each of some keys, all of which have a baseline."""
        values = aggregate(self._views, entries, len(keys), self.of_series)
        self.last[keys] = values.levels[:, self._rules.related]
        return self._rules.apply(values, self.of_key[keys]), values

    def learn(
        self, keys: Sequence[int], members: Sequence[NDArray[np.int32]]
    ) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.float64], Values]:
        """Make the baseline of keys from the records that are held of them, and release these.

        Args:
            keys: which have held records.
            members: all series of each key.

        Returns:
            key of each record, its time in nanoseconds, its fields, its values.
        """
        held = [self.held.pop(key) for key in keys]
        counts = np.array([len(records) for records in held])
        total = int(counts.sum())
        of_row = np.repeat(np.arange(len(keys)), counts)
        times = np.array([one.time for records in held for one in records], np.int64)
        entries = _joined([one for records in held for one in records])
        if len(self.of_series):
            self.of_series[np.concatenate([*members])] = np.nan
            which = self._views.each[entries.views] & (entries.states == VALUE)
            # A series of two views comes twice, which leaves its median as it is.
            series, usual = medians(entries.series[which], entries.values[which])
            self.of_series[series] = usual
        values = aggregate(self._views, entries, total, self.of_series)
        levels, slots = values.levels[:, self._rules.related], np.asarray(keys, np.int64)
        self.of_key[slots] = _medians_of_groups(levels, of_row, len(keys))
        self.last[slots] = levels[np.cumsum(counts) - 1]
        self.known[slots] = True
        rows = slots[of_row]
        return rows, times, self._rules.apply(values, self.of_key[rows]), values

    def follow(self, keys: NDArray[np.int64], series: NDArray[np.int64], share: float) -> None:
        """Move the medians of keys, and of series, a share towards their last values."""
        self.of_key[keys] = _moved(self.of_key[keys], self.last[keys], share)
        if len(self.of_series):
            self.of_series[series] = _moved(self.of_series[series], self.recent[series], share)


def _joined(held: Sequence[Held]) -> Entries:
    """Return the entries of held records, a row each."""
    return Entries(
        np.repeat(np.arange(len(held)), [len(one.values) for one in held]),
        np.concatenate([one.views for one in held]).astype(np.int64),
        np.concatenate([one.series for one in held], dtype=np.intp),
        np.concatenate([one.values for one in held]),
        np.concatenate([one.states for one in held]),
    )


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
    starts = np.flatnonzero(np.diff(groups, prepend=-1))
    counts = np.diff(starts, append=len(groups))
    low, high = starts + (counts - 1) // 2, starts + counts // 2
    return groups[starts], (values[low] + values[high]) / 2


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
    moved = np.where(np.isnan(last), usual, usual + share * (last - usual))
    return np.where(np.isnan(usual), last, moved)
