"""Sign-in of a browser: a key becomes a cookie, which opens for twelve hours what the key opens.

A page cannot send a key with every request: event streams and links have no headers of their own.
The cookie holds no key. It is an expiry with the HMAC of it under the key's SHA-256, which every
process of the service can check, and nothing is kept. So the hashes have to stay as secret as the
settings they are in: who has one can make a cookie.
"""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Mapping
from typing import Final

__all__ = ["COOKIE", "SECONDS", "digest_of", "token_of"]

COOKIE: Final = "faultcube"
SECONDS: Final = 12 * 3600
"""That a session lasts."""

_PURPOSE = b"faultcube session "
_PREFIX = f"{COOKIE}=".encode()
_MAX_COOKIES = 50


def token_of(digest: bytes, expiry: int) -> str:
    """Return the value of the cookie.

    Args:
        digest: SHA-256 of the key.
        expiry: when it ends, seconds since the epoch.
    """
    return f"{expiry}.{_signature(digest, expiry)}"


def digest_of(headers: Mapping[bytes, bytes], digests: Iterable[bytes], now: float) -> bytes | None:
    """Return the digest of the key that a request's cookie was made of; None if of none.

    Args:
        headers: of the request.
        digests: of the keys that there are.
        now: seconds since the epoch.
    """
    for part in headers.get(b"cookie", b"").split(b";", _MAX_COOKIES):
        name_and_value = part.strip()
        if not name_and_value.startswith(_PREFIX):
            continue
        expiry, _, signature = name_and_value.removeprefix(_PREFIX).partition(b".")
        if not expiry.isdigit() or len(expiry) > 12 or int(expiry) <= now:
            continue
        for digest in digests:
            if hmac.compare_digest(_signature(digest, int(expiry)).encode(), signature):
                return digest
    return None


def _signature(digest: bytes, expiry: int) -> str:
    return hmac.new(digest, _PURPOSE + b"%d" % expiry, "sha256").hexdigest()
