"""Sending a body to another program over HTTP."""

from __future__ import annotations

import base64
import http.client
from collections.abc import Mapping, Sequence
from typing import Final, Protocol
from urllib.parse import unquote, urlsplit

from service.incidents.storage import Due

__all__ = ["LONGEST_SECONDS", "DeliveryError", "RefusedError", "Target", "post"]

_SECONDS: Final = 5.0
LONGEST_SECONDS: Final = 4 * _SECONDS
"""That a body may take: to connect to either of two addresses, to be sent, and to be answered."""
_REFUSED: Final = frozenset({400, 413, 422})
"""Statuses that say that a body will not be taken later either; all others are tried again."""


class DeliveryError(Exception):
    """A target could not be reached, or is not ready; it is tried again.

    Attributes:
        taken: whether the target may have taken it all the same: its answer is missing.
    """

    def __init__(self, message: str, *, taken: bool = False) -> None:
        super().__init__(message)
        self.taken = taken


class RefusedError(Exception):
    """A target does not take this, and will not take it later either."""


class Target(Protocol):
    """Somebody who is told of incidents.

    Attributes:
        name: kept with what was sent.
        batch: incidents that are told at a time.
        resend_seconds: how often an open incident is told again; None if only changes are.
        longest_seconds: that it may take to tell it of a batch.
    """

    name: str
    batch: int
    resend_seconds: float | None
    longest_seconds: float

    def deliver(self, dues: Sequence[Due]) -> None:
        """Tell it of incidents.

        Raises:
            DeliveryError: it has to be tried again.
            RefusedError: it makes no sense to.
        """


def post(url: str, body: bytes, headers: Mapping[str, str]) -> None:
    """Send a body, and expect a status of 2xx.

    Raises:
        DeliveryError: no answer, or one that may change.
        RefusedError: the answer says that this body is not taken.
    """
    parts = urlsplit(url)
    secure = parts.scheme == "https"
    make = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    sent = {"Content-Type": "application/json", "User-Agent": "faultcube", **headers}
    if parts.username is not None:
        pair = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        sent["Authorization"] = f"Basic {base64.b64encode(pair.encode()).decode()}"
    path = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
    connection = make(parts.hostname or "", parts.port, timeout=_SECONDS)
    connected = False
    try:
        connection.connect()
        connected = True
        connection.request("POST", path, body, sent)
        answer = connection.getresponse()
        text = answer.read(300).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException) as error:
        why = f"{parts.hostname}: {error or type(error).__name__}"
        raise DeliveryError(why, taken=connected) from error
    finally:
        connection.close()
    if 200 <= answer.status < 300:
        return
    why = f"{parts.hostname} answered {answer.status}: {' '.join(text.split())}"
    if answer.status in _REFUSED:
        raise RefusedError(why)
    raise DeliveryError(why)
