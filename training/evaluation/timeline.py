"""When, in which series and in which event records were made."""

from collections.abc import Sequence

import polars as pl

from training.dataset.times import seconds_of
from training.recipe import RecipeError

_BETWEEN = " / "


def timeline(
    table: pl.DataFrame,
    time: str | None = None,
    series: Sequence[str] = (),
    event: Sequence[str] = (),
) -> pl.DataFrame:
    """Return a row for each record of a table, in its order, with what the columns named tell.

    `time`: float64, seconds. `series`: a struct of texts, one for each column. `event`: text, null
    where a column holds nothing. A column is left out if nothing is named for it.

    Raises:
        RecipeError: a column is missing, or not every record has a time that can be read.
    """
    for name in (*series, *event, *([time] if time else [])):
        if name not in table.columns:
            raise RecipeError(f"the test rows have no column {name!r}, which the recipe names")
    columns = []
    if time:
        columns.append(_seconds(table[time]).alias("time"))
    if series:
        columns.append(_texts(table, series).to_struct("series"))
    if event:
        columns.append(joined(_texts(table, event).select(pl.all().replace("", None)), "event"))
    return pl.DataFrame(columns)


def parts(series: pl.Series) -> pl.DataFrame:
    """Return the columns that name a series: those of a struct, or the one that is given."""
    if isinstance(series.dtype, pl.Struct):
        return series.struct.unnest()
    return series.cast(pl.String).fill_null("").to_frame()


def joined(columns: pl.DataFrame, name: str) -> pl.Series:
    """Return the texts of all columns as one, null where one is null."""
    return columns.select(pl.concat_str(pl.all(), separator=_BETWEEN).alias(name))[name]


def _texts(table: pl.DataFrame, names: Sequence[str]) -> pl.DataFrame:
    return table.select(pl.col(dict.fromkeys(names)).cast(pl.String).fill_null(""))


def _seconds(column: pl.Series) -> pl.Series:
    times = seconds_of(column)
    if missing := len(times) - int(times.is_finite().sum()):
        raise RecipeError(f"{missing} test rows have no {column.name!r}, the time of a record")
    return times
