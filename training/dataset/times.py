"""Times as tables have them."""

import polars as pl

from training.recipe import RecipeError

_TIME = (
    r"^(?<day>\d{4}-\d\d-\d\d|\d\d?\.\d\d?\.\d{4})"
    r"(?:[T ] *(?<clock>\d\d?:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?(?<zone>[zZ]|UTC|[+-]\d\d:?\d\d)?)?$"
)
_DIGITS = "%Y%m%d%H%M%S"
_FIRST, _LAST = 19_700_101_000_000, 21_001_231_235_959
"""Whole numbers between these are dates and times of 14 digits, and no seconds."""
_EPOCHS = {1e17: 1e9, 1e14: 1e6, 1e11: 1e3}
"""Units in a second of times no smaller than this: as seconds, 1e11 would be the year 5138."""


def times_of(column: pl.Series) -> pl.Series:
    """Return times that can be ordered; text must be ISO 8601, RFC 3339 or day.month.year."""
    name = column.name
    if column.dtype != pl.String:
        return column
    parts = pl.DataFrame({"text": column.str.strip_chars()}).select(
        pl.col("text").str.extract_groups(_TIME)
    )
    day, clock, zone = (pl.col("text").struct.field(key) for key in ("day", "clock", "zone"))
    day = day.str.replace(r"^(\d\d?)\.(\d\d?)\.(\d{4})$", "$3-$2-$1")
    clock = (
        clock.fill_null("00:00:00").str.replace(",", ".").str.replace(r"^(\d\d?:\d\d)$", "$1:00")
    )
    zone = zone.str.replace(r"^[zZ]$|^UTC$", "+00:00").str.replace(r"^(...)(\d\d)$", "$1:$2")
    zones = parts.select(zone.alias("zone"))["zone"]
    text = pl.concat_str(day, pl.lit(" "), clock, zone.fill_null("+00:00"))
    times = parts.select(
        text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", strict=False, time_unit="ns")
    )
    odd = times.to_series().is_null() & column.is_not_null()
    if odd.any():
        raise RecipeError(
            f"{name!r} holds text that is no time, such as {column.filter(odd)[0]!r}; write it as "
            "2026-01-31 23:59:59, 2026-01-31T23:59:59Z or 31.01.2026 23:59, or as a number"
        )
    if column.null_count() < zones.null_count() < len(zones):
        raise RecipeError(f"some times of {name!r} have an offset and some have none; give all one")
    return times.to_series().alias(name)


def seconds_of(column: pl.Series) -> pl.Series:
    """Return times in seconds, float64, null where there is none.

    Numbers are seconds already, unless all are as large as times since 1970 in ms, us or ns, and
    whole numbers of 14 digits such as 20260131235959 are date and time. Those, dates and texts (see
    `times_of`) count from 1970, UTC where no zone is given.

    Raises:
        RecipeError: a value is no time.
    """
    try:
        if column.dtype == pl.String:
            column = _from_text(column)
        elif column.dtype.is_integer() and column.is_between(_FIRST, _LAST).all():
            column = column.cast(pl.String).str.to_datetime(_DIGITS, time_unit="us")
        if column.dtype.is_temporal():
            return column.cast(pl.Datetime("us")).dt.epoch("us") / 1e6
        return _in_seconds(column.cast(pl.Float64))
    except pl.exceptions.PolarsError as error:
        raise RecipeError(
            f"{column.name!r} holds values that are no time; write 2026-01-31 23:59:59, or seconds"
        ) from error


def _in_seconds(numbers: pl.Series) -> pl.Series:
    least = numbers.filter(numbers.is_finite()).abs().min()
    for limit, units in _EPOCHS.items():
        if isinstance(least, float) and least >= limit:
            return numbers / units
    return numbers


def _from_text(column: pl.Series) -> pl.Series:
    try:
        return column.cast(pl.Float64)
    except pl.exceptions.PolarsError:
        return times_of(column)
