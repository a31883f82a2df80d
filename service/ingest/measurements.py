"""Telegraf's measurements: several fields of one name, one set of tags and one time."""

from __future__ import annotations

from collections.abc import Iterable

from models.telemetry.points import SeriesTable
from service.ingest.decoded import Batch, UnusableError
from service.ingest.naming import series_of, tags_of

__all__ = ["add_fields", "name_of"]

_ONLY = "value"
"""A field of this name adds nothing to the name of its measurement, as in Telegraf's own outputs
for systems whose points have one value each."""


def name_of(measurement: str, field: str) -> str:
    """Return what the series of a field is called."""
    return measurement if field == _ONLY else f"{measurement}_{field}"


def add_fields(
    name: str,
    tags: bytes,
    time: int,
    fields: Iterable[tuple[str, float]],
    table: SeriesTable,
    batch: Batch,
) -> None:
    """Add a measurement's points; a series is called measurement_field, or measurement alone.

    The same series has the same token in every format that has measurements.

    Args:
        name: of the measurement.
        tags: in their one form.
        time: nanoseconds.
        fields: names and numbers.
        table: of the series known so far.
        batch: where the points go.
    """
    get, series, values = table.ids.get, batch.series, batch.values
    before = len(series)
    for field, value in fields:
        token = ("telegraf", name, tags, field)
        found = get(token)
        if found is None:
            try:
                found = table.add(token, series_of(name_of(name, field), tags_of(tags)))
            except UnusableError as error:
                batch.reject(str(error))
                continue
        series.append(found)
        values.append(value)
    batch.times += [time] * (len(series) - before)
