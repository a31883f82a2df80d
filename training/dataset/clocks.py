"""Clocks: fields whose value tells when a record was made, such as uptimes and running counters.

A model that sees one learns the time of the recording instead of the network's state.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from training.dataset.times import seconds_of

Numbers = npt.NDArray[np.float64]
Reason = Literal["never decreases", "measures an age", "follows the time"]

_LEAST_STEPS = 20
"""Fewer changes than this prove no direction: by chance all go one way once in a million tables."""
_RESETS = 0.03
"""Share of changes against a clock's direction: restarts, and the borders between recordings."""
_AGE = re.compile(r"(^|[^a-z])(up[-_ ]?time|sysuptime|alive|age|elapsed|duration|since)($|[^a-z])")
_AGE_FALLS = 0.6
"""An age falls less often than this share of its rises, even where several ports take turns."""
_FOLLOWS = 0.95
"""Rank correlation with time, in good traffic, of a field that says nothing but the time."""
_LEAST_ROWS = 30
"""Good records of a series that a rank correlation is taken from."""
_LEAST_SERIES = 3
"""Fewer series that drift alike prove nothing: a network may just have warmed up."""
RATE_SUFFIX = "_per_s"
_ROW = "__row__"


@dataclass(frozen=True, slots=True)
class Clock:
    """A field that tells the time of recording, and what betrays it."""

    name: str
    reason: Reason

    @property
    def becomes_rate(self) -> bool:
        """Whether the increase per second says what the field was meant to say."""
        return self.reason == "never decreases"

    @property
    def rate(self) -> str:
        """The name of the field that holds its increase per second."""
        return self.name + RATE_SUFFIX


def find_clocks(
    table: pl.DataFrame,
    names: Iterable[str],
    series: Sequence[str],
    time: str | None,
    is_good: pl.Series,
) -> list[Clock]:
    """Return the clocks among numeric columns.

    A clock never decreases within a series but for a few resets; or it is named like an age and
    rises most of the time; or its rank follows the time in the good traffic of several series, all
    in the same direction.

    Args:
        table: the training rows, each series in the order of recording if there is no time.
        names: the numeric columns to examine.
        series: columns that name a record's series; without them all rows are one series.
        time: column with the time of a record.
        is_good: bool [n], which rows are good traffic.
    """
    rows = series_rows(table, series, time)
    good = is_good.to_numpy()
    clocks = []
    for name in names:
        values = table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        reason = _reason(name, values, rows, good, is_ordered=bool(series or time))
        if reason:
            clocks.append(Clock(name, reason))
    return clocks


def _reason(
    name: str,
    values: Numbers,
    rows: Sequence[npt.NDArray[np.intp]],
    good: npt.NDArray[np.bool_],
    is_ordered: bool,
) -> Reason | None:
    steps = np.concatenate([np.diff(_present(values[series])) for series in rows])
    rises, falls = int((steps > 0).sum()), int((steps < 0).sum())
    if max(rises, falls) < _LEAST_STEPS:
        return None
    if min(rises, falls) <= _RESETS * max(rises, falls):
        return "never decreases" if rises > falls else "measures an age"
    if _AGE.search(name.lower()) and falls < _AGE_FALLS * rises:
        return "measures an age"
    # The order of rows that nobody vouches for may be an order by value.
    if is_ordered and _follows_time([_present(values[series[good[series]]]) for series in rows]):
        return "follows the time"
    return None


def _present(values: Numbers) -> Numbers:
    return values[~np.isnan(values)]


def _follows_time(series: Iterable[Numbers]) -> bool:
    """Return whether values follow their order, in the same direction in every series."""
    correlations = [
        _rank_correlation(values)
        for values in series
        if len(values) >= _LEAST_ROWS and np.ptp(values) > 0
    ]
    if len(correlations) < _LEAST_SERIES:
        return False
    return min(correlations) >= _FOLLOWS or max(correlations) <= -_FOLLOWS


def _rank_correlation(values: Numbers) -> float:
    """Return Spearman's correlation of values with their order."""
    ranks = pl.Series(values).rank("average").to_numpy()
    return float(np.corrcoef(ranks, np.arange(len(ranks)))[0, 1])


def series_rows(
    table: pl.DataFrame, series: Sequence[str], time: str | None
) -> list[npt.NDArray[np.intp]]:
    """Return the row numbers of each series, in the order of time."""
    rows = pl.DataFrame({_ROW: np.arange(len(table))}).hstack(table.select(*series))
    if time is not None:
        rows = rows[np.argsort(_seconds(table[time]), kind="stable")]
    if not series:
        return [rows[_ROW].to_numpy()]
    return [of.to_numpy() for of in rows.group_by(series, maintain_order=True).agg(_ROW)[_ROW]]


def _seconds(column: pl.Series) -> Numbers:
    return seconds_of(column).fill_null(float("nan")).to_numpy()


def with_rates(
    table: pl.DataFrame, clocks: Sequence[Clock], series: Sequence[str], time: str | None
) -> pl.DataFrame:
    """Return the table with the increase per second of each clock that has one.

    A fall is a restart and counts as no increase. The first record of a series has none either,
    and neither has a record at the same time as the one before.
    """
    names = [c.name for c in clocks if c.becomes_rate and c.name in table.columns]
    if not names or time is None or not {time, *series} <= set(table.columns):
        return table
    at, rows = _seconds(table[time]), series_rows(table, series, time)
    rates: Mapping[str, Numbers] = {name: np.zeros(len(table)) for name in names}
    for name, rate in rates.items():
        values = table[name].cast(pl.Float64).fill_null(float("nan")).to_numpy()
        for chosen in rows:
            increase, passed = np.diff(values[chosen]), np.diff(at[chosen])
            with np.errstate(divide="ignore", invalid="ignore"):
                quotient = np.where(passed > 0, np.maximum(increase, 0) / passed, 0.0)
            rate[chosen[1:]] = quotient
    return table.with_columns(
        pl.Series(name + RATE_SUFFIX, rate, nan_to_null=True) for name, rate in rates.items()
    )
