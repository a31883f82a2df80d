"""The Influx line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`.

The format: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import lru_cache

from models.telemetry.points import SeriesTable
from service.ingest.decoded import NO_NUMBER, Batch, UnusableError, nanoseconds
from service.ingest.measurements import add_fields
from service.ingest.naming import MAX_BYTES, REMEMBERED, canonical

__all__ = ["decode_lines"]

_NO_LINE = "lines that are not of the line protocol"
_BOOLEANS = dict.fromkeys((b"t", b"T", b"true", b"True", b"TRUE"), 1.0) | dict.fromkeys(
    (b"f", b"F", b"false", b"False", b"FALSE"), 0.0
)
_TIME = re.compile(rb"-?\d{1,25}")
_STRING = rb'"(?:[^"\\]|\\.)*+"'  # the only place where a line break does not end a line
_LINE = re.compile(
    rb"((?:[^ \\\n]|\\.)++) ++((?:[^ \\\n\"]|\\.|" + _STRING + rb")++)(?: ++([^ \n]*))? *+(?:\n|$)",
    re.DOTALL,
)
_FIELD = re.compile(rb"((?:[^,=\\]|\\.)++)=(" + _STRING + rb"|[^,\"]*+)(?:,|$)", re.DOTALL)
_PART = re.compile(rb"((?:[^,\\]|\\.)++)(?:,|$)", re.DOTALL)
_TAG = re.compile(rb"((?:[^=\\]|\\.)++)=(.+)", re.DOTALL)
_ESCAPE = re.compile(rb"\\([,= ])")


def decode_lines(body: bytes, table: SeriesTable, now: int, batch: Batch) -> None:
    """Decode lines; one that cannot be used is counted, and the others are taken."""
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end].rstrip(b"\r ")
        following = end + 1
        try:
            if b'"' in line or b"\\" in line:
                match = _line(body, start)
                following = match.end()
                head, fields, stamp = match.groups(b"")
                _add(head, _escaped_fields(fields), stamp.rstrip(b"\r"), table, now, batch)
            elif line and not line.startswith(b"#"):
                head, _, rest = line.lstrip(b" ").partition(b" ")
                fields, _, stamp = rest.strip(b" ").partition(b" ")
                _add(head, _plain_fields(fields), stamp.lstrip(b" "), table, now, batch)
        except UnusableError as error:
            batch.reject(str(error))
        start = following


def _line(body: bytes, start: int) -> re.Match[bytes]:
    match = _LINE.match(body, start)
    if match is None:
        raise UnusableError(_NO_LINE)
    return match


def _add(
    head: bytes,
    fields: Iterator[tuple[bytes, bytes]],
    stamp: bytes,
    table: SeriesTable,
    now: int,
    batch: Batch,
) -> None:
    if not stamp:
        time = now
    elif _TIME.fullmatch(stamp):
        time = nanoseconds(int(stamp))
    else:
        raise UnusableError(_NO_LINE)
    name, tags = _parsed(head)
    numbers = []
    for key, text in [*fields]:
        number = _number(text)
        if number is None:
            batch.reject(NO_NUMBER)
        else:
            numbers.append((_text(key), number))
    add_fields(name, tags, time, numbers, table, batch)


def _plain_fields(fields: bytes) -> Iterator[tuple[bytes, bytes]]:
    for field in fields.split(b","):
        key, equals, value = field.partition(b"=")
        if not equals:
            raise UnusableError(_NO_LINE)
        yield key, value


def _escaped_fields(fields: bytes) -> Iterator[tuple[bytes, bytes]]:
    start = 0
    while start < len(fields):
        match = _FIELD.match(fields, start)
        if match is None:
            raise UnusableError(_NO_LINE)
        start = match.end()
        yield match[1], match[2]


def _number(text: bytes) -> float | None:
    try:
        return float(text[:-1] if text[-1:] in {b"i", b"u"} else text)
    except ValueError:
        return _BOOLEANS.get(text)


@lru_cache(REMEMBERED)
def _parsed(head: bytes) -> tuple[str, bytes]:
    """Return the measurement, and the one form of its tags."""
    if len(head) > 2 * MAX_BYTES:
        raise UnusableError(f"series whose names take more than {MAX_BYTES} bytes")
    parts = [part[1] for part in _PART.finditer(head)]
    pairs = [_TAG.fullmatch(part) for part in parts[1:]]
    if not parts or b"," + head + b"," != b"," + b",".join(parts) + b",":
        raise UnusableError(_NO_LINE)
    tags = {}
    for pair in pairs:
        if pair is None:
            raise UnusableError(_NO_LINE)
        tags[_text(pair[1])] = _text(pair[2])
    return _text(parts[0]), canonical(tags)


def _text(raw: bytes) -> str:
    try:
        return (_ESCAPE.sub(rb"\1", raw) if b"\\" in raw else raw).decode()
    except UnicodeDecodeError as error:
        raise UnusableError(_NO_LINE) from error
