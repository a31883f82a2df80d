from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from service.classes.database import Store
from service.classes.entities import AwayError, Snapshot, StoredClass, StoreError, UnusableError
from service.runtime.class_sync import ClassSync


class Database(Store):
    """A database in memory that may fail."""

    def __init__(self) -> None:
        self.snapshot, self.error, self.reads = Snapshot(0, {}), None, 0
        self.prepared = self.probes = 0
        self.fault: str | None = None

    error: StoreError | None

    def prepare(self, *, migrate: bool = True) -> None:
        assert migrate
        self._fail()
        self.prepared += 1

    def revision(self) -> int:
        self._fail()
        return self.snapshot.revision

    def read(self) -> Snapshot:
        self.reads += 1
        return self.snapshot

    def write_fault(self) -> str | None:
        self.probes += 1
        return self.fault

    def _fail(self) -> None:
        if self.error is not None:
            raise self.error


@pytest.fixture
def database() -> Database:
    return Database()


@pytest.fixture
def seen() -> list[int]:
    """The revisions that were served, in order."""
    return []


@pytest.fixture
def sync(database: Database, seen: list[int]) -> ClassSync:
    made = ClassSync(lambda: seen.append(made.snapshot.revision))
    made.store = database
    return made


def at(revision: int) -> Snapshot:
    return Snapshot(revision, {"jitter": StoredClass("jitter")})


def test_without_a_database_there_is_nothing_to_poll() -> None:
    sync = ClassSync(lambda: None)
    sync.open(None)
    sync.poll()
    assert (sync.store, sync.away, sync.snapshot.revision) == (None, None, 0)


def test_a_database_is_opened_and_read(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'classes.sqlite'}"
    sync = ClassSync(lambda: None)
    sync.open(url)
    assert sync.store
    assert (sync.away, sync.snapshot.classes) == (None, {})
    sync.store.close()


def test_classes_are_read_when_the_revision_is_another(
    sync: ClassSync, database: Database, seen: list[int]
) -> None:
    sync.poll()
    database.snapshot = at(1)
    for _ in range(3):
        sync.poll()
    assert (seen, database.reads, database.prepared) == ([1], 1, 1)
    database.snapshot = at(3)
    sync.poll()
    database.snapshot = at(2)  # it was restored from a backup
    sync.poll()
    assert seen == [1, 3, 2]


def test_own_changes_are_adopted_unless_later_ones_are_known(
    sync: ClassSync, seen: list[int]
) -> None:
    for revision in (2, 1, 2, 3):
        sync.adopt(at(revision))
    assert (seen, sync.snapshot) == ([2, 3], at(3))


def test_while_the_database_is_away_the_classes_stay_and_it_is_logged_once(
    sync: ClassSync, database: Database, seen: list[int], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    database.error = AwayError("no answer")
    for _ in range(3):
        sync.poll()
    assert [sync.away] == ["no answer"]
    database.error, database.snapshot = None, at(1)
    sync.poll()
    assert [sync.away, seen, database.prepared] == [None, [1], 1]
    database.error = AwayError("no answer")
    sync.poll()
    assert sync.snapshot == at(1)
    messages = [record.message for record in caplog.records]
    assert messages == ["store away", "store back", "classes loaded", "store away"]


def test_whether_the_database_can_be_written_is_looked_at_now_and_then_and_logged_once(
    sync: ClassSync,
    database: Database,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO")
    now = 1000.0
    monkeypatch.setattr("service.runtime.class_sync.time.monotonic", lambda: now)
    seen = []
    for fault in (None, "full", "full", "full", "read-only", None):
        database.fault = fault
        for _ in range(3):
            sync.poll()
        seen.append(sync.unwritable)
        now += 5
    assert seen == [None, "full", "full", "full", "read-only", None]
    assert (database.probes, sync.away) == (6, None)
    messages = [record.message for record in caplog.records]
    assert messages == ["store not writable", "store writable"]


@pytest.mark.alone
def test_a_database_that_must_not_be_used_is_an_error_at_the_start_and_away_later(
    sync: ClassSync, database: Database
) -> None:
    database.error = UnusableError("it is of a later version")
    with pytest.raises(UnusableError):
        sync.poll()
    stop = threading.Event()
    thread = threading.Thread(target=sync.run, args=[stop])
    thread.start()
    try:
        wait_until(lambda: sync.away == "it is of a later version")
        database.error, database.snapshot = None, at(1)
        wait_until(lambda: sync.away is None and sync.snapshot == at(1))
    finally:
        stop.set()
        start = time.monotonic()
        thread.join(5)
    assert time.monotonic() - start < 1


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_classes_that_cannot_be_served_are_read_again(database: Database) -> None:
    def refuse() -> None:
        raise ValueError("no room")

    sync = ClassSync(refuse)
    sync.store, database.snapshot = database, at(3)
    with pytest.raises(ValueError, match="no room"):
        sync.poll()
    with pytest.raises(ValueError, match="no room"):
        sync.adopt(at(3))
    assert sync.snapshot.revision == 0
    seen: list[int] = []
    sync.changed = lambda: seen.append(sync.snapshot.revision)
    sync.poll()
    assert seen == [3]
