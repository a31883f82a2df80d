"""Alerts for Alertmanager, by version 2 of its API."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from service.incidents.delivery import LONGEST_SECONDS, DeliveryError, RefusedError, post
from service.incidents.incident import Incident
from service.incidents.responses import moment, summary_of
from service.incidents.storage import Due

__all__ = ["AlertmanagerTarget", "alert_of"]

_SHOWN_FIELDS = 5


class AlertmanagerTarget:
    """The Alertmanagers of one cluster, all of which are told, for they do not share alerts.

    One that takes it is enough. Another gets an open alert with the next resend; if it misses the
    end of one, it resolves it when nothing more comes (`resolve_timeout`).

    Args:
        urls: of each, as http://host:9093.
        clock: the time of day, in seconds since the epoch.
    """

    name = "alertmanager"
    batch = 100
    resend_seconds: float | None = 60.0

    def __init__(self, urls: Sequence[str], clock: Callable[[], float] = time.time) -> None:
        self._urls = [url.rstrip("/") + "/api/v2/alerts" for url in urls]
        self._clock = clock
        self.longest_seconds = LONGEST_SECONDS * len(urls)

    def deliver(self, dues: Sequence[Due]) -> None:
        """Tell all Alertmanagers; one that takes it is enough."""
        now = self._clock()
        body = msgspec.json.encode([alert_of(due.incident, now) for due in dues])
        errors: list[DeliveryError | RefusedError] = []
        for url in self._urls:
            try:
                post(url, body, {})
            except (DeliveryError, RefusedError) as error:
                errors.append(error)
        if len(errors) < len(self._urls):
            return
        away = [error for error in errors if isinstance(error, DeliveryError)]
        away.sort(key=lambda error: not error.taken)
        raise (away or errors)[0]


def alert_of(incident: Incident, now: float) -> dict[str, Any]:
    """Return an incident as an alert, of which the labels never change.

    Args:
        incident: that has been told.
        now: the time of day, seconds since the epoch; the alert began before, whatever the clock
            of the device says.
    """
    names = incident.names
    start = min(incident.first, now)
    alert: dict[str, Any] = {
        "labels": {
            "alertname": names["class"],
            "incident": incident.id,
            "key": names["key"],
            "severity": names["severity"],
        },
        "annotations": {
            "summary": summary_of(incident),
            "sequence": str(incident.sequence),
            "status": incident.status + (", stale" if incident.stale else ""),
            "class": incident.label,
            "root": incident.root or "not known",
            "evidence": _evidence(incident),
        },
        "startsAt": moment(start).isoformat(),
    }
    if incident.ended is not None:
        alert["endsAt"] = moment(max(start, min(incident.ended, now))).isoformat()
    return alert


def _evidence(incident: Incident) -> str:
    """Return the fields that drove the first verdict, with what they are and usually are."""
    fields = incident.evidence[0].fields if incident.evidence else []
    shown = [
        f"{each.get('field')} {each.get('value')} (usually {each.get('typical')})"
        for each in fields[:_SHOWN_FIELDS]
    ]
    return ", ".join(shown) or "none"
