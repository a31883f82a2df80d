"""Incidents in the database of the classes."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import fields
from datetime import datetime
from typing import Final

import msgspec
import sqlalchemy as sa

from service.classes.database import Store
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
from service.incidents.tables import changes, checkpoints, incidents, members, outbox, tellers

__all__ = ["IncidentStore"]

_LOCK: Final = 7_321_004
"""Advisory lock of PostgreSQL."""
_CHECKPOINT_SECONDS: Final = 60.0
"""For a statement: a checkpoint may have hundreds of megabytes."""
_MAX_OUTBOX = 10_000
"""Incidents that wait for a target; one more is not told to it."""
_MAX_KEY_BYTES: Final = 2_000
"""Of a key that incidents are found by: PostgreSQL's index takes 2,704."""
_MAX_FORGOTTEN = 500
"""Incidents that are deleted at a time: a transaction stays short."""


class IncidentStore:
    """Keeps incidents in a database; see `Storage`.

    Args:
        store: of the classes, in the same database.

    Every method raises AwayError while the database is away.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def commit(self, written: Written) -> Committed:
        """Write all of it in one transaction."""
        committed = Committed()
        seconds = None if written.checkpoint is None else _CHECKPOINT_SECONDS
        with self._store.writing(_LOCK, seconds) as connection:
            if written.note is not None:
                _write_note(connection, written.note)
            for change in written.changes:
                if _apply(connection, change, written.at):
                    committed.changes.append(change)
                    _put_out(connection, change.incident, written.targets)
                elif _people(connection, change.incident.id).closed:
                    committed.closed_by_hand.add(change.incident.id)
            for incident in written.refreshed:
                here = sa.and_(
                    incidents.c.id == incident.id,
                    incidents.c.sequence == incident.sequence,
                    incidents.c.status != "closed",
                )
                fresh = {"first": incident.first, "last": incident.last, "document": incident}
                if connection.execute(sa.update(incidents).where(here).values(fresh)).rowcount:
                    _add_members(connection, incident)
                elif _is_closed(connection, incident.id):
                    committed.closed_by_hand.add(incident.id)
            if written.checkpoint is not None:
                _write_checkpoint(connection, written.checkpoint, written.engine)
            if written.forget_before is not None:
                _forget(connection, written.forget_before)
        return committed

    def get(self, id_: str) -> Stored:
        """Return an incident."""
        query = sa.select(incidents.c.document, incidents.c.people).where(incidents.c.id == id_)
        with self._store.reading() as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            raise NoSuchIncidentError(id_)
        return Stored(*row)

    def find(self, query: Query) -> list[Stored]:
        """Return incidents, the latest first."""
        table, chosen = incidents.c, sa.select(incidents.c.document, incidents.c.people)
        if query.status is not None:
            chosen = chosen.where(table.status == query.status)
        if query.label is not None:
            chosen = chosen.where(table.label == query.label)
        if query.since is not None:
            chosen = chosen.where(table.last >= query.since)
        if query.key is not None:
            takes_part = sa.select(members.c.incident).where(members.c.key == query.key)
            chosen = chosen.where(table.id.in_(takes_part))
        if query.before is not None:
            first, id_ = query.before
            chosen = chosen.where(
                sa.or_(table.first < first, sa.and_(table.first == first, table.id < id_))
            )
        chosen = chosen.order_by(table.first.desc(), table.id.desc()).limit(query.limit)
        with self._store.reading() as connection:
            return [Stored(*row) for row in connection.execute(chosen)]

    def history(self, id_: str) -> list[HistoryEntry]:
        """Return the changes of an incident, in order."""
        query = sa.select(*(changes.c[field.name] for field in fields(HistoryEntry)))
        query = query.where(changes.c.incident == id_).order_by(changes.c.number)
        with self._store.reading() as connection:
            return [HistoryEntry(*row) for row in connection.execute(query)]

    def checkpoint(self, name: str) -> tuple[Checkpoint, bytes] | None:
        """Return the checkpoint of a process, and the snapshot of its engine."""
        query = sa.select(checkpoints).where(checkpoints.c.name == name)
        with self._store.reading(_CHECKPOINT_SECONDS) as connection:
            row = connection.execute(query).one_or_none()
        if row is None:
            return None
        return Checkpoint(row.name, row.position, bytes(row.document)), bytes(row.incidents)

    def due(
        self, target: str, resend_before: float | None, limit: int, now: float | None = None
    ) -> list[Due]:
        """Return incidents to tell a target, those that were told longest ago first."""
        is_due = outbox.c.sequence > outbox.c.sent
        if resend_before is not None:
            is_due = sa.or_(is_due, outbox.c.sent_at < resend_before)
        if now is not None:
            is_due = sa.or_(is_due, outbox.c.sent_at > now + SET_BACK_SECONDS)
        query = (
            sa.select(incidents.c.document, outbox.c.sent, outbox.c.sent_at > 0)
            .join(incidents, incidents.c.id == outbox.c.incident)
            .where(outbox.c.target == target, is_due)
            .order_by(outbox.c.sent_at, outbox.c.incident)
            .limit(limit)
        )
        with self._store.reading() as connection:
            return [Due(i, sent, bool(tried)) for i, sent, tried in connection.execute(query)]

    def acquire_lease(self, target: str, owner: str, now: float, until: float) -> bool:
        """Return whether a process may tell a target until then; no other may meanwhile."""
        here = tellers.c.target == target
        with self._store.writing(_LOCK) as connection:
            row = connection.execute(sa.select(tellers).where(here)).one_or_none()
            if row is None:
                new = {"target": target, "owner": owner, "until": until}
                connection.execute(sa.insert(tellers), new)
                return True
            if row.owner != owner and now < row.until <= until + SET_BACK_SECONDS:
                return False
            connection.execute(sa.update(tellers).where(here).values(owner=owner, until=until))
            return True

    def tried(self, target: str, told: Sequence[Incident], at: float) -> None:
        """Note that a target is being told of incidents, of which it knew nothing."""
        here = sa.and_(
            outbox.c.target == target,
            outbox.c.sent == 0,
            outbox.c.incident.in_([incident.id for incident in told]),
        )
        with self._store.writing(_LOCK) as connection:
            connection.execute(sa.update(outbox).where(here).values(sent_at=at))

    def sent(self, target: str, told: Sequence[Incident], at: float) -> None:
        """Note that a target was told of incidents; closed ones are done."""
        with self._store.writing(_LOCK) as connection:
            for incident in told:
                here = sa.and_(outbox.c.incident == incident.id, outbox.c.target == target)
                if incident.status == "closed":
                    connection.execute(sa.delete(outbox).where(here))
                else:
                    now = {"sent": incident.sequence, "sent_at": at}
                    connection.execute(sa.update(outbox).where(here).values(now))

    def waiting(self, target: str) -> int:
        """Return how many incidents have a change that a target was not told of."""
        query = sa.select(sa.func.count()).where(
            outbox.c.target == target, outbox.c.sequence > outbox.c.sent
        )
        with self._store.reading() as connection:
            return int(connection.execute(query).scalar_one())


def _apply(connection: sa.Connection, change: Change, at: datetime) -> bool:
    """Write a change of an incident, unless it is written already or the incident is closed."""
    incident = change.incident
    here = incidents.c.id == incident.id
    query = sa.select(incidents.c.sequence, incidents.c.status).where(here)
    row = connection.execute(query).one_or_none()
    if row is not None and (row.sequence >= incident.sequence or row.status == "closed"):
        return False
    values = {
        "status": incident.status,
        "label": incident.label,
        "root": incident.root,
        "first": incident.first,
        "last": incident.last,
        "sequence": incident.sequence,
        "document": incident,
    }
    if row is None:
        connection.execute(sa.insert(incidents), values | {"id": incident.id, "people": People()})
    else:
        connection.execute(sa.update(incidents).where(here).values(values))
    _add_members(connection, incident)
    connection.execute(
        sa.insert(changes),
        {
            "incident": incident.id,
            "sequence": incident.sequence,
            "kind": change.kind,
            "time": change.time,
            "at": at,
            "key": change.key,
            "note": change.note,
        },
    )
    return True


def _add_members(connection: sa.Connection, incident: Incident) -> None:
    known = sa.select(members.c.key).where(members.c.incident == incident.id)
    new = incident.members.keys() - set(connection.execute(known).scalars())
    new = {key for key in new if len(msgspec.json.encode(key)) <= _MAX_KEY_BYTES}
    if new:
        rows = [{"key": key, "incident": incident.id} for key in sorted(new)]
        connection.execute(sa.insert(members), rows)


def _forget(connection: sa.Connection, before: datetime) -> None:
    """Delete closed incidents that nothing was written of since, some at a time."""
    here = sa.select(changes.c.number).where(
        changes.c.incident == incidents.c.id, changes.c.at >= before
    )
    query = sa.select(incidents.c.id).where(incidents.c.status == "closed", ~here.exists())
    old = [*connection.execute(query.limit(_MAX_FORGOTTEN)).scalars()]
    if old:
        connection.execute(sa.delete(incidents).where(incidents.c.id.in_(old)))
        for table in (members, changes, outbox):
            connection.execute(sa.delete(table).where(table.c.incident.in_(old)))


def _put_out(connection: sa.Connection, incident: Incident, targets: Collection[str]) -> None:
    """Let targets be told of an incident; of one that has closed only those who know of it."""
    for target in targets:
        here = sa.and_(outbox.c.incident == incident.id, outbox.c.target == target)
        now = {"sequence": incident.sequence}
        if connection.execute(sa.update(outbox).where(here).values(now)).rowcount:
            continue
        number = sa.select(sa.func.count()).where(outbox.c.target == target)
        if incident.status == "closed" or connection.execute(number).scalar_one() >= _MAX_OUTBOX:
            continue
        row = now | {"incident": incident.id, "target": target, "sent": 0, "sent_at": 0.0}
        connection.execute(sa.insert(outbox), row)


def _is_closed(connection: sa.Connection, id_: str) -> bool:
    query = sa.select(incidents.c.status).where(incidents.c.id == id_)
    return connection.execute(query).scalar_one_or_none() == "closed"


def _people(connection: sa.Connection, id_: str) -> People:
    query = sa.select(incidents.c.people).where(incidents.c.id == id_)
    people: People | None = connection.execute(query).scalar_one_or_none()
    return people or People()


def _write_note(connection: sa.Connection, note: Note) -> None:
    if note.key is not None:
        query = sa.select(changes.c.incident, changes.c.kind, changes.c.note)
        query = query.where(changes.c.idempotency_key == note.key)
        if (row := connection.execute(query).one_or_none()) is not None:
            same = tuple(row) == (note.incident, note.deed, note.text)
            raise RepeatedNoteError(note.key, same=same)
    here = incidents.c.id == note.incident
    people = connection.execute(sa.select(incidents.c.people).where(here)).scalar_one_or_none()
    if people is None:
        raise NoSuchIncidentError(note.incident)
    connection.execute(sa.update(incidents).where(here).values(people=people.after(note)))
    connection.execute(
        sa.insert(changes),
        {
            "incident": note.incident,
            "kind": note.deed,
            "at": note.at,
            "note": note.text,
            "who": note.who,
            "request_id": note.request_id,
            "idempotency_key": note.key,
        },
    )


def _write_checkpoint(connection: sa.Connection, checkpoint: Checkpoint, engine: bytes) -> None:
    here = checkpoints.c.name == checkpoint.name
    values = {
        "position": checkpoint.position,
        "document": checkpoint.document,
        "incidents": engine,
    }
    if not connection.execute(sa.update(checkpoints).where(here).values(values)).rowcount:
        connection.execute(sa.insert(checkpoints), values | {"name": checkpoint.name})
