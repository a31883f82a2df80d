"""An incident and what can change of it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final, Literal

import numpy as np
import numpy.typing as npt

from models.schema import Matrix, Value

__all__ = [
    "MAX_KEPT",
    "Change",
    "Evidence",
    "Incident",
    "Judged",
    "KeptRecord",
    "Kind",
    "Member",
]

Kind = Literal["opened", "updated", "rooted", "renewed", "stale", "settled", "closed"]
Status = Literal["pending", "open", "settled", "closed"]

MAX_KEPT: Final = 20
"""Records that an incident keeps, and pieces of evidence."""


@dataclass(frozen=True, slots=True, eq=False)
class Judged:
    """Judged records, in the order of their times.

    Attributes:
        times: of the records, seconds since the Unix epoch: float64 [n].
        keys: what each record is of: a device, or a device and an interface.
        labels: verdict on each.
        embeddings: float32 [n, N]; those of good records are never looked at.
        skipped: bool [n], records that say nothing: still learning, or too few fields; None if
            there are none.
        evidence: returns what `explain` says of a row, the strongest field first; called for the
            few records that open or change an incident.
        record: returns a row as a record; called for the first ones of an incident.
    """

    times: npt.NDArray[np.float64]
    keys: list[str]
    labels: list[str]
    embeddings: Matrix
    skipped: npt.NDArray[np.bool_] | None = None
    evidence: Callable[[int], list[dict[str, object]]] = lambda _row: []
    record: Callable[[int], dict[str, Value]] = lambda _row: {}

    def __len__(self) -> int:
        return len(self.keys)


@dataclass(slots=True)
class Member:
    """A key that takes part in an incident.

    Attributes:
        labels: that it had, in the order of their first appearance.
        first: time of the first bad record, seconds since the epoch.
        last: time of the last one.
        records: how many bad records.
        active: whether it is in trouble still.
        renewed: whether its trouble was declared its new normal.
        point: embedding of the record that was last told of, as float32 bytes.
    """

    labels: list[str]
    first: float
    last: float
    records: int = 0
    active: bool = True
    renewed: bool = False
    point: bytes = b""


@dataclass(frozen=True, slots=True)
class Evidence:
    """Why a record was judged bad.

    Attributes:
        key: of the record.
        time: of the record, seconds since the epoch.
        label: its verdict.
        fields: as `explain` gives them, the strongest first.
    """

    key: str
    time: float
    label: str
    fields: list[dict[str, object]]


@dataclass(frozen=True, slots=True)
class KeptRecord:
    """A record of an incident, from which its class can be taught."""

    key: str
    time: float
    label: str
    record: dict[str, Value]


@dataclass(slots=True)
class Incident:
    """Something that began, where, what, and whether it ended.

    Times are of records, in seconds since the Unix epoch.

    Attributes:
        id: the same whenever the same records come again.
        label: class of the fault; of an incident without a root the one that its root would have,
            or `unknown`.
        severity: perceived severity, in the words of ITU-T X.733.
        first: time of the first bad record.
        last: time of the last one.
        root: key where it began, most likely; None while it is not known.
        status: pending (too little is known to tell anybody), open, settled (what changed has
            become the normal level, and a person has to confirm it) or closed.
        stale: it has stood without any change for long.
        told: time when it was told first; None while it is pending.
        changed: time of the last change that was told.
        ended: time of its close.
        sequence: number of its last change, from 1.
        members: by key, in the order in which they joined.
        counts: bad records by label.
        evidence: of the records that opened or changed it.
        records: the first ones.
        names: class, key and severity as they were told first, by which others know it.
        centre: of the points of an unknown kind, as float32 bytes.
    """

    id: str
    label: str
    severity: str
    first: float
    last: float
    root: str | None = None
    status: Status = "pending"
    stale: bool = False
    told: float | None = None
    changed: float = 0
    ended: float | None = None
    sequence: int = 0
    members: dict[str, Member] = field(default_factory=dict)
    counts: dict[str, int] = field(default_factory=dict)
    evidence: list[Evidence] = field(default_factory=list)
    records: list[KeptRecord] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    centre: bytes = b""

    def copy(self) -> Incident:
        """Return it as it is now; evidence and records, which never change, are shared."""
        return replace(
            self,
            members={
                key: replace(member, labels=[*member.labels])
                for key, member in self.members.items()
            },
            counts={**self.counts},
            evidence=[*self.evidence],
            records=[*self.records],
            names={**self.names},
        )

    @property
    def active(self) -> bool:
        """Whether any member is in trouble."""
        return any(member.active for member in self.members.values())

    @property
    def takes_members(self) -> bool:
        """Whether what happens elsewhere may be its consequence."""
        return self.status in ("pending", "open") and not self.stale

    @staticmethod
    def id_of(key: str, time: float, label: str) -> str:
        """Return the id of an incident that this record begins."""
        return hashlib.sha256(f"{key}\n{time!r}\n{label}".encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class Change:
    """A change of an incident that is told.

    Attributes:
        kind: of change.
        time: of the record that made it.
        incident: as it was right after the change; a copy.
        key: that changed it, if one did.
        note: in plain words.
    """

    kind: Kind
    time: float
    incident: Incident
    key: str | None = None
    note: str = ""

    @classmethod
    def of(
        cls,
        kind: Kind,
        time: float,
        incident: Incident,
        key: str | None = None,
        note: str = "",
    ) -> Change:
        """Count the change in the incident, and keep it as it is now."""
        incident.sequence += 1
        incident.changed = max(incident.changed, time)
        return cls(kind, time, incident.copy(), key, note)
