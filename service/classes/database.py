"""Database of enrolled classes and profiles, of the history of their changes, and of feedback.

It is an SQLite file or in PostgreSQL. Each change is one transaction, which makes the next revision
and keeps what it changed, so that every earlier revision can be reconstructed.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from service.classes import sqlite
from service.classes.backend import Backend
from service.classes.entities import (
    AwayError,
    ConflictError,
    Feedback,
    NoSuchRevisionError,
    RepeatedError,
    RevisionEntry,
    Snapshot,
    StoredClass,
    StoredProfile,
    UnusableError,
)
from service.classes.statements import (
    ClassChanges,
    ProfileChanges,
    answered,
    newest_revision,
    read_profiles,
    replace_classes,
    replace_profiles,
)
from service.classes.tables import METADATA, PlacedClass, classes, feedback, revisions

__all__ = ["VERSIONS", "Store"]

log = logging.getLogger(__name__)

VERSIONS: Final = ("0001", "0002", "0003", "0004")
"""Of the tables, as the migrations are called, oldest first; this program needs the last."""

_MIGRATION, _COMMIT, _FEEDBACK = 7_321_001, 7_321_002, 7_321_003
"""Advisory locks of PostgreSQL."""
_MAX_NAME_BYTES = 2000
"""Of a class's name as JSON: PostgreSQL cannot index much longer ones."""
_MAX_REASON = 300
_URL_FORMS = "expected sqlite:////path/to/file or postgresql://user:password@host/database"
_migration = threading.Lock()  # alembic has one context in a process


class Store:
    """The classes, their history and feedback, in a database.

    Threads may share a store. Each process needs its own: a used one must not survive a fork.

    While the database is away, every method raises AwayError. A change that does so may still have
    been committed; sent again with the same base or idempotency key, it is committed only once.

    Args:
        url: of the database, in SQLAlchemy's form; "postgresql://" means psycopg.

    Raises:
        UnusableError: the URL is malformed, or of an unsupported kind of database.
    """

    def __init__(self, url: str) -> None:
        parsed = _parse(url)
        self._password = parsed.password or ""
        self._backend = _backend(parsed)
        self._engine = self._backend.writing

    def prepare(self, *, migrate: bool = True) -> None:
        """Check that the database can be used, and migrate its tables to this version.

        Several processes may do so at once.

        Args:
            migrate: whether to make or change it; without, it must have this version's tables.

        Raises:
            UnusableError: it cannot be used; the message says why, and what to do.
        """
        url = self._engine.url
        if (
            not migrate
            and url.get_backend_name() == "sqlite"
            and not Path(url.database or "").exists()
        ):
            raise UnusableError(f"{self._backend.name}: there is no such file")
        with self._translated_errors():
            self._backend.check()
        with self._connect(self._backend.statement) as connection:
            version = self._version(connection)
        if version != VERSIONS[-1] and not migrate:
            raise UnusableError(
                f"{self._backend.name}: its tables are of version {version or 'none'}, and not of "
                f"{VERSIONS[-1]}: start a service of this version of Faultcube on it first"
            )
        if version != VERSIONS[-1]:
            try:
                self._migrate()
            except AwayError as error:
                if not isinstance(error.__cause__, exc.ProgrammingError):
                    raise
                raise UnusableError(f"{error}: its user must be allowed to make tables") from error
        self.read()

    def close(self) -> None:
        """Close every connection; one that a thread still uses, when it is given back."""
        sa.event.listen(self._engine.pool, "checkin", lambda _, record: record.invalidate())
        self._engine.dispose()

    def revision(self) -> int:
        """Return the newest revision; 0 before the first change."""
        with self._connect(self._backend.statement) as connection:
            return newest_revision(connection)

    def write_fault(self) -> str | None:
        """Return why the database, which can be read, cannot be written; None if it can."""
        with self._translated_errors():
            why = self._backend.write_fault()
        return f"{self._backend.name}: {why}" if why else None

    def read(self) -> Snapshot:
        """Return the classes and profiles of the newest revision."""
        with self._connect(self._backend.snapshot) as connection:
            query = sa.select(classes.c.document).order_by(classes.c.place, classes.c.name)
            stored = {entry.name: entry for entry in connection.execute(query).scalars()}
            return Snapshot(newest_revision(connection), stored, read_profiles(connection))

    def at(self, revision: int) -> Snapshot:
        """Return the classes and profiles of an earlier revision.

        Raises:
            NoSuchRevisionError: there is none.
        """
        with self._connect(self._backend.snapshot) as connection:
            newest = newest_revision(connection)
            if not 0 <= revision <= newest:
                raise NoSuchRevisionError(f"there is no revision {revision}; {newest} is newest")
            rows = connection.execute(sa.select(classes.c.place, classes.c.document))
            state: ClassChanges = {row.document.name: PlacedClass(*row) for row in rows}
            sites: ProfileChanges = {**read_profiles(connection)}
            for before, sites_before in connection.execute(
                sa.select(revisions.c.before, revisions.c.profiles_before)
                .where(revisions.c.revision > revision)
                .order_by(revisions.c.revision.desc())
            ):
                state |= before
                sites |= sites_before
        placed = [entry for entry in state.values() if entry is not None]
        placed.sort(key=lambda entry: (entry.place, entry.stored.name))
        then = {site: stored for site, stored in sorted(sites.items()) if stored is not None}
        return Snapshot(revision, {entry.stored.name: entry.stored for entry in placed}, then)

    def commit(
        self,
        base: int,
        after: Mapping[str, StoredClass | None],
        *,
        action: str,
        who: str | None,
        request_id: str,
        profiles: Mapping[str, StoredProfile | None] | None = None,
        key: tuple[str, str] | None = None,
        answer: bytes = b"",
    ) -> int:
        """Change classes and profiles durably.

        Args:
            base: revision that the change was planned on; it must still be the newest.
            after: new state of each class that changes; None deletes it.
            action: one word for the history.
            who: first digits of the SHA-256 of the key.
            request_id: of the request.
            profiles: the same of profiles, by site.
            key: Idempotency-Key, and the digest of the request.
            answer: returned by `answered` when the request is sent again.

        Returns:
            The new revision.

        Raises:
            RepeatedError: the idempotency key is used already.
            ConflictError: `base` is not the newest revision.
        """
        for name, stored in after.items():
            if stored is not None and stored.name != name:
                raise ValueError(f"the class {stored.name!r} is called {name!r}")
            if len(msgspec.json.encode(name)) - 2 > _MAX_NAME_BYTES:
                raise ValueError(f"the name of a class is longer than {_MAX_NAME_BYTES} bytes")
        with self._transaction(lock=_COMMIT) as connection:
            if key is not None and answered(connection, key[0]) is not None:
                raise RepeatedError(f"the idempotency key {key[0]!r} is there already")
            if (newest := newest_revision(connection)) != base:
                raise ConflictError(newest)
            before, now = replace_classes(connection, after)
            sites = replace_profiles(connection, profiles or {})
            connection.execute(
                sa.insert(revisions),
                {
                    "revision": base + 1,
                    "at": datetime.now(UTC),
                    "action": action,
                    "who": who,
                    "request_id": request_id,
                    "before": before,
                    "after": now,
                    "profiles_before": sites,
                    "profiles_after": profiles or {},
                    "idempotency_key": key and key[0],
                    "idempotency_digest": key and key[1],
                    "answer": answer,
                },
            )
        return base + 1

    def answered(self, key: str) -> tuple[str, bytes] | None:
        """Return digest and answer of the change with an idempotency key, or None."""
        with self._connect(self._backend.statement) as connection:
            return answered(connection, key)

    def history(self, *, limit: int, before: int | None = None) -> list[RevisionEntry]:
        """Return changes, newest first; with `before`, only those of earlier revisions."""
        query = sa.select(*(revisions.c[field.name] for field in fields(RevisionEntry)))
        if before is not None:
            query = query.where(revisions.c.revision < before)
        with self._connect(self._backend.statement) as connection:
            rows = connection.execute(query.order_by(revisions.c.revision.desc()).limit(limit))
            return [
                RevisionEntry(*row[:5], *map(_without_places, row[5:7]), *row[7:]) for row in rows
            ]

    def add_feedback(
        self,
        *,
        who: str | None,
        request_id: str,
        bundle: str,
        record: dict[str, Any],
        verdict: str | None,
        true_label: str,
        note: str = "",
    ) -> int:
        """Store a correction of a verdict.

        Returns:
            Its id, larger than every id that could be read before.
        """
        with self._transaction(lock=_FEEDBACK) as connection:
            made = connection.execute(
                sa.insert(feedback),
                {
                    "at": datetime.now(UTC),
                    "who": who,
                    "request_id": request_id,
                    "bundle": bundle,
                    "record": record,
                    "verdict": verdict,
                    "true_label": true_label,
                    "note": note,
                },
            )
            return int(made.inserted_primary_key[0])  # type: ignore[index]

    def complete_feedback(self, note: str, rows: Sequence[Mapping[str, Any]]) -> None:
        """Store corrections that share a note: those that are not there yet, all of them or none.

        Args:
            note: that no others have.
            rows: arguments of `add_feedback`, without the note; the same whenever they come again.
        """
        query = sa.select(sa.func.count()).where(feedback.c.note == note)
        with self._transaction(lock=_FEEDBACK) as connection:
            there = connection.execute(query).scalar_one()
            at = datetime.now(UTC)
            if missing := [{**row, "at": at, "note": note} for row in rows[there:]]:
                connection.execute(sa.insert(feedback), missing)

    def feedback(self, after: int = 0, limit: int = 1000) -> list[Feedback]:
        """Return feedback in the order of arrival, which has larger ids than `after`."""
        query = sa.select(feedback).where(feedback.c.id > after).order_by(feedback.c.id)
        with self._connect(self._backend.statement) as connection:
            return [Feedback(*row) for row in connection.execute(query.limit(limit))]

    @contextmanager
    def reading(self, seconds: float | None = None) -> Iterator[sa.Connection]:
        """Yield a connection for statements that see the same state.

        Args:
            seconds: that a statement may take, where that is longer than usual.
        """
        with self._connect(self._backend.snapshot) as connection:
            connection.execution_options(seconds=seconds)
            yield connection

    @contextmanager
    def writing(self, lock: int, seconds: float | None = None) -> Iterator[sa.Connection]:
        """Yield a connection for one transaction, which is alone among those with this lock.

        Args:
            lock: its number.
            seconds: that a statement may take, where that is longer than usual.
        """
        with self._transaction(lock=lock, seconds=seconds) as connection:
            yield connection

    @contextmanager
    def _connect(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        with self._translated_errors(), engine.connect() as connection:
            yield connection

    @contextmanager
    def _transaction(self, **options: Any) -> Iterator[sa.Connection]:
        """For writing: one transaction at a time of those with the same lock, in all processes."""
        with self._connect(self._engine) as connection:
            connection.execution_options(**options)
            with connection.begin():
                yield connection

    @contextmanager
    def _translated_errors(self) -> Iterator[None]:
        try:
            yield
        except exc.TimeoutError as error:
            raise AwayError(f"{self._backend.name}: every connection is taken") from error
        except exc.DBAPIError as error:
            raise AwayError(f"{self._backend.name}: {self._reason(error)}") from error
        except msgspec.MsgspecError as error:
            raise UnusableError(
                f"{self._backend.name}: what it holds cannot be read ({error}): restore a backup"
            ) from error

    def _reason(self, error: exc.DBAPIError) -> str:
        """Return an error's message in one line, without the password."""
        line = " ".join(str(error.orig or error).split())
        if self._password:
            line = line.replace(self._password, "***")
        return line[:_MAX_REASON] or type(error).__name__

    def _version(self, connection: sa.Connection) -> str | None:
        """Return the version of the tables, or None if there are none.

        Raises:
            UnusableError: it is unknown here.
        """
        tables = set(sa.inspect(connection).get_table_names())
        version = None
        if "alembic_version" in tables:
            version = connection.exec_driver_sql("SELECT version_num FROM alembic_version").scalar()
            if version is not None and version not in VERSIONS:
                raise UnusableError(
                    f"{self._backend.name}: its tables are of a newer version ({version}, known is "
                    f"{VERSIONS[-1]}): run that version of Faultcube, restore a backup, or move "
                    "it away to begin anew"
                )
        if version is None and (others := sorted(tables & set(METADATA.tables))):
            raise UnusableError(
                f"{self._backend.name}: it has tables of another program ({', '.join(others)}): "
                "name a database of its own"
            )
        return version

    def _migrate(self) -> None:
        from alembic import command  # noqa: PLC0415 - takes long, and is seldom needed
        from alembic.config import Config  # noqa: PLC0415

        with _migration, self._transaction(lock=_MIGRATION, unlimited=True) as connection:
            if (version := self._version(connection)) == VERSIONS[-1]:
                return
            config = Config(attributes={"connection": connection})
            folder = str(Path(__file__).with_name("migrations"))
            config.set_main_option("script_location", folder.replace("%", "%%"))
            command.upgrade(config, VERSIONS[-1])
        self._engine.dispose()  # the connection of the migration has no timeout any more
        log.info("store migrated", extra={"before": version, "after": VERSIONS[-1]})


def _parse(url: str) -> sa.URL:
    """Return the URL with its driver.

    Raises:
        UnusableError: it is malformed or unsupported; the message holds no password.
    """
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise UnusableError(f"the database's URL cannot be read: {_URL_FORMS}") from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise UnusableError(
            f"{parsed.drivername!r} is no database that is known here: {_URL_FORMS}"
        )
    file = parsed.database or ":memory:"
    if parsed.get_backend_name() == "sqlite" and (file[0] == ":" or file.startswith("file:")):
        raise UnusableError(f"an SQLite database has to be a file: {_URL_FORMS}")
    return parsed


def _backend(url: sa.URL) -> Backend:
    if url.get_backend_name() == "sqlite":
        return sqlite.backend(url)
    try:
        from service.classes import postgres  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise UnusableError(
            "PostgreSQL is spoken through psycopg, which is not installed: "
            "pip install -c constraints.txt '.[postgres]'"
        ) from error
    return postgres.backend(url)


def _without_places(changes: ClassChanges) -> dict[str, StoredClass | None]:
    return {name: placed.stored if placed else None for name, placed in changes.items()}
