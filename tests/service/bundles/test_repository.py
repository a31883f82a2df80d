from __future__ import annotations

import errno
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

import models
from models import BundleError, Model
from service.bundles import repository as module
from service.bundles.repository import (
    POINTER,
    AmbiguousError,
    BundleRepository,
    NotThereError,
    NotWritableError,
    OneBundleError,
    RepositoryError,
    UnreadableError,
)
from service.bundles.watcher import Watcher
from tests.support.bundles import DAY

Put = Callable[..., str]


def rewrite(folder: Path, **changes: object) -> None:
    """Change a manifest, whatever becomes of it."""
    manifest = folder / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | changes))


def point(root: Path, text: str) -> None:
    (root / POINTER).write_text(text)


# What is there


def test_entries_are_listed_by_folder_with_name_version_and_time(root: Path, put: Put) -> None:
    second, first = put("b", day=2), put("a", day=1)
    found = [
        (e.folder, e.name, e.version, e.created, e.reason) for e in BundleRepository(root).entries()
    ]
    assert found == [
        ("a", "toy", first, DAY + timedelta(days=1), None),
        ("b", "toy", second, DAY + timedelta(days=2), None),
    ]


def test_a_bundle_itself_is_its_only_entry(bundle: Path) -> None:
    (entry,) = BundleRepository(bundle).entries()
    assert (entry.folder, entry.path, entry.reason) == ("toy", bundle, None)


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (lambda folder: (folder / "manifest.json").unlink(), "cannot be read (No such file"),
        (lambda folder: (folder / "manifest.json").write_text('{"format": 1, '), "not JSON"),
        (lambda folder: (folder / "manifest.json").write_text("[]"), "its format is None"),
        (lambda folder: (folder / "manifest.json").write_bytes(b"\xff\xfe"), "not JSON"),
        (lambda folder: rewrite(folder, format=2), "its format is 2"),
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
    sound, unsound = BundleRepository(root).entries()
    assert unsound.reason is not None
    assert reason in unsound.reason
    assert "\n" not in unsound.reason
    assert (unsound.name, unsound.version, unsound.created) == (None, None, None)
    assert sound.version == BundleRepository(root).choice().entry.version == version


def test_a_manifest_that_is_a_folder_is_listed_with_the_reason(root: Path) -> None:
    (root / "a" / "manifest.json").mkdir(parents=True)
    (entry,) = BundleRepository(root).entries()
    assert (
        entry.reason == "manifest.json cannot be read (Is a directory); is this a bundle's folder?"
    )


def test_a_pipe_as_manifest_or_pointer_is_not_waited_for(root: Path, put: Put) -> None:
    put("sound")
    (root / "pipe").mkdir()
    os.mkfifo(root / "pipe" / "manifest.json")
    listed = {entry.folder: entry.reason or "" for entry in BundleRepository(root).entries()}
    assert "manifest.json cannot be read (it is no regular file)" in listed["pipe"]
    assert BundleRepository(root).choice().entry.folder == "sound"
    os.mkfifo(root / POINTER)
    with pytest.raises(RepositoryError, match=r"'current' cannot be read \(it is no regular file"):
        BundleRepository(root).choice()
    assert Watcher(BundleRepository(root)).poll()


def test_what_is_hidden_a_file_or_unprintable_is_passed_over(root: Path, put: Put) -> None:
    put("a")
    put(".draft", day=1)
    put("two\nlines", day=2)
    Path(os.fsdecode(os.fsencode(root) + b"/\xff")).mkdir()
    (root / "README.md").write_text("read me")
    (root / "link.md").symlink_to("README.md")
    (root / ".hidden").symlink_to(".draft")
    os.mkfifo(root / "pipe")
    assert [entry.folder for entry in BundleRepository(root).entries()] == ["a"]
    assert BundleRepository(root).choice().entry.folder == "a"


def test_links_are_followed_out_of_the_folder(root: Path, put: Put) -> None:
    version = put("../releases/7")
    (root / "toy").symlink_to("../releases/7")
    choice = BundleRepository(root).choice()
    assert (choice.entry.folder, choice.entry.version) == ("toy", version)
    assert choice.folder == root.parent / "releases" / "7"
    assert Model.load(choice.folder).manifest.version == version


def test_links_that_lead_nowhere_are_listed_with_the_reason(root: Path) -> None:
    (root / "gone").symlink_to("../releases/8")
    (root / "loop").symlink_to("loop")
    for entry, why in zip(
        BundleRepository(root).entries(),
        ["No such file or directory", "Too many levels of symbolic links"],
        strict=True,
    ):
        assert f"manifest.json cannot be read ({why})" in (entry.reason or "")


def test_a_folder_that_is_not_there_is_a_shelf_error(root: Path) -> None:
    for ask in (BundleRepository(root / "no").entries, BundleRepository(root / "no").choice):
        with pytest.raises(RepositoryError) as caught:
            ask()
        assert caught.value.reason == "the folder cannot be read (No such file or directory)"
        assert str(caught.value) == f"{root / 'no'}: {caught.value.reason}"


def test_a_file_is_no_shelf(root: Path) -> None:
    (root / "file").touch()
    with pytest.raises(RepositoryError, match="Not a directory"):
        BundleRepository(root / "file").choice()


@pytest.mark.alone
def test_two_hundred_entries_take_less_than_a_tenth_of_a_second(root: Path) -> None:
    manifest = (Path(models.__file__).parent / "iosxr" / "manifest.json").read_bytes()
    for number in range(200):
        (root / f"{number}").mkdir()
        (root / f"{number}" / "manifest.json").write_bytes(manifest)

    def seconds() -> float:
        start = time.thread_time()  # of the processor; other work on it does not count
        assert all(entry.reason is None for entry in BundleRepository(root).entries())
        return time.thread_time() - start

    assert min(seconds() for _ in range(5)) < 0.1


# Which is to be served


def test_a_bundle_itself_is_the_choice(bundle: Path) -> None:
    choice = BundleRepository(bundle).choice()
    assert (choice.folder, choice.decided) == (bundle.resolve(), "path")


def test_a_bundle_itself_is_the_choice_though_its_manifest_is_broken(root: Path, put: Put) -> None:
    put("a")
    rewrite(root / "a", format=2)
    choice = BundleRepository(root / "a").choice()
    with pytest.raises(BundleError, match="format is 2"):
        Model.load(choice.folder)


def test_a_path_that_is_relative_stays_what_it_was(
    root: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a")
    monkeypatch.chdir(root)
    shelves = [BundleRepository("."), BundleRepository("a")]
    monkeypatch.chdir("/")
    assert [shelf.choice().folder for shelf in shelves] == [root / "a", root / "a"]


def test_without_a_pointer_the_newest_is_the_choice(root: Path, put: Put) -> None:
    put("z", day=1)
    put("a", day=3)
    put("m", day=2)
    choice = BundleRepository(root).choice()
    assert (choice.folder, choice.decided) == (root / "a", "newest")


def test_times_are_compared_across_zones_and_without_one(root: Path, put: Put) -> None:
    for folder in "abc":
        put(folder)
    rewrite(root / "a", created="2025-06-01T12:00:00+02:00")
    rewrite(root / "b", created="2025-06-01T10:30:00")
    rewrite(root / "c", created="2025-06-01T10:15:00Z")
    put("first")
    rewrite(root / "first", created="0001-01-01T00:00:00+14:00")
    assert BundleRepository(root).choice().entry.folder == "b"


def test_of_bundles_as_new_the_larger_version_is_the_choice(root: Path, put: Put) -> None:
    versions = {put(folder): folder for folder in "abcd"}
    assert BundleRepository(root).choice().entry.folder == versions[max(versions)]


def test_a_folder_without_a_bundle_is_refused_with_a_reason(root: Path) -> None:
    with pytest.raises(RepositoryError, match=r"holds no bundle \(no folder is in it\)"):
        BundleRepository(root).choice()
    (root / "lost+found").mkdir()
    with pytest.raises(
        RepositoryError, match=r"no bundle \(lost\+found: manifest.json cannot be read"
    ):
        BundleRepository(root).choice()


@pytest.mark.parametrize("text", ["{}", "{}\n", "  {}\t\r\n\n", "\n{}"])
def test_the_pointer_names_a_folder_or_a_version(root: Path, put: Put, text: str) -> None:
    version = put("old")
    put("new", day=1)
    for name in ("old", version):
        point(root, text.format(name))
        choice = BundleRepository(root).choice()
        assert (choice.entry.folder, choice.decided) == ("old", "pointer")


@pytest.mark.parametrize(
    "text", ["", "\n", "b", "../a", "./a", "a/", "a\na", "/", ".", "..", ".draft", "\0", "x" * 1000]
)
def test_a_pointer_that_names_nothing_is_refused(root: Path, put: Put, text: str) -> None:
    put("a")
    put(".draft")
    point(root, text)
    with pytest.raises(NotThereError, match="the pointer 'current': no folder or") as caught:
        BundleRepository(root).choice()
    assert "\n" not in str(caught.value)
    assert len(caught.value.reason) < 400


def test_a_pointer_in_another_encoding_is_refused(root: Path, put: Put) -> None:
    put("a")
    (root / POINTER).write_bytes(b"\xffa")
    with pytest.raises(NotThereError) as caught:
        BundleRepository(root).choice()
    str(caught.value).encode()


def test_the_beginning_of_a_version_is_no_pointer(root: Path, put: Put) -> None:
    point(root, put("a")[:8])
    with pytest.raises(NotThereError):
        BundleRepository(root).choice()


def test_a_pointer_to_a_broken_bundle_is_refused_with_its_reason(root: Path, put: Put) -> None:
    put("a")
    (root / "b").mkdir()
    point(root, "b")
    with pytest.raises(UnreadableError, match=r"'current': b: manifest.json cannot be read"):
        BundleRepository(root).choice()


def test_a_pointer_that_cannot_be_read_is_refused(root: Path, put: Put) -> None:
    put("a")
    (root / POINTER).symlink_to(POINTER)
    with pytest.raises(RepositoryError, match="the pointer 'current' cannot be read"):
        BundleRepository(root).choice()


def test_a_link_called_current_points_to_its_folder(root: Path, put: Put) -> None:
    put("old")
    put("new", day=1)
    (root / POINTER).symlink_to("old")
    choice = BundleRepository(root).choice()
    assert (choice.folder, choice.decided) == (root / "old", "pointer")
    shutil.rmtree(root / "old")
    with pytest.raises(UnreadableError):
        BundleRepository(root).choice()


def test_a_name_that_is_a_folder_and_another_ones_version_is_ambiguous(
    root: Path, put: Put
) -> None:
    version = put("a")
    put(version, day=1)
    point(root, version)
    with pytest.raises(AmbiguousError):
        BundleRepository(root).choice()


def test_folders_named_by_their_version_and_copies_are_not_ambiguous(root: Path, put: Put) -> None:
    version = put("a")
    (root / "a").rename(root / version)
    shutil.copytree(root / version, root / "copy")
    point(root, version)
    assert BundleRepository(root).choice().entry.version == version


# To point


def test_activating_points_and_tells_the_version_before(root: Path, put: Put) -> None:
    old, new = put("old"), put("new", day=1)
    shelf = BundleRepository(root)
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
    assert BundleRepository(root).activate("a") is None
    assert BundleRepository(root).choice().entry.version == version


def test_activating_replaces_a_link_and_not_what_it_leads_to(root: Path, put: Put) -> None:
    put("old")
    put("new", day=1)
    (root / POINTER).symlink_to("old")
    BundleRepository(root).activate("new")
    assert BundleRepository(root).choice().entry.folder == "new"
    assert (root / "old" / "manifest.json").exists()


@pytest.mark.parametrize("wanted", ["", "b", "abc", "0123456789abcdef", "../a", "a/", " a"])
def test_what_is_not_there_is_not_activated(root: Path, put: Put, wanted: str) -> None:
    put("a")
    with pytest.raises(NotThereError):
        BundleRepository(root).activate(wanted)
    assert not (root / POINTER).exists()


def test_a_beginning_must_be_of_one_version_and_four_digits(root: Path, put: Put) -> None:
    for folder, version in {"a": "abcd0" + "0" * 11, "b": "abcd1" + "0" * 11}.items():
        put(folder)
        rewrite(root / folder, version=version)
    shelf = BundleRepository(root)
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
    assert BundleRepository(root).find(beginning).folder == beginning


def test_a_broken_bundle_is_not_activated(root: Path) -> None:
    (root / "a").mkdir()
    with pytest.raises(UnreadableError, match=r"a: manifest.json cannot be read"):
        BundleRepository(root).activate("a")


def test_one_bundle_leaves_nothing_to_activate(bundle: Path) -> None:
    with pytest.raises(OneBundleError, match="it is one bundle"):
        BundleRepository(bundle).activate("toy")


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
        BundleRepository(root).activate(version)
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
            BundleRepository(root).activate("a")
    finally:
        root.chmod(0o755)


def test_a_pointer_that_is_a_folder_is_not_overwritten(root: Path, put: Put) -> None:
    put("a")
    put(POINTER)
    with pytest.raises(NotWritableError, match="Is a directory"):
        BundleRepository(root).activate("a")
    assert sorted(path.name for path in root.iterdir()) == ["a", POINTER]


def test_a_file_system_that_cannot_sync_folders_does_not_matter(
    root: Path, put: Put, monkeypatch: pytest.MonkeyPatch
) -> None:
    put("a")

    def fail(_: Path) -> None:
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))

    monkeypatch.setattr(module, "_sync_folder", fail)
    BundleRepository(root).activate("a")
    assert BundleRepository(root).choice().decided == "pointer"


WRITER = """
import sys
from service.bundles.repository import BundleRepository
shelf = BundleRepository(sys.argv[1])
for turn in range(int(sys.argv[2])):
    shelf.activate("ab"[turn % 2])
"""


def test_a_pointer_that_threads_and_processes_write_is_never_read_torn(
    root: Path, put: Put
) -> None:
    put("a")
    put("b", day=1)
    shelf = BundleRepository(root)
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
from service.bundles.repository import BundleRepository
os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
BundleRepository(sys.argv[1]).activate("b")
"""


def test_a_writer_that_is_killed_leaves_the_pointer_as_it_was(root: Path, put: Put) -> None:
    put("a")
    put("b", day=1)
    BundleRepository(root).activate("a")
    killed = subprocess.run([sys.executable, "-c", KILLED, str(root)], check=False)
    assert killed.returncode == -signal.SIGKILL
    assert any(path.name.startswith(".current-") for path in root.iterdir())
    assert BundleRepository(root).choice().entry.folder == "a"
    assert [entry.folder for entry in BundleRepository(root).entries()] == ["a", "b"]
    BundleRepository(root).activate("b")
    assert BundleRepository(root).choice().entry.folder == "b"
