"""The class database in PostgreSQL; needs psycopg."""

from __future__ import annotations

import math
import time
from collections.abc import Generator
from typing import Any, Final

import psycopg
import sqlalchemy as sa

from service.classes.backend import TIMEOUT, Backend
from service.classes.entities import UnusableError

__all__ = ["backend"]

_DEFAULTS: Final = {
    "connect_timeout": 2,
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 2,
    "tcp_user_timeout": int(TIMEOUT * 1000),
    "application_name": "faultcube",
    "client_encoding": "utf8",
}


def backend(url: sa.URL) -> Backend:
    """Return the backend for a PostgreSQL server; parameters of the URL go before our defaults."""
    options = f"-c statement_timeout={TIMEOUT * 1000:.0f} -c synchronous_commit=on"
    more = url.query.get("options", ())
    engine = sa.create_engine(
        url.difference_update_query(["options"]),
        connect_args={
            **{name: value for name, value in _DEFAULTS.items() if name not in url.query},
            "options": " ".join((options, *([more] if isinstance(more, str) else more))),
        },
        isolation_level="READ COMMITTED",
        pool_pre_ping=True,
        pool_size=2,
        max_overflow=4,
        pool_timeout=TIMEOUT,
        hide_parameters=True,
    )
    sa.event.listen(engine, "do_connect", _connect)
    sa.event.listen(engine, "begin", _begin)
    sa.event.listen(engine, "checkin", _check_in)
    statement = engine.execution_options(isolation_level="AUTOCOMMIT")
    snapshot = engine.execution_options(isolation_level="REPEATABLE READ")
    host = url.host or url.query.get("host") or "this machine"
    name = f"PostgreSQL database {url.database!r} on {host}"

    def check() -> None:
        with statement.connect() as connection:
            if connection.exec_driver_sql("SHOW server_encoding").scalar() != "UTF8":
                raise UnusableError(f"{name}: its encoding is not UTF8: make one that is")

    def write_fault() -> str:
        with statement.connect() as connection:
            is_read_only = connection.exec_driver_sql("SHOW transaction_read_only").scalar() == "on"
        return "it is read-only: name the server that takes changes" if is_read_only else ""

    return Backend(name, check, write_fault, engine, statement, snapshot)


class _Connection(psycopg.Connection[Any]):
    """A connection that gives up on a server that neither answers nor goes away.

    The server keeps statement_timeout and the kernel tcp_user_timeout; neither notices a server
    process that stands still (SIGSTOP, a frozen container, hanging storage).
    """

    timeout = TIMEOUT + 1

    def wait(self, gen: Generator[Any, Any, Any], *args: Any, **options: Any) -> Any:
        return super().wait(self._limited(gen), *args, **options)

    def _limited(self, gen: Generator[Any, Any, Any]) -> Generator[Any, Any, Any]:
        """Check the deadline whenever psycopg wakes up, ten times a second."""
        deadline = time.monotonic() + self.timeout
        try:
            event = next(gen)
            while True:
                ready = yield event
                if not ready and time.monotonic() > deadline:
                    self.pgconn.finish()
                    raise psycopg.OperationalError("the server does not answer")
                event = gen.send(ready)
        except StopIteration as end:
            return end.value


def _connect(_dialect: Any, _record: Any, args: list[Any], options: dict[str, Any]) -> _Connection:
    return _Connection.connect(*args, **options)


def _check_in(driver: Any, _record: Any) -> None:
    """Take back the longer limit of a transaction: the next to come is asked whether it lives."""
    if driver is not None:  # it was closed
        vars(driver).pop("timeout", None)


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    seconds = math.inf if options.get("unlimited") else options.get("seconds")
    driver: Any = connection.connection.driver_connection
    if seconds:
        driver.timeout = seconds + 1
    if lock := options.get("lock"):
        # READ COMMITTED: each statement after this sees what the previous holder has written.
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock)))
    if seconds:
        limit = 0 if seconds == math.inf else round(seconds * 1000)
        connection.exec_driver_sql(f"SET LOCAL statement_timeout = {limit}")
