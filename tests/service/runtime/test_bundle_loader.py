from __future__ import annotations

import logging
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models import Model
from service.bundles.repository import BundleRepository, Choice, RepositoryError
from service.bundles.trial import StoppedError
from service.observability.counters import Counters
from service.runtime.bundle_loader import BundleLoader
from tests.support.bundles import put_bundle

Put = Callable[..., str]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder


@pytest.fixture
def put(bundle: Path, root: Path) -> Put:
    def write(folder: str, *, day: int = 0, good: bool = True) -> str:
        version = put_bundle(bundle, root / folder, day=day)
        if not good:
            (root / folder / "encoder.onnx").write_bytes(b"")
        return version

    return write


class Served(list[str]):
    """The versions that were served, in order."""

    def __call__(self, model: Model) -> None:
        self.append(model.manifest.version)


def loader_of(
    root: Path, served: Served, load: Callable[[Path], Model] = Model.load
) -> BundleLoader:
    return BundleLoader(BundleRepository(root, settle_seconds=0.1), load, served, Counters())


def test_the_newest_bundle_is_served_once(root: Path, put: Put) -> None:
    put("old")
    version, served = put("new", day=1), Served()
    loader = loader_of(root, served)
    assert not loader.settled.is_set()
    for _ in range(2):
        loader.refresh()
    assert served == [version]
    assert loader.version == version
    assert loader.settled.is_set()


def test_older_bundles_stand_in_for_refused_ones_which_are_counted_once(
    root: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    version, served = put("sound"), Served()
    put("bad", day=1, good=False)
    (root / "empty").mkdir()
    loader = loader_of(root, served)
    for _ in range(2):
        loader.refresh()
    assert served == [version]
    assert loader.refused.keys() == {"bad", "empty"}
    assert "encoder.onnx was altered" in loader.refused["bad"]
    assert [record.message for record in caplog.records] == ["bundle refused"] * 2
    assert loader.counters.refused == 2
    (root / "empty").rmdir()
    loader.refresh()
    assert loader.refused.keys() == {"bad"}


def test_a_pointer_leaves_no_other_choice_and_the_served_bundle_stays(root: Path, put: Put) -> None:
    version, served = put("sound"), Served()
    loader = loader_of(root, served)
    loader.refresh()
    put("bad", day=1, good=False)
    (root / "current").write_text("bad\n")
    loader.refresh()
    assert (served, loader.version) == ([version], version)
    assert loader.refused.keys() == {"bad"}


def test_why_nothing_is_served_is_said(root: Path, put: Put) -> None:
    loader = loader_of(root, Served())
    assert "still loading" in str(loader.not_ready())
    loader.refresh()
    assert "The bundle bundles is refused: it holds no bundle" in str(loader.not_ready())
    put("bad", good=False)
    loader.refresh()
    assert "The bundle bad is refused: encoder.onnx was altered" in str(loader.not_ready())


def test_whatever_goes_wrong_while_loading_refuses_the_bundle(
    root: Path, put: Put, caplog: pytest.LogCaptureFixture
) -> None:
    put("a")

    def fail(_: Path) -> Model:
        raise ZeroDivisionError

    loader = loader_of(root, Served(), fail)
    with caplog.at_level(logging.ERROR):
        loader.refresh()
    assert loader.refused == {"a": "unexpected ZeroDivisionError; the log says more"}
    assert loader.settled.is_set()


def test_a_bundle_that_loads_and_cannot_be_served_leaves_the_one_before(
    root: Path, put: Put
) -> None:
    first, served = put("a"), Served()

    def serve(model: Model) -> None:
        if model.manifest.version != first:
            raise ZeroDivisionError
        served(model)

    loader = loader_of(root, served)
    loader.serve = serve
    loader.refresh()
    put("b", day=1)
    time.sleep(0.2)
    loader.refresh()
    assert (served, loader.version) == ([first], first)
    assert loader.refused == {"b": "unexpected ZeroDivisionError; the log says more"}
    assert loader.settled.is_set()


def test_a_bundle_is_verified_without_being_served(root: Path, put: Put) -> None:
    put("bad", good=False)
    put("sound")
    served = Served()
    loader = loader_of(root, served)
    bad, sound = loader.repository.entries()
    loader.verify(sound)
    with pytest.raises(RepositoryError, match=r"bad is refused: encoder\.onnx was altered"):
        loader.verify(bad)
    assert (served, loader.refused) == ([], {})


def test_a_refused_bundle_is_tried_again_when_its_files_change_or_it_is_verified(
    root: Path, put: Put
) -> None:
    version, tried = put("bad", good=False), []
    put("../good")
    encoder = (root.parent / "good" / "encoder.onnx").read_bytes()

    def load(folder: Path) -> Model:
        tried.append(folder.name)
        return Model.load(folder)

    served = Served()
    loader = loader_of(root, served, load)
    for _ in range(3):
        loader.refresh()
    assert tried == ["bad"]
    (root / "bad" / "encoder.onnx").write_bytes(encoder)
    loader.verify(loader.repository.find("bad"))
    loader.refresh()
    assert (tried, served, loader.refused) == (["bad", "bad"], [version], {})


def test_the_end_of_the_service_refuses_no_bundle(root: Path, put: Put) -> None:
    put("a")

    def stop(folder: Path) -> Model:
        raise StoppedError(folder)

    loader = loader_of(root, Served(), stop)
    loader.refresh()
    assert (loader.refused, loader.counters.refused, loader.served) == ({}, 0, None)


def test_what_only_a_manifest_says_is_refused_without_being_loaded(root: Path) -> None:
    (root / "empty").mkdir()

    def load(folder: Path) -> Model:
        raise AssertionError(folder)

    loader = loader_of(root, Served(), load)
    loader.refresh()
    assert "manifest.json cannot be read" in str(loader.not_ready())


def states(loader: BundleLoader) -> dict[str, tuple[str, str]]:
    try:
        choice: Choice | RepositoryError = loader.repository.choice()
    except RepositoryError as error:
        choice = error
    entries = loader.repository.entries()
    return {entry.folder: loader.state_of(entry, choice) for entry in entries}


def test_each_folder_has_one_state_and_a_reason(root: Path, put: Put) -> None:
    put("old")
    put("served", day=1)
    shutil.copytree(root / "served", root / "copy")
    (root / "copy" / "encoder.onnx").write_bytes(b"")
    put("spoilt", day=2, good=False)
    (root / "empty").mkdir()
    loader = loader_of(root, Served())
    assert {state for state, _ in states(loader).values()} == {"pending", "refused"}
    (root / "copy").rename(root / ".copy")
    loader.refresh()
    (root / ".copy").rename(root / "copy")
    put("new", day=3)
    seen = states(loader)
    assert {folder: state for folder, (state, _) in seen.items()} == {
        "copy": "idle",
        "empty": "refused",
        "new": "pending",
        "old": "idle",
        "served": "served",
        "spoilt": "refused",
    }
    reasons = {folder: reason for folder, (_, reason) in seen.items()}
    assert reasons["copy"] == (
        "its version is served already, from the folder served; its own files were not verified"
    )
    assert reasons["old"] == "it is older than served, which is served"
    assert reasons["served"] == "no newer one could be loaded so far"
    assert "manifest.json cannot be read" in reasons["empty"]
    assert "encoder.onnx was altered" in reasons["spoilt"]
    loader.refresh()
    assert states(loader)["new"] == ("served", "it is the newest")


def test_the_pointer_explains_the_states(root: Path, put: Put) -> None:
    put("a")
    put("b", day=1)
    loader = loader_of(root, Served())
    loader.refresh()
    (root / "current").write_text("a\n")
    assert states(loader) == {
        "a": ("pending", "it is to be served, once its files are at rest and it is loaded"),
        "b": ("served", "the file 'current' names a, which is not served yet or refused"),
    }
    loader.refresh()
    assert states(loader) == {
        "a": ("served", "the file 'current' names it"),
        "b": ("idle", "the file 'current' names a"),
    }
    (root / "current").write_text("c\n")
    for state, reason in states(loader).values():
        assert state in {"served", "idle"}
        assert "no folder or version is called 'c'" in reason


def test_bundles_of_one_moment_are_told_apart(root: Path, put: Put) -> None:
    versions = {put(name): name for name in ("a", "b")}
    larger, smaller = versions[max(versions)], versions[min(versions)]
    loader = loader_of(root, Served())
    loader.refresh()
    assert states(loader) == {
        larger: ("served", "it is the newest"),
        smaller: ("idle", f"it is as old as {larger}, which is served"),
    }


def test_one_bundle_is_served_as_the_only_one(root: Path, put: Put) -> None:
    put("a")
    loader = loader_of(root / "a", Served())
    loader.refresh()
    assert states(loader) == {"a": ("served", "it is the only one")}


@pytest.mark.alone
def test_it_follows_the_repository_until_it_is_stopped(root: Path, put: Put) -> None:
    first, served, stop = put("first"), Served(), threading.Event()
    thread = threading.Thread(target=loader_of(root, served).run, args=[stop])
    thread.start()
    try:
        wait_until(lambda: served == [first])
        second = put("second", day=1)
        wait_until(lambda: served == [first, second])
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
