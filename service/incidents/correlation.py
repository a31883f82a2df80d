"""From states of keys to incidents: which key is the root, and which only shows the echo.

A primary fault, one of its own, opens an incident, unless its key is the root of one. Echoes
(secondary classes) and `unknown` join the newest open incident whose root fits. Without one they
wait for a while in an incident without a root, because echoes are often reported before their
cause; the next cause takes them over.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from models import UNKNOWN
from models.schema import Matrix
from service.incidents.incident import (
    MAX_KEPT,
    Change,
    Evidence,
    Incident,
    Judged,
    KeptRecord,
    Kind,
    Member,
)
from service.incidents.roles import Roles

__all__ = ["Correlation", "Patience"]


@dataclass(frozen=True, slots=True)
class Patience:
    """How long incidents wait, and what is near.

    Attributes:
        root_seconds: an incident without a root is told after so long a trouble.
        stale_seconds: an incident that stands for so long without a change is stale: what happens
            elsewhere is not taken for its echo any more.
        settle_seconds: a trouble that stands for so long, of a class that cannot last, is the new
            normal of its key.
        update_seconds: more members of a label that is known, and a change of a member's evidence,
            are told at most so often.
        near: distance (0..1) within which two unknown points are of one kind, and a member's
            evidence counts as unchanged.
    """

    root_seconds: float = 30
    stale_seconds: float = 600
    settle_seconds: float = 180
    update_seconds: float = 30
    near: float = 0.05


class Correlation:
    """The open incidents, and the rules by which they grow.

    Args:
        roles: of the labels.
        patience: how long to wait.

    Attributes:
        incidents: that are not closed, by id, in the order of their opening.
        where: the incident in which each key in trouble takes part.
        dropped: incidents that ended before there was anything to tell.
    """

    def __init__(self, roles: Roles, patience: Patience) -> None:
        self.roles, self.patience = roles, patience
        self.incidents: dict[str, Incident] = {}
        self.where: dict[str, str] = {}
        self.dropped = 0

    def enter(self, judged: Judged, row: int, label: str, since: float) -> Iterator[Change]:
        """Take a key whose state opened, or changed its label.

        Args:
            judged: the records.
            row: of the record that did it.
            label: of the state now.
            since: time of the first bad record.
        """
        key = judged.keys[row]
        before = self.incidents.get(self.where.get(key, ""))
        incident = self._own(key, label, before) or self._place(judged, row, label, since)
        if before is not None and incident is not before:
            before.members[key].active = False
        yield from self._join(incident, judged, row, label, since)
        if before is not None and incident is not before:
            yield from self._end(before, float(judged.times[row]))

    def bad(self, judged: Judged, row: int, label: str) -> Iterator[Change]:
        """Take a bad record of a key whose state is open."""
        key, time = judged.keys[row], float(judged.times[row])
        incident = self.incidents.get(self.where.get(key, ""))
        if incident is None:
            return
        member = incident.members[key]
        member.last, incident.last = time, max(incident.last, time)
        member.records += 1
        incident.counts[label] = incident.counts.get(label, 0) + 1
        if len(incident.records) < MAX_KEPT:
            incident.records.append(KeptRecord(key, time, label, judged.record(row)))
        if incident.status == "pending":
            if time - incident.first >= self.patience.root_seconds:
                yield self._tell("opened", incident, judged, row, label)
        elif self._has_moved(incident, member, judged.embeddings[row], time):
            member.point = judged.embeddings[row].tobytes()
            note = f"{key} shows {label} in another way than before"
            yield self._tell("updated", incident, judged, row, label, note)

    def leave(self, key: str, time: float) -> Iterator[Change]:
        """Take a key whose state closed."""
        incident = self.incidents.get(self.where.pop(key, ""))
        if incident is not None:
            incident.members[key].active = False
            yield from self._end(incident, time)

    def renew(self, key: str, time: float) -> Iterator[Change]:
        """Take that a key's trouble is its new normal: its incident will settle, not close."""
        incident = self.incidents.get(self.where.get(key, ""))
        if incident is not None and incident.status == "open":
            incident.members[key].renewed = True
            note = f"{key} has stood unchanged: its level is learned again"
            yield Change.of("renewed", time, incident, key, note)

    def due_at(self, incident: Incident, time: float) -> float:
        """Return when time alone does something to an incident, unless it changes before.

        Args:
            incident: that is not closed.
            time: now.
        """
        if incident.status == "pending":
            told_at = incident.first + self.patience.root_seconds
            return told_at if time < told_at else max(told_at, self._stale_at(incident))
        stands = incident.status == "open" and not incident.stale
        return self._stale_at(incident) if stands else math.inf

    def waiting(self, key: str) -> Incident | None:
        """Return the incident of a key that nobody was told of; None if there is none."""
        incident = self.incidents.get(self.where.get(key, ""))
        return incident if incident is not None and incident.status == "pending" else None

    def pass_time(self, time: float, is_bad: Callable[[str], bool]) -> Iterator[Change]:
        """Do what time alone does: keys that say nothing any more say neither bad nor good.

        Args:
            time: now.
            is_bad: says whether the last record of a key was bad.
        """
        for incident in [*self.incidents.values()]:
            if time < self.due_at(incident, -math.inf):
                continue
            if incident.status == "pending":
                members = incident.members.items()
                bad = next((key for key, m in members if m.active and is_bad(key)), None)
                if bad is not None:
                    self._open(incident, time)
                    yield Change.of("opened", time, incident, bad)
                elif time >= self._stale_at(incident):
                    self._drop(incident)
            else:
                incident.stale = True
                yield Change.of("stale", time, incident, note="it stands without any change")

    def _stale_at(self, incident: Incident) -> float:
        since = incident.last if incident.status == "pending" else incident.changed
        return since + self.patience.stale_seconds

    def close(self, incident: Incident, time: float, note: str) -> Change:
        """Close an incident by hand; its keys open another one only with another label."""
        self._forget(incident)
        for member in incident.members.values():
            member.active = False
        incident.status, incident.ended = "closed", time
        return Change.of("closed", time, incident, note=note)

    def _own(self, key: str, label: str, before: Incident | None) -> Incident | None:
        """Return the incident of a key that its new label belongs to as well."""
        if before is None or before.status not in ("pending", "open"):
            return None
        if not self.roles.is_primary(label):
            return before
        if before.root == key:
            return before if before.label == label else None
        if before.root is None:
            return before
        spread = self.roles.spreads(label) and before.label == label and before.takes_members
        return before if spread else None

    def _place(self, judged: Judged, row: int, label: str, since: float) -> Incident:
        """Return the incident of a key that has none, or none that fits."""
        key = judged.keys[row]
        if self.roles.is_primary(label):
            fitting = self._rooted_at(key, label) or self._for_primary(label)
        else:
            fitting = self._for_echo(label, judged.embeddings[row])
        return fitting or self._new(key, label, since, float(judged.times[row]))

    def _newest(self) -> Iterator[Incident]:
        """Yield the incidents that take members, the newest first."""
        return (i for i in reversed(self.incidents.values()) if i.takes_members)

    def _rooted_at(self, key: str, label: str) -> Incident | None:
        """Return the incident that a root comes back to, from a trouble of another label.

        A root that was good again in the meantime fails anew.
        """
        if key not in self.where:
            return None
        for incident in reversed(self.incidents.values()):
            if incident.root == key and incident.label == label and incident.status == "open":
                return incident
        return None

    def _for_primary(self, label: str) -> Incident | None:
        """Return the newest incident that waits for this root, or else one that spreads."""
        spreading = None
        for incident in self._newest():
            if incident.label == label or incident.status == "pending":
                if incident.root is None:
                    return incident
                spreading = spreading or incident
        return spreading if self.roles.spreads(label) else None

    def _for_echo(self, label: str, point: Matrix) -> Incident | None:
        """Return the newest incident that an echo may come from; one with its cause first."""
        cause, rooted, waiting = self.roles[label].echo_of, None, None
        for incident in self._newest():
            if incident.root is not None:
                if incident.label == cause:
                    return incident
                rooted = rooted or incident
            elif waiting is None and self._waits_together(incident, label, point):
                waiting = incident
        return rooted or waiting

    def _waits_together(self, incident: Incident, label: str, point: Matrix) -> bool:
        """Whether an incident without a root is of the same kind as this echo or point."""
        if label != UNKNOWN:
            return incident.label == self.roles[label].echo_of
        return incident.label == UNKNOWN and self._is_near(incident.centre, point)

    def _new(self, key: str, label: str, since: float, time: float) -> Incident:
        name = self.roles[label].echo_of or label
        id_ = Incident.id_of(key, time, label)
        severity = self.roles[label].severity
        incident = Incident(id_, name, severity, since, since)
        self.incidents[id_] = incident
        return incident

    def _join(
        self, incident: Incident, judged: Judged, row: int, label: str, since: float
    ) -> Iterator[Change]:
        """Make a key a member of an incident, and tell what that changes."""
        key, time, point = judged.keys[row], float(judged.times[row]), judged.embeddings[row]
        self.where[key] = incident.id
        is_first = not any(label in member.labels for member in incident.members.values())
        is_time = time - incident.changed >= self.patience.update_seconds
        member = incident.members.get(key)
        if member is None:
            member = incident.members[key] = Member([], since, since)
            incident.first = min(incident.first, since)
        is_new = label not in member.labels
        if is_new:
            member.labels.append(label)
            member.point = point.tobytes()
        member.active = True
        if label == UNKNOWN and not incident.centre:
            incident.centre = point.tobytes()
        if incident.root is None and self.roles.is_primary(label):
            incident.root, incident.label = key, label
            incident.severity = self.roles[label].severity
            kind: Kind = "opened" if incident.status == "pending" else "rooted"
            yield self._tell(kind, incident, judged, row, label, f"{key} is the likely root")
        elif is_new and incident.status != "pending" and (is_first or is_time):
            # Of thousands that join at once only the first is told.
            yield self._tell("updated", incident, judged, row, label, f"{key} shows {label}")
        elif not incident.evidence:  # it may be told when no further record comes
            self._add_evidence(incident, judged, row, label)

    def _tell(
        self,
        kind: Kind,
        incident: Incident,
        judged: Judged,
        row: int,
        label: str,
        note: str = "",
    ) -> Change:
        key, time = judged.keys[row], float(judged.times[row])
        self._add_evidence(incident, judged, row, label)
        incident.stale = False
        if incident.status == "pending":
            self._open(incident, time)
        return Change.of(kind, time, incident, key, note)

    def _add_evidence(self, incident: Incident, judged: Judged, row: int, label: str) -> None:
        key, time = judged.keys[row], float(judged.times[row])
        last = incident.evidence[-1] if incident.evidence else None
        is_there = last is not None and (last.key, last.time) == (key, time)
        if len(incident.evidence) < MAX_KEPT and not is_there:
            incident.evidence.append(Evidence(key, time, label, judged.evidence(row)))

    def _open(self, incident: Incident, time: float) -> None:
        incident.status, incident.told = "open", time
        first = incident.root or next(iter(incident.members))
        incident.names = {
            "class": incident.label,
            "key": first,
            "severity": incident.severity,
        }

    def _drop(self, incident: Incident) -> None:
        """Forget an incident that nobody was told of."""
        self._forget(incident)
        self.dropped += 1

    def _forget(self, incident: Incident) -> None:
        for key in incident.members:
            if self.where.get(key) == incident.id:
                del self.where[key]
        del self.incidents[incident.id]

    def _end(self, incident: Incident, time: float) -> Iterator[Change]:
        """Close an incident that no key is in trouble of any more."""
        if incident.active or incident.status in ("settled", "closed"):
            return
        if incident.status == "pending":
            self._drop(incident)
        elif any(member.renewed for member in incident.members.values()):
            incident.status = "settled"
            yield Change.of("settled", time, incident, note="the level that is new has stayed")
        else:
            del self.incidents[incident.id]
            incident.status, incident.ended = "closed", time
            yield Change.of("closed", time, incident, note="all of it is good again")

    def _has_moved(self, incident: Incident, member: Member, point: Matrix, time: float) -> bool:
        """Whether a member's evidence is another one than was told last."""
        if time - incident.changed < self.patience.update_seconds:
            return False
        return not self._is_near(member.point, point)

    def _is_near(self, told: bytes, point: Matrix) -> bool:
        before = np.frombuffer(told, np.float32)
        if before.shape != point.shape:  # in the space of another bundle
            return False
        offset = before - point
        return bool(np.mean(offset * offset) <= self.patience.near)
