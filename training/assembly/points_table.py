"""Tables of metric points: wide, a column a series, or long, a row a point."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
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
        keep: columns that records keep; they are no tags unless the mapping asks for them.
        rules: the mapping that is to be applied.
        unknown: of each metric a value that is text and names no state; once the points were taken.
    """

    rows: pl.DataFrame
    times: NDArray[np.int64]
    tags: tuple[str, ...]
    time: str
    keep: tuple[str, ...]
    rules: Rules
    unknown: dict[str, str] = field(default_factory=dict)

    @classmethod
    def read(
        cls, path: Path, rules: Rules, time: str, unit: TimeUnit, keep: Sequence[str] = ()
    ) -> PointsTable:
        """Read a table, or raise RecipeError."""
        rows = read_file(path).rows
        if time not in rows.columns:
            raise RecipeError(f"{path} has no column {time!r}; name the time column with --time")
        return cls.of(rows, rules, time, unit, keep)

    @classmethod
    def of(
        cls,
        rows: pl.DataFrame,
        rules: Rules,
        time: str,
        unit: TimeUnit,
        keep: Sequence[str] = (),
    ) -> PointsTable:
        """Sort rows that have a time, or raise RecipeError."""
        for name in keep:
            if name not in rows.columns:
                raise RecipeError(f"there is no column {name!r} to keep")
        times = nanoseconds(rows[time], unit)
        order = np.argsort(times, kind="stable")
        rows = rows[order]
        tags = _tag_columns(rows, rules, time, keep)
        return cls(rows, times[order], tags, time, (*keep,), rules)

    def points(self, table: SeriesTable) -> Iterator[Points]:
        """Yield all points, with ids from a table."""
        groups = self.rows.select(
            pl.struct(self.tags).rank("dense") - 1 if self.tags else pl.lit(0)
        ).to_series()
        group = np.broadcast_to(groups.to_numpy().astype(np.int64), len(self.rows))
        if self.is_long:
            yield from self._long(table)
        else:
            yield from self._wide(table, group)

    @property
    def is_long(self) -> bool:
        """Whether a row is one point."""
        return _is_long(self.rows)

    def keys(self) -> pl.DataFrame:
        """Return those tags of the key, as text, that a whole row has: a row for each row."""
        kinds, numbers = self._kinds([tag for tag in self.rules.key if tag in self.tags])
        rows = [_tags_of(row) for row in kinds.to_dicts()]
        found = [tag for tag in self.rules.key if any(tag in row for row in rows)]
        texts = {tag: pl.Series([row.get(tag) for row in rows], dtype=pl.String) for tag in found}
        return pl.DataFrame({tag: column[numbers] for tag, column in texts.items()})

    def findings(self) -> list[str]:
        """Return what was odd in the points that were taken, a line each."""
        return [
            f"values of {metric!r}, such as {text!r}, are text that names no state: left out"
            for metric, text in sorted(self.unknown.items())
        ]

    def _kinds(self, names: Sequence[str]) -> tuple[pl.DataFrame, NDArray[np.int64]]:
        """Return the different rows of some columns, and which of them each row has.

        The column of tags is one of them if a row is one point.
        """
        if self.is_long and _TAGS in self.rows.columns:
            names = [*names, _TAGS]
        if not names:
            return pl.DataFrame(), np.zeros(len(self.rows), np.int64)
        rows = self.rows.select(names)
        kinds = rows.unique(maintain_order=True)
        numbers = rows.join(
            kinds.with_row_index("number of its kind"),
            on=names,
            how="left",
            nulls_equal=True,
            maintain_order="left",
        )["number of its kind"]
        return kinds, numbers.to_numpy().astype(np.int64)

    def _wide(self, table: SeriesTable, group: NDArray[np.int64]) -> Iterator[Points]:
        first = np.unique(group, return_index=True)[1]
        tags = self.rows.select(self.tags)[first].to_dicts() if self.tags else [{}]
        metrics = {rule.metric for rule in self.rules.fields}
        # A label fits a pattern such as *, too.
        kept = {name for name in self.keep if self.rules.wide.series_of(name)[0] not in metrics}
        others = {*self.tags, self.time, *kept}
        ids, columns = [], []
        for name in self.rows.columns:
            if name in others:
                continue
            metric, more = self.rules.wide.series_of(name)
            placed = [
                table.add((name, *row.values()), Series(metric, _texts({**row, **more})))
                for row in tags
            ]
            if max(placed) >= 0:
                ids.append(placed)
                every = np.ones(len(self.rows), np.bool_)
                columns.append(self._numbers(self.rows[name], [metric] * len(every), every)[0])
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
        kinds, numbers = self._kinds([*self.tags, _METRIC])
        placed = np.empty(len(kinds), np.int32)
        for at, row in enumerate(kinds.iter_rows(named=True)):
            metric, tags = str(row.pop(_METRIC)), _tags_of(row)
            placed[at] = table.add((metric, *sorted(tags.items())), Series(metric, tags))
        ids, times = placed[numbers], self.times
        column, metrics = self.rows[_VALUE], self.rows[_METRIC].to_list()
        values, unknown = self._numbers(column, metrics, ids >= 0)
        if unknown.any():  # a point without a number would end its series
            ids, times, values = ids[~unknown], times[~unknown], values[~unknown]
        for start in range(0, len(ids), _BLOCK):
            block = slice(start, start + _BLOCK)
            yield Points(ids[block], times[block], values[block])

    def _numbers(
        self, column: pl.Series, metrics: Sequence[str], taken: NDArray[np.bool_]
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return a column as numbers; text that names a state is the number of the state.

        Args:
            column: of values.
            metrics: of each value.
            taken: which values a field takes, bool [n].

        Returns:
            The numbers, NaN where there is none, and where text names no state: [n].
        """
        numbers = column.cast(pl.Float64, strict=False)
        unknown = (numbers.is_null() & column.is_not_null()).to_numpy() & taken
        values = numbers.fill_null(np.nan).to_numpy().copy()
        for row in np.flatnonzero(unknown).tolist():
            metric, text = metrics[row], str(column[row])
            values[row] = self.rules.number(metric, text)
            unknown[row] = np.isnan(values[row])
            if unknown[row]:
                self.unknown[metric] = min(text, self.unknown.get(metric, text))
        return values, unknown


def _is_long(rows: pl.DataFrame) -> bool:
    return {_METRIC, _VALUE} <= set(rows.columns)


def _tag_columns(
    rows: pl.DataFrame, rules: Rules, time: str, keep: Sequence[str]
) -> tuple[str, ...]:
    wanted = {*rules.key, *(tag for rule in rules.fields for tag in rule.tags)}
    if _is_long(rows):
        none = {time, _METRIC, _VALUE, _TAGS, *(set(keep) - wanted)}
        return tuple(name for name in rows.columns if name not in none)
    return tuple(name for name in rows.columns if name in wanted)


def _tags_of(row: dict[str, object]) -> dict[str, str]:
    """Return the tags of a row's columns, the column of tags among them."""
    more = _parsed(row.pop(_TAGS, None))
    return _texts({**row, **more})


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
