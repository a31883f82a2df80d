"""What the service knows of one request, beside ASGI's scope."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

__all__ = ["RequestInfo"]

_KEY = "faultcube.request"


@dataclass(slots=True)
class RequestInfo:
    """What the service knows of one request; middleware and routes complete it.

    Attributes:
        headers: by name in lower case; of repeated headers the last.
        request_id: from the client, or made here.
        key: first eight hex digits of the key's SHA-256; None where no key was needed.
        route: what metrics and traces call the route, where FastAPI's router does not know it.
        bundle: name and version of the bundle that answered.
        records: how many records were answered; None on other routes.
        is_change: whether the route changes something, which the audit log keeps.
    """

    headers: Mapping[bytes, bytes]
    request_id: str
    key: str | None = None
    route: str | None = None
    bundle: Mapping[str, str] | None = None
    records: int | None = None
    is_change: bool = False

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> RequestInfo:
        """Return what is known of the request of an ASGI scope."""
        info: RequestInfo = scope[_KEY]
        return info

    def attach(self, scope: MutableMapping[str, Any]) -> None:
        """Keep this in an ASGI scope."""
        scope[_KEY] = self
