from __future__ import annotations

import logging
import os
import shutil
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from models import Bundle, Model
from models.bundle import Trust
from models.signature import TrustedKeys, new_key, sign
from service.bundles.mirror import Mirror
from service.bundles.repository import BundleRepository
from service.observability.counters import Counters
from tests.support.bundles import put_bundle

SECONDS = 2.0


class Clock:
    def __init__(self) -> None:
        self.now = 1e9

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder in the place of an object store's."""
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


@pytest.fixture
def upload(bundle: Path, store: Path) -> Callable[..., str]:
    """Put a bundle of its own version into the store; gives the version."""
    return lambda name, *, day=0: put_bundle(bundle, store / name, day=day)


Make = Callable[..., Mirror]


@pytest.fixture
def make(store: Path, root: Path, clock: Clock) -> Make:
    def mirror(trusted: Trust | None = None, address: str | None = None) -> Mirror:
        address = address or f"file://{store}"
        return Mirror(address, root, trusted, Counters(), seconds=SECONDS, clock=clock)

    return mirror


@pytest.fixture
def look(clock: Clock) -> Callable[..., None]:
    """Let the next look be due, and look."""

    def after(mirror: Mirror, seconds: float = SECONDS) -> None:
        clock.now += seconds
        mirror.look()

    return after


Look = Callable[..., None]
Upload = Callable[..., str]


def versions(root: Path) -> dict[str, str | None]:
    """What the service would find."""
    return {entry.folder: entry.version for entry in BundleRepository(root).entries()}


def test_bundles_are_copied_as_they_are_and_only_when_they_change(
    make: Make, upload: Upload, look: Look, store: Path, root: Path
) -> None:
    found = {"a": upload("a"), "b": upload("b", day=1)}
    (store / "a/manifest.sig").write_text("whoever signed it")
    mirror = make()
    assert not make().has_copies
    mirror.look()
    assert mirror.has_copies
    assert versions(root) == found
    assert BundleRepository(root).choice().entry.folder == "b"
    for name in found:
        assert Bundle.read(root / name) == Bundle.read(store / name)
    assert (root / "a/manifest.sig").read_text() == "whoever signed it"
    copies = {name: (root / name).resolve().stat() for name in found}
    for again in (mirror, make()):
        look(again)
        assert {name: (root / name).resolve().stat() for name in found} == copies


def test_another_bundle_of_the_same_name_takes_its_place_in_one_step(
    make: Make, upload: Upload, look: Look, store: Path, root: Path
) -> None:
    upload("a")
    mirror = make()
    mirror.look()
    first = (root / "a").resolve()
    shutil.rmtree(store / "a")
    second = put_bundle(first, store / "a", about="another")
    look(mirror)
    assert versions(root) == {"a": second}
    assert first.exists(), "it may be loaded at this moment"
    look(mirror)
    look(mirror)
    assert not first.exists()
    assert versions(root) == {"a": second}


def test_bundles_that_are_removed_disappear_and_those_of_others_stay(
    make: Make, upload: Upload, look: Look, store: Path, root: Path, bundle: Path
) -> None:
    kept = upload("kept")
    upload("gone")
    own = put_bundle(bundle, root / "own")
    mirror = make()
    mirror.look()
    assert versions(root).keys() == {"gone", "kept", "own"}
    shutil.rmtree(store / "gone")
    look(mirror)
    assert versions(root) == {"kept": kept, "own": own}


def test_a_bundle_that_is_uploaded_in_part_is_none_until_it_is_whole(
    make: Make, upload: Upload, look: Look, store: Path, root: Path, tmp_path: Path
) -> None:
    """In any order of its files; without the manifest, nothing is read at all."""
    fine = upload("fine")
    version = put_bundle(store / "fine", tmp_path / "new")
    mirror = make()
    mirror.look()
    (store / "new").mkdir()
    for name in ("encoder.onnx", "manifest.json", "examples.json"):
        assert versions(root) == {"fine": fine}
        shutil.copy(tmp_path / "new" / name, store / "new" / name)
        look(mirror)
    assert versions(root) == {"fine": fine, "new": version}
    assert mirror.found().refused == {}
    assert mirror.counters.refused == 1, "its manifest was there before its examples"


@pytest.mark.parametrize("name", ["encoder.onnx", "examples.json", "manifest.json"])
def test_an_altered_bundle_is_refused_with_its_reason_and_the_copy_stays(
    make: Make,
    upload: Upload,
    look: Look,
    store: Path,
    root: Path,
    name: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    version = upload("a")
    mirror = make()
    mirror.look()
    data = bytearray((store / "a" / name).read_bytes())
    data[len(data) // 2] ^= 1
    (store / "a" / name).write_bytes(data)
    for _ in range(3):
        look(mirror)
    assert mirror.found().refused["a"].startswith(name)
    assert Model.load(root / "a").manifest.version == version
    assert mirror.counters.refused == 1
    assert [line.message for line in caplog.records] == ["bundle refused"]


def test_only_what_a_trusted_key_has_signed_is_copied(
    make: Make, upload: Upload, look: Look, store: Path, root: Path, tmp_path: Path
) -> None:
    trusted = TrustedKeys((new_key(tmp_path / "key"),))
    upload("a")
    mirror = make(trusted)
    mirror.look()
    assert mirror.found().refused == {"a": "it is not signed: there is no manifest.sig"}
    assert versions(root) == {}
    sign(store / "a", tmp_path / "key")
    look(mirror)
    assert mirror.found().refused == {}
    assert Bundle.read(root / "a", trusted=trusted) == Bundle.read(store / "a")


def test_a_refused_bundle_is_read_again_after_a_time_though_its_list_is_the_same(
    make: Make, upload: Upload, look: Look, store: Path, root: Path
) -> None:
    """Object stores tell times in seconds: two files of one size may look the same."""
    upload("a")
    good = (store / "a/encoder.onnx").read_bytes()
    state = (store / "a/encoder.onnx").stat()
    (store / "a/encoder.onnx").write_bytes(bytes(len(good)))
    mirror = make()
    mirror.look()
    (store / "a/encoder.onnx").write_bytes(good)
    os.utime(store / "a/encoder.onnx", ns=(state.st_atime_ns, state.st_mtime_ns))
    look(mirror, 31)
    assert mirror.found().refused == {}
    assert "a" in versions(root)


def test_a_bundle_that_changes_twice_in_a_second_is_copied_though_its_list_is_the_same(
    make: Make, bundle: Path, look: Look, clock: Clock, store: Path, root: Path
) -> None:
    first = put_bundle(bundle, store / "a", about="a")
    _date(store / "a", clock.now)
    mirror = make()
    mirror.look()
    assert versions(root) == {"a": first}
    shutil.rmtree(store / "a")
    second = put_bundle(bundle, store / "a", about="b")
    _date(store / "a", clock.now)
    look(mirror)
    assert versions(root) == {"a": second} != {"a": first}


def _date(folder: Path, seconds: float) -> None:
    """Let files have changed then."""
    for path in folder.rglob("*"):
        os.utime(path, (seconds, seconds))


def test_a_store_that_is_away_changes_nothing_and_is_told_until_it_is_back(
    make: Make,
    upload: Upload,
    look: Look,
    store: Path,
    root: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    version = upload("a")
    make().look()
    store.rename(store.with_name("away"))
    mirror = make()
    for _ in range(2):
        look(mirror)
        fault = mirror.found().fault
        assert fault is not None
        assert fault.startswith("it cannot be listed: ")
        assert versions(root) == {"a": version}
        assert mirror.has_copies
    store.mkdir()
    look(mirror)
    assert mirror.found().fault == "no folder in it holds a bundle with its manifest.json"
    assert versions(root) == {"a": version}
    store.rmdir()
    store.with_name("away").rename(store)
    look(mirror)
    assert mirror.found().fault is None
    said = [line.message for line in caplog.records]
    assert said == ["bundles cannot be followed"] * 2 + ["bundles are followed again"]


def test_a_look_without_an_end_is_told(make: Make, upload: Upload, clock: Clock) -> None:
    upload("a")
    mirror = make()
    clock.now += 30
    assert mirror.found().fault == "it has not answered for 30 s"
    mirror.look()
    assert mirror.found().fault is None


def test_the_pointer_of_the_store_is_followed(
    make: Make, upload: Upload, look: Look, store: Path, root: Path
) -> None:
    upload("old"), upload("new", day=1)
    mirror, repository = make(), BundleRepository(root)
    mirror.look()
    assert repository.choice().entry.folder == "new"
    for name in ("old", "new", "old"):
        (store / "current").write_text(f"{name}\n")
        look(mirror)
        assert (repository.choice().entry.folder, repository.choice().decided) == (name, "pointer")
    (store / "current").write_text("x" * 5000)
    look(mirror)
    assert "its pointer 'current' cannot be read: it has 5000 bytes" in str(mirror.found().fault)
    assert repository.choice().entry.folder == "old"
    (store / "current").unlink()
    look(mirror)
    assert repository.choice().decided == "newest"


def test_of_several_workers_one_looks_for_all(
    make: Make, upload: Upload, clock: Clock, root: Path, store: Path
) -> None:
    upload("a")
    (store / "spoilt").mkdir()
    (store / "spoilt/manifest.json").write_text("{}")
    one, other = make(), make()
    one.look()
    clock.now += 0.1
    upload("b")
    other.look()
    assert versions(root).keys() == {"a"}
    assert other.found() == one.found()
    assert other.found().refused.keys() == {"spoilt"}
    assert (one.counters.refused, other.counters.refused) == (1, 0)
    clock.now += SECONDS
    other.look()
    assert versions(root).keys() == {"a", "b"}


def test_names_that_a_folder_may_not_have_are_left_out(
    make: Make, upload: Upload, root: Path
) -> None:
    upload("fine")
    for name in (".hidden", "a\nb", "current"):
        upload(name)
    mirror = make()
    mirror.look()
    assert [path.name for path in root.iterdir() if not path.name.startswith(".copies")] == ["fine"]
    assert mirror.found().fault is None


def test_a_folder_that_is_no_copy_is_never_replaced(
    make: Make, upload: Upload, root: Path, bundle: Path
) -> None:
    upload("a")
    own = put_bundle(bundle, root / "a", about="own")
    mirror = make()
    mirror.look()
    assert "a folder of this name is here already" in mirror.found().refused["a"]
    assert versions(root) == {"a": own}


def test_a_disk_that_cannot_be_written_is_told(
    make: Make, upload: Upload, look: Look, root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload("a")

    def full(*_: object, **__: object) -> str:
        raise OSError(28, "No space left on device")

    mirror = make()
    with monkeypatch.context() as patch:
        patch.setattr("tempfile.mkdtemp", full)
        mirror.look()
        fault = mirror.found().fault
        assert fault == f"the copies in {root} cannot be changed (No space left on device)"
    look(mirror)
    assert mirror.found().fault is None
    assert versions(root).keys() == {"a"}


def test_whatever_goes_wrong_is_told_and_not_the_end(
    make: Make,
    upload: Upload,
    look: Look,
    root: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    upload("a")
    mirror = make()
    with monkeypatch.context() as patch:
        patch.setattr(mirror, "_listed", lambda *_: 1 / 0)
        mirror.look()
    assert mirror.found().fault == "unexpected ZeroDivisionError; the log says more"
    assert [line.message for line in caplog.records] == ["bundles cannot be copied"]
    look(mirror)
    assert mirror.found().fault is None
    assert versions(root).keys() == {"a"}


@pytest.mark.parametrize("content", [b"", b"{", b'{"looked": "x"}'])
def test_what_is_left_of_a_state_is_no_hindrance(
    make: Make, upload: Upload, look: Look, root: Path, content: bytes
) -> None:
    version = upload("a")
    mirror = make()
    mirror.look()
    (root / ".copies/.state").write_bytes(content)
    (root / ".copies/draft-x").mkdir()
    for _ in range(2):
        look(mirror)
    assert versions(root) == {"a": version}
    assert not (root / ".copies/draft-x").exists()


def test_an_address_of_nothing_is_told_without_its_keys(make: Make) -> None:
    mirror = make(address="s3://AKID:sec/ret@bucket/models")
    mirror.look()
    assert str(mirror) == "s3://bucket/models"
    assert mirror.found().fault is not None
    assert "s3://bucket/models is no address" in str(mirror.found().fault)
    assert "sec" not in str(mirror.found().fault)


def test_it_looks_until_it_is_stopped(make: Make, upload: Upload, root: Path) -> None:
    version, stop = upload("a"), threading.Event()
    mirror = make()
    thread = threading.Thread(target=mirror.run, args=[stop])
    thread.start()
    while not mirror.has_copies:
        pass
    stop.set()
    thread.join(10)
    assert not thread.is_alive()
    assert versions(root) == {"a": version}
