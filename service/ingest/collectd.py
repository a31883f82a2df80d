"""What collectd's plugin write_http sends as JSON.

The format: https://collectd.org/wiki/index.php/JSON
"""

from __future__ import annotations

import math

import msgspec

from models.telemetry.points import Series, SeriesTable
from service.ingest.decoded import Batch, Decoded, UnusableError, nanoseconds
from service.ingest.json_items import Items
from service.ingest.naming import series_of

__all__ = ["decode"]

_ABSOLUTE = "absolute"
"""Counters that the read sets to zero."""


class _ValueList(msgspec.Struct, gc=False):
    values: list[float | None]
    host: str
    plugin: str
    type: str
    dstypes: list[str] = []
    dsnames: list[str] = []
    time: float | None = None
    plugin_instance: str = ""
    type_instance: str = ""


_value_lists = Items(_ValueList, "value lists")


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode value lists, each with one point for each of its values.

    A series is called by its type, or type_dsname where the type has more than one value. A null
    is a point too: collectd says that it knows no value now, so it is NaN and ends the series.

    Raises:
        MalformedInputError: the body is no list of value lists.
    """
    batch, get = Batch(), table.ids.get
    series, times, values = batch.series, batch.times, batch.values
    for item in _value_lists.decode(body, batch):
        names = item.dsnames or ["value"]
        if len(names) != len(item.values):
            batch.reject("value lists whose names are not as many as their values")
            continue
        try:
            time = now if item.time is None else nanoseconds(item.time)
        except UnusableError as error:
            batch.reject(str(error), len(names))
            continue
        for number, (name, value) in enumerate(zip(names, item.values, strict=True)):
            token = (
                "collectd", item.host, item.plugin, item.plugin_instance,
                item.type, item.type_instance, name,
            )  # fmt: skip
            found = get(token)
            if found is None:
                try:
                    found = table.add(token, _series(item, number, name))
                except UnusableError as error:
                    batch.reject(str(error))
                    continue
            series.append(found)
            times.append(time)
            values.append(math.nan if value is None else value)
    return batch.decoded()


def _series(item: _ValueList, number: int, name: str) -> Series:
    tags = {
        "host": item.host,
        "plugin": item.plugin,
        "plugin_instance": item.plugin_instance,
        "type_instance": item.type_instance,
    }
    return series_of(
        item.type if name == "value" else f"{item.type}_{name}",
        {tag: text for tag, text in tags.items() if text},
        delta=item.dstypes[number : number + 1] == [_ABSOLUTE],
    )
