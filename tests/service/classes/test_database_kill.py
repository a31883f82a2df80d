"""Whoever enrols is killed at any moment, as is the database: what was acknowledged is there."""

from __future__ import annotations

import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from service.classes.database import Store
from service.classes.entities import AwayError, StoredClass, SupportRecord
from tests.support.databases import KINDS, Postgres, running, url_of

pytestmark = pytest.mark.xdist_group("postgresql")
ROOT = Path(__file__).parents[3]
KILLS = 100
CRASHES = 5

# It imports once, and makes a child of itself for each line that it reads.
NURSERY = """
import os, sys
import alembic.command, alembic.config, psycopg
import sqlalchemy.dialects.postgresql.psycopg, sqlalchemy.dialects.sqlite.pysqlite
from service.classes.database import Store
from service.classes.entities import AwayError, StoredClass, SupportRecord

def enrol(url, name):
    number, store = 0, Store(url)
    store.prepare()
    os.write(1, b"ready\\n")
    while True:
        number += 1
        record = SupportRecord(1, {"name": name, "number": number})
        new = StoredClass(f"{name}-{number}", records=(record,))
        after = {new.name: new}
        if number > 1:  # the one before changes at once with it
            before = f"{name}-{number - 1}"
            after[before] = StoredClass(before, description="done", records=new.records)
        store.commit(store.revision(), after, action="enrol", who=None, request_id=name)
        os.write(1, f"made {new.name}\\n".encode())

for line in sys.stdin:
    if not (pid := os.fork()):
        os.write(1, f"child {os.getpid()}\\n".encode())
        try:
            enrol(sys.argv[1], line.strip())
        except AwayError:
            os.write(1, b"away\\n")
        finally:
            os._exit(1)
    os.waitpid(pid, 0)
    os.write(1, b"gone\\n")
"""


@dataclass
class Enrolling:
    """Children that enrol, one after the other.

    Attributes:
        made: every class that was acknowledged.
        away: how many children have met a database that was away.
    """

    process: subprocess.Popen[str]
    made: list[str] = field(default_factory=list)
    away: int = 0
    rounds: int = 0

    def until(self, end: Callable[[int], None], *, ready: bool = True) -> None:
        """Let a child enrol, end it, and take what it has told.

        Args:
            end: ends the child of this id.
            ready: whether to call it once the child is about to enrol, or at the child's start.
        """
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.rounds += 1
        self.process.stdin.write(f"{self.rounds}\n")
        self.process.stdin.flush()
        pid = None
        for line in self.process.stdout:
            match line.split():
                case ["child", told]:
                    pid = int(told)
                    if not ready:
                        end(pid)
                case ["ready"] if ready:
                    assert pid is not None
                    end(pid)
                case ["made", name]:
                    self.made.append(name)
                case ["away"]:
                    self.away += 1
                case ["gone"]:
                    break
        assert pid is not None


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with running() as postgres:
        yield postgres


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request, tmp_path / "classes.db")


@pytest.fixture
def enrolling(url: str) -> Iterator[Enrolling]:
    command = [sys.executable, "-c", NURSERY, url]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Enrolling(process)
        process.communicate(timeout=30)
    assert process.returncode == 0


def check(url: str, enrolling: Enrolling, ends: int) -> None:
    """Whether all is there that was acknowledged, and all of it whole."""
    store = Store(url)
    store.prepare()
    snapshot = store.read()
    names = list(snapshot.classes)
    assert set(enrolling.made) <= set(names)
    assert [name for name in names if name in set(enrolling.made)] == enrolling.made
    # What was under way may be there; it was one change at most.
    assert len(names) - len(enrolling.made) <= ends
    assert len(names) == snapshot.revision
    history = store.history(limit=len(names) + 1)
    assert [each.revision for each in history] == list(range(len(names), 0, -1))
    assert [next(iter(each.after)) for each in reversed(history)] == names
    for name, stored in snapshot.classes.items():
        turn, number = name.split("-")
        followed = f"{turn}-{int(number) + 1}" in snapshot.classes
        assert stored.description == ("done" if followed else "")
        own = {"name": turn, "number": int(number) + followed}
        assert stored.records == (SupportRecord(1, own),)
    assert store.at(0).classes == {}
    new = StoredClass("last")
    assert store.commit(len(names), {"last": new}, action="enrol", who=None, request_id="r")
    store.close()


@pytest.mark.alone
def test_what_was_acknowledged_outlives_100_kills(
    url: str, enrolling: Enrolling, tmp_path: Path
) -> None:
    chance = random.Random(1)

    def kill(pid: int) -> None:
        time.sleep(chance.uniform(0, 0.12))
        os.kill(pid, signal.SIGKILL)

    for turn in range(KILLS):
        # The first ones are not through with making the tables.
        enrolling.until(kill, ready=turn >= 20 and turn % 10 > 0)
    assert enrolling.away == 0
    assert len(enrolling.made) > KILLS
    check(url, enrolling, KILLS)
    if (path := tmp_path / "classes.db").exists():
        with closing(sqlite3.connect(path)) as connection:
            assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]


@pytest.mark.alone
@pytest.mark.parametrize("url", ["postgresql"], indirect=True)
def test_what_was_acknowledged_outlives_a_server_that_is_killed(
    url: str, enrolling: Enrolling, server: Postgres
) -> None:
    chance = random.Random(2)
    mine = Store(url)
    mine.prepare()

    def crash(pid: int) -> None:
        time.sleep(chance.uniform(0.02, 0.25))
        server.kill()
        with suppress(AwayError):
            mine.revision()
            pytest.fail("the server is still there")
        latest = time.monotonic() + 10
        while not _is_over(pid):
            assert time.monotonic() < latest
            time.sleep(0.01)
        server.start()

    for _ in range(CRASHES):
        enrolling.until(crash)
    assert enrolling.away == CRASHES
    assert len(enrolling.made) > CRASHES
    assert mine.revision() >= len(enrolling.made)
    mine.close()
    check(url, enrolling, CRASHES)


def _is_over(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
