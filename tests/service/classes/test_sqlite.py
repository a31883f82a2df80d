from __future__ import annotations

import sqlite3
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest
import sqlalchemy as sa

from service.classes import sqlite
from service.classes.backend import Backend
from service.classes.entities import UnusableError
from service.classes.sqlite import backend

Open = Callable[[Path], Backend]


@pytest.fixture
def open_file() -> Iterator[Open]:
    opened: list[Backend] = []

    def open_one(path: Path) -> Backend:
        opened.append(backend(sa.URL.create("sqlite", database=str(path))))
        return opened[-1]

    yield open_one
    for each in opened:
        each.writing.dispose()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "classes.db"


def test_a_check_makes_the_file_and_keeps_what_is_in_it(path: Path, open_file: Open) -> None:
    made = open_file(path)
    made.check()
    with made.writing.begin() as connection:
        connection.exec_driver_sql("CREATE TABLE kept (n INTEGER)")
        connection.exec_driver_sql("INSERT INTO kept VALUES (7)")
    open_file(path).check()
    with made.statement.connect() as connection:
        assert connection.exec_driver_sql("SELECT n FROM kept").scalar() == 7


@pytest.mark.parametrize("name", ["a b.db", "what?.db", "50%25.db", "#1.db", "ü.db"])
def test_any_name_is_the_name_of_the_file(name: str, tmp_path: Path, open_file: Open) -> None:
    open_file(tmp_path / name).check()
    assert (tmp_path / name).read_bytes().startswith(b"SQLite format 3\0")
    assert {each.name.removesuffix("-wal").removesuffix("-shm") for each in tmp_path.iterdir()} == {
        name
    }


def test_a_relative_path_is_taken_from_where_the_backend_was_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, open_file: Open
) -> None:
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    made = open_file(Path("classes.db"))
    monkeypatch.chdir("elsewhere")
    made.check()
    assert made.name == str(tmp_path / "classes.db")
    assert (tmp_path / "classes.db").is_file()


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path, open_file: Open) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UnusableError, match=r"cannot be made .*its folder must be writable"):
        open_file(tmp_path / "file" / "classes.db").check()


def test_a_folder_in_the_place_of_the_file_is_told(path: Path, open_file: Open) -> None:
    path.mkdir(parents=True)
    with pytest.raises(UnusableError, match="cannot be written") as caught:
        open_file(path).check()
    assert str(caught.value).startswith(f"{path}: ")


def test_a_file_that_is_no_database_is_told_and_left_as_it_is(path: Path, open_file: Open) -> None:
    path.parent.mkdir()
    path.write_bytes(b"no database at all\n" * 500)
    with pytest.raises(UnusableError, match=r"damaged .* restore a backup, or move it away"):
        open_file(path).check()
    assert path.read_bytes() == b"no database at all\n" * 500


def test_only_a_transaction_with_a_lock_excludes_other_writers(path: Path, open_file: Open) -> None:
    made = open_file(path)
    made.check()
    with closing(sqlite3.connect(path, timeout=0, isolation_level=None)) as other:
        with made.writing.connect() as connection, connection.begin():
            other.execute("BEGIN IMMEDIATE")
            other.execute("ROLLBACK")
        with made.writing.connect() as connection:
            connection.execution_options(lock=1)
            with connection.begin(), pytest.raises(sqlite3.OperationalError, match="locked"):
                other.execute("BEGIN IMMEDIATE")
        other.execute("BEGIN IMMEDIATE")


def test_a_file_that_is_gone_is_not_made_again_by_a_statement(path: Path, open_file: Open) -> None:
    made = open_file(path)
    with pytest.raises(sa.exc.OperationalError):
        made.statement.connect()
    assert not path.exists()


def test_a_database_that_can_be_written_is_left_as_it_is(path: Path, open_file: Open) -> None:
    made = open_file(path)
    made.check()
    before = path.read_bytes()
    assert made.write_fault() == ""
    with made.statement.connect() as connection:
        assert sa.inspect(connection).get_table_names() == []
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("pragma", "why"),
    [
        ("max_page_count = 1", "it cannot be written (database or disk is full): make room"),
        ("query_only = ON", "it cannot be written (attempt to write a readonly database): it and"),
    ],
)
def test_why_a_database_cannot_be_written_is_told(
    path: Path, open_file: Open, monkeypatch: pytest.MonkeyPatch, pragma: str, why: str
) -> None:
    made, connect = open_file(path), sqlite._connect
    made.check()

    def connected(file: Path) -> sqlite3.Connection:
        connection = connect(file)
        connection.execute(f"PRAGMA {pragma}")
        return connection

    monkeypatch.setattr(sqlite, "_connect", connected)
    assert made.write_fault().startswith(why)


def test_a_disk_that_is_full_is_found_out(tmp_path: Path, open_file: Open) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small disk needs root")
    try:
        made = open_file(disk / "classes.db")
        made.check()
        assert made.write_fault() == ""
        with suppress(OSError), (disk / "filler").open("wb", buffering=0) as filler:
            while True:
                filler.write(bytes(4096))
        assert "disk is full" in made.write_fault()
        (disk / "filler").unlink()
        assert made.write_fault() == ""
        made.writing.dispose()
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_while_another_program_writes_the_database_is_not_said_to_be_unwritable(
    path: Path, open_file: Open
) -> None:
    made = open_file(path)
    made.check()
    with closing(sqlite3.connect(path, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        assert made.write_fault() == ""
