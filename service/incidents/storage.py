"""What is kept of incidents, whether in a database or in memory."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal, Protocol

from service.incidents.incident import Change, Incident

__all__ = [
    "MAX_COMMENTS",
    "SET_BACK_SECONDS",
    "Checkpoint",
    "Comment",
    "Committed",
    "Due",
    "HistoryEntry",
    "NoSuchIncidentError",
    "Note",
    "People",
    "Query",
    "RepeatedNoteError",
    "Storage",
    "Stored",
    "Written",
]

MAX_COMMENTS = 100
SET_BACK_SECONDS = 60.0
"""A time that is further ahead was told by a clock that has been set back since."""

Deed = Literal["acknowledged", "commented", "closed", "not_a_fault", "taught", "new_normal"]


class NoSuchIncidentError(Exception):
    """There is no incident of this id."""


class RepeatedNoteError(Exception):
    """A note with this idempotency key is kept already.

    Attributes:
        same: whether it is this very note.
    """

    def __init__(self, key: str, *, same: bool) -> None:
        super().__init__(key)
        self.same = same


@dataclass(frozen=True, slots=True)
class Note:
    """What somebody did to an incident.

    Attributes:
        incident: its id.
        deed: what was done.
        at: when.
        who: first digits of the SHA-256 of the key, or the name of another program.
        request_id: of the request.
        text: a comment, or a name.
        key: Idempotency-Key; a second note with it is refused.
    """

    incident: str
    deed: Deed
    at: datetime
    who: str | None
    request_id: str | None = None
    text: str = ""
    key: str | None = None


@dataclass(frozen=True, slots=True)
class Comment:
    """What somebody wrote."""

    at: datetime
    who: str | None
    text: str


@dataclass(frozen=True, slots=True)
class People:
    """What people have said of an incident.

    Attributes:
        acknowledged: when somebody said that it is being looked after.
        by: who that was.
        closed: whether a person closed it.
        comments: the first ones.
    """

    acknowledged: datetime | None = None
    by: str | None = None
    closed: bool = False
    comments: tuple[Comment, ...] = ()

    def after(self, note: Note) -> People:
        """Return what they have said with one more note."""
        match note.deed:
            case "acknowledged" if self.acknowledged is None:
                return replace(self, acknowledged=note.at, by=note.who)
            case "commented":
                comment = Comment(note.at, note.who, note.text)
                return replace(self, comments=(*self.comments, comment)[:MAX_COMMENTS])
            case "closed" | "new_normal" | "not_a_fault":
                return replace(self, closed=True)
        return self


@dataclass(frozen=True, slots=True)
class Stored:
    """An incident as it is kept."""

    incident: Incident
    people: People = People()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """A change of an incident.

    Attributes:
        sequence: its number among those that records made; None of what people did.
        kind: of change.
        time: of the record that made it, in seconds since the epoch; None of what people did.
        at: when it was written down.
        key: whose record it was.
        note: in plain words.
        who: first digits of the SHA-256 of the key; None where records made it.
        request_id: of the request.
    """

    sequence: int | None
    kind: str
    time: float | None
    at: datetime
    key: str | None
    note: str
    who: str | None
    request_id: str | None


@dataclass(frozen=True, slots=True)
class Query:
    """Which incidents to find; what is None does not matter.

    Attributes:
        status: open, settled or closed.
        label: class.
        key: that takes part.
        since: those that have been in trouble at this time or later, seconds since the epoch.
        before: first time and id of the last one that was seen; those after it follow.
        limit: how many at most.
    """

    status: str | None = None
    label: str | None = None
    key: str | None = None
    since: float | None = None
    before: tuple[float, str] | None = None
    limit: int = 20


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """How far a process has come with what it ingests.

    Attributes:
        name: of the process.
        position: in its journal.
        document: its own state.
    """

    name: str
    position: int
    document: bytes


@dataclass(frozen=True, slots=True)
class Due:
    """An incident that has to be told to a target.

    Attributes:
        incident: as it is now.
        sent: sequence number that was told last; 0 if it never was.
        tried: whether it may have been told, though nobody could write that down.
    """

    incident: Incident
    sent: int
    tried: bool = False


@dataclass(frozen=True, slots=True)
class Written:
    """What is written in one transaction.

    Attributes:
        changes: of incidents, in order.
        targets: who is to be told of them.
        note: what a person did.
        checkpoint: of the process that made the changes.
        engine: snapshot of the incidents' engine, kept with the checkpoint.
        refreshed: incidents that are open, with the counts that they have by now.
        forget_before: delete closed incidents that nothing was written of since.
        at: the time of day.
    """

    at: datetime
    changes: Sequence[Change] = ()
    targets: Collection[str] = ()
    note: Note | None = None
    checkpoint: Checkpoint | None = None
    engine: bytes = b""
    refreshed: Collection[Incident] = ()
    forget_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class Committed:
    """What a transaction came to.

    Attributes:
        changes: those that were new.
        closed_by_hand: ids of incidents that were not changed, since a person had closed them, here
            or in another process.
    """

    changes: list[Change] = field(default_factory=list)
    closed_by_hand: set[str] = field(default_factory=set)


class Storage(Protocol):
    """Keeps incidents.

    A change is applied once: one whose sequence number is not above the one that is kept, or of an
    incident that is closed, is left out. So a process that does part of its work again after it was
    killed tells nobody twice.
    """

    def commit(self, written: Written) -> Committed:
        """Write all of it, or nothing.

        Raises:
            RepeatedNoteError: the note was kept before.
            NoSuchIncidentError: the note is on an incident that is not kept.
        """

    def get(self, id_: str) -> Stored:
        """Return an incident.

        Raises:
            NoSuchIncidentError: there is none.
        """

    def find(self, query: Query) -> list[Stored]:
        """Return incidents, the latest first."""

    def history(self, id_: str) -> list[HistoryEntry]:
        """Return the changes of an incident, in order."""

    def checkpoint(self, name: str) -> tuple[Checkpoint, bytes] | None:
        """Return the checkpoint of a process, and the snapshot of its engine."""

    def due(
        self, target: str, resend_before: float | None, limit: int, now: float | None = None
    ) -> list[Due]:
        """Return incidents to tell a target.

        Args:
            target: name of it.
            resend_before: those told before this time are told again; None tells changes only.
            limit: how many at most.
            now: those that were told after it are told again, too: the clock was set back.
        """

    def acquire_lease(self, target: str, owner: str, now: float, until: float) -> bool:
        """Return whether a process may tell a target until then; no other may meanwhile.

        Args:
            target: name of it.
            owner: the process, by a name that it has again after a restart.
            now: seconds since the epoch.
            until: the same.
        """

    def tried(self, target: str, told: Sequence[Incident], at: float) -> None:
        """Note that a target is being told of incidents, of which it knew nothing.

        A process that is killed meanwhile cannot note more. With 0 for the time, take it back.
        """

    def sent(self, target: str, told: Sequence[Incident], at: float) -> None:
        """Note that a target was told of incidents, as they were given; closed ones are done."""

    def waiting(self, target: str) -> int:
        """Return how many incidents have a change that a target was not told of."""
