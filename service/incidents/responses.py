"""Incidents as the service sends them, in answers and to webhooks."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, Literal, Self

from service.incidents.incident import Incident
from service.incidents.storage import HistoryEntry, Stored
from service.web.response_model import Omittable, ResponseModel

__all__ = ["IncidentDetail", "IncidentPage", "ListedIncident", "summary_of"]


class IncidentMember(ResponseModel):
    """A key that takes part in an incident."""

    key: str
    labels: list[str]
    """That it had, in the order of their first appearance."""
    first: datetime
    """Time of its first bad record."""
    last: datetime
    records: int
    """Bad records of it."""
    active: bool
    """Whether it is in trouble still."""


class IncidentEvidence(ResponseModel):
    """Why a record that opened or changed an incident was judged bad."""

    key: str
    time: datetime
    label: str
    fields: list[dict[str, Any]]
    """The fields that drove the verdict, as `explain` lists them."""


class IncidentComment(ResponseModel):
    """What somebody wrote."""

    at: datetime
    who: str | None
    text: str


class IncidentChange(ResponseModel):
    """A change of an incident."""

    sequence: Omittable[int] = None
    """Its number among those that records made; absent for what people did."""
    kind: str
    time: Omittable[datetime] = None
    """Time of the record that made it; absent for what people did."""
    at: datetime
    """When it was written down."""
    key: Omittable[str] = None
    """Whose record it was."""
    note: str
    who: Omittable[str] = None
    """First digits of the SHA-256 of the key."""
    request_id: Omittable[str] = None

    @classmethod
    def of(cls, entry: HistoryEntry) -> Self:
        """Show an entry of the history."""
        return cls(
            sequence=entry.sequence,
            kind=entry.kind,
            time=None if entry.time is None else moment(entry.time),
            at=entry.at,
            key=entry.key,
            note=entry.note,
            who=entry.who,
            request_id=entry.request_id,
        )


class ListedIncident(ResponseModel):
    """Something that began, where, what, and whether it ended. Times are those of the records."""

    id: str
    label: str
    """Class of the fault, or `unknown`."""
    severity: str
    """Perceived severity, in the words of ITU-T X.733."""
    status: Literal["open", "settled", "closed"]
    """A settled one has become the normal level, and waits for a person to say so."""
    stale: bool
    """Whether it has stood for long without any change."""
    summary: str
    """In plain words."""
    root: str | None
    """The key where it began, most likely; null while it is not known."""
    first: datetime
    """Time of the first bad record."""
    last: datetime
    """Time of the last one."""
    ended: Omittable[datetime] = None
    sequence: int
    """Number of its last change."""
    counts: dict[str, int]
    """Bad records by label."""
    keys: list[str]
    """That take part, in the order in which they joined."""
    acknowledged: Omittable[datetime] = None
    acknowledged_by: Omittable[str] = None
    """First digits of the SHA-256 of the key."""

    @classmethod
    def of(cls, stored: Stored, **more: Any) -> Self:
        """Show an incident that has been told."""
        incident, people = stored.incident, stored.people
        status: Any = incident.status
        return cls(
            id=incident.id,
            label=incident.label,
            severity=incident.severity,
            status=status,
            stale=incident.stale,
            summary=summary_of(incident),
            root=incident.root,
            first=moment(incident.first),
            last=moment(incident.last),
            ended=None if incident.ended is None else moment(incident.ended),
            sequence=incident.sequence,
            counts=incident.counts,
            keys=[*incident.members],
            acknowledged=people.acknowledged,
            acknowledged_by=people.by,
            **more,
        )


class IncidentDetail(ListedIncident):
    """An incident with all that is known of it."""

    members: list[IncidentMember]
    evidence: list[IncidentEvidence]
    comments: list[IncidentComment]
    records: list[dict[str, Any]]
    """Its first records, as the model read them."""
    history: list[IncidentChange]

    @classmethod
    def of(cls, stored: Stored, *, history: list[HistoryEntry] | None = None, **more: Any) -> Self:
        """Show an incident that has been told, with its history."""
        incident = stored.incident
        return super().of(
            stored,
            members=[
                IncidentMember(
                    key=key,
                    labels=member.labels,
                    first=moment(member.first),
                    last=moment(member.last),
                    records=member.records,
                    active=member.active,
                )
                for key, member in incident.members.items()
            ],
            evidence=[
                IncidentEvidence(key=e.key, time=moment(e.time), label=e.label, fields=e.fields)
                for e in incident.evidence
            ],
            comments=[
                IncidentComment(at=c.at, who=c.who, text=c.text) for c in stored.people.comments
            ],
            records=[
                {"key": r.key, "time": moment(r.time), "label": r.label, "record": r.record}
                for r in incident.records
            ],
            history=[IncidentChange.of(entry) for entry in history or []],
            **more,
        )


class IncidentPage(ResponseModel):
    """Incidents, the latest first."""

    kept: Literal["database", "memory"]
    """Where they are kept; those in memory end with the process."""
    incidents: list[ListedIncident]
    next: Omittable[str] = None
    """Cursor of the next page; absent on the last one."""


def summary_of(incident: Incident) -> str:
    """Say in plain words what an incident is."""
    what = "A fault of an unknown kind" if incident.label == "unknown" else incident.label
    where = f" at {incident.root}" if incident.root else ", its root not known"
    others = [key for key in incident.members if key != incident.root]
    shown = ", ".join(others[:3]) + (f" and {len(others) - 3} more" if len(others) > 3 else "")
    seen = f"; seen on {shown}" if others else ""
    since = f", since {moment(incident.first):%Y-%m-%d %H:%M:%S} UTC"
    state = {"closed": "; it has ended", "settled": "; its level is the normal one now"}
    return what + where + since + seen + state.get(incident.status, "")


def moment(time: float) -> datetime:
    """Return a record's time as a date; times that no calendar has are cut."""
    return datetime.fromtimestamp(min(max(time, 0.0), _LAST), UTC)


_LAST = 253_402_300_799.0
"""The last second of the year 9999."""
