"""Incidents in memory, where there is no database: they end with the process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime

from service.incidents.incident import Change, Incident
from service.incidents.storage import (
    SET_BACK_SECONDS,
    Checkpoint,
    Committed,
    Due,
    HistoryEntry,
    NoSuchIncidentError,
    Note,
    People,
    Query,
    RepeatedNoteError,
    Stored,
    Written,
)

__all__ = ["MAX_CLOSED", "MemoryStore"]

MAX_CLOSED = 1000
"""Closed incidents that are kept; the oldest go."""


@dataclass(slots=True)
class _Entry:
    incident: Incident
    people: People = field(default_factory=People)
    history: list[HistoryEntry] = field(default_factory=list)
    sent: dict[str, tuple[int, float]] = field(default_factory=dict)
    """By target that has to be told: the sequence number that it was told last, and when."""


class MemoryStore:
    """Keeps incidents in memory; see `Storage`."""

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._closed: dict[str, None] = {}  # in the order of their end
        self._checkpoints: dict[str, tuple[Checkpoint, bytes]] = {}
        self._keys: dict[str, tuple[str, str, str]] = {}

    def commit(self, written: Written) -> Committed:
        """Write all of it."""
        committed = Committed()
        if written.note is not None:
            self._note(written.note)
        for change in written.changes:
            if self._apply(change, written):
                committed.changes.append(change)
            elif self._entries[change.incident.id].people.closed:
                committed.closed_by_hand.add(change.incident.id)
        for incident in written.refreshed:
            entry = self._entries.get(incident.id)
            if entry is not None and entry.incident.sequence == incident.sequence:
                entry.incident = incident.copy()
            elif entry is not None and entry.incident.status == "closed":
                committed.closed_by_hand.add(incident.id)
        if written.checkpoint is not None:
            self._checkpoints[written.checkpoint.name] = (written.checkpoint, written.engine)
        self._forget(written.forget_before)
        return committed

    def _forget(self, before: datetime | None) -> None:
        closed = [*self._closed]
        old = set(closed[:-MAX_CLOSED])
        if before is not None:
            old.update(i for i in closed if all(e.at < before for e in self._entries[i].history))
        for id_ in old:
            del self._entries[id_], self._closed[id_]

    def get(self, id_: str) -> Stored:
        """Return an incident."""
        entry = self._entry(id_)
        return Stored(entry.incident, entry.people)

    def find(self, query: Query) -> list[Stored]:
        """Return incidents, the latest first."""
        found = [e for e in [*self._entries.values()] if _fits(e.incident, query)]
        found.sort(key=lambda e: (e.incident.first, e.incident.id), reverse=True)
        return [Stored(e.incident, e.people) for e in found[: query.limit]]

    def history(self, id_: str) -> list[HistoryEntry]:
        """Return the changes of an incident, in order."""
        entry = self._entries.get(id_)
        return [] if entry is None else [*entry.history]

    def checkpoint(self, name: str) -> tuple[Checkpoint, bytes] | None:
        """Return the checkpoint of a process, and the snapshot of its engine."""
        return self._checkpoints.get(name)

    def due(
        self, target: str, resend_before: float | None, limit: int, now: float | None = None
    ) -> list[Due]:
        """Return incidents to tell a target, those that were told longest ago first."""
        found = [
            (at, id_, Due(entry.incident, sequence, at > 0))
            for id_, entry in [*self._entries.items()]
            for sequence, at in [entry.sent.get(target, (entry.incident.sequence, float("inf")))]
            if entry.incident.sequence > sequence
            or (resend_before or float("-inf")) > at
            or (now is not None and now + SET_BACK_SECONDS < at < float("inf"))
        ]
        return [due for _, _, due in sorted(found, key=lambda each: each[:2])[:limit]]

    def acquire_lease(self, _target: str, _owner: str, _now: float, _until: float) -> bool:
        """Return that this process may tell a target: there is no other."""
        return True

    def tried(self, target: str, told: Sequence[Incident], at: float) -> None:
        """Note that a target is being told of incidents, of which it knew nothing."""
        for incident in told:
            entry = self._entries.get(incident.id)
            if entry is not None and entry.sent.get(target, (1, 0))[0] == 0:
                entry.sent[target] = (0, at)

    def sent(self, target: str, told: Sequence[Incident], at: float) -> None:
        """Note that a target was told of incidents; closed ones are done."""
        for incident in told:
            entry = self._entries.get(incident.id)
            if entry is not None and incident.status == "closed":
                entry.sent.pop(target, None)
            elif entry is not None:
                entry.sent[target] = (incident.sequence, at)

    def waiting(self, target: str) -> int:
        """Return how many incidents have a change that a target was not told of."""
        return len(self.due(target, None, len(self._entries)))

    def _apply(self, change: Change, written: Written) -> bool:
        incident = change.incident
        entry = self._entries.get(incident.id)
        if entry is None:
            entry = self._entries[incident.id] = _Entry(incident)
        elif entry.incident.sequence >= incident.sequence or entry.incident.status == "closed":
            return False
        entry.incident = incident
        if incident.status == "closed":
            self._closed[incident.id] = None
        entry.history.append(
            HistoryEntry(
                incident.sequence,
                change.kind,
                change.time,
                written.at,
                change.key,
                change.note,
                None,
                None,
            )
        )
        for target in written.targets:
            if incident.status != "closed":
                entry.sent.setdefault(target, (0, 0.0))
        return True

    def _note(self, note: Note) -> None:
        entry = self._entry(note.incident)
        if note.key is not None:
            said = (note.incident, note.deed, note.text)
            if (before := self._keys.setdefault(note.key, said)) is not said:
                raise RepeatedNoteError(note.key, same=before == said)
        entry.people = entry.people.after(note)
        entry.history.append(
            HistoryEntry(None, note.deed, None, note.at, None, note.text, note.who, note.request_id)
        )

    def _entry(self, id_: str) -> _Entry:
        entry = self._entries.get(id_)
        if entry is None:
            raise NoSuchIncidentError(id_)
        return entry


def _fits(incident: Incident, query: Query) -> bool:
    return (
        query.status in (None, incident.status)
        and query.label in (None, incident.label)
        and (query.key is None or query.key in incident.members)
        and (query.since is None or incident.last >= query.since)
        and (query.before is None or (incident.first, incident.id) < query.before)
    )
