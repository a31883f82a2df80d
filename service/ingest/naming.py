"""Names and tags of series: their limits, and one form of tags that came in any order."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache

import msgspec

from models.telemetry.points import Series
from service.formats.json_diagnosis import DECODE_ERRORS
from service.ingest.decoded import UnusableError

__all__ = [
    "MAX_BYTES",
    "MAX_TAGS",
    "REMEMBERED",
    "TOO_LONG",
    "TOO_MANY_TAGS",
    "canonical",
    "canonical_json",
    "series_of",
    "tags_of",
]

MAX_TAGS = 64
"""Tags of a series."""
MAX_BYTES = 4096
"""Of a series' name and tags together: every series that is remembered keeps them."""
REMEMBERED = 1 << 14
"""Sets of tags whose one form is remembered, for each format."""
TOO_MANY_TAGS = f"series with more than {MAX_TAGS} tags"
TOO_LONG = f"series whose names take more than {MAX_BYTES} bytes"

_text_tags = msgspec.json.Decoder(dict[str, str])


def series_of(name: str, tags: Mapping[str, str], *, delta: bool = False) -> Series:
    """Return a series whose name and tags are within the limits.

    Raises:
        UnusableError: they are not, or there is no name.
    """
    if not name:
        raise UnusableError("series without a name")
    if len(tags) > MAX_TAGS:
        raise UnusableError(TOO_MANY_TAGS)
    try:
        size = sum(len(text.encode()) for text in (name, *tags, *tags.values()))
    except UnicodeEncodeError as error:
        raise UnusableError("series whose names are not UTF-8") from error
    if size > MAX_BYTES:
        raise UnusableError(TOO_LONG)
    return Series(name, tags, delta)


def canonical(tags: Mapping[str, str]) -> bytes:
    """Return the one form of tags, which `tags_of` reads.

    Raises:
        UnusableError: they are beyond the limits.
    """
    series_of("tags", tags)
    return msgspec.json.encode(dict(sorted(tags.items())))


def tags_of(form: bytes) -> dict[str, str]:
    """Return the tags of a form that `canonical` made."""
    return _text_tags.decode(form)


@lru_cache(REMEMBERED)
def canonical_json(text: bytes) -> bytes:
    """Return the one form of tags that are a JSON object of texts.

    Raises:
        UnusableError: they are no such object, or beyond the limits.
    """
    if len(text) > 2 * MAX_BYTES:
        raise UnusableError(TOO_LONG)
    try:
        return canonical(_text_tags.decode(text))
    except DECODE_ERRORS as error:
        raise UnusableError("series whose tags are no texts") from error
