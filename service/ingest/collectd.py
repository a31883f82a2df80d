"""What collectd's plugin write_http sends as JSON.

The format: https://collectd.org/wiki/index.php/JSON
"""

from __future__ import annotations

import math
import sys
from functools import lru_cache

import msgspec

from models.telemetry.points import Series, SeriesTable
from service.formats.json_diagnosis import DECODE_ERRORS
from service.ingest.decoded import Batch, Decoded, UnusableError, nanoseconds
from service.ingest.json_items import Items
from service.ingest.naming import MAX_BYTES, series_of

__all__ = ["decode"]

_ABSOLUTE = b'"absolute"'
"""Counters that the read sets to zero."""
_BAD_NAMES = "value lists whose names do not fit their values"
_NO_NAMES = msgspec.Raw(b"[]")


class _ValueList(msgspec.Struct, gc=False):
    values: list[float | None]
    host: str
    plugin: str
    type: str
    dstypes: msgspec.Raw = _NO_NAMES
    dsnames: msgspec.Raw = _NO_NAMES
    time: float | None = None
    plugin_instance: str = ""
    type_instance: str = ""


_value_lists = Items(_ValueList, "value lists")
_texts = msgspec.json.Decoder(tuple[str, ...])


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode value lists, each with one point for each of its values.

    A series is called by its type, or type_dsname where the type has more than one value. A null
    is a point too: collectd says that it knows no value now, so it is NaN and ends the series.

    Raises:
        MalformedInputError: the body is no list of value lists.
    """
    batch, get = Batch(), table.ids.get
    series, times, values = batch.series, batch.times, batch.values
    last, nanos = None, now
    for item in _value_lists.decode(body, batch):
        try:
            if item.time != last:  # nearly all of a body have the same time
                nanos = now if item.time is None else nanoseconds(item.time)
                last = item.time
            names = _names(bytes(item.dsnames), len(item.values))
        except UnusableError as error:
            batch.reject(str(error), len(item.values))
            continue
        for name, value in zip(names, item.values, strict=True):
            token = (
                "collectd", item.host, item.plugin, item.plugin_instance,
                item.type, item.type_instance, name,
            )  # fmt: skip
            found = get(token)
            if found is None:
                try:
                    shared = tuple(map(sys.intern, token))  # by many series
                    found = table.add(shared, _series(item, name))
                except UnusableError as error:
                    batch.reject(str(error))
                    continue
            series.append(found)
            times.append(nanos)
            values.append(math.nan if value is None else value)
    return batch.decoded()


@lru_cache(1024)
def _names(text: bytes, values: int) -> tuple[str, ...]:
    try:
        names: tuple[str, ...] = _texts.decode(text[: 1 + MAX_BYTES]) or ("value",)
    except DECODE_ERRORS as error:
        raise UnusableError(_BAD_NAMES) from error
    if len(names) != values:
        raise UnusableError(_BAD_NAMES)
    return names


def _series(item: _ValueList, name: str) -> Series:
    tags = {
        "host": item.host,
        "plugin": item.plugin,
        "plugin_instance": item.plugin_instance,
        "type_instance": item.type_instance,
    }
    return series_of(
        item.type if name == "value" else f"{item.type}_{name}",
        {tag: text for tag, text in tags.items() if text},
        delta=_ABSOLUTE in bytes(item.dstypes),  # no type mixes it with others
    )
