from __future__ import annotations

import errno
import json
import logging
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import anyio
import pytest

import models
from models import Bundle, BundleError, Model
from service.bundles import repository as module
from service.bundles import watcher as changing
from service.bundles.repository import (
    POINTER,
    AmbiguousError,
    NotThereError,
    NotWritableError,
    OneBundleError,
    Shelf,
    ShelfError,
    UnreadableError,
)
from service.bundles.watcher import changes

DAY = datetime(2025, 6, 1, tzinfo=UTC)
Put = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """An empty shelf, alone in its folder."""
    folder = tmp_path / "home" / "bundles"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def put(bundle: Path, root: Path) -> Put:
    """Put a sound bundle on the shelf, of its own version, and tell that version."""
    original = Bundle.read(bundle)
    content = original.manifest.model_dump(exclude={"version", "files"})

    def write(folder: str | Path, *, day: int = 0) -> str:
        own = {"about": str(folder), "created": DAY + timedelta(days=day)}
        made = Bundle.make(original.files, **(content | own))
        made.write(root / folder)
        return made.manifest.version

    return write


def rewrite(folder: Path, **changes: object) -> None:
    """Change a manifest, whatever becomes of it."""
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def point(root: Path, text: str) -> None:
    (root / POINTER).write_text(text)


# What is there


def test_entries_are_listed_by_folder_with_name_version_and_time(root: Path, put: Put) -> None:
    second, first = put("b", day=2), put("a", day=1)
    found = [(e.folder, e.name, e.version, e.created, e.reason) for e in Shelf(root).entries()]
    assert found == [
        ("a", "toy", first, DAY + timedelta(days=1), None),
        ("b", "toy", second, DAY + timedelta(days=2), None),
    ]


def test_a_bundle_itself_is_its_only_entry(bundle: Path) -> None:
    (entry,) = Shelf(bundle).entries()
    assert (entry.folder, entry.path, entry.reason) == ("toy", bundle, None)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "cannot be read (No such file"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1, '), "Invalid JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "document"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "Invalid JSON"),
        (lambda folder: rewrite(folder, format=2), "format"),
        (lambda folder: rewrite(folder, name="two words"), "name"),
        (lambda folder: rewrite(folder, created="yesterday"), "created"),
        (lambda folder: rewrite(folder, version="../../etc"), "version: not 16 hex digits"),
        (lambda folder: rewrite(folder, classes=[]), "classes"),
    ],
)
def test_a_manifest_that_cannot_be_read_is_listed_with_the_reason(
    root: Path, put: Put, damage: Callable[[Path], object], reason: str
) -> None:
    version = put("sound")
    put("unsound", day=1)
    damage(root / "unsound")
    sound, unsound = Shelf(root).entries()
    assert unsound.reason is not None
    assert unsound.reason.startswith("manifest.json")
    assert reason in unsound.reason
    assert "\n" not in unsound.reason
    assert (unsound.name, unsound.version, unsound.created) == (None, None, None)
    assert sound.version == Shelf(root).choice().entry.version == version


def test_a_manifest_that_is_a_folder_is_listed_with_the_reason(root: Path) -> None:
    (root / "a" / "manifest.json").mkdir(parents=True)
    (entry,) = Shelf(root).entries()
    assert entry.reason == "manifest.json cannot be read (Is a directory)"


def test_what_is_hidden_a_file_or_unprintable_is_passed_over(root: Path, put: Put) -> None:
    put("a")
    put(".draft", day=1)
    put("two\nlines", day=2)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).mkdir()
    (root / "README.md").write_text("read me")
    (root / "link.md").symlink_to("README.md")
    (root / ".hidden").symlink_to(".draft")
    os.mkfifo(root / "pipe")
    assert [entry.folder for entry in Shelf(root).entries()] == ["a"]
    assert Shelf(root).choice().entry.folder == "a"


def test_links_are_followed_out_of_the_folder(root: Path, put: Put) -> None:
    version = put("../releases/7")
    (root / "toy").symlink_to("../releases/7")
    choice = Shelf(root).choice()
    assert (choice.entry.folder, choice.entry.version) == ("toy", version)
    assert choice.folder == root.parent / "releases" / "7"
    assert Model.load(choice.folder).manifest.version == version


def test_links_that_lead_nowhere_are_listed_with_the_reason(root: Path) -> None:
    (root / "gone").symlink_to("../releases/8")
    (root / "loop").symlink_to("loop")
    reasons = [entry.reason for entry in Shelf(root).entries()]
    assert reasons == [
        "manifest.json cannot be read (No such file or directory)",
        "manifest.json cannot be read (Too many levels of symbolic links)",
    ]


def test_a_folder_that_is_not_there_is_a_shelf_error(root: Path) -> None:
    for ask in (Shelf(root / "no").entries, Shelf(root / "no").choice):
        with pytest.raises(ShelfError) as caught:
            ask()
        assert caught.value.reason == "the folder cannot be read (No such file or directory)"
        assert str(caught.value) == f"{root / 'no'}: {caught.value.reason}"


def test_a_file_is_no_shelf(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(ShelfError, match="Not a directory"):
        Shelf(root / "file").choice()


@pytest.mark.alone
def test_two_hundred_entries_take_less_than_a_tenth_of_a_second(root: Path) -> None:
    manifest = (Path(models.__file__).parent / "iosxr" / "manifest.json").read_bytes()
    for number in range(200):
        (root / f"{number}").mkdir()
        (root / f"{number}" / "manifest.json").write_bytes(manifest)

    def seconds() -> float:
        start = time.thread_time()  # of the processor; other work on it does not count
        assert all(entry.reason is None for entry in Shelf(root).entries())
        return time.thread_time() - start

    assert min(seconds() for _ in range(5)) < 0.1


# Which is to be served


def test_a_bundle_itself_is_the_choice(bundle: Path) -> None:
    choice = Shelf(bundle).choice()
    assert (choice.folder, choice.decided) == (bundle.resolve(), "path")


def test_a_bundle_itself_is_the_choice_though_its_manifest_is_broken(root: Path, put: Put) -> None:
    put("a")
    rewrite(root / "a", format=2)
    choice = Shelf(root / "a").choice()
    with pytest.raises(BundleError, match="format is 2"):
        Model.load(choice.folder)


def test_a_path_that_is_relative_stays_what_it_was(
    root: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a")
    monkeypatch.chdir(root)
    shelves = [Shelf("."), Shelf("a")]
    monkeypatch.chdir("/")
    assert [shelf.choice().folder for shelf in shelves] == [root / "a", root / "a"]


def test_without_a_pointer_the_newest_is_the_choice(root: Path, put: Put) -> None:
    put("z", day=1)
    put("a", day=3)
    put("m", day=2)
    choice = Shelf(root).choice()
    assert (choice.folder, choice.decided) == (root / "a", "newest")


def test_times_are_compared_across_zones_and_without_one(root: Path, put: Put) -> None:
    for folder in "abc":
        put(folder)
    rewrite(root / "a", created="2025-06-01T12:00:00+02:00")
    rewrite(root / "b", created="2025-06-01T10:30:00")
    rewrite(root / "c", created="2025-06-01T10:15:00Z")
    put("first")
    rewrite(root / "first", created="0001-01-01T00:00:00+14:00")
    assert Shelf(root).choice().entry.folder == "b"


def test_of_bundles_as_new_the_larger_version_is_the_choice(root: Path, put: Put) -> None:
    versions = {put(folder): folder for folder in "abcd"}
    assert Shelf(root).choice().entry.folder == versions[max(versions)]


def test_a_folder_without_a_bundle_is_refused_with_a_reason(root: Path) -> None:
    with pytest.raises(ShelfError, match=r"holds no bundle \(no folder is in it\)"):
        Shelf(root).choice()
    (root / "lost+found").mkdir()
    with pytest.raises(ShelfError, match=r"no bundle \(lost\+found: manifest.json cannot be read"):
        Shelf(root).choice()


@pytest.mark.parametrize("text", ["{}", "{}\n", "  {}\t\r\n\n", "\n{}"])
def test_the_pointer_names_a_folder_or_a_version(root: Path, put: Put, text: str) -> None:
    version = put("old")
    put("new", day=1)
    for name in ("old", version):
        point(root, text.format(name))
        choice = Shelf(root).choice()
        assert (choice.entry.folder, choice.decided) == ("old", "pointer")


@pytest.mark.parametrize(
    "text", ["", "\n", "b", "../a", "./a", "a/", "a\na", "/", ".", "..", ".draft", "\0", "x" * 5000]
)
def test_a_pointer_that_names_nothing_is_refused(root: Path, put: Put, text: str) -> None:
    put("a")
    put(".draft")
    point(root, text)
    with pytest.raises(NotThereError, match="the pointer 'current': no folder or") as caught:
        Shelf(root).choice()
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) < 400


def test_a_pointer_in_another_encoding_is_refused(root: Path, put: Put) -> None:
    put("a")
    (root / POINTER).write_bytes(b"\xffa")
    with pytest.raises(NotThereError) as caught:
        Shelf(root).choice()
    str(caught.value).encode()


def test_the_beginning_of_a_version_is_no_pointer(root: Path, put: Put) -> None:
    point(root, put("a")[:8])
    with pytest.raises(NotThereError):
        Shelf(root).choice()


def test_a_pointer_to_a_broken_bundle_is_refused_with_its_reason(root: Path, put: Put) -> None:
    put("a")
    (root / "b").mkdir()
    point(root, "b")
    with pytest.raises(UnreadableError, match=r"'current': b: manifest.json cannot be read"):
        Shelf(root).choice()


def test_a_pointer_that_cannot_be_read_is_refused(root: Path, put: Put) -> None:
    put("a")
    (root / POINTER).symlink_to(POINTER)
    with pytest.raises(ShelfError, match="the pointer 'current' cannot be read"):
        Shelf(root).choice()


def test_a_link_called_current_points_to_its_folder(root: Path, put: Put) -> None:
    put("old")
    put("new", day=1)
    (root / POINTER).symlink_to("old")
    choice = Shelf(root).choice()
    assert (choice.folder, choice.decided) == (root / "old", "pointer")
    shutil.rmtree(root / "old")
    with pytest.raises(UnreadableError):
        Shelf(root).choice()


def test_a_name_that_is_a_folder_and_another_ones_version_is_ambiguous(
    root: Path, put: Put
) -> None:
    version = put("a")
    put(version, day=1)
    point(root, version)
    with pytest.raises(AmbiguousError):
        Shelf(root).choice()


def test_folders_named_by_their_version_and_copies_are_not_ambiguous(root: Path, put: Put) -> None:
    version = put("a")
    (root / "a").rename(root / version)
    shutil.copytree(root / version, root / "copy")
    point(root, version)
    assert Shelf(root).choice().entry.version == version


# To point


def test_activating_points_and_tells_the_version_before(root: Path, put: Put) -> None:
    old, new = put("old"), put("new", day=1)
    shelf = Shelf(root)
    assert shelf.activate(old) == new
    assert (root / POINTER).read_text() == f"{old}\n"
    assert shelf.choice().entry.version == old
    assert shelf.activate("new") == old
    assert (root / POINTER).read_text() == "new\n"
    assert shelf.activate(old[:4]) == new
    assert (root / POINTER).read_text() == f"{old}\n"
    assert (root / POINTER).stat().st_mode & 0o777 == 0o644
    assert sorted(path.name for path in root.iterdir()) == [POINTER, "new", "old"]


def test_activating_mends_a_pointer_that_names_nothing(root: Path, put: Put) -> None:
    version = put("a")
    point(root, "b")
    assert Shelf(root).activate("a") is None
    assert Shelf(root).choice().entry.version == version


def test_activating_replaces_a_link_and_not_what_it_leads_to(root: Path, put: Put) -> None:
    put("old")
    put("new", day=1)
    (root / POINTER).symlink_to("old")
    Shelf(root).activate("new")
    assert Shelf(root).choice().entry.folder == "new"
    assert (root / "old" / "manifest.json").exists()


@pytest.mark.parametrize("wanted", ["", "b", "abc", "0123456789abcdef", "../a", "a/", " a"])
def test_what_is_not_there_is_not_activated(root: Path, put: Put, wanted: str) -> None:
    put("a")
    with pytest.raises(NotThereError):
        Shelf(root).activate(wanted)
    assert not (root / POINTER).exists()


def test_a_beginning_must_be_of_one_version_and_four_digits(root: Path, put: Put) -> None:
    for folder, version in {"a": "abcd0" + "0" * 11, "b": "abcd1" + "0" * 11}.items():
        put(folder)
        rewrite(root / folder, version=version)
    shelf = Shelf(root)
    with pytest.raises(NotThereError):
        shelf.find("abc")
    with pytest.raises(AmbiguousError, match="2 versions begin with 'abcd': abcd00000"):
        shelf.find("abcd")
    assert shelf.find("abcd1").folder == "b"
    shutil.copytree(root / "b", root / "copy")
    assert shelf.find("abcd1").version == "abcd1" + "0" * 11


def test_a_folder_goes_before_the_beginning_of_a_version(root: Path, put: Put) -> None:
    beginning = put("a")[:6]
    put(beginning)
    assert Shelf(root).find(beginning).folder == beginning


def test_a_broken_bundle_is_not_activated(root: Path) -> None:
    (root / "a").mkdir()
    with pytest.raises(UnreadableError, match=r"a: manifest.json cannot be read"):
        Shelf(root).activate("a")


def test_one_bundle_leaves_nothing_to_activate(bundle: Path) -> None:
    with pytest.raises(OneBundleError, match="it is one bundle"):
        Shelf(bundle).activate("toy")


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES, errno.ENOSPC])
def test_a_pointer_that_cannot_be_written_is_told_of_with_the_way_out(
    root: Path, put: Put, monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    version = put("a")
    point(root, "a")

    def fail(*_: object) -> None:
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(Path, "replace", fail)
    with pytest.raises(NotWritableError) as caught:
        Shelf(root).activate(version)
    assert caught.value.reason == (
        f"the pointer 'current' cannot be written ({os.strerror(code)}): "
        f"mount the folder writable, or write {version} into that file by hand"
    )
    assert sorted(path.name for path in root.iterdir()) == ["a", POINTER]
    assert (root / POINTER).read_text() == "a"


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write to a read-only folder")
def test_a_read_only_folder_is_told_of(root: Path, put: Put) -> None:
    put("a")
    root.chmod(0o555)
    try:
        with pytest.raises(NotWritableError, match="Permission denied"):
            Shelf(root).activate("a")
    finally:
        root.chmod(0o755)


def test_a_pointer_that_is_a_folder_is_not_overwritten(root: Path, put: Put) -> None:
    put("a")
    put(POINTER)
    with pytest.raises(NotWritableError, match="Is a directory"):
        Shelf(root).activate("a")
    assert sorted(path.name for path in root.iterdir()) == ["a", POINTER]


def test_a_file_system_that_cannot_sync_folders_does_not_matter(
    root: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a")

    def fail(_: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(module, "_sync_folder", fail)
    Shelf(root).activate("a")
    assert Shelf(root).choice().decided == "pointer"


WRITER = """
import sys
from service.bundles.repository import Shelf
shelf = Shelf(sys.argv[1])
for turn in range(int(sys.argv[2])):
    shelf.activate("ab"[turn % 2])
"""


def test_a_pointer_that_threads_and_processes_write_is_never_read_torn(
    root: Path, put: Put
) -> None:
    put("a")
    put("b", day=1)
    shelf = Shelf(root)
    shelf.activate("a")
    stop = threading.Event()

    def write() -> None:
        while not stop.is_set():
            shelf.activate("b")
            shelf.activate("a")

    threads = [threading.Thread(target=write) for _ in range(2)]
    command = [sys.executable, "-c", WRITER, str(root), "100"]
    processes = [subprocess.Popen(command) for _ in range(2)]
    seen = set()
    try:
        for thread in threads:
            thread.start()
        while any(process.poll() is None for process in processes):
            seen.add(shelf.choice().entry.folder)
            seen.add((root / POINTER).read_text().strip())
    finally:
        stop.set()
        for thread in threads:
            thread.join()
        codes = [process.wait() for process in processes]
    assert (seen, codes) == ({"a", "b"}, [0, 0])
    assert sorted(path.name for path in root.iterdir()) == ["a", "b", POINTER]


KILLED = """
import os, signal, sys
from service.bundles.repository import Shelf
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
Shelf(sys.argv[1]).activate("b")
"""


def test_a_writer_that_is_killed_leaves_the_pointer_as_it_was(root: Path, put: Put) -> None:
    put("a")
    put("b", day=1)
    Shelf(root).activate("a")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert any(path.name.startswith(".current-") for path in root.iterdir())
    assert Shelf(root).choice().entry.folder == "a"
    assert [entry.folder for entry in Shelf(root).entries()] == ["a", "b"]
    Shelf(root).activate("b")
    assert Shelf(root).choice().entry.folder == "b"


# Watching

SETTLE = 0.1
Told = list[str]


def watch(
    shelf: Shelf,
    scene: Callable[[Told], Awaitable[None]],
    look: Callable[[Shelf], str] | None = None,
) -> Told:
    """Play a scene before a watch, and give what was to be served each time it told of a change."""
    told: Told = []

    async def listen(stop: anyio.Event) -> None:
        async for _ in changes(shelf, stop):
            told.append((look or served)(shelf))

    async def play() -> None:
        stop = anyio.Event()
        with anyio.fail_after(20):
            async with anyio.create_task_group() as tasks:
                tasks.start_soon(listen, stop)
                await until(lambda: bool(told))
                await anyio.sleep(3 * SETTLE)  # from now on only what stirs is looked at
                await scene(told)
                stop.set()

    anyio.run(play)
    return told


def served(shelf: Shelf) -> str:
    try:
        return shelf.choice().entry.version or "unreadable"
    except ShelfError as error:
        return type(error).__name__


def loaded(shelf: Shelf) -> str:
    try:
        return Model.load(shelf.choice().folder).manifest.version
    except (ShelfError, BundleError) as error:
        return error.reason


async def until(holds: Callable[[], bool]) -> None:
    while not holds():
        await anyio.sleep(0.01)


def heard(path: Path, settle: float = SETTLE) -> Shelf:
    """A shelf whose watch must hear of changes: it will not sweep."""
    return Shelf(path, settle_seconds=settle, sweep_seconds=600)


def swept(path: Path) -> Shelf:
    return Shelf(path, settle_seconds=SETTLE, sweep_seconds=SETTLE)


def test_a_watch_tells_at_first_then_only_of_changes(root: Path, put: Put) -> None:
    version = put("a")

    async def scene(_: Told) -> None:
        await anyio.sleep(1)

    assert watch(swept(root), scene) == [version]


def test_a_watch_is_not_woken_by_its_own_looks_nor_by_neighbours(root: Path, put: Put) -> None:
    put("a")
    shelf, looks = heard(root), []
    folders = shelf.folders
    shelf.folders = lambda: (looks.append(1), folders())[1]  # type: ignore[func-returns-value,method-assign]

    async def scene(_: Told) -> None:
        looks.clear()
        for number in range(10):
            (root.parent / f"neighbour {number}").touch()
            shelf.choice()
            await anyio.sleep(0.06)

    watch(shelf, scene)
    assert len(looks) == 10


def test_a_new_bundle_is_told_of(root: Path, put: Put) -> None:
    old = put("a")

    async def scene(told: Told) -> None:
        new = put("b", day=1)
        await until(lambda: told == [old, new])

    watch(heard(root), scene)


def test_polling_may_be_forced(root: Path, put: Put, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WATCHFILES_FORCE_POLLING", "1")
    old = put("a")

    async def scene(told: Told) -> None:
        new = put("b", day=1)
        await until(lambda: told == [old, new])

    watch(heard(root), scene)


def test_a_pointer_is_told_of_at_once(root: Path, put: Put) -> None:
    old, new = put("a"), put("b", day=1)
    shelf = Shelf(root, settle_seconds=60, sweep_seconds=600)

    async def scene(told: Told) -> None:
        shelf.activate(old)
        await until(lambda: told == [new, old])

    watch(shelf, scene)


def test_a_pointer_does_not_wait_for_a_bundle_that_is_being_copied(root: Path, put: Put) -> None:
    old, new = put("a"), put("b", day=1)
    put("c", day=2)

    async def scene(told: Told) -> None:
        moved = False
        for number in range(100):
            (root / "c" / "growing").write_text("x" * number)
            await anyio.sleep(SETTLE / 4)
            if number == 20:
                Shelf(root).activate(old)
                moved = True
            if moved and told[-1] == old:
                return
        raise AssertionError(told)

    assert new not in watch(heard(root), scene)


def test_a_bundle_that_is_copied_slowly_is_told_of_when_it_is_whole(root: Path, put: Put) -> None:
    old = put("a")
    new = put("../b", day=1)

    async def scene(told: Told) -> None:
        (root / "b").mkdir()
        for name in ("manifest.json", "examples.json", "encoder.onnx"):
            data = (root.parent / "b" / name).read_bytes()
            with (root / "b" / name).open("wb", buffering=0) as file:
                step = len(data) // 6 + 1
                for start in range(0, len(data), step):
                    file.write(data[start : start + step])
                    await anyio.sleep(0.05)
        await until(lambda: told[-1] == new)

    told = watch(heard(root, settle=0.5), scene, loaded)
    assert set(told) == {old, new}
    assert told[0] == old


def test_a_copy_that_pauses_is_told_of_again(root: Path, put: Put) -> None:
    put("a")
    new = put("../b", day=1)

    async def scene(told: Told) -> None:
        data = (root.parent / "b" / "encoder.onnx").read_bytes()
        shutil.copytree(root.parent / "b", root / "b")
        (root / "b" / "encoder.onnx").write_bytes(data[:100])
        await until(lambda: "altered or cut off" in told[-1])
        (root / "b" / "encoder.onnx").write_bytes(data)
        await until(lambda: told[-1] == new)

    watch(heard(root), scene, loaded)


def test_a_draft_is_not_told_of(root: Path, put: Put) -> None:
    old = put("a")

    async def scene(_: Told) -> None:
        put(".b-draft", day=1)
        await anyio.sleep(3 * SETTLE)

    assert watch(heard(root), scene) == [old]


def test_a_link_that_is_swapped_is_told_of(root: Path, put: Put) -> None:
    old, new = put("../1"), put("../2")
    (root / "toy").symlink_to("../1")

    async def scene(told: Told) -> None:
        (root / ".toy").symlink_to("../2")
        (root / ".toy").rename(root / "toy")
        await until(lambda: told == [old, new])

    watch(heard(root), scene)


def test_a_bundle_that_is_gone_for_a_moment_is_not_missed(root: Path, put: Put) -> None:
    put("older")
    old, new = put("../1", day=1), put("../2", day=2)
    (root / "toy").symlink_to("../1")

    async def scene(told: Told) -> None:
        (root / "toy").unlink()
        await anyio.sleep(0.3)
        (root / "toy").symlink_to("../2")
        await until(lambda: told == [old, new])

    watch(heard(root, settle=1), scene)


def test_a_bundle_that_is_gone_for_good_is_told_of(root: Path, put: Put) -> None:
    old, new = put("a"), put("b", day=1)

    async def scene(told: Told) -> None:
        shutil.rmtree(root / "b")
        await until(lambda: told == [new, old])

    watch(heard(root), scene)


def test_a_file_in_a_folder_of_a_bundle_is_looked_at_too(root: Path, put: Put) -> None:
    version = put("a")
    (root / "a" / "figures").mkdir()

    async def scene(told: Told) -> None:
        (root / "a" / "figures" / "roc.png").touch()
        await until(lambda: told == [version, version])

    watch(swept(root), scene)


def test_the_path_may_be_a_link_that_is_swapped(root: Path, put: Put) -> None:
    old, new = put("../1/a"), put("../2/a")
    (root.parent / "link").symlink_to("1")

    async def scene(told: Told) -> None:
        (root.parent / "next").symlink_to("2")
        (root.parent / "next").rename(root.parent / "link")
        await until(lambda: told == [old, new])

    watch(heard(root.parent / "link"), scene)


def test_a_link_further_up_may_be_swapped(root: Path, put: Put) -> None:
    old, new = put("../1/x/y/a"), put("../2/x/y/a")
    (root.parent / "link").symlink_to("1")

    async def scene(told: Told) -> None:
        (root.parent / "next").symlink_to("2")
        (root.parent / "next").rename(root.parent / "link")
        await until(lambda: told == [old, new])

    watch(swept(root.parent / "link" / "x" / "y"), scene)


def test_one_bundle_that_is_made_anew_is_told_of(root: Path, put: Put) -> None:
    old = put("a")

    async def scene(told: Told) -> None:
        shutil.rmtree(root / "a")
        new = put("../b")
        (root.parent / "b").rename(root / "a")
        await until(lambda: told == [old, new])

    watch(heard(root / "a"), scene)


def test_a_mounted_config_map_may_be_one_bundle(root: Path, put: Put) -> None:
    old, new = put("..1"), put("../2")
    (root / "..data").symlink_to("..1")
    for name in ("manifest.json", "encoder.onnx", "examples.json"):
        (root / name).symlink_to(f"..data/{name}")

    async def scene(told: Told) -> None:
        (root.parent / "2").rename(root / "..2")
        (root / "..data_tmp").symlink_to("..2")
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / "..1")
        await until(lambda: told == [old, new])

    watch(heard(root), scene, loaded)


def test_a_mounted_volume_may_hold_bundles_behind_its_data_link(root: Path, put: Put) -> None:
    old, new = put("..1/toy"), put("..2/toy")
    (root / "..data").symlink_to("..1")
    (root / "toy").symlink_to("..data/toy")

    async def scene(told: Told) -> None:
        (root / "..data_tmp").symlink_to("..2")
        (root / "..data_tmp").rename(root / "..data")
        shutil.rmtree(root / "..1")
        await until(lambda: told == [old, new])

    watch(heard(root), scene, loaded)


def test_a_missing_folder_is_waited_for_and_may_go_and_come(root: Path, put: Put) -> None:
    versions = []

    async def scene(told: Told) -> None:
        for _ in range(2):
            shutil.rmtree(root.parent.parent / "home", ignore_errors=True)
            await until(lambda: told[-1] == "ShelfError")
            await anyio.sleep(3 * SETTLE)
            versions.append(put("a"))
            await until(lambda: told[-1] == versions[-1])

    shutil.rmtree(root.parent)
    assert watch(swept(root), scene)[0] == "ShelfError"


def test_an_empty_folder_that_is_filled_later_is_heard_of(root: Path, put: Put) -> None:
    async def scene(told: Told) -> None:
        (root / "b").mkdir()
        await anyio.sleep(3 * SETTLE)
        (root / "b").rmdir()
        version = put("b")
        await until(lambda: told[-1] == version)

    assert watch(heard(root), scene)[0] == "ShelfError"


LIMIT = OSError(errno.ENOSPC, "OS file watch limit reached")


@pytest.mark.parametrize(
    "error", [LIMIT, RuntimeError("too many open files"), ExceptionGroup("in a task", [LIMIT])]
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

    monkeypatch.setattr(changing, "awatch", fail)
    old = put("a")

    async def scene(told: Told) -> None:
        new = put("b", day=1)
        await until(lambda: told == [old, new])

    with caplog.at_level(logging.WARNING, changing.__name__):
        watch(heard(root), scene)
    # Other tests' applications may still be watching, in threads of their own.
    ours = [record for record in caplog.records if record.thread == threading.get_ident()]
    assert [record.message for record in ours] == ["bundles are polled, not watched"]


def test_a_change_while_the_listener_is_busy_is_told_of(root: Path, put: Put) -> None:
    put("a")
    late: list[str] = []

    def slow(shelf: Shelf) -> str:
        found = served(shelf)
        if not late:
            late.append(put("b", day=1))
        return found

    async def scene(told: Told) -> None:
        await until(lambda: told[-1] == late[0])

    watch(heard(root), scene, slow)


@pytest.mark.alone
def test_a_watch_ends_soon_after_it_is_told_to(root: Path, put: Put) -> None:
    put("a")

    async def play() -> float:
        stop = anyio.Event()

        async def listen() -> None:
            async for _ in changes(heard(root), stop):
                pass

        async with anyio.create_task_group() as tasks:
            tasks.start_soon(listen)
            await anyio.sleep(3 * SETTLE)
            stop.set()
            start = time.monotonic()
        return time.monotonic() - start

    assert anyio.run(play) < 1


def test_a_watch_that_is_cancelled_ends_and_stops_nobody_else(root: Path, put: Put) -> None:
    put("a")

    async def play() -> bool:
        stop = anyio.Event()
        with anyio.move_on_after(3 * SETTLE):
            async for _ in changes(heard(root), stop):
                pass
        return stop.is_set()

    start = time.monotonic()
    assert anyio.run(play) is False
    assert time.monotonic() - start < 3


def test_a_listener_may_leave(root: Path, put: Put) -> None:
    put("a")

    async def play() -> None:
        async for _ in changes(heard(root), anyio.Event()):
            break

    anyio.run(play)
