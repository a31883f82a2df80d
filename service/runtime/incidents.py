"""The incidents of a running service: one engine under a lock, its storage, and who is told."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Final, Literal

from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError
from service.incidents.alertmanager import AlertmanagerTarget
from service.incidents.correlation import Patience
from service.incidents.delivery import Target
from service.incidents.engine import Engine
from service.incidents.hysteresis import Hysteresis
from service.incidents.incident import Change, Incident, Judged
from service.incidents.memory import MemoryStore
from service.incidents.roles import SEVERITIES, Role, Roles
from service.incidents.sender import Sender
from service.incidents.storage import Checkpoint, Committed, Note, Storage, Stored, Written
from service.incidents.webhook import WebhookTarget
from service.observability.counters import Counters
from service.settings import Settings

if TYPE_CHECKING:
    from service.classes.database import Store

__all__ = ["Incidents", "hysteresis_of", "patience_of", "roles_of"]

log = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2
_REFRESH_SECONDS: Final = 2.0
_RETRY_SECONDS: Final = 2.0
"""Until a database that was away is asked again: each time costs as much as it takes to give up."""
_MAX_UNWRITTEN: Final = 10_000
"""Changes that wait for a database that is away; the oldest go."""


class Incidents:
    """What routes and ingestion share.

    Any process can read, acknowledge, comment and close. One process at a time observes: it takes
    the engine's state with `resume`, and tells the targets.

    Args:
        settings: of hysteresis, patience and targets.
        counters: of this process.
        clock: the time of day, in seconds since the epoch.

    Attributes:
        storage: of incidents; in memory until `open`.
        on_renew: called with the keys whose level is to be learned again.
        on_change: called with id and status of an incident, and with what was done to it.
    """

    def __init__(
        self, settings: Settings, counters: Counters, clock: Callable[[], float] = time.time
    ) -> None:
        self._counters, self._clock = counters, clock
        self._engine = Engine(Roles({}), hysteresis_of(settings), patience_of(settings))
        self._targets = _targets(settings)
        self._keep_for = timedelta(days=settings.incident_days)
        self._lock = threading.Lock()
        self._unwritten: list[Change] = []
        self._ended: list[Change] = []
        self._retry_at = self._refresh_at = -math.inf
        self._observes = threading.Event()
        self.on_renew: Callable[[Sequence[str]], None] = lambda _keys: None
        self.on_change: Callable[[str, str, str], None] = lambda _id, _status, _kind: None
        self.storage: Storage = MemoryStore()
        self._sender = Sender(self.storage, self._targets, self._count_alerts, clock)

    @property
    def kept(self) -> Literal["database", "memory"]:
        """Where incidents are kept."""
        return "memory" if isinstance(self.storage, MemoryStore) else "database"

    @property
    def open_incidents(self) -> int:
        """How many incidents are told and not closed."""
        return sum(i.status != "pending" for i in [*self._engine.incidents.values()])

    @property
    def waiting(self) -> int:
        """How many incidents have a change that a target was not told of."""
        return self._sender.waiting

    def members(self) -> dict[str, str]:
        """Return the id of the incident that each key in trouble takes part in, if it is told."""
        found: dict[str, str] = {}
        for incident in [*self._engine.incidents.values()]:
            if incident.status != "pending":
                members = incident.members.copy().items()
                found |= {key: incident.id for key, member in members if member.active}
        return found

    def open(self, store: Store | None) -> None:
        """Keep incidents in a database, if there is one; before anything is observed."""
        if store is not None:
            from service.incidents.store import IncidentStore  # noqa: PLC0415 - loads SQLAlchemy

            self.storage = IncidentStore(store)
            self._sender = Sender(self.storage, self._targets, self._count_alerts, self._clock)

    def serve(self, roles: Roles) -> None:
        """Take the roles of the classes that decide now."""
        with self._lock:
            # What a bundle before has judged may be observed after this.
            self._engine.roles = self._engine.roles.with_roles(roles.by_label)
        for label in roles.bad:
            self._counters.opened.setdefault(label, 0)
            self._counters.closed.setdefault(label, 0)

    def resume(self, name: str, owner: str | None = None) -> Checkpoint | None:
        """Take up the state of a process that ingested until it ended.

        Args:
            name: of its checkpoint.
            owner: as whom this process tells targets; as that name if not given, which no other
                process may have meanwhile.

        Returns:
            Its checkpoint, from which its journal has to be observed again; None if there is none.

        Raises:
            AwayError: the database is away.
        """
        self._sender.owner = owner or name
        self._observes.set()
        found = self.storage.checkpoint(name)
        if found is None:
            return None
        checkpoint, engine = found
        with self._lock:
            try:
                self._engine.restore(engine)
            except ValueError as error:  # the incidents themselves are in the database
                log.warning("state of incidents not restored", extra={"reason": str(error)})
        return checkpoint

    def observe(self, judged: Judged) -> list[Change]:
        """Take judged records; keep and tell what they change.

        While the database is away, changes wait in memory.

        Args:
            judged: in the order of their times.

        Returns:
            What they change, and the end of incidents that somebody closed in another process.
        """
        self._observes.set()
        with self._lock:
            changes = self._engine.observe(judged)
            if changes or self._unwritten or self._is_old():
                self._keep(changes, None)
            ended, self._ended = self._ended, []
        if renewed := [c.key for c in changes if c.kind == "renewed" and c.key is not None]:
            self.on_renew(renewed)
        return [*changes, *ended]

    def expect(self, seconds: float) -> None:
        """Take it that a record of each key comes every so many seconds."""
        with self._lock:
            self._engine.expect(seconds)

    def set_back(self, now: float) -> None:
        """Go on from an earlier time: the clock of the records was wrong."""
        with self._lock:
            self._engine.set_back(now)

    def checkpoint(self, checkpoint: Checkpoint) -> bool:
        """Keep the state of the process that ingests, with that of the incidents.

        Returns:
            Whether it is kept. While the database is away it is not: the process keeps what it
            needs to observe the same records again.
        """
        with self._lock:
            return self._keep([], checkpoint)

    def note(self, note: Note) -> Stored:
        """Keep what a person did to an incident, and do it.

        Raises:
            NoSuchIncidentError: there is none of this id.
            RepeatedNoteError: its idempotency key was used before.
            AwayError: the database is away; nothing was changed.
        """
        with self._lock:
            stored = self.storage.get(note.incident)
            incident = self._engine.incidents.get(note.incident, stored.incident)
            active = [key for key, member in incident.members.items() if member.active]
            changes = [*self._unwritten]
            ends = note.deed in ("closed", "new_normal", "not_a_fault") or (
                note.deed == "acknowledged" and incident.status == "settled"
            )
            if ends and incident.status != "closed":
                changes.append(self._closed(incident, note))
            self._written(self.storage.commit(self._writing(changes, note=note)))
            self._unwritten.clear()
            if ends and note.incident in self._engine.incidents:
                self._engine.close(note.incident, self._clock(), note.text)
        if note.deed == "new_normal":
            self.on_renew(active)
        stored = self.storage.get(note.incident)
        self.on_change(note.incident, stored.incident.status, note.deed)
        return stored

    def run(self, stop: threading.Event) -> None:
        """Tell the targets until `stop` is set, as soon as this process observes."""
        while self._targets and not stop.wait(_POLL_SECONDS):
            if self._observes.is_set():
                self._sender.run(stop)

    def _closed(self, incident: Incident, note: Note) -> Change:
        ended = incident.copy()
        ended.status, ended.ended = "closed", self._clock()
        for member in ended.members.values():
            member.active = False
        return Change.of("closed", self._clock(), ended, note=note.deed)

    def _keep(self, changes: list[Change], checkpoint: Checkpoint | None) -> bool:
        self._unwritten = [*self._unwritten, *changes][-_MAX_UNWRITTEN:]
        if checkpoint is None and time.monotonic() < self._retry_at:
            return False
        written = self._writing(self._unwritten)
        if self._is_old():
            written = replace(written, refreshed=self._told())
            self._refresh_at = time.monotonic() + _REFRESH_SECONDS
        if checkpoint is not None:
            written = replace(
                written,
                checkpoint=checkpoint,
                engine=self._engine.snapshot(),
                refreshed=self._told(),
                forget_before=written.at - self._keep_for,
            )
        try:
            committed = self.storage.commit(written)
        except AwayError as error:
            log.warning("incidents wait", extra={"reason": str(error)})
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            return False
        self._unwritten = []
        self._written(committed)
        for id_ in committed.closed_by_hand & self._engine.incidents.keys():
            self._end_by_hand(id_)
        return True

    def _is_old(self) -> bool:
        """Whether what is in memory is to be brought up to date: no checkpoint does that."""
        return self.kept == "memory" and time.monotonic() >= self._refresh_at

    def _told(self) -> list[Incident]:
        return [i for i in self._engine.incidents.values() if i.status != "pending"]

    def _end_by_hand(self, id_: str) -> None:
        """Do to an incident what somebody did in another process."""
        incident = self._engine.incidents[id_]
        active = [key for key, member in incident.members.items() if member.active]
        self._ended.append(self._engine.close(id_, self._clock(), "closed by hand"))
        if any(entry.kind == "new_normal" for entry in self.storage.history(id_)):
            self.on_renew(active)

    def _writing(self, changes: list[Change], note: Note | None = None) -> Written:
        now = datetime.fromtimestamp(self._clock(), UTC)
        return Written(now, changes, self._sender.names, note)

    def _written(self, committed: Committed) -> None:
        for change in committed.changes:
            self.on_change(change.incident.id, change.incident.status, change.kind)
            if change.kind in ("opened", "closed"):
                counts = getattr(self._counters, change.kind)
                label = change.incident.label
                counts[label] = counts.get(label, 0) + 1
        if committed.changes:
            self._sender.wake()

    def _count_alerts(self, target: str, what: str, number: int) -> None:
        counts = self._counters.alerts_sent if what == "sent" else self._counters.alerts_failed
        counts[target] = counts.get(target, 0) + number


def roles_of(enrolment: Enrolment) -> Roles:
    """Return the roles of the classes that decide, enrolled ones too."""
    return Roles.of(enrolment.base.manifest.classes).with_roles(
        {
            name: Role(stored.good, SEVERITIES[stored.severity])
            for name in enrolment.enrolled
            if (stored := enrolment.stored(name)) is not None
        }
    )


def hysteresis_of(settings: Settings) -> Hysteresis:
    """Return the rule of the states of keys."""
    return Hysteresis(
        open_records=settings.incident_open,
        window=settings.incident_window,
        close_records=settings.incident_close,
        least_seconds=settings.incident_least_seconds,
        flap_seconds=settings.incident_flap_seconds,
    )


def patience_of(settings: Settings) -> Patience:
    """Return how long incidents wait."""
    return Patience(
        root_seconds=settings.incident_root_seconds,
        stale_seconds=settings.incident_stale_seconds,
        settle_seconds=settings.incident_settle_seconds,
    )


def _targets(settings: Settings) -> list[Target]:
    targets: list[Target] = []
    if urls := settings.alertmanagers.replace(",", " ").split():
        targets.append(AlertmanagerTarget(urls))
    if settings.webhook:
        targets.append(WebhookTarget(settings.webhook, settings.webhook_secret))
    return targets
