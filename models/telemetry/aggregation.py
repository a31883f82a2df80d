"""From the values of series to the fields of records."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from models.telemetry.places import Members
from models.telemetry.runs import firsts
from models.telemetry.views import Views

__all__ = ["LACKING", "RATELESS", "SILENT", "Entries", "Values", "aggregate"]

SILENT = np.nan
"""Instead of a series' value in a record: none was expected and none came."""
LACKING = np.inf
"""One was expected, and did not come."""
RATELESS = -np.inf
"""One came, and gives no number: the first of a counter, a reset, an unknown state."""


@dataclass(frozen=True, slots=True)
class Entries:
    """What the views of some records see, one series of one view an entry.

    They are in the order of record, view and name of the series, which no order of arrival changes:
    so sums are the same to the bit.

    Attributes:
        rows: record of each entry, from 0, never decreasing: int64 [n].
        views: int64 [n].
        series: int64 [n].
        values: level or rate, LACKING or RATELESS: float64 [n].
    """

    rows: NDArray[np.intp]
    views: NDArray[np.intp]
    series: NDArray[np.intp]
    values: NDArray[np.float64]

    @classmethod
    def of(
        cls, members: Sequence[Members], series: NDArray[np.intp], values: NDArray[np.float64]
    ) -> Entries:
        """Return the entries of records.

        Args:
            members: of the key of each record.
            series: those of every record, one record after the other: int64 [n].
            values: of these series: float64 [n].
        """
        sizes = np.array([len(member) for member in members])
        seen = np.array([len(member.at) for member in members])
        at = np.concatenate([member.at for member in members], dtype=np.intp)
        at += np.repeat(np.cumsum(sizes) - sizes, seen)
        entries = cls(
            np.repeat(np.arange(len(members)), seen),
            np.concatenate([member.views for member in members], dtype=np.intp),
            series[at],
            values[at],
        )
        silent = np.isnan(entries.values)
        return entries.take(~silent) if silent.any() else entries

    def take(self, which: NDArray[np.bool_]) -> Entries:
        """Return some entries."""
        return Entries(self.rows[which], self.views[which], self.series[which], self.values[which])


@dataclass(frozen=True, slots=True)
class Values:
    """Aggregated values of records.

    Attributes:
        levels: before they are related to a baseline, NaN where missing: float64 [n, fields].
        absent: where the key has no series for a field: bool [n, fields].
        crowded: fields that take one series and have several.
    """

    levels: NDArray[np.float64]
    absent: NDArray[np.bool_]
    crowded: NDArray[np.intp]


def aggregate(views: Views, entries: Entries, rows: int, usual: NDArray[np.float64]) -> Values:
    """Aggregate entries of `rows` records; `usual` holds the median of every series."""
    medians = usual[entries.series] if views.each.any() else np.empty(0)
    if views.each.any():
        counted = ~views.each[entries.views] | (medians > views.active[entries.views])
        if not counted.all():
            entries, medians = entries.take(counted), medians[counted]
    cells = _Cells(views, entries, rows, medians)
    levels = np.empty((rows, len(views.mapping.fields)))
    absent = (cells.count == 0)[:, views.of_field]
    crowded = np.empty(0, np.intp)
    for way, fields in views.fields_by_aggregate.items():
        of_field = views.of_field[fields]
        match way:
            case "share_below":
                for field, view in zip(fields, of_field, strict=True):
                    below = views.mapping.fields[field].below
                    levels[:, field] = cells.share_below(below or 0.0)[:, view]
                continue
            case "last":
                crowded = fields[np.count_nonzero(cells.count > 1, axis=0)[of_field] > 0]
            case "relative sum":
                absent[:, fields] |= (cells.usual_sum <= 0)[:, of_field]
        levels[:, fields] = cells.of(way)[:, of_field]
    broken = cells.broken[:, views.of_field]
    levels[absent | broken | ~np.isfinite(levels)] = np.nan
    return Values(levels, absent & ~broken, crowded)


class _Cells:
    """Aggregates of every view in every record: float64 [rows, views] each, one a method."""

    def __init__(
        self, views: Views, entries: Entries, rows: int, medians: NDArray[np.float64]
    ) -> None:
        self._shape = rows, len(views.views)
        cells = entries.rows * len(views.views) + entries.views
        valued = np.isfinite(entries.values)
        self.broken = np.zeros(self._shape, np.bool_)
        each = views.each[entries.views]
        values = entries.values
        if not valued.all():
            broken = (values == LACKING) | ((values == RATELESS) & ~views.lenient[entries.views])
            self.broken = self._sum(cells[broken]) > 0
            cells, values, each = cells[valued], values[valued], each[valued]
            medians = medians[valued] if len(medians) else medians
        self._cells, self._values, self._medians, self._related = cells, values, medians, values
        self.count = self._sum(cells)
        if len(medians):
            each &= medians != 0
            self._related = values.copy()
            with np.errstate(over="ignore"):
                self._related[each] = values[each] / medians[each] - 1

    def of(self, way: str) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            match way:
                case "last":
                    return np.where(self.count == 1, self.total, np.nan)
                case "sum":
                    return self.total
                case "relative sum":
                    return self._sum(self._cells, self._values) / self.usual_sum - 1
                case "mean":
                    return self.total / self.count
                case "min":
                    return self._reduced(np.minimum)
                case "max":
                    return self._reduced(np.maximum)
                case _:
                    return self._deviation()

    def share_below(self, below: float) -> NDArray[np.float64]:
        with np.errstate(divide="ignore", invalid="ignore"):
            return self._sum(self._cells[self._related < below]) / self.count

    @cached_property
    def _starts(self) -> NDArray[np.intp]:
        return np.flatnonzero(firsts(self._cells))

    @cached_property
    def total(self) -> NDArray[np.float64]:
        return self._sum(self._cells, self._related)

    @cached_property
    def usual_sum(self) -> NDArray[np.float64]:
        return self._sum(self._cells, self._medians)

    def _deviation(self) -> NDArray[np.float64]:
        """Return the sample deviation; that of one value is 0."""
        mean = (self.total / self.count).ravel()
        squares = self._sum(self._cells, np.square(self._related - mean[self._cells]))
        deviation: NDArray[np.float64] = np.sqrt(squares / np.maximum(self.count - 1, 1))
        return deviation

    def _reduced(self, least_or_most: np.ufunc) -> NDArray[np.float64]:
        cells = np.full(self._shape, np.nan)
        if len(self._cells):
            starts = self._starts
            found = least_or_most.reduceat(self._related, starts)
            cells.ravel()[self._cells[starts]] = found
        return cells

    def _sum(
        self, cells: NDArray[np.int64], weights: NDArray[np.float64] | None = None
    ) -> NDArray[np.float64]:
        size = self._shape[0] * self._shape[1]
        return np.bincount(cells, weights, size).reshape(self._shape).astype(np.float64, copy=False)
