"""gNMIc's events as JSON: each a notification's values, by path.

The format: https://gnmic.openconfig.net/user_guide/event_processors/intro/
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Hashable

import msgspec

from models.telemetry.points import Series, SeriesTable
from service.formats.json_diagnosis import DECODE_ERRORS
from service.ingest.decoded import (
    LARGEST_INTEGER,
    NO_NUMBER,
    Batch,
    Decoded,
    UnusableError,
    nanoseconds,
)
from service.ingest.json_items import Items, Value, value_of
from service.ingest.naming import MAX_BYTES, canonical, canonical_json, series_of, tags_of

__all__ = ["decode"]

_NUMBER = re.compile(r"[-+]?\d{1,40}(?:\.\d{1,40})?(?:[eE][-+]?\d{1,3})?", re.ASCII)
_SUBSCRIPTION = "subscription-name"
_VALUE = r"(?:[^][\\]|\\[][]|\\(?![][]))*"
"""Of a key: a bracket in it has a backslash before it."""
_ELEMENT = re.compile(rf"/?([^][/]+)((?:\[[^][=]+={_VALUE}\])*)(?=/|$)")
_KEY = re.compile(rf"\[([^][=]+)=({_VALUE})\]")
_ESCAPED = re.compile(r"\\([][])")


class _Event(msgspec.Struct, gc=False):
    name: str = ""
    timestamp: int | None = None
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    values: dict[str, Value] = {}
    deletes: list[str] | None = None


class _RawEvent(msgspec.Struct):
    name: str = ""
    timestamp: int | None = None
    tags: msgspec.Raw = msgspec.Raw(b"{}")
    values: dict[str, msgspec.Raw] = {}
    deletes: list[str] | None = None


_event = msgspec.json.Decoder(_Event)
_raw_event = msgspec.json.Decoder(_RawEvent)


def _event_of(text: msgspec.Raw) -> _Event:
    """Return an event, with None for each value of another form, such as a list."""
    try:
        return _event.decode(text)
    except DECODE_ERRORS:
        raw = _raw_event.decode(text)
    values = {path: value_of(value) for path, value in raw.values.items()}
    return _Event(raw.name, raw.timestamp, raw.tags, values, raw.deletes)


_events = Items(_Event, "events", _event_of)


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode events, one point a value.

    A series is called by its path. A text that is a number is one, because JSON has no integers of
    64 bits and devices send them as texts; so is a state that the mapping knows. Any other text
    cannot be used, nor can a list or an object. A path that was deleted ends its series, whether
    its keys are tags of the event or stand in the path.

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
            known = get(("gnmic", name, tags, path))
            if known is None:
                known = _keyed(name, tags, path, get)
            if known is not None:
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


def _keyed(name: str, tags: bytes, path: str, get: Callable[[Hashable], int | None]) -> int | None:
    """Return the series of a path as gNMIc before 0.36 deletes it, None if it is not known.

    Such a path has keys in it and no slash before it; values have keys as tags, and a slash.
    """
    if path.startswith("/") and "[" not in path:  # of later versions, and looked up already
        return None
    parsed = _plain(path)
    if parsed is None:
        return None
    plain, keys = parsed
    known = tags_of(tags)
    if any(known.get(tag, value) != value for tag, value in keys.items()):
        return None
    try:
        form = canonical(known | keys)
    except UnusableError:  # beyond the limits, so no series has it
        return None
    return get(("gnmic", name, form, plain))


def _plain(path: str) -> tuple[str, dict[str, str]] | None:
    """Return a path without keys, and these as the tags that gNMIc makes of them, or None."""
    if len(path) > MAX_BYTES:
        return None
    names, keys, end = list[str](), dict[str, str](), 0
    while end < len(path):
        element = _ELEMENT.match(path, end)
        if element is None:
            return None
        names.append(element[1])
        of = element[1].rpartition(":")[2]
        for key, value in _KEY.findall(element[2]):
            keys[f"{of}_{key}"] = _ESCAPED.sub(r"\1", value)
        end = element.end()
    return "/" + "/".join(names), keys


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
