"""gNMIc's events as JSON: each a notification's values, by path.

The format: https://gnmic.openconfig.net/user_guide/event_processors/intro/
"""

from __future__ import annotations

import math
import re

import msgspec

from models.telemetry.points import Series, SeriesTable
from service.ingest.decoded import (
    LARGEST_INTEGER,
    NO_NUMBER,
    Batch,
    Decoded,
    UnusableError,
    nanoseconds,
)
from service.ingest.json_items import Items
from service.ingest.naming import canonical_json, series_of, tags_of

__all__ = ["decode"]

_NUMBER = re.compile(r"[-+]?\d{1,40}(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?", re.ASCII)
_SUBSCRIPTION = "subscription-name"


class _Event(msgspec.Struct, gc=False):
    name: str = ""
    timestamp: int | None = None
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    values: dict[str, float | int | bool | str | None] = {}
    deletes: list[str] | None = None


_events = Items(_Event, "events")


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode events, one point a value.

    A series is called by its path. A text that is a number is one, because JSON has no integers of
    64 bits and devices send them as texts; so is a state that the mapping knows. Any other text
    cannot be used. A path that was deleted ends its series.

    Raises:
        MalformedInputError: the body is no list of events.
    """
    batch, get = Batch(), table.ids.get
    series, times, values = batch.series, batch.times, batch.values
    for event in _events.decode(body, batch):
        name = event.name
        try:
            time = now if event.timestamp is None else nanoseconds(event.timestamp)
            tags = canonical_json(bytes(event.tags))
        except UnusableError as error:
            batch.reject(str(error), len(event.values))
            continue
        for path in event.deletes or ():
            if (known := get(("gnmic", name, tags, path))) is not None:
                series.append(known)
                times.append(time)
                values.append(math.nan)
        for path, value in event.values.items():
            try:
                number = table.state(path, value) if isinstance(value, str) else math.nan
                if math.isnan(number):
                    number = _number(value)
                token = ("gnmic", name, tags, path)
                found = get(token)
                if found is None:
                    found = table.add(token, _series(name, tags, path))
            except UnusableError as error:
                batch.reject(str(error))
                continue
            series.append(found)
            times.append(time)
            values.append(number)
    return batch.decoded()


def _number(value: float | str | None) -> float:
    if isinstance(value, str) and _NUMBER.fullmatch(value):
        return float(value)
    if (
        isinstance(value, str)
        or value is None
        or (type(value) is int and abs(value) >= LARGEST_INTEGER)
    ):
        raise UnusableError(NO_NUMBER)
    return value


def _series(name: str, tags: bytes, path: str) -> Series:
    subscription = {_SUBSCRIPTION: name} if name else {}
    return series_of(path, subscription | tags_of(tags))
