"""What JSON leaves to its readers: a byte-order mark before it, and a key that comes twice."""

from __future__ import annotations

import json
import re
from functools import cache

from models import RecordError

__all__ = ["check_unique", "without_bom"]

_MARK = b"\xef\xbb\xbf"
"""What PowerShell and .NET write before UTF-8; parsers may ignore it (RFC 8259, 8.1)."""


def without_bom(text: bytes | bytearray) -> bytes | bytearray:
    """Return JSON without a byte-order mark."""
    return text[len(_MARK) :] if text.startswith(_MARK) else text


def check_unique(text: bytes | bytearray, key: str) -> None:
    """Refuse an object that has a key twice: decoders keep the last without a word.

    Args:
        text: an object in JSON; it is only parsed when the key seems to come twice.
        key: of lower-case letters.

    Raises:
        RecordError: the key comes twice.
    """
    escapes = text.count(b"\\u") if b"\\" in text else 0
    if text.count(key.encode()) + escapes < 2 or len(_spelt(key).findall(text)) < 2:
        return
    # No number matters here, and Python refuses integers of many digits.
    members = json.loads(text.decode(), parse_int=len, object_pairs_hook=list)
    if sum(name == key for name, _ in members) > 1:
        raise RecordError.of_request(key, "this key once", "a second one")


@cache
def _spelt(key: str) -> re.Pattern[bytes]:
    """Return a pattern of a key, whichever of its letters are escaped."""
    letters = (rf"(?:{letter}|\\u00(?i:{ord(letter):02x}))" for letter in key)
    return re.compile(rf'"{"".join(letters)}"\s*:'.encode())
