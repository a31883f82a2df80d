from __future__ import annotations

import errno
import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from watchfiles._rust_notify import WatchfilesRustInternalError

from models import BundleError, Model
from service.bundles import watcher
from service.bundles.repository import BundleRepository, RepositoryError
from service.bundles.watcher import Watcher

Put = Callable[..., str]

SETTLE = 0.1
THREAD = "a watch of these tests"
Told = list[str]


def watch(
    shelf: BundleRepository,
    scene: Callable[[Told], None],
    look: Callable[[BundleRepository], str] | None = None,
) -> Told:
    """Play a scene before a watch, and give what was to be served each time it told of a change."""
    told: Told = []
    stop = threading.Event()

    def listen() -> None:
        for _ in Watcher(shelf).changes(stop):
            told.append((look or served)(shelf))

    thread = threading.Thread(target=listen, name=THREAD)
    thread.start()
    try:
        until(lambda: bool(told))
        time.sleep(3 * SETTLE)  # from now on only what stirs is looked at
        scene(told)
    finally:
        stop.set()
        thread.join(5)
    assert not thread.is_alive()
    return told


def served(shelf: BundleRepository) -> str:
    try:
        return shelf.choice().entry.version or "unreadable"
    except RepositoryError as error:
        return type(error).__name__


def loaded(shelf: BundleRepository) -> str:
    try:
        return Model.load(shelf.choice().folder).manifest.version
    except (RepositoryError, BundleError) as error:
        return error.reason


def until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def heard(path: Path, settle: float = SETTLE) -> BundleRepository:
    """A shelf whose watch must hear of changes: it will not sweep."""
    return BundleRepository(path, settle_seconds=settle, sweep_seconds=600)


def swept(path: Path) -> BundleRepository:
    return BundleRepository(path, settle_seconds=SETTLE, sweep_seconds=SETTLE)


def test_a_watch_tells_at_first_then_only_of_changes(root: Path, put: Put) -> None:
    version = put("a")

    def scene(_: Told) -> None:
        time.sleep(1)

    assert watch(swept(root), scene) == [version]


def test_a_watch_is_not_woken_by_its_own_looks_nor_by_neighbours(root: Path, put: Put) -> None:
    put("a")
    shelf, looks = heard(root), []
    folders = shelf.folders
    shelf.folders = lambda: (looks.append(1), folders())[1]  # type: ignore[func-returns-value,method-assign]

    def scene(_: Told) -> None:
        looks.clear()
        for number in range(10):
            (root.parent / f"neighbour {number}").touch()
            shelf.choice()
            time.sleep(0.06)

    watch(shelf, scene)
    assert len(looks) == 10


def test_a_new_bundle_is_told_of(root: Path, put: Put) -> None:
    old = put("a")

    def scene(told: Told) -> None:
        new = put("b", day=1)
        until(lambda: told == [old, new])

    watch(heard(root), scene)


def test_polling_may_be_forced(root: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    old = put("a")

    def scene(told: Told) -> None:
        new = put("b", day=1)
        until(lambda: told == [old, new])

    watch(heard(root), scene)


def test_a_pointer_is_told_of_at_once(root: Path, put: Put) -> None:
    old, new = put("a"), put("b", day=1)
    shelf = BundleRepository(root, settle_seconds=60, sweep_seconds=600)

    def scene(told: Told) -> None:
        shelf.activate(old)
        until(lambda: told == [new, old])

    watch(shelf, scene)


def test_a_pointer_does_not_wait_for_a_bundle_that_is_being_copied(root: Path, put: Put) -> None:
    old, new = put("a"), put("b", day=1)
    put("c", day=2)

    def scene(told: Told) -> None:
        moved = False
        for number in range(100):
            (root / "c" / "growing").write_text("x" * number)
            time.sleep(SETTLE / 4)
            if number == 20:
                BundleRepository(root).activate(old)
                moved = True
            if moved and told[-1] == old:
                return
        raise AssertionError(told)

    assert new not in watch(heard(root), scene)


def test_a_bundle_that_is_copied_slowly_is_told_of_when_it_is_whole(root: Path, put: Put) -> None:
    old = put("a")
    new = put("../b", day=1)

    def scene(told: Told) -> None:
        (root / "b").mkdir()
        for name in ("manifest.json", "examples.json", "encoder.onnx"):
            data = (root.parent / "b" / name).read_bytes()
            with (root / "b" / name).open("wb", buffering=0) as file:
                step = len(data) // 6 + 1
                for start in range(0, len(data), step):
                    file.write(data[start : start + step])
                    time.sleep(0.05)
        until(lambda: told[-1] == new)

    told = watch(heard(root, settle=0.5), scene, loaded)
    assert set(told) == {old, new}
    assert told[0] == old


def test_a_copy_that_pauses_is_told_of_again(root: Path, put: Put) -> None:
    put("a")
    new = put("../b", day=1)

    def scene(told: Told) -> None:
        data = (root.parent / "b" / "encoder.onnx").read_bytes()
        shutil.copytree(root.parent / "b", root / "b")
        (root / "b" / "encoder.onnx").write_bytes(data[:100])
        until(lambda: "altered or cut off" in told[-1])
        (root / "b" / "encoder.onnx").write_bytes(data)
        until(lambda: told[-1] == new)

    watch(heard(root), scene, loaded)


def test_a_draft_is_not_told_of(root: Path, put: Put) -> None:
    old = put("a")

    def scene(_: Told) -> None:
        put(".b-draft", day=1)
        time.sleep(3 * SETTLE)

    assert watch(heard(root), scene) == [old]


def test_a_link_that_is_swapped_is_told_of(root: Path, put: Put) -> None:
    old, new = put("../1"), put("../2")
    (root / "toy").symlink_to("../1")

    def scene(told: Told) -> None:
        (root / ".toy").symlink_to("../2")
        (root / ".toy").rename(root / "toy")
        until(lambda: told == [old, new])

    watch(heard(root), scene)


def test_a_bundle_that_is_gone_for_a_moment_is_not_missed(root: Path, put: Put) -> None:
    put("older")
    old, new = put("../1", day=1), put("../2", day=2)
    (root / "toy").symlink_to("../1")

    def scene(told: Told) -> None:
        (root / "toy").unlink()
        time.sleep(0.3)
        (root / "toy").symlink_to("../2")
        until(lambda: told == [old, new])

    watch(heard(root, settle=1), scene)


def test_a_bundle_that_is_gone_for_good_is_told_of(root: Path, put: Put) -> None:
    old, new = put("a"), put("b", day=1)

    def scene(told: Told) -> None:
        shutil.rmtree(root / "b")
        until(lambda: told == [new, old])

    watch(heard(root), scene)


def test_a_file_in_a_folder_of_a_bundle_is_looked_at_too(root: Path, put: Put) -> None:
    version = put("a")
    (root / "a" / "figures").mkdir()

    def scene(told: Told) -> None:
        (root / "a" / "figures" / "roc.png").touch()
        until(lambda: told == [version, version])

    watch(swept(root), scene)


def test_the_path_may_be_a_link_that_is_swapped(root: Path, put: Put) -> None:
    old, new = put("../1/a"), put("../2/a")
    (root.parent / "link").symlink_to("1")

    def scene(told: Told) -> None:
        (root.parent / "next").symlink_to("2")
        (root.parent / "next").rename(root.parent / "link")
        until(lambda: told == [old, new])

    watch(heard(root.parent / "link"), scene)


def test_a_link_further_up_may_be_swapped(root: Path, put: Put) -> None:
    old, new = put("../1/x/y/a"), put("../2/x/y/a")
    (root.parent / "link").symlink_to("1")

    def scene(told: Told) -> None:
        (root.parent / "next").symlink_to("2")
        (root.parent / "next").rename(root.parent / "link")
        until(lambda: told == [old, new])

    watch(swept(root.parent / "link" / "x" / "y"), scene)


def test_one_bundle_that_is_made_anew_is_told_of(root: Path, put: Put) -> None:
    old = put("a")

    def scene(told: Told) -> None:
        shutil.rmtree(root / "a")
        new = put("../b")
        (root.parent / "b").rename(root / "a")
        until(lambda: told == [old, new])

    watch(heard(root / "a"), scene)


def test_a_mounted_config_map_may_be_one_bundle(root: Path, put: Put) -> None:
    old, new = put("..1"), put("../2")
    (root / "..data").symlink_to("..1")
    for name in ("manifest.json", "encoder.onnx", "examples.json"):
        (root / name).symlink_to(f"..data/{name}")

    def scene(told: Told) -> None:
        (root.parent / "2").rename(root / "..2")
        (root / "..data_tmp").symlink_to("..2")
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / "..1")
        until(lambda: told == [old, new])

    watch(heard(root), scene, loaded)


def test_a_mounted_volume_may_hold_bundles_behind_its_data_link(root: Path, put: Put) -> None:
    old, new = put("..1/toy"), put("..2/toy")
    (root / "..data").symlink_to("..1")
    (root / "toy").symlink_to("..data/toy")

    def scene(told: Told) -> None:
        (root / "..data_tmp").symlink_to("..2")
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / "..1")
        until(lambda: told == [old, new])

    watch(heard(root), scene, loaded)


def test_a_missing_folder_is_waited_for_and_may_go_and_come(root: Path, put: Put) -> None:
    versions = []

    def scene(told: Told) -> None:
        for _ in range(2):
            shutil.rmtree(root.parent.parent / "home", ignore_errors=True)
            until(lambda: told[-1] == "RepositoryError")
            time.sleep(3 * SETTLE)
            versions.append(put("a"))
            until(lambda: told[-1] == versions[-1])

    shutil.rmtree(root.parent)
    assert watch(swept(root), scene)[0] == "RepositoryError"


def test_an_empty_folder_that_is_filled_later_is_heard_of(root: Path, put: Put) -> None:
    def scene(told: Told) -> None:
        (root / "b").mkdir()
        time.sleep(3 * SETTLE)
        (root / "b").rmdir()
        version = put("b")
        until(lambda: told[-1] == version)

    assert watch(heard(root), scene)[0] == "RepositoryError"


LIMIT = OSError(errno.ENOSPC, "OS file watch limit reached")


@pytest.mark.parametrize(
    "error",
    [LIMIT, RuntimeError("too many open files"), WatchfilesRustInternalError("no more watches")],
)
def test_what_cannot_be_watched_is_polled_and_said_once(
    root: Path,
    put: Put,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    error: Exception,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(watcher, "watch", fail)
    old = put("a")

    def scene(told: Told) -> None:
        new = put("b", day=1)
        until(lambda: told == [old, new])

    with caplog.at_level(logging.WARNING, watcher.__name__):
        watch(heard(root), scene)
    # Other tests' applications may still be watching, in threads of their own.
    ours = [record for record in caplog.records if record.threadName == THREAD]
    assert [record.message for record in ours] == ["bundles are polled, not watched"]


def test_a_change_while_the_listener_is_busy_is_told_of(root: Path, put: Put) -> None:
    put("a")
    late: list[str] = []

    def slow(shelf: BundleRepository) -> str:
        found = served(shelf)
        if not late:
            late.append(put("b", day=1))
        return found

    def scene(told: Told) -> None:
        until(lambda: told[-1] == late[0])

    watch(heard(root), scene, slow)


@pytest.mark.alone
def test_a_watch_ends_soon_after_it_is_told_to(root: Path, put: Put) -> None:
    put("a")
    stop = threading.Event()

    def listen() -> None:
        for _ in Watcher(heard(root)).changes(stop):
            pass

    thread = threading.Thread(target=listen)
    thread.start()
    time.sleep(3 * SETTLE)
    stop.set()
    start = time.monotonic()
    thread.join(20)
    assert time.monotonic() - start < 1


def test_a_polling_watch_ends_soon_after_it_is_told_to(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise LIMIT

    monkeypatch.setattr(watcher, "watch", fail)
    stop = threading.Event()
    threading.Timer(3 * SETTLE, stop.set).start()
    start = time.monotonic()
    for _ in Watcher(heard(root, settle=60)).changes(stop):
        pass
    assert time.monotonic() - start < 3


def test_a_watch_that_is_closed_ends_and_stops_nobody_else(root: Path, put: Put) -> None:
    put("a")
    stop = threading.Event()
    start = time.monotonic()
    watching, other = (Watcher(heard(root)).changes(stop) for _ in range(2))
    next(watching)
    next(other)
    watching.close()
    assert stop.is_set() is False
    put("b", day=1)
    next(other)
    assert time.monotonic() - start < 3


def test_a_listener_may_leave(root: Path, put: Put) -> None:
    put("a")
    for _ in Watcher(heard(root)).changes(threading.Event()):
        break
