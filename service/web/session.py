"""Sign-in of a browser: a key becomes a cookie, for twelve hours.

A page cannot send a key with every request: event streams and links have no headers of their own.
The cookie holds the key itself, which no script can read. A token instead would have to be made of
the key's hash, as the service knows nothing else of it; then the hash would open what only the key
should.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator, Mapping
from typing import Final

__all__ = ["COOKIE", "SECONDS", "keys_of", "value_of"]

COOKIE: Final = "faultcube"
SECONDS: Final = 12 * 3600
"""That a session lasts."""

_PREFIX = f"{COOKIE}=".encode()
_MAX_COOKIES = 50


def value_of(key: str) -> str:
    """Return the value of the cookie for a key, in characters that every cookie may have."""
    return base64.urlsafe_b64encode(key.encode()).decode().rstrip("=")


def keys_of(headers: Mapping[bytes, bytes]) -> Iterator[bytes]:
    """Yield the keys of a request's cookies; browsers send those of a longer path first."""
    for part in headers.get(b"cookie", b"").split(b";", _MAX_COOKIES)[:_MAX_COOKIES]:
        name_and_value = part.strip()
        if name_and_value.startswith(_PREFIX):
            value = name_and_value.removeprefix(_PREFIX)
            try:
                yield base64.b64decode(value + b"=" * (-len(value) % 4), b"-_", validate=True)
            except binascii.Error:
                continue
