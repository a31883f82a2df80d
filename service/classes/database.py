"""The store: classes that were enrolled, all their changes, and feedback; a database keeps them.

It is an SQLite file or in PostgreSQL. A change is one transaction, which makes the next revision:
what it did to which class is kept, so that any revision can be told again. Documents are JSON.
"""

from __future__ import annotations

import logging
import math
import os
import sqlite3
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import msgspec
import sqlalchemy as sa
from sqlalchemy import exc

from service.classes.entities import (
    AwayError,
    ConflictError,
    Feedback,
    NoSuchRevisionError,
    RepeatedError,
    Revision,
    Snapshot,
    Stored,
    UnusableError,
)

__all__ = ["METADATA", "VERSIONS", "Store"]

log = logging.getLogger(__name__)

VERSIONS: Final = ("0001",)
"""Of the schema, as the migrations are called, oldest first; this program needs the last."""

_PATIENCE = 5.0
"""Seconds to wait for a lock, an answer or a free connection."""
_MIGRATING, _COMMITTING, _LISTENING = 7_321_001, 7_321_002, 7_321_003
"""Advisory locks of PostgreSQL: of migrations, of revisions and of feedback."""
_LONGEST_NAME = 2000
"""Bytes of a class's name as JSON; PostgreSQL cannot have much longer ones in an index."""
_LONGEST_WHY = 300
_MIGRATIONS = Path(__file__).with_name("migrations")
_migration = threading.Lock()  # alembic has one context in a process


class _Placed(msgspec.Struct):
    """A class, and where it stands in the order of enrolment."""

    place: int
    stored: Stored


class _AnyText(sa.types.TypeDecorator[str]):
    """Text with the escapes of JSON: PostgreSQL has no zero character."""

    impl = sa.Text
    cache_ok = True

    def process_bind_param(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else _text(value)

    def process_result_value(self, value: str | None, dialect: sa.Dialect) -> str | None:  # noqa: ARG002
        return None if value is None else msgspec.json.decode(f'"{value}"', type=str)


class _Instant(sa.types.TypeDecorator[datetime]):
    """A moment, in UTC; SQLite knows no time zones."""

    impl = sa.DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(
        self,
        value: datetime | None,
        dialect: sa.Dialect,  # noqa: ARG002
    ) -> datetime | None:
        return None if value is None else value.astimezone(UTC)

    def process_result_value(
        self,
        value: datetime | None,
        dialect: sa.Dialect,  # noqa: ARG002
    ) -> datetime | None:
        if value is None:
            return None
        return value.astimezone(UTC) if value.tzinfo else value.replace(tzinfo=UTC)


METADATA: Final = sa.MetaData()
"""The tables of the newest version; the migrations make them."""

_classes = sa.Table(
    "classes",
    METADATA,
    sa.Column("name", _AnyText, primary_key=True),
    sa.Column("place", sa.Integer, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
)
_revisions = sa.Table(
    "revisions",
    METADATA,
    sa.Column("revision", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("at", _Instant, nullable=False),
    sa.Column("action", _AnyText, nullable=False),
    sa.Column("who", _AnyText),
    sa.Column("request_id", _AnyText, nullable=False),
    sa.Column("before", sa.Text, nullable=False),
    sa.Column("after", sa.Text, nullable=False),
    sa.Column("idempotency_key", _AnyText, unique=True),
    sa.Column("idempotency_digest", _AnyText),
    sa.Column("answer", sa.LargeBinary, nullable=False),
)
_feedback = sa.Table(
    "feedback",
    METADATA,
    sa.Column(
        "id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), sa.Identity(), primary_key=True
    ),
    sa.Column("at", _Instant, nullable=False),
    sa.Column("who", _AnyText),
    sa.Column("request_id", _AnyText, nullable=False),
    sa.Column("bundle", _AnyText, nullable=False),
    sa.Column("record", sa.Text, nullable=False),
    sa.Column("verdict", _AnyText),
    sa.Column("true_label", _AnyText, nullable=False),
    sa.Column("note", _AnyText, nullable=False),
    sqlite_autoincrement=True,
)

_newest = sa.select(sa.func.coalesce(sa.func.max(_revisions.c.revision), 0))
_stored = msgspec.json.Decoder(Stored)
_placed = msgspec.json.Decoder(dict[str, _Placed | None])
_record = msgspec.json.Decoder(dict[str, Any])


class Store:
    """The classes, their history and feedback, in a database.

    It may be used from several threads, and by several processes that each have their own: one that
    has been used may not be taken along by a fork.

    A change that meets an AwayError may have been made all the same: sent again with the same base
    or idempotency key, it is made only once.

    Args:
        url: of the database, as SQLAlchemy has it; "postgresql://" is spoken through psycopg.

    Raises:
        UnusableError: the URL is none, or of a kind of database that is not known here.
    """

    def __init__(self, url: str) -> None:
        parsed = _parsed(url)
        self._password = parsed.password or ""
        self._path: Path | None = None
        if parsed.get_backend_name() == "sqlite":
            self._path = Path(parsed.database or "").absolute()
            self._where = str(self._path)
            self._engine = _sqlite(self._path)
        else:
            host = parsed.host or parsed.query.get("host") or "this machine"
            self._where = f"PostgreSQL database {parsed.database!r} on {host}"
            self._engine = _postgresql(parsed)

    def prepare(self) -> None:
        """Look whether the database can be used, and bring its tables to this version.

        Several processes may do so at once.

        Raises:
            UnusableError: it cannot be used, and why, and what to do about it.
            AwayError: it cannot be reached.
        """
        if self._path is not None:
            self._check_file(self._path)
        with self._asking() as connection:
            if self._path is None and self._ask(connection, "SHOW server_encoding") != "UTF8":
                raise UnusableError(f"{self._where}: its encoding is not UTF8: make one that is")
            version = self._version(connection)
        if version != VERSIONS[-1]:
            try:
                self._migrate()
            except AwayError as error:
                if not isinstance(error.__cause__, exc.ProgrammingError):
                    raise
                raise UnusableError(f"{error}: its user must be allowed to make tables") from error
        self.read()

    def close(self) -> None:
        """Give back every connection."""
        self._engine.dispose()

    def revision(self) -> int:
        """The newest revision; 0 before there is one.

        Raises:
            AwayError: the database is away.
        """
        with self._asking() as connection:
            return self._newest(connection)

    def read(self) -> Snapshot:
        """The classes as they are now.

        Raises:
            AwayError: the database is away.
        """
        with self._reading() as connection:
            rows = connection.execute(
                sa.select(_classes.c.document).order_by(_classes.c.place, _classes.c.name)
            )
            classes = [_stored.decode(row.document) for row in rows]
            return Snapshot(self._newest(connection), {each.name: each for each in classes})

    def at(self, revision: int) -> Snapshot:
        """The classes as they were at a revision.

        Raises:
            NoSuchRevisionError: there is none.
            AwayError: the database is away.
        """
        with self._reading() as connection:
            newest = self._newest(connection)
            if not 0 <= revision <= newest:
                raise NoSuchRevisionError(f"there is no revision {revision}; {newest} is newest")
            rows = connection.execute(sa.select(_classes.c.place, _classes.c.document))
            placed = [_Placed(row.place, _stored.decode(row.document)) for row in rows]
            classes: dict[str, _Placed | None] = {each.stored.name: each for each in placed}
            for row in connection.execute(
                sa.select(_revisions.c.before)
                .where(_revisions.c.revision > revision)
                .order_by(_revisions.c.revision.desc())
            ):
                classes |= _placed.decode(row.before)
            there = [each for each in classes.values() if each is not None]
        there.sort(key=lambda each: (each.place, each.stored.name))
        return Snapshot(revision, {each.stored.name: each.stored for each in there})

    def commit(
        self,
        base: int,
        after: Mapping[str, Stored | None],
        *,
        action: str,
        who: str | None,
        request_id: str,
        key: tuple[str, str] | None = None,
        answer: bytes = b"",
    ) -> int:
        """Change classes; it is made to last before this returns.

        Args:
            base: the revision that was looked at, and must still be the newest.
            after: each class that changes as it is then; None where it is gone.
            action: one word for the history.
            who: first digits of the key's hash.
            request_id: of the request.
            key: Idempotency-Key, and the digest of the request.
            answer: to give to who sends it again.

        Returns:
            The revision that this makes.

        Raises:
            RepeatedError: the idempotency key is there already.
            ConflictError: `base` is not the newest revision.
            AwayError: the database is away.
        """
        for name, stored in after.items():
            if stored is not None and stored.name != name:
                raise ValueError(f"the class {stored.name!r} is called {name!r}")
            if len(_text(name).encode()) > _LONGEST_NAME:
                raise ValueError(f"the name of a class is longer than {_LONGEST_NAME} bytes")
        with self._writing(_COMMITTING) as connection:
            if key is not None and self._answered(connection, key[0]) is not None:
                raise RepeatedError(f"the idempotency key {key[0]!r} is there already")
            if (newest := self._newest(connection)) != base:
                raise ConflictError(newest)
            before, now = self._replace(connection, after)
            connection.execute(
                sa.insert(_revisions),
                {
                    "revision": base + 1,
                    "at": datetime.now(UTC),
                    "action": action,
                    "who": who,
                    "request_id": request_id,
                    "before": _json(before),
                    "after": _json(now),
                    "idempotency_key": key and key[0],
                    "idempotency_digest": key and key[1],
                    "answer": answer,
                },
            )
        return base + 1

    def answered(self, key: str) -> tuple[str, bytes] | None:
        """Digest and answer of the change that was made with an idempotency key, if one was.

        Raises:
            AwayError: the database is away.
        """
        with self._asking() as connection:
            return self._answered(connection, key)

    def history(self, *, most: int, before: int | None = None) -> list[Revision]:
        """Changes, newest first.

        Args:
            most: how many.
            before: only of earlier revisions than this.

        Raises:
            AwayError: the database is away.
        """
        names = "revision", "at", "action", "who", "request_id", "before", "after"
        query = sa.select(*(_revisions.c[name] for name in names))
        if before is not None:
            query = query.where(_revisions.c.revision < before)
        with self._asking() as connection:
            rows = connection.execute(query.order_by(_revisions.c.revision.desc()).limit(most))
            return [
                Revision(
                    **{**row, "before": _unplaced(row["before"]), "after": _unplaced(row["after"])}
                )
                for row in rows.mappings()
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
        """Keep what somebody knows about a verdict.

        Returns:
            Its id, larger than that of all that can be read before.

        Raises:
            AwayError: the database is away.
        """
        with self._writing(_LISTENING) as connection:
            made = connection.execute(
                sa.insert(_feedback),
                {
                    "at": datetime.now(UTC),
                    "who": who,
                    "request_id": request_id,
                    "bundle": bundle,
                    "record": _json(record),
                    "verdict": verdict,
                    "true_label": true_label,
                    "note": note,
                },
            )
            return int(made.inserted_primary_key[0])  # type: ignore[index]

    def feedback(self, after: int = 0, most: int = 1000) -> list[Feedback]:
        """Feedback in the order it came.

        Args:
            after: only with larger ids than this.
            most: how many.

        Raises:
            AwayError: the database is away.
        """
        query = sa.select(_feedback).where(_feedback.c.id > after).order_by(_feedback.c.id)
        with self._asking() as connection:
            return [
                Feedback(**{**row, "record": _record.decode(row["record"])})
                for row in connection.execute(query.limit(most)).mappings()
            ]

    @contextmanager
    def _asking(self) -> Iterator[sa.Connection]:
        """For one question, or several that need not be of one moment."""
        with self._telling(), self._engine.connect() as connection:
            if self._path is None:
                connection.execution_options(isolation_level="AUTOCOMMIT")
            yield connection

    @contextmanager
    def _reading(self) -> Iterator[sa.Connection]:
        """All is read as it was at one moment."""
        with self._telling(), self._engine.connect() as connection:
            if self._path is None:
                connection.execution_options(isolation_level="REPEATABLE READ")
            yield connection

    @contextmanager
    def _writing(self, lock: int) -> Iterator[sa.Connection]:
        """One after the other, in all processes; all of it lasts or none."""
        with self._telling(), self._engine.connect() as connection:
            connection.execution_options(writes=True)
            with connection.begin():
                if self._path is None:
                    # Whoever waits here sees afterwards what the one before has written: every
                    # statement has a snapshot of its own.
                    connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
                yield connection

    @contextmanager
    def _telling(self) -> Iterator[None]:
        """Turn what is raised into what is told."""
        try:
            yield
        except exc.TimeoutError as error:
            raise AwayError(f"{self._where}: every connection is taken") from error
        except exc.DBAPIError as error:
            raise AwayError(f"{self._where}: {self._why(error)}") from error
        except msgspec.MsgspecError as error:
            raise UnusableError(
                f"{self._where}: what it holds cannot be read ({error}): restore a backup"
            ) from error

    def _why(self, error: Exception) -> str:
        """One line, without the password."""
        line = " ".join(str(getattr(error, "orig", None) or error).split())
        if self._password:
            line = line.replace(self._password, "***")
        return line[:_LONGEST_WHY] or type(error).__name__

    def _ask(self, connection: sa.Connection, question: str) -> Any:
        return connection.exec_driver_sql(question).scalar()

    def _newest(self, connection: sa.Connection) -> int:
        newest: int = connection.execute(_newest).scalar_one()
        return newest

    def _answered(self, connection: sa.Connection, key: str) -> tuple[str, bytes] | None:
        row = connection.execute(
            sa.select(_revisions.c.idempotency_digest, _revisions.c.answer).where(
                _revisions.c.idempotency_key == key
            )
        ).one_or_none()
        return None if row is None else (row.idempotency_digest, bytes(row.answer))

    def _replace(
        self, connection: sa.Connection, after: Mapping[str, Stored | None]
    ) -> tuple[dict[str, _Placed | None], dict[str, _Placed | None]]:
        """Write classes; those that are new come last, in the order that they are given."""
        last: int = connection.execute(
            sa.select(sa.func.coalesce(sa.func.max(_classes.c.place), 0))
        ).scalar_one()
        before: dict[str, _Placed | None] = {}
        now: dict[str, _Placed | None] = {}
        for name, stored in after.items():
            this = _classes.c.name == name
            row = connection.execute(
                sa.select(_classes.c.place, _classes.c.document).where(this)
            ).one_or_none()
            before[name] = None if row is None else _Placed(row.place, _stored.decode(row.document))
            if stored is None:
                now[name] = None
                connection.execute(sa.delete(_classes).where(this))
                continue
            document = _json(stored)
            if row is not None:
                now[name] = _Placed(row.place, stored)
                connection.execute(sa.update(_classes).where(this).values(document=document))
                continue
            last += 1
            now[name] = _Placed(last, stored)
            values = {"name": name, "place": last, "document": document}
            connection.execute(sa.insert(_classes), values)
        return before, now

    def _check_file(self, path: Path) -> None:
        """Look whether a file is a sound database that can be written; make it when there is none.

        Raises:
            UnusableError: it is not.
        """
        move = "move it away, with its -wal and -shm, to begin anew"
        try:
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with suppress(FileExistsError):
                os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        except OSError as error:
            why = f"it cannot be made ({error.strerror}): its folder must be writable"
            raise UnusableError(f"{path}: {why}") from error
        try:
            with closing(_connected(path)) as connection:
                found = [str(row[0]) for row in connection.execute("PRAGMA quick_check(1)")]
                if found != ["ok"]:
                    raise UnusableError(
                        f"{path}: it is damaged ({' '.join(found[0].split())[:_LONGEST_WHY]}): "
                        f"restore a backup, or {move}"
                    )
                if (mode := _logged_ahead(connection)) != "wal":
                    why = f"no write-ahead log is possible here (only {mode!r}): use a local disk"
                    raise UnusableError(f"{path}: {why}")
                connection.execute("BEGIN IMMEDIATE")  # only what is written to is refused
                connection.execute("PRAGMA user_version = 1")
                connection.execute("ROLLBACK")
        except sqlite3.Error as error:
            match _code(error):
                case sqlite3.SQLITE_BUSY | sqlite3.SQLITE_LOCKED:
                    what = f"another program has had it locked for {_PATIENCE:.0f} s: end that one"
                case sqlite3.SQLITE_CORRUPT | sqlite3.SQLITE_NOTADB:
                    what = f"it is damaged ({error}): restore a backup, or {move}"
                case sqlite3.SQLITE_FULL:
                    what = f"it cannot be written ({error}): make room on its disk"
                case _:
                    what = f"it cannot be written ({error}): it and its folder must be writable"
            raise UnusableError(f"{path}: {what}") from error

    def _version(self, connection: sa.Connection) -> str | None:
        """Of the schema, None when there are no tables yet.

        Raises:
            UnusableError: it is not known here.
        """
        tables = set(sa.inspect(connection).get_table_names())
        if "alembic_version" in tables:
            version = self._ask(connection, "SELECT version_num FROM alembic_version")
            if version is not None and version not in VERSIONS:
                raise UnusableError(
                    f"{self._where}: its tables are of a newer version ({version}, known is "
                    f"{VERSIONS[-1]}): run that version of Faultcube, restore a backup, or move "
                    "it away to begin anew"
                )
        else:
            version = None
        if version is None and (others := sorted(tables & set(METADATA.tables))):
            raise UnusableError(
                f"{self._where}: it has tables of another program ({', '.join(others)}): "
                "name a database of its own"
            )
        return None if version is None else str(version)

    def _migrate(self) -> None:
        from alembic import command  # noqa: PLC0415 - takes long, and is seldom needed
        from alembic.config import Config  # noqa: PLC0415

        with _migration, self._writing(_MIGRATING) as connection:
            if self._path is None:
                connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
                driver: Any = connection.connection.driver_connection
                driver.patience = math.inf
            if (version := self._version(connection)) == VERSIONS[-1]:
                return
            config = Config(attributes={"connection": connection})
            config.set_main_option("script_location", str(_MIGRATIONS).replace("%", "%%"))
            command.upgrade(config, VERSIONS[-1])
        self._engine.dispose()  # the connection that made them has lost its impatience
        log.info("store migrated", extra={"before": version, "after": VERSIONS[-1]})


def _parsed(url: str) -> sa.URL:
    """The URL, with the driver that is to be used.

    Raises:
        UnusableError: it is none; its password is not told.
    """
    known = "expected sqlite:////path/to/file or postgresql://user:password@host/database"
    try:
        parsed = sa.make_url(url)
    except (exc.ArgumentError, ValueError) as error:
        raise UnusableError(f"the database's URL cannot be read: {known}") from error
    if parsed.drivername in {"postgres", "postgresql"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername not in {"sqlite", "sqlite+pysqlite", "postgresql+psycopg"}:
        raise UnusableError(f"{parsed.drivername!r} is no database that is known here: {known}")
    file = parsed.database or ":memory:"
    if parsed.get_backend_name() == "sqlite" and (file[0] == ":" or file.startswith("file:")):
        raise UnusableError(f"an SQLite database has to be a file: {known}")
    return parsed


def _sqlite(path: Path) -> sa.Engine:
    engine = sa.create_engine(
        sa.URL.create("sqlite", database=str(path)),
        creator=lambda: _connected(path),
        pool_size=4,
        max_overflow=60,
        pool_timeout=_PATIENCE,
        hide_parameters=True,
    )

    @sa.event.listens_for(engine, "begin")
    def begin(connection: sa.Connection) -> None:
        """What is going to write waits at the start: later it could only fail."""
        writes = connection.get_execution_options().get("writes", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if writes else "BEGIN")

    return engine


def _connected(path: Path) -> sqlite3.Connection:
    """Open a file that is there; `begin` alone begins transactions."""
    connection = sqlite3.connect(
        f"file:{quote(str(path))}?mode=rw",
        uri=True,
        timeout=_PATIENCE,
        isolation_level=None,
        check_same_thread=False,
    )
    try:
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
    except BaseException:
        connection.close()
        raise
    return connection


def _logged_ahead(connection: sqlite3.Connection) -> str:
    """Switch to a write-ahead log, which SQLite does not itself wait for."""
    latest = time.monotonic() + _PATIENCE
    while True:
        try:
            return str(connection.execute("PRAGMA journal_mode = WAL").fetchone()[0])
        except sqlite3.OperationalError as error:
            if _code(error) != sqlite3.SQLITE_BUSY or time.monotonic() > latest:
                raise
        time.sleep(0.02)


def _code(error: sqlite3.Error) -> int:
    """The primary one."""
    return getattr(error, "sqlite_errorcode", sqlite3.SQLITE_ERROR) & 0xFF


def _postgresql(url: sa.URL) -> sa.Engine:
    given = url.query
    options = f"-c statement_timeout={_PATIENCE * 1000:.0f} -c synchronous_commit=on"
    others = given.get("options", ())
    defaults = {
        "connect_timeout": 2,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 2,
        "tcp_user_timeout": int(_PATIENCE * 1000),
        "application_name": "faultcube",
        "client_encoding": "utf8",
    }
    try:
        engine = sa.create_engine(
            url.difference_update_query(["options"]),
            connect_args={
                **{name: value for name, value in defaults.items() if name not in given},
                "options": " ".join((options, *([others] if isinstance(others, str) else others))),
            },
            isolation_level="READ COMMITTED",
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=4,
            pool_timeout=_PATIENCE,
            hide_parameters=True,
        )
        connecting = _impatient()
    except ImportError as error:
        raise UnusableError(
            "PostgreSQL is spoken through psycopg, which is not installed: "
            "pip install 'faultcube[postgres]'"
        ) from error

    @sa.event.listens_for(engine, "do_connect")
    def connect(_dialect: Any, _record: Any, given: list[Any], named: dict[str, Any]) -> Any:
        return connecting(*given, **named)

    return engine


def _impatient() -> Callable[..., Any]:
    """What opens connections that give up on a server that neither answers nor goes away."""
    from psycopg import Connection, OperationalError  # noqa: PLC0415 - not always installed

    class Impatient(Connection[Any]):
        patience = _PATIENCE + 1

        def wait(self, gen: Generator[Any, Any, Any], *others: Any, **named: Any) -> Any:
            return super().wait(self._limited(gen), *others, **named)

        def _limited(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
            """The same, looked at ten times a second."""
            latest = time.monotonic() + self.patience
            try:
                wanted = next(gen)
                while True:
                    ready = yield wanted
                    if not ready and time.monotonic() > latest:
                        self.pgconn.finish()
                        raise OperationalError("the server does not answer")
                    wanted = gen.send(ready)
            except StopIteration as end:
                return end.value

    return Impatient.connect


def _json(value: object) -> str:
    return msgspec.json.encode(value).decode()


def _text(value: str) -> str:
    return _json(value)[1:-1]


def _unplaced(document: str) -> dict[str, Stored | None]:
    placed = _placed.decode(document)
    return {name: None if each is None else each.stored for name, each in placed.items()}
