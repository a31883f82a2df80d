from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from models import Model
from service.bundles.repository import BundleRepository, RepositoryError
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
