from __future__ import annotations

import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.runtime.journal import Entry, Journal

ENTRIES = [Entry("telegraf", 1.5, b"one"), Entry("otlp", 2.25, b""), Entry("telegraf", 3.0, b"3")]


def written(folder: Path, entries: list[Entry]) -> int:
    """Write entries as a process that ends, and return the position of its file."""
    journal = Journal(folder)
    for entry in entries:
        journal.append(entry)
    journal.close()
    return journal.position


def read(folder: Path, position: int = 0) -> list[Entry]:
    journal = Journal(folder)
    entries = [*journal.entries(position)]
    journal.close()
    return entries


@settings(deadline=None, max_examples=30)
@given(
    st.lists(st.builds(Entry, st.sampled_from(["a", "bé"]), st.floats(0, 1e10), st.binary())),
    st.data(),
)
def test_what_was_written_before_a_cut_comes_back(
    tmp_path_factory: pytest.TempPathFactory, entries: list[Entry], data: st.DataObject
) -> None:
    folder = tmp_path_factory.mktemp("journal")
    position = written(folder, entries)
    path = folder / f"{position:012}.journal"
    assert read(folder) == entries
    size = path.stat().st_size
    cut = data.draw(st.integers(0, size))
    os.truncate(path, cut)
    back = read(folder)
    assert back == entries[: len(back)]
    assert cut < size or back == entries


def test_an_entry_that_was_altered_ends_its_file(tmp_path: Path) -> None:
    position = written(tmp_path, ENTRIES)
    path = tmp_path / f"{position:012}.journal"
    data = bytearray(path.read_bytes())
    data[data.index(b"one")] ^= 1
    path.write_bytes(data)
    written(tmp_path, ENTRIES[1:])
    assert read(tmp_path) == ENTRIES[1:]


def test_a_checkpoint_begins_a_file_and_those_before_it_go(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(ENTRIES[0])
    position = journal.rotate()
    assert journal.size == 0
    journal.append(ENTRIES[1])
    journal.close()
    assert read(tmp_path, position) == ENTRIES[1:2]
    assert read(tmp_path) == ENTRIES[:2]
    later = Journal(tmp_path)
    later.forget(position)
    assert [*later.entries(0)] == ENTRIES[1:2]
    later.close()


def test_one_process_has_the_folder(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal")
    with pytest.raises(BlockingIOError):
        Journal(tmp_path / "journal")
    journal.close()
    Journal(tmp_path / "journal").close()


def test_a_folder_has_a_name_of_its_own_that_stays(tmp_path: Path) -> None:
    names = []
    for folder in ("one", "one", "two"):
        journal = Journal(tmp_path / folder)
        names.append(journal.name)
        journal.close()
    assert names[0] == names[1] != names[2]
    assert len(names[0]) == 16


@contextmanager
def full_at(size: int) -> Iterator[None]:
    """Let no file of this process grow beyond a size, as on a disk that is full."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_half_an_entry_is_taken_back_and_what_follows_is_read(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(ENTRIES[0])
    with full_at(journal.size + 20), pytest.raises(OSError, match="too large"):
        journal.append(Entry("telegraf", 2.0, b"x" * 100))
    for entry in ENTRIES[1:]:
        journal.append(entry)
    journal.close()
    assert read(tmp_path) == ENTRIES


def test_a_file_that_cannot_be_made_leaves_the_old_one_in_use(tmp_path: Path) -> None:
    journal = Journal(tmp_path)
    journal.append(ENTRIES[0])
    blocking = tmp_path / f"{journal.position + 1:012}.journal"
    blocking.mkdir()
    with pytest.raises(FileExistsError):
        journal.rotate()
    blocking.rmdir()
    journal.append(ENTRIES[1])
    assert journal.size > 0
    assert journal.rotate() == journal.position
    journal.append(ENTRIES[2])
    journal.close()
    assert read(tmp_path) == ENTRIES


def test_a_journal_that_cannot_be_made_leaves_the_folder_free(tmp_path: Path) -> None:
    with full_at(0), pytest.raises(OSError, match="too large"):
        Journal(tmp_path)
    Journal(tmp_path).close()
