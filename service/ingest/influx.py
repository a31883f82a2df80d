"""The Influx line protocol: `measurement,tag=value field=1.5,other=2i 1700000000000000000`.

The format: https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import math
import re
from functools import lru_cache

from models.telemetry.points import SeriesTable
from service.formats.errors import MalformedInputError
from service.ingest.decoded import NO_NUMBER, Batch, UnusableError, nanoseconds
from service.ingest.measurements import add_fields, name_of
from service.ingest.naming import MAX_BYTES, REMEMBERED, TOO_LONG, canonical

__all__ = ["decode_lines"]

_NO_LINE = "lines that are not of the line protocol"
_MAX_LINES = 1 << 18
_MAX_LINE = 1 << 18
"""Bytes: thousands of fields."""
_BOOLEANS = dict.fromkeys(("t", "T", "true", "True", "TRUE"), 1.0) | dict.fromkeys(
    ("f", "F", "false", "False", "FALSE"), 0.0
)
_TIME = re.compile(r"-?\d{1,25}", re.ASCII)
_STRING = r'"(?:[^"\\]|\\.)*+"'  # the only place where a line break does not end a line
_PAIR = rf'((?:[^,= \\\n]|\\[^\n])++)=({_STRING}|[^," \n]*+)'
_LINE = re.compile(
    (
        rf"(?P<head>(?:[^ \\\n]|\\[^\n])++) ++(?P<fields>{_PAIR}(?:,{_PAIR})*+)"
        r"(?: ++(?P<time>[^ \n]*+))?+ *+(?:\n|$)"
    ).encode(),
    re.DOTALL,
)
_FIELD = re.compile(rf"{_PAIR}(?:,|$)", re.DOTALL)
_PART = re.compile(r"((?:[^,\\]|\\.)++)(?:,|$)", re.DOTALL)
_TAG = re.compile(r"((?:[^=\\]|\\.)++)=(.+)", re.DOTALL)
_ESCAPE = re.compile(r"\\([,= ])")
_QUOTED = re.compile(r'\\(["\\])')


def decode_lines(body: bytes, table: SeriesTable, now: int, batch: Batch) -> None:
    """Decode lines; one that cannot be used is counted, and the others are taken.

    Raises:
        MalformedInputError: there are far too many.
    """
    if body.count(b"\n") > _MAX_LINES:
        raise MalformedInputError(f"The body has more than {_MAX_LINES} lines; send smaller ones.")
    start = 0
    while start < len(body):
        end = body.find(b"\n", start)
        end = len(body) if end < 0 else end
        line = body[start:end]
        following = end + 1
        try:
            _check_length(line)
            if b'"' in line or b"\\" in line:
                match = _line(body, start)
                following = match.end()
                head, fields, stamp = (match[name] or b"" for name in ("head", "fields", "time"))
                pairs = _escaped_fields(fields.decode())
                _add(head.decode(), pairs, stamp.decode(), table, now, batch)
            elif not line.startswith(b"#") and (text := line.decode().strip(" \r")):
                head, _, rest = text.partition(" ")
                fields, _, stamp = rest.lstrip(" ").partition(" ")
                _add(head, _plain_fields(fields), stamp, table, now, batch)
        except UnusableError as error:
            batch.reject(str(error))
        except UnicodeDecodeError:
            batch.reject(_NO_LINE)
        start = following


def _check_length(line: bytes) -> None:
    if len(line) > _MAX_LINE:
        raise UnusableError(f"lines of more than {_MAX_LINE} bytes")


def _line(body: bytes, start: int) -> re.Match[bytes]:
    match = _LINE.match(body, start)
    if match is None:
        raise UnusableError(_NO_LINE)
    _check_length(match[0])
    return match


def _add(
    head: str,
    fields: list[tuple[str, str]],
    stamp: str,
    table: SeriesTable,
    now: int,
    batch: Batch,
) -> None:
    time = _time(stamp.strip(" \r"), now)
    name, tags = _parsed(head)
    numbers: list[tuple[str, float]] = []
    for key, text in fields:
        try:
            number = float(text[:-1] if text[-1:] in {"i", "u"} else text)
        except ValueError:
            number = _BOOLEANS.get(text, math.nan)
            if text.startswith('"'):
                number = table.state(name_of(name, key), _QUOTED.sub(r"\1", text[1:-1]))
            if math.isnan(number):
                batch.reject(NO_NUMBER)
                continue
        numbers.append((key, number))
    add_fields(name, tags, time, numbers, table, batch)


def _time(stamp: str, now: int) -> int:
    if not stamp:
        return now
    if not _TIME.fullmatch(stamp):
        raise UnusableError(_NO_LINE)
    return nanoseconds(int(stamp))


def _plain_fields(fields: str) -> list[tuple[str, str]]:
    pairs = [field.partition("=") for field in fields.split(",")]
    if not all(equals for _, equals, _ in pairs):
        raise UnusableError(_NO_LINE)
    return [(key, value) for key, _, value in pairs]


def _escaped_fields(fields: str) -> list[tuple[str, str]]:
    pairs, start = [], 0
    while start < len(fields):
        match = _FIELD.match(fields, start)
        if match is None:
            raise UnusableError(_NO_LINE)
        start = match.end()
        pairs.append((_plain(match[1]), match[2]))
    return pairs


@lru_cache(REMEMBERED)
def _parsed(head: str) -> tuple[str, bytes]:
    """Return the measurement, and the one form of its tags."""
    if len(head) > 2 * MAX_BYTES:
        raise UnusableError(TOO_LONG)
    parts = [part[1] for part in _PART.finditer(head)]
    if ",".join(parts) != head:
        raise UnusableError(_NO_LINE)
    tags = {}
    for part in parts[1:]:
        pair = _TAG.fullmatch(part)
        if pair is None:
            raise UnusableError(_NO_LINE)
        tags[_plain(pair[1])] = _plain(pair[2])
    return _plain(parts[0]), canonical(tags)


def _plain(escaped: str) -> str:
    return _ESCAPE.sub(r"\1", escaped)
