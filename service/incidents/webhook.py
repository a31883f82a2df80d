"""Incidents for a webhook: JSON with a signature."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Sequence

import msgspec

from service.incidents.delivery import LONGEST_SECONDS, post
from service.incidents.responses import IncidentDetail
from service.incidents.storage import Due, Stored

__all__ = ["SIGNATURE", "WebhookTarget", "signature_of"]

SIGNATURE = "X-Faultcube-Signature"


class WebhookTarget:
    """An address that is told of every change.

    A change that was told may be told once more after a crash: id and sequence are the same then.

    Args:
        url: where to.
        secret: that the signature is made with; without one there is none.
    """

    name = "webhook"
    batch = 1
    resend_seconds: float | None = None
    longest_seconds = LONGEST_SECONDS

    def __init__(self, url: str, secret: str = "") -> None:
        self._url, self._secret = url, secret.encode()

    def deliver(self, dues: Sequence[Due]) -> None:
        """Send one incident as it is now."""
        for due in dues:
            incident = due.incident
            event = "closed" if incident.status == "closed" else "updated" if due.sent else "opened"
            shown = IncidentDetail.of(Stored(incident)).model_dump(exclude={"history"})
            body = msgspec.json.encode({"event": event, "incident": shown})
            headers = {
                "X-Faultcube-Incident": incident.id,
                "X-Faultcube-Sequence": str(incident.sequence),
            }
            if self._secret:
                headers[SIGNATURE] = signature_of(body, self._secret)
            post(self._url, body, headers)


def signature_of(body: bytes, secret: bytes) -> str:
    """Return the signature of a body: its HMAC with SHA-256, in hex."""
    return "sha256=" + hmac.new(secret, body, hashlib.sha256).hexdigest()
