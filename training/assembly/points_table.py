"""Tables of metric points: wide, a column a series, or long, a row a point."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.telemetry.mapping import Mapping as Rules
from models.telemetry.points import Points, Series, SeriesTable
from training.dataset.reading import read_file
from training.dataset.times import times_of
from training.recipe import RecipeError

TimeUnit = Literal["s", "ms", "us", "ns"]
_NANOSECONDS: dict[str, int] = {"s": 10**9, "ms": 10**6, "us": 10**3, "ns": 1}
_LAST = 2.0**63
"""Nanoseconds since 1970 that no longer fit into 64 bits."""
_BLOCK = 250_000
"""Points that are taken at once."""
_METRIC, _VALUE, _TAGS = "metric", "value", "tags"


@dataclass(frozen=True, slots=True, eq=False)
class PointsTable:
    """Recorded points in the order of time.

    Attributes:
        rows: the table, sorted.
        times: nanoseconds since the Unix epoch of each row: int64 [n].
        tags: columns whose values are tags of every point of a row.
        time: name of the time column.
        rules: the mapping that is to be applied.
    """

    rows: pl.DataFrame
    times: NDArray[np.int64]
    tags: tuple[str, ...]
    time: str
    rules: Rules

    @classmethod
    def read(cls, path: Path, rules: Rules, time: str, unit: TimeUnit) -> PointsTable:
        """Read a table, or raise RecipeError."""
        rows = read_file(path).rows
        if time not in rows.columns:
            raise RecipeError(f"{path} has no column {time!r}; name the time column with --time")
        return cls.of(rows, rules, time, unit)

    @classmethod
    def of(cls, rows: pl.DataFrame, rules: Rules, time: str, unit: TimeUnit) -> PointsTable:
        """Sort rows that have a time, or raise RecipeError."""
        times = nanoseconds(rows[time], unit)
        order = np.argsort(times, kind="stable")
        rows = rows[order]
        tags = _tag_columns(rows, rules, time)
        return cls(rows, times[order], tags, time, rules)

    def points(self, table: SeriesTable) -> Iterator[Points]:
        """Yield all points, with ids from a table."""
        groups = self.rows.select(
            pl.struct(self.tags).rank("dense") - 1 if self.tags else pl.lit(0)
        ).to_series()
        group = np.broadcast_to(groups.to_numpy().astype(np.int64), len(self.rows))
        if {_METRIC, _VALUE} <= set(self.rows.columns):
            yield from self._long(table)
        else:
            yield from self._wide(table, group)

    def _wide(self, table: SeriesTable, group: NDArray[np.int64]) -> Iterator[Points]:
        first = np.unique(group, return_index=True)[1]
        tags = self.rows.select(self.tags)[first].to_dicts() if self.tags else [{}]
        ids, columns = [], []
        for name in self.rows.columns:
            if name in {*self.tags, self.time}:
                continue
            metric, more = self.rules.wide.series_of(name)
            placed = [
                table.add((name, *row.values()), Series(metric, _texts({**row, **more})))
                for row in tags
            ]
            if max(placed) >= 0:
                ids.append(placed)
                columns.append(_numbers(self.rows[name], [metric] * len(self.rows), self.rules))
        if not ids:
            return
        of_column = np.array(ids, np.int32).T
        step = max(1, _BLOCK // len(ids))
        for start in range(0, len(self.rows), step):
            block = slice(start, start + step)
            values = np.stack([column[block] for column in columns], axis=1)
            row, column = np.nonzero(~np.isnan(values))
            yield Points(
                of_column[group[block][row], column], self.times[block][row], values[row, column]
            )

    def _long(self, table: SeriesTable) -> Iterator[Points]:
        names = [*self.tags, *({_TAGS} & set(self.rows.columns)), _METRIC]
        series, ids = self.rows.select(names), np.empty(len(self.rows), np.int32)
        kinds = series.unique(maintain_order=True)
        numbers = series.join(
            kinds.with_row_index("id"),
            on=names,
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )["id"].to_numpy()
        placed = np.empty(len(kinds), np.int32)
        for at, row in enumerate(kinds.iter_rows(named=True)):
            metric = str(row.pop(_METRIC))
            more = _parsed(row.pop(_TAGS, None))
            tags = _texts({**row, **more})
            placed[at] = table.add((metric, *sorted(tags.items())), Series(metric, tags))
        ids = placed[numbers]
        values = _numbers(self.rows[_VALUE], self.rows[_METRIC].to_list(), self.rules)
        for start in range(0, len(ids), _BLOCK):
            block = slice(start, start + _BLOCK)
            yield Points(ids[block], self.times[block], values[block])


def _tag_columns(rows: pl.DataFrame, rules: Rules, time: str) -> tuple[str, ...]:
    if {_METRIC, _VALUE} <= set(rows.columns):
        return tuple(name for name in rows.columns if name not in {time, _METRIC, _VALUE, _TAGS})
    wanted = {*rules.key, *(tag for field in rules.fields for tag in field.tags)}
    return tuple(name for name in rows.columns if name in wanted)


def _texts(tags: Mapping[str, object]) -> dict[str, str]:
    return {name: str(value) for name, value in tags.items() if value is not None}


def _parsed(tags: object) -> dict[str, object]:
    if tags is None:
        return {}
    try:
        found = tags if isinstance(tags, dict) else json.loads(str(tags))
    except ValueError as error:
        raise RecipeError(f'the column "tags" holds text that is no JSON: {tags!r}') from error
    if not isinstance(found, dict):
        raise RecipeError('the column "tags" holds JSON that is no object')
    return found


def _numbers(column: pl.Series, metrics: Sequence[str], rules: Rules) -> NDArray[np.float64]:
    """Return a column as numbers; text that names a state is the number of the state."""
    numbers = column.cast(pl.Float64, strict=False)
    text = numbers.is_null() & column.is_not_null()
    values = numbers.fill_null(np.nan).to_numpy().copy()
    for row in np.flatnonzero(text.to_numpy()).tolist():
        values[row] = rules.number(metrics[row], str(column[row]))
    return values


def nanoseconds(column: pl.Series, unit: TimeUnit) -> NDArray[np.int64]:
    """Return times in nanoseconds; numbers are in `unit`.

    Raises:
        RecipeError: some rows have none.
    """
    if column.dtype == pl.String:
        numbers = column.cast(pl.Float64, strict=False)
        column = numbers if not numbers.null_count() else times_of(column)
    if column.null_count():
        raise RecipeError(f"{column.null_count()} rows have no time in {column.name!r}")
    if column.dtype.is_temporal():
        column, unit = column.cast(pl.Datetime("ns")).dt.epoch("ns"), "ns"
    factor = _NANOSECONDS[unit]
    largest = column.cast(pl.Float64).abs().max()
    if isinstance(largest, float) and not largest * factor < _LAST:
        raise RecipeError(
            f"times in {column.name!r} lie beyond the year 2262 if they are in {unit}; "
            "give --time-unit s, ms, us or ns"
        )
    if column.dtype.is_integer():
        whole = column.cast(pl.Int64).to_numpy().astype(np.int64)
        return whole * factor
    seconds, part = np.divmod(column.cast(pl.Float64).to_numpy(), 1)
    rest: NDArray[np.int64] = np.rint(part * factor).astype(np.int64)
    return seconds.astype(np.int64) * factor + rest
