"""Pages of other sites must not act for the person whose browser shows them.

A browser that knows a password, or reaches a service on its own machine, sends requests for
whatever page it shows. It says so itself, and so no token is needed: `Sec-Fetch-Site` where the
address is HTTPS or this machine, and `Origin` elsewhere. Other programs send neither.
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

__all__ = ["SAFE_METHODS", "is_cross_site"]

SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
"""That change nothing."""

_OWN = frozenset({b"same-origin", b"none"})
"""`none`: a person typed the address."""


def is_cross_site(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a browser sent a request for a page of another site.

    `Sec-Fetch-Site` decides where it is sent, since a proxy may have changed the host.
    """
    if (site := headers.get(b"sec-fetch-site")) is not None:
        return site not in _OWN
    if (origin := headers.get(b"origin")) is None:
        return False
    try:
        host = urlsplit(origin.decode("ascii").lower()).netloc
    except ValueError:
        return True
    return host != headers.get(b"host", b"").decode("latin-1").lower()
