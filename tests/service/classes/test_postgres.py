from __future__ import annotations

from collections.abc import Generator
from types import SimpleNamespace
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from service.classes import postgres
from service.classes.postgres import backend
from tests.support.databases import Postgres

pytestmark = pytest.mark.xdist_group("postgresql")
URL = "postgresql+psycopg://user:secret-word@db.example/classes"


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """What each connection was asked for; none is made."""
    options: list[dict[str, Any]] = []

    def refuse(**more: Any) -> None:
        options.append(more)
        raise psycopg.OperationalError("nobody is there")

    monkeypatch.setattr(postgres._Connection, "connect", refuse)
    return options


def ask(url: str) -> None:
    with pytest.raises(sa.exc.OperationalError, match="nobody is there"):
        backend(sa.make_url(url)).statement.connect()


def test_a_server_that_is_away_is_noticed_in_seconds(asked: list[dict[str, Any]]) -> None:
    ask(URL)
    told = {name: asked[0][name] for name in ("host", "dbname", "connect_timeout", "options")}
    assert told == {
        "host": "db.example",
        "dbname": "classes",
        "connect_timeout": 2,
        "options": "-c statement_timeout=5000 -c synchronous_commit=on",
    }


def test_what_the_url_says_goes_before_the_defaults(asked: list[dict[str, Any]]) -> None:
    ask(f"{URL}?connect_timeout=9&application_name=mine&options=-c%20statement_timeout%3D7")
    assert int(asked[0]["connect_timeout"]) == 9
    assert asked[0]["application_name"] == "mine"
    # Of two values for one setting, the server takes the last.
    assert asked[0]["options"].endswith("-c synchronous_commit=on -c statement_timeout=7")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        (URL, "PostgreSQL database 'classes' on db.example"),
        ("postgresql+psycopg:///classes", "PostgreSQL database 'classes' on this machine"),
        ("postgresql+psycopg:///c?host=/run/pg", "PostgreSQL database 'c' on /run/pg"),
    ],
)
def test_a_database_is_named_with_its_host(url: str, name: str) -> None:
    assert backend(sa.make_url(url)).name == name


def waiting(answers: list[object]) -> Generator[str, Any, str]:
    while not (yield "read"):
        answers.append("woken")
    return "done"


@pytest.mark.parametrize("timeout", [-1, 60])
def test_a_server_that_stands_still_is_given_up_after_the_timeout(timeout: float) -> None:
    closed: list[bool] = []
    connection: Any = SimpleNamespace(
        timeout=timeout, pgconn=SimpleNamespace(finish=lambda: closed.append(True))
    )
    woken: list[object] = []
    limited = postgres._Connection._limited(connection, waiting(woken))
    assert next(limited) == "read"
    if timeout < 0:
        with pytest.raises(psycopg.OperationalError, match="does not answer"):
            limited.send(None)
        assert (closed, woken) == ([True], [])
    else:
        assert limited.send(None) == "read"
        with pytest.raises(StopIteration) as caught:
            limited.send("ready")
        assert (caught.value.value, closed, woken) == ("done", [], ["woken"])


def test_transactions_with_the_same_lock_exclude_each_other(server: Postgres) -> None:
    url = sa.make_url(server.database()).set(drivername="postgresql+psycopg")
    first = backend(url)
    other = backend(url.update_query_dict({"options": "-c statement_timeout=200"}))
    try:
        with first.writing.connect() as holder, other.writing.connect() as waiter:
            with holder.execution_options(lock=1).begin():
                with waiter.execution_options(lock=2).begin():
                    pass
                waiter.execution_options(lock=1)
                with pytest.raises(sa.exc.OperationalError, match="statement timeout"):
                    waiter.begin()
                waiter.rollback()
            with waiter.begin():
                pass
    finally:
        first.writing.dispose()
        other.writing.dispose()


def test_an_unlimited_transaction_has_no_timeout_and_the_next_one_has(server: Postgres) -> None:
    made = backend(sa.make_url(server.database()).set(drivername="postgresql+psycopg"))
    told = []
    try:
        made.check()
        for options in ({"unlimited": True}, {}):
            with made.writing.connect() as connection:
                connection.execution_options(**options)
                with connection.begin():
                    told.append(connection.exec_driver_sql("SHOW statement_timeout").scalar())
    finally:
        made.writing.dispose()
    assert told == ["0", "5s"]


@pytest.mark.parametrize(("option", "why"), [("off", ""), ("on", "it is read-only: name ")])
def test_a_server_that_takes_no_changes_is_found_out(
    server: Postgres, option: str, why: str
) -> None:
    url = sa.make_url(server.database()).set(drivername="postgresql+psycopg")
    made = backend(url.update_query_dict({"options": f"-c default_transaction_read_only={option}"}))
    told = made.write_fault()
    made.writing.dispose()
    assert (told[: len(why)], bool(told)) == (why, bool(why))
