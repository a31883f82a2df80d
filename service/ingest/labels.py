"""Labels of Prometheus' series, as the bytes that remote write 1.0 has for them.

Those bytes are the token of a series: Prometheus sends labels sorted, so a series that is known is
found without a look at a single label.
"""

from __future__ import annotations

from collections.abc import Iterable

from models.telemetry.points import Series, SeriesTable
from service.ingest.decoded import UnusableError
from service.ingest.naming import MAX_BYTES, MAX_TAGS, TOO_LONG, TOO_MANY_TAGS, series_of
from service.ingest.wire import fields

__all__ = ["Label", "identify", "label", "series_with"]

_NAME = "__name__"
_SMALL = [bytes([size]) for size in range(0x80)]
Label = tuple[bytes, bytes]


def label(name: bytes, value: bytes) -> bytes:
    """Return the bytes of one label."""
    content = b"\x0a" + _size(name) + name + b"\x12" + _size(value) + value
    return b"\x0a" + _size(content) + content


def _size(content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return _SMALL[size]
    digits = bytearray()
    while size >= 0x80:
        digits.append(size & 0x7F | 0x80)
        size >>= 7
    return bytes((*digits, size))


def identify(block: bytes, table: SeriesTable) -> int:
    """Return the id of the series that labels in any order name, and remember it if it is new.

    Raises:
        MalformedInputError: these are no labels.
        UnusableError: they are beyond the limits, or name no series.
    """
    if len(block) > 2 * MAX_BYTES:
        raise UnusableError(TOO_LONG)
    labels = sorted(found for found in _labels(block) if found[1])
    if len(labels) > MAX_TAGS:
        raise UnusableError(TOO_MANY_TAGS)
    token = b"".join(label(*pair) for pair in labels)
    found = table.ids.get(token)
    return table.add(token, series_with(labels)) if found is None else found


def series_with(labels: Iterable[Label]) -> Series:
    """Return the series that labels in any order name; one without a value is none.

    Raises:
        UnusableError: they are beyond the limits, or name no series.
    """
    known = sorted(pair for pair in labels if pair[1])
    if len(known) > MAX_TAGS:
        raise UnusableError(TOO_MANY_TAGS)
    try:
        tags = {name.decode(): value.decode() for name, value in known}
    except UnicodeDecodeError as error:
        raise UnusableError("series whose names are not UTF-8") from error
    if len(tags) < len(known):
        raise UnusableError("series with a label twice")
    return series_of(tags.pop(_NAME, ""), tags)


def _labels(block: bytes) -> Iterable[Label]:
    for _, start, end in fields(block, 0, len(block)):
        name = value = b""
        for tag, at, stop in fields(block, start, end):
            if tag == 0x0A:
                name = block[at:stop]
            elif tag == 0x12:
                value = block[at:stop]
        yield name, value
