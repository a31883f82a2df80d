from __future__ import annotations

import json
import os
import shutil
import sqlite3
import stat
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import asdict, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.profile import Level, Profile
from service.classes import database as module
from service.classes import sqlite
from service.classes.database import VERSIONS, Store
from service.classes.entities import (
    AwayError,
    ConflictError,
    NoSuchRevisionError,
    RepeatedError,
    StoredClass,
    StoredProfile,
    StoreError,
    SupportRecord,
    UnusableError,
)
from service.classes.tables import METADATA
from service.incidents import tables as incident_tables
from tests.support.databases import KINDS, Postgres, running, url_of

pytestmark = pytest.mark.xdist_group("postgresql")
ROOT = Path(__file__).parents[3]
CABLE = StoredClass(
    "cable", severity="critical", records=(SupportRecord(1, {"link up": False}),), next_id=2
)
FAN = StoredClass(
    "fan", description="it stands still", records=(SupportRecord(4, {"rpm": 0.0}),), next_id=5
)
HIDDEN = StoredClass("normal", good=True, hidden=True)
STRANGE = 'zero \x00, "quotes", \\u0000, ü, \U0001f600, \u2028 and \x7f'

ENROL = """
import sys
from service.classes.database import Store
from service.classes.entities import ConflictError, StoredClass

url, name, count = sys.argv[1:]
store = Store(url)
store.prepare()
for number in range(int(count)):
    new = StoredClass(f"{name}-{number}")
    while True:
        base = store.revision()
        try:
            made = store.commit(base, {new.name: new}, action="enrol", who=None, request_id="r")
        except ConflictError:
            continue
        print(made, new.name)
        break
store.close()
"""


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Of a database in SQLite."""
    return tmp_path / "state" / "classes.db"


@pytest.fixture(params=KINDS)
def url(request: pytest.FixtureRequest, path: Path) -> str:
    """Of a database that holds nothing."""
    return url_of(request, path)


@pytest.fixture
def open_store() -> Iterator[Callable[[str], Store]]:
    opened: list[Store] = []

    def open_one(url: str) -> Store:
        opened.append(Store(url))
        opened[-1].prepare()
        return opened[-1]

    yield open_one
    for each in opened:
        each.close()


@pytest.fixture
def store(url: str, open_store: Callable[[str], Store]) -> Store:
    return open_store(url)


@pytest.fixture
def file(path: Path, open_store: Callable[[str], Store]) -> Store:
    """A store in SQLite."""
    return open_store(f"sqlite:///{path}")


@pytest.fixture
def remote(server: Postgres, open_store: Callable[[str], Store]) -> Store:
    """A store in PostgreSQL."""
    return open_store(server.database())


def test_a_connection_that_is_in_use_while_a_store_is_closed_does_not_stay_open(
    store: Store,
) -> None:
    with store._engine.connect() as connection:
        driver: Any = connection.connection.driver_connection
        store.close()
        connection.exec_driver_sql("SELECT 1")
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        driver.execute("SELECT 1")


def put(store: Store, *classes: StoredClass, **others: Any) -> int:
    after = {each.name: each for each in classes}
    named: dict[str, Any] = {"action": "enrol", "who": None, "request_id": "r"} | others
    return store.commit(store.revision(), after, **named)


def put_surely(store: Store, new: StoredClass) -> int:
    while True:
        try:
            return put(store, new)
        except ConflictError:
            continue


def test_a_new_store_is_empty_and_at_revision_0(store: Store) -> None:
    assert store.revision() == 0
    assert store.read().revision == 0
    assert store.read().classes == {}
    assert store.at(0) == store.read()
    assert store.history(limit=10) == []
    assert store.feedback() == []
    assert store.answered("key") is None


def test_nothing_is_opened_before_it_is_needed(path: Path) -> None:
    Store(f"sqlite:///{path}").close()
    assert not path.parent.exists()


def test_classes_are_kept_in_the_order_of_enrolment(store: Store) -> None:
    assert put(store, FAN, HIDDEN) == 1
    assert put(store, CABLE) == 2
    changed = StoredClass("fan", records=(*FAN.records, SupportRecord(5, {"rpm": None})), next_id=6)
    assert put(store, changed) == 3
    snapshot = store.read()
    assert snapshot.revision == store.revision() == 3
    assert list(snapshot.classes.items()) == [
        ("fan", changed), ("normal", HIDDEN), ("cable", CABLE)
    ]  # fmt: skip


def test_a_class_that_comes_again_comes_last(store: Store) -> None:
    put(store, FAN, CABLE)
    store.commit(1, {"fan": None}, action="delete", who=None, request_id="r")
    put(store, FAN)
    assert list(store.read().classes) == ["cable", "fan"]
    assert list(store.at(1).classes) == ["fan", "cable"]
    assert list(store.at(2).classes) == ["cable"]


def test_what_is_kept_is_there_for_the_next_store(
    url: str, open_store: Callable[[str], Store]
) -> None:
    first = open_store(url)
    put(first, CABLE)
    first.close()
    second = open_store(url)
    assert second.read().classes == {"cable": CABLE}
    assert put(second, FAN) == 2


def test_a_store_can_be_used_after_it_was_closed(store: Store) -> None:
    store.close()
    assert put(store, CABLE) == 1


@pytest.mark.parametrize("name", ["", " ", STRANGE, "\x00", "\\x00", "a" * 300, "\u00fc" * 300])
def test_any_text_is_kept_as_it_is(store: Store, name: str) -> None:
    new = StoredClass(name, description=STRANGE, records=(SupportRecord(1, {STRANGE: [STRANGE]}),))
    named = {"action": STRANGE, "who": STRANGE, "request_id": STRANGE, "key": (STRANGE, STRANGE)}
    put(store, new, **named, answer=b"\x00\xff")
    assert store.read().classes == {name: new}
    assert store.at(0).classes == {}
    assert store.answered(STRANGE) == (STRANGE, b"\x00\xff")
    told = store.history(limit=1)[0]
    assert (told.action, told.who, told.request_id) == (STRANGE,) * 3
    assert told.after == {name: new}
    store.add_feedback(
        who=STRANGE,
        request_id=STRANGE,
        bundle=STRANGE,
        record={STRANGE: STRANGE},
        verdict=STRANGE,
        true_label=STRANGE,
        note=STRANGE,
    )
    assert store.feedback()[0].note == store.feedback()[0].record[STRANGE] == STRANGE


def test_names_that_look_alike_are_different_classes(store: Store) -> None:
    names = ["a", "A", "a ", "ä", "a\u0308", "a\x00", "a\\u0000"]
    put(store, *map(StoredClass, names))
    assert list(store.read().classes) == names


@pytest.mark.parametrize(
    "value", [0.1, 1e308, 5e-324, -0.0, 1.0, 1, 2**70, True, None, [{"a": []}], ""]
)
def test_values_of_records_are_kept_exactly(store: Store, value: object) -> None:
    put(store, StoredClass("a", records=(SupportRecord(1, {"value": value}),)))
    assert json.dumps(store.read().classes["a"].records[0].record["value"]) == json.dumps(value)


def test_a_class_has_the_name_that_it_is_kept_by(store: Store) -> None:
    with pytest.raises(ValueError, match="is called"):
        store.commit(0, {"other": FAN}, action="enrol", who=None, request_id="r")
    with pytest.raises(ValueError, match="longer than 2000 bytes"):
        put(store, StoredClass("a" * 2001))
    assert store.revision() == 0


def test_a_change_of_an_older_revision_is_a_conflict(store: Store) -> None:
    put(store, FAN)
    for base in (0, 2):
        with pytest.raises(ConflictError) as caught:
            store.commit(base, {"cable": CABLE}, action="enrol", who=None, request_id="r")
        assert caught.value.revision == 1
    assert store.read().classes == {"fan": FAN}


def test_a_key_makes_a_change_once(store: Store) -> None:
    assert put(store, FAN, key=("once", "digest"), answer=b"201 {}") == 1
    for base in (0, 1):
        with pytest.raises(RepeatedError, match="'once'"):
            store.commit(
                base,
                {"cable": CABLE},
                action="enrol",
                who=None,
                request_id="r",
                key=("once", "other digest"),
            )
    assert store.revision() == 1
    assert store.answered("once") == ("digest", b"201 {}")
    assert store.answered("Once") is None
    put(store, CABLE, key=("twice", "digest"))
    put(store, CABLE)
    put(store, CABLE)
    assert store.answered("twice") == ("digest", b"")


def test_history_tells_newest_first_who_changed_what(store: Store) -> None:
    start = datetime.now(UTC)
    put(store, FAN, action="enrol", who="01234567", request_id="first")
    store.commit(1, {"fan": None, "cable": CABLE}, action="swap", who=None, request_id="second")
    second, first = store.history(limit=10)
    assert (first.revision, first.action, first.who, first.request_id) == (
        1, "enrol", "01234567", "first"
    )  # fmt: skip
    assert (first.before, first.after) == ({"fan": None}, {"fan": FAN})
    assert (second.before, second.after) == (
        {"fan": FAN, "cable": None},
        {"fan": None, "cable": CABLE},
    )
    assert start <= first.at <= second.at <= datetime.now(UTC)
    assert first.at.utcoffset() == timedelta(0)


def test_history_comes_in_pages(store: Store) -> None:
    for number in range(7):
        put(store, StoredClass(str(number)))
    assert [each.revision for each in store.history(limit=3)] == [7, 6, 5]
    assert [each.revision for each in store.history(limit=3, before=5)] == [4, 3, 2]
    assert [each.revision for each in store.history(limit=3, before=2)] == [1]
    assert store.history(limit=3, before=1) == []


def test_deleting_what_is_not_there_is_kept_as_such(store: Store) -> None:
    assert store.commit(0, {"fan": None}, action="delete", who=None, request_id="r") == 1
    assert store.history(limit=1)[0].before == {"fan": None}
    assert store.commit(1, {}, action="nothing", who=None, request_id="r") == 2
    assert store.at(1).classes == store.at(2).classes == {}


@pytest.mark.parametrize("revision", [-1, 2, 10**12])
def test_a_revision_that_is_not_there_is_told(store: Store, revision: int) -> None:
    put(store, FAN)
    with pytest.raises(NoSuchRevisionError, match=f"no revision {revision}; 1 is newest"):
        store.at(revision)


def test_feedback_comes_in_order_and_in_pages(store: Store) -> None:
    start = datetime.now(UTC)
    ids = [
        store.add_feedback(
            who=None if number else "01234567",
            request_id=f"r{number}",
            bundle="0123456789abcdef",
            record={"number": number},
            verdict="fan" if number else None,
            true_label="cable",
            note="as seen",
        )
        for number in range(5)
    ]
    assert ids == sorted(set(ids))
    told = store.feedback()
    assert [each.id for each in told] == ids
    assert [each.record for each in told] == [{"number": number} for number in range(5)]
    assert [each.verdict for each in told[:2]] == [None, "fan"]
    assert (told[0].who, told[0].request_id, told[0].bundle) == (
        "01234567", "r0", "0123456789abcdef"
    )  # fmt: skip
    assert (told[0].true_label, told[0].note) == ("cable", "as seen")
    assert start <= told[0].at <= told[-1].at <= datetime.now(UTC)
    assert [each.id for each in store.feedback(after=ids[1], limit=2)] == ids[2:4]
    assert store.feedback(after=ids[-1]) == []


def put_profiles(store: Store, **profiles: StoredProfile | None) -> int:
    named: dict[str, Any] = {"action": "learn", "who": None, "request_id": "r"}
    return store.commit(store.revision(), {}, profiles=profiles, **named)


NORTH = StoredProfile("north", 1, Profile(200, {"load": Level(90.0, 8.0, "%")}, ("errors",)))
LEARNING = StoredProfile("north", 2, learn=500, force=True)


def test_profiles_have_one_history_with_the_classes(store: Store) -> None:
    assert put_profiles(store, north=NORTH) == 1
    assert put(store, FAN) == 2
    assert put_profiles(store, north=LEARNING, east=replace(NORTH, site="east")) == 3
    assert put_profiles(store, north=None) == 4
    now = store.read()
    assert (now.revision, now.classes) == (4, {"fan": FAN})
    assert now.profiles == {"east": replace(NORTH, site="east")}
    then = [store.at(revision) for revision in range(5)]
    assert [sorted(each.profiles) for each in then] == [
        [],
        ["north"],
        ["north"],
        ["east", "north"],
        ["east"],
    ]
    assert then[2].profiles == {"north": NORTH}
    assert then[3].profiles["north"] == LEARNING
    assert then[4] == now
    gone, learning, fan, learned = store.history(limit=9)
    assert (learned.profiles_before, learned.profiles_after) == ({"north": None}, {"north": NORTH})
    assert (fan.profiles_before, fan.profiles_after) == ({}, {})
    assert learning.profiles_before == {"north": NORTH, "east": None}
    assert (gone.before, gone.profiles_after) == ({}, {"north": None})


NAMES = st.sampled_from(["a", "b", "c", "ä\x00", '"\\']) | st.text(max_size=5)
VALUES = st.none() | st.booleans() | st.floats(allow_nan=False, allow_infinity=False) | st.text()
RECORDS = st.lists(
    st.builds(SupportRecord, st.integers(1, 99), st.dictionaries(st.text(), VALUES, max_size=2)),
    max_size=2,
).map(tuple)
MAKERS = st.none() | st.tuples(st.booleans(), st.text(max_size=5), RECORDS)
CHANGES = st.lists(st.dictionaries(NAMES, MAKERS, max_size=3), max_size=8)


@given(changes=CHANGES)
@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
def test_every_revision_is_told_as_it_was_read(
    store: Store, changes: list[dict[str, tuple[bool, str, tuple[SupportRecord, ...]] | None]]
) -> None:
    with store._engine.begin() as connection:
        for table in METADATA.sorted_tables:
            connection.execute(sa.delete(table))
    read = [store.read()]
    for base, change in enumerate(changes):
        after = {
            name: None if made is None else StoredClass(name, made[0], "minor", *made[1:])
            for name, made in change.items()
        }
        assert store.commit(base, after, action="any", who=None, request_id="r") == base + 1
        read.append(store.read())
        assert {**read[-2].classes, **after} == {**dict.fromkeys(after), **read[-1].classes}
        told = store.history(limit=1)[0]
        assert told.after == after
        assert told.before == {name: read[-2].classes.get(name) for name in after}
    for snapshot in read:
        told_then = store.at(snapshot.revision)
        assert told_then == snapshot
        assert list(told_then.classes) == list(snapshot.classes)
    assert [each.revision for each in store.history(limit=99)] == list(range(len(changes), 0, -1))


def test_threads_that_change_the_classes_at_once_lose_nothing(store: Store) -> None:
    names = [f"{thread}-{number}" for thread in range(8) for number in range(10)]

    def enrol(thread: int) -> list[int]:
        return [put_surely(store, StoredClass(f"{thread}-{number}")) for number in range(10)]

    with ThreadPoolExecutor(8) as pool:
        made = [revision for each in pool.map(enrol, range(8)) for revision in each]
    assert sorted(made) == list(range(1, 81))
    assert sorted(store.read().classes) == sorted(names)


def test_processes_that_change_a_new_database_at_once_lose_nothing(
    url: str, open_store: Callable[[str], Store]
) -> None:
    writers = [
        subprocess.Popen(
            [sys.executable, "-W", "error", "-c", ENROL, url, name, "12"],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            text=True,
        )
        for name in "abcd"
    ]
    told = [
        line.split() for each in writers for line in each.communicate(timeout=60)[0].split("\n")
    ]
    assert [each.returncode for each in writers] == [0] * 4
    store = open_store(url)
    by_revision = sorted((int(made), name) for made, name in filter(None, told))
    assert [made for made, _ in by_revision] == list(range(1, 49))
    assert list(store.read().classes) == [name for _, name in by_revision]
    assert store.revision() == 48


def test_what_is_read_is_of_one_moment(store: Store) -> None:
    done = threading.Event()

    def write() -> None:
        for number in range(60):
            put(store, StoredClass(str(number)), StoredClass("last", description=str(number)))
        done.set()

    with ThreadPoolExecutor(1) as pool:
        writing = pool.submit(write)
        while not (finished := done.is_set()) and not writing.done():
            snapshot = store.read()
            if snapshot.revision:
                assert len(snapshot.classes) == snapshot.revision + 1
                assert snapshot.classes["last"].description == str(snapshot.revision - 1)
        writing.result()
    assert finished or done.is_set()


def test_a_key_that_is_sent_twice_at_once_makes_one_change(store: Store) -> None:
    def send(number: int) -> str:
        try:
            while True:
                try:
                    put(store, StoredClass("a"), key=("key", "digest"), answer=b"%d" % number)
                except ConflictError:
                    continue
                return "made"
        except RepeatedError:
            return "repeated"

    with ThreadPoolExecutor(6) as pool:
        ends = sorted(pool.map(send, range(6)))
    assert ends == ["made"] + ["repeated"] * 5
    assert store.revision() == 1


def test_feedback_that_comes_at_once_is_seen_in_order(store: Store) -> None:
    def add(number: int) -> None:
        store.add_feedback(
            who=None,
            request_id="r",
            bundle="b",
            record={"number": number},
            verdict=None,
            true_label="a",
        )

    seen: list[int] = []
    with ThreadPoolExecutor(4) as pool:
        adding = [pool.submit(add, number) for number in range(60)]
        while len(seen) < 60:
            done = all(each.done() for each in adding)
            new = store.feedback(after=seen[-1] if seen else 0, limit=7)
            seen += [each.id for each in new]
            assert new or not done, "some came later than a larger one"
    assert seen == sorted(set(seen))


def test_corrections_with_one_note_are_stored_once_however_often_they_come(store: Store) -> None:
    rows = [
        {
            "who": None,
            "request_id": "r",
            "bundle": "b",
            "record": {"number": number},
            "verdict": None,
            "true_label": "a",
        }
        for number in range(20)
    ]
    store.complete_feedback("n", rows[:3])
    with ThreadPoolExecutor(6) as pool:
        for done in [pool.submit(store.complete_feedback, "n", rows) for _ in range(6)]:
            done.result()
    assert [each.record["number"] for each in store.feedback()] == [*range(20)]
    store.complete_feedback("of another", rows[:1])
    assert len(store.feedback()) == 21


def test_the_migrations_make_the_tables_that_are_used(store: Store) -> None:
    assert incident_tables.incidents.metadata is METADATA
    with store._engine.connect() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def test_the_versions_are_those_of_the_migrations() -> None:
    config = Config()
    config.set_main_option("script_location", str(ROOT / "service" / "classes" / "migrations"))
    known = [each.revision for each in ScriptDirectory.from_config(config).walk_revisions()]
    assert tuple(reversed(known)) == VERSIONS


def test_a_database_of_the_version_before_keeps_what_it_holds(url: str) -> None:
    store = Store(url)
    try:
        store._backend.check()
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(module, "VERSIONS", ("0001",))
            store._migrate()
        document, placed = json.dumps(asdict(FAN)), json.dumps({"place": 1, "stored": asdict(FAN)})
        with store._transaction() as connection:
            connection.execute(
                sa.text("INSERT INTO classes VALUES ('fan', 1, :document)"), {"document": document}
            )
            connection.execute(
                sa.text(
                    "INSERT INTO revisions VALUES (1, '2026-01-02 12:00:00', 'enrol', NULL, 'r', "
                    "'{\"fan\": null}', :after, NULL, NULL, :answer)"
                ),
                {"after": f'{{"fan": {placed}}}', "answer": b""},
            )
        store.prepare()
        assert store.read() == store.at(1)
        assert (store.read().classes, store.at(0).classes) == ({"fan": FAN}, {})
        (entry,) = store.history(limit=9)
        assert (entry.after, entry.profiles_before, entry.profiles_after) == ({"fan": FAN}, {}, {})
        assert put_profiles(store, north=NORTH) == 2
    finally:
        store.close()


def test_a_database_of_this_version_is_prepared_without_alembic(store: Store, url: str) -> None:
    put(store, FAN)
    script = (
        "import sys; from service.classes.database import Store; "
        "store = Store(sys.argv[1]); store.prepare(); "
        "print(store.revision(), 'alembic' in sys.modules); store.close()"
    )
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", script, url],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout == "1 False\n"


def test_a_database_of_a_newer_version_is_left_alone(store: Store) -> None:
    put(store, FAN)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(UnusableError, match=r"newer version .9999, known is 0004.*move it away"):
        store.prepare()
    assert store.read().classes == {"fan": FAN}


def test_a_database_of_another_program_is_left_alone(url: str, path: Path) -> None:
    path.parent.mkdir()
    path.touch()
    store = Store(url)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE classes (pupils INTEGER)")
    with pytest.raises(UnusableError, match=r"another program \(classes\): name a database of its"):
        store.prepare()
    store.close()


def test_what_cannot_be_decoded_is_told(store: Store) -> None:
    put(store, FAN)
    with store._engine.begin() as connection:
        connection.exec_driver_sql("UPDATE classes SET document = '{}'")
    with pytest.raises(UnusableError, match=r"what it holds cannot be read.*restore a backup"):
        store.prepare()


def test_tables_that_are_gone_are_told(store: Store) -> None:
    with store._engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE revisions")
    with pytest.raises(AwayError, match="revisions"):
        store.revision()


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("no url: secret-word", "cannot be read"),
        ("postgresql://u:secret-word@host:port/x", "cannot be read"),
        ("mysql://u:secret-word@host/x", "'mysql' is no database that is known here"),
        ("sqlite+aiosqlite:////x", "'sqlite.aiosqlite' is no database that is known here"),
        ("sqlite://", "has to be a file"),
        ("sqlite:///:memory:", "has to be a file"),
        ("sqlite:///file:x?uri=true", "has to be a file"),
    ],
)
def test_a_url_of_no_use_is_told_without_its_password(url: str, why: str) -> None:
    with pytest.raises(UnusableError, match=why) as caught:
        Store(url)
    assert "secret-word" not in str(caught.value)
    assert "\n" not in str(caught.value)


# SQLite


def test_the_file_and_its_folder_are_for_nobody_else(file: Store, path: Path) -> None:
    put(file, FAN)
    assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
    assert {stat.S_IMODE(each.stat().st_mode) for each in path.parent.iterdir()} == {0o600}


def test_the_file_is_written_ahead_and_synced(file: Store) -> None:
    with file._engine.connect() as connection:
        told = [
            connection.exec_driver_sql(f"PRAGMA {name}").scalar()
            for name in ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        ]
    assert told == ["wal", 2, 5000, 1]


def test_a_path_is_the_same_wherever_the_process_goes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    store = Store("sqlite:///odd #1? 100%25 name.db")
    store.prepare()
    monkeypatch.chdir("elsewhere")
    put(store, FAN)
    store.close()
    assert (tmp_path / "odd #1").exists() or any(tmp_path.glob("odd*name.db"))
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.alone
def test_classes_are_read_while_another_process_writes(file: Store, path: Path) -> None:
    put(file, FAN)
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        other.execute("DELETE FROM classes")
        start = time.monotonic()
        assert file.read().classes == {"fan": FAN}
        assert file.revision() == 1
        assert time.monotonic() - start < 2
        other.execute("ROLLBACK")


def test_a_file_that_is_locked_is_told(
    file: Store, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(file, FAN)
    monkeypatch.setattr(sqlite, "TIMEOUT", 0.3)
    for lock in ("BEGIN IMMEDIATE", "PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE"):
        file.close()
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.executescript(lock)
            with pytest.raises(UnusableError, match=r"classes.db: another program has had it lock"):
                file.prepare()
            with pytest.raises(AwayError, match=r"classes.db: database is locked"):
                file.commit(1, {}, action="none", who=None, request_id="r")
    file.prepare()
    assert put(file, CABLE) == 2


def _no_header(path: Path) -> None:
    path.write_bytes(b"no database at all, " * 100)


def _torn(path: Path) -> None:
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])


def _scribbled(path: Path) -> None:
    whole = bytearray(path.read_bytes())
    whole[4096 * 2 : 4096 * 4] = os.urandom(4096 * 2)
    path.write_bytes(whole)


@pytest.mark.parametrize("harm", [_no_header, _torn, _scribbled])
def test_a_damaged_file_is_told_and_left_as_it_is(
    file: Store, path: Path, harm: Callable[[Path], None]
) -> None:
    for number in range(20):
        put(file, StoredClass(str(number), description="long " * 500))
    file.close()
    harm(path)
    before = path.read_bytes()
    with pytest.raises(UnusableError, match=r"it is damaged \(.*restore a backup, or move") as told:
        file.prepare()
    assert str(told.value).startswith(str(path))
    assert "\n" not in str(told.value)
    assert path.read_bytes() == before
    with pytest.raises(StoreError):
        file.read()


def test_a_file_that_is_moved_away_begins_anew(file: Store, path: Path) -> None:
    put(file, FAN)
    file.close()
    path.rename(path.with_suffix(".old"))
    with pytest.raises(AwayError, match="unable to open"):
        file.revision()
    assert not path.exists()
    file.prepare()
    assert file.revision() == 0


@contextmanager
def as_nobody() -> Iterator[None]:
    """Without the rights of root, if these are there."""
    if os.geteuid() != 0:
        yield
        return
    os.setegid(65534)
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(0)


@pytest.mark.parametrize("case", ["no file", "folder", "file", "no folder", "a folder itself"])
def test_what_cannot_be_written_is_told(case: str) -> None:
    folder = Path(tempfile.mkdtemp(prefix="faultcube-store-", dir="/tmp"))
    path = folder / "classes.db"
    try:
        if case in {"folder", "file"}:
            made = Store(f"sqlite:///{path}")
            made.prepare()
            made.close()
        if case == "a folder itself":
            path.mkdir()
        if os.geteuid() == 0:
            for each in (folder, *folder.iterdir()):
                shutil.chown(each, 65534, 65534)
        if case == "file":
            path.chmod(0o400)
        elif case != "a folder itself":
            folder.chmod(0o500)
        store = Store(f"sqlite:///{folder / 'deeper' / 'x.db' if case == 'no folder' else path}")
        with as_nobody(), pytest.raises(UnusableError, match=r"be writable") as told:
            store.prepare()
        assert "\n" not in str(told.value)
        store.close()
    finally:
        folder.chmod(0o700)
        shutil.rmtree(folder)


def test_a_full_disk_is_told_and_harms_nothing(file: Store) -> None:
    put(file, FAN)
    with file._engine.connect() as connection:
        pages = connection.exec_driver_sql("PRAGMA page_count").scalar()
        connection.exec_driver_sql(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(AwayError, match="full"):
        put(file, StoredClass("big", description="x" * 100_000))
    assert file.read().classes == {"fan": FAN}
    with file._engine.connect() as connection:
        connection.exec_driver_sql("PRAGMA max_page_count = 1000000")
    assert put(file, StoredClass("big", description="x" * 100_000)) == 2


# PostgreSQL


@pytest.fixture
def own_server() -> Iterator[Postgres]:
    """One that is soon stopped and started: it has no databases of other tests to put in order."""
    with running() as postgres:
        yield postgres


def test_a_server_that_is_down_is_away_until_it_is_back(
    own_server: Postgres, open_store: Callable[[str], Store]
) -> None:
    server, remote = own_server, open_store(own_server.database())
    put(remote, FAN)
    calls: Mapping[str, Callable[[], object]] = {
        "revision": remote.revision,
        "read": remote.read,
        "at": lambda: remote.at(1),
        "commit": lambda: remote.commit(1, {}, action="none", who=None, request_id="r"),
        "history": lambda: remote.history(limit=1),
        "answered": lambda: remote.answered("key"),
        "feedback": remote.feedback,
        "prepare": remote.prepare,
    }
    for stop in (server.stop, server.kill):
        stop()
        try:
            for call in calls.values():
                start = time.monotonic()
                with pytest.raises(AwayError, match="PostgreSQL database 'test") as told:
                    call()
                assert time.monotonic() - start < 5
                assert "secret-word" not in str(told.value)
                assert "\n" not in str(told.value)
        finally:
            server.start()
        assert remote.read().classes["fan"] == FAN
        assert put(remote, CABLE) == remote.revision()


def test_connections_that_are_dropped_are_made_anew(remote: Store, server: Postgres) -> None:
    put(remote, FAN)
    server.execute(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
        "WHERE application_name = 'faultcube'"
    )
    assert remote.revision() == 1


def test_a_connection_that_breaks_in_a_change_is_away(remote: Store, server: Postgres) -> None:
    with remote._engine.begin() as other, ThreadPoolExecutor(1) as pool:
        other.execute(sa.select(sa.func.pg_advisory_xact_lock(module._COMMIT)))
        writing = pool.submit(put, remote, FAN)
        latest = time.monotonic() + 5
        while not server.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
            "WHERE application_name = 'faultcube' AND wait_event_type = 'Lock'"
        ):
            assert time.monotonic() < latest
            time.sleep(0.02)
        with pytest.raises(AwayError, match="terminat"):
            writing.result()
    assert put(remote, FAN) == 1


def test_a_server_that_does_not_answer_in_time_is_away(
    server: Postgres, open_store: Callable[[str], Store]
) -> None:
    store = open_store(server.database() + "&options=-c%20statement_timeout%3D300")
    with store._engine.begin() as other:
        other.execute(sa.select(sa.func.pg_advisory_xact_lock(module._COMMIT)))
        with pytest.raises(AwayError, match="statement timeout"):
            put(store, FAN)
        assert store.read().classes == {}
    assert put(store, FAN) == 1


def test_a_server_that_stands_still_is_away(
    remote: Store, server: Postgres, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(remote, FAN)
    for call in (remote.revision, lambda: put(remote, CABLE)):
        with remote._engine.connect() as connection:
            driver: Any = connection.connection.driver_connection
            monkeypatch.setattr(type(driver), "timeout", 0.5)
        with server.still():
            start = time.monotonic()
            with pytest.raises(AwayError, match=r"does not answer|timeout"):
                call()
            assert time.monotonic() - start < 5
        assert remote.revision() == 1


def test_answers_are_waited_for_5_seconds_and_changes_are_synced(remote: Store) -> None:
    with remote._engine.connect() as connection:
        told = [
            connection.exec_driver_sql(f"SHOW {name}").scalar()
            for name in ("statement_timeout", "synchronous_commit", "application_name")
        ]
    assert told == ["5s", "on", "faultcube"]
    with remote.reading(60) as connection:
        assert connection.exec_driver_sql("SHOW statement_timeout").scalar() == "1min"
        driver: Any = connection.connection.driver_connection
        assert driver.timeout == 61
    assert "timeout" not in vars(driver)  # whoever gets it next is not to wait that long


def test_every_connection_taken_is_away(remote: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote._engine.pool, "_timeout", 0.1)
    taken = [remote._engine.connect() for _ in range(6)]
    try:
        with pytest.raises(AwayError, match="every connection is taken"):
            remote.revision()
    finally:
        for each in taken:
            each.close()
    assert remote.revision() == 0


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://faultcube:secret-word@127.0.0.1:1/classes",
        "postgres://faultcube:secret-word@/classes?host=127.0.0.1:1&host=127.0.0.1:2",
        "postgresql+psycopg://faultcube:secret-word@/classes?host=/nowhere",
        "postgresql://faultcube:secret-word@name.invalid/classes",
    ],
)
def test_a_server_that_is_not_there_is_away(url: str) -> None:
    store = Store(url)
    with pytest.raises(AwayError) as told:
        store.prepare()
    assert "secret-word" not in str(told.value)
    assert "\n" not in str(told.value)
    store.close()


def test_a_database_that_is_not_there_is_told(server: Postgres) -> None:
    store = Store(server.url("nowhere"))
    with pytest.raises(AwayError, match='database "nowhere" does not exist'):
        store.prepare()
    store.close()


def test_a_database_of_another_encoding_is_refused(server: Postgres) -> None:
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' TEMPLATE template0 LOCALE 'C'")
    store = Store(server.url("latin"))
    with pytest.raises(UnusableError, match="its encoding is not UTF8"):
        store.prepare()
    store.close()


def test_a_user_that_may_make_no_tables_is_told(server: Postgres) -> None:
    url = server.database()
    server.execute("CREATE ROLE guest LOGIN")
    store = Store(url.replace("//faultcube:", "//guest:"))
    with pytest.raises(UnusableError, match=r"denied.*must be allowed to make tables"):
        store.prepare()
    store.close()


def test_a_database_that_is_only_read_is_away_for_changes(
    server: Postgres, open_store: Callable[[str], Store]
) -> None:
    url = server.database()
    put(open_store(url), FAN)
    store = open_store(url + "&options=-c%20default_transaction_read_only%3Don")
    assert store.read().classes == {"fan": FAN}
    with pytest.raises(AwayError, match="read-only"):
        put(store, CABLE)
