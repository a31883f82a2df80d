"""What every test stands on, and how tests are spread over the processes that run them.

The tests of one file run in one process and in their order, so that what they share is made once;
files with the same `xdist_group` run in one process, too. Tests that measure time carry the mark
`alone`: they run last, and no other test runs meanwhile.
"""

from __future__ import annotations

import fcntl
import itertools
import json
import os
import pickle
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import SEEK_END
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any, TypeVar

import pytest
from hypothesis import HealthCheck, settings
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling
from xdist.workermanage import WorkerController

T = TypeVar("T")
Once = Callable[[str, Callable[[], T]], T]

# How long an example takes says nothing while other tests run beside it.
settings.register_profile("ours", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("ours")

SLOW_ROOMS = ("e2e", "training", "service")
"""They start first, slowest first, so that no process ends long after the others."""

FOLDER = pytest.StashKey[TemporaryDirectory[str]]()


class FileScheduling(LoadScopeScheduling):
    """Send each group of tests to one process, and each file that is in no group."""

    def schedule(self) -> None:
        groups = Path(self.config.stash[FOLDER].name) / "groups.json"
        # There are none where nothing was collected, which pytest then says.
        self._groups: dict[str, str] = json.loads(groups.read_text()) if groups.exists() else {}
        super().schedule()

    def _split_scope(self, nodeid: str) -> str:
        return self._groups.get(nodeid) or nodeid.partition("::")[0]


def pytest_xdist_auto_num_workers() -> int:
    """Return one more than there are cores: many tests wait, for containers or for time to pass."""
    return min((os.cpu_count() or 1) + 1, 8)


def pytest_configure_node(node: WorkerController) -> None:
    if FOLDER not in node.config.stash:
        node.config.stash[FOLDER] = TemporaryDirectory()
    node.workerinput["folder"] = node.config.stash[FOLDER].name


def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> FileScheduling:
    return FileScheduling(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: (_is_alone(item), _rank(item)))
    if workerinput := getattr(config, "workerinput", None):
        # xdist 3.8 appends the group to the name of a test, which pytest 9.2 does not let it.
        groups = {item.nodeid: group for item in items if (group := _group(item))}
        (Path(workerinput["folder"]) / "groups.json").write_text(json.dumps(groups))


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    with Path(__file__).open() as file, _locked(file, shared=not _is_alone(item)):
        return (yield)


_numbers = itertools.count()


@pytest.fixture(autouse=True, scope="session")
def state_folders(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Keep databases out of the home of whoever runs the tests."""
    folder = tmp_path_factory.mktemp("states")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "shared"))
        yield folder


@pytest.fixture(autouse=True)
def own_state(state_folders: Path) -> Iterator[None]:
    """Keep a test's database from the next one's service, which would use it and its journal."""
    # Not the test's own `monkeypatch`, which would then be undone after all that the test started.
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(state_folders / str(next(_numbers))))
        yield


@pytest.fixture(scope="session")
def once(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Once[Any]:
    """Make something expensive in the first process that needs it; the others read its pickle."""
    folder = tmp_path_factory.getbasetemp()
    if worker_id != "master":
        folder = folder.parent

    def get(name: str, make: Callable[[], T]) -> T:
        with (folder / f"{name}.pickle").open("a+b") as file, _locked(file):
            if not file.seek(0, SEEK_END):
                pickle.dump(make(), file)
                file.flush()
            file.seek(0)
            made: T = pickle.load(file)
            return made

    return get


def _is_alone(item: pytest.Item) -> bool:
    return item.get_closest_marker("alone") is not None


def _group(item: pytest.Item) -> str | None:
    if _is_alone(item):
        return "alone"
    mark = item.get_closest_marker("xdist_group")
    return str(mark.args[0]) if mark else None


def _rank(item: pytest.Item) -> int:
    room = item.path.relative_to(Path(__file__).parent).parts[0]
    return SLOW_ROOMS.index(room) if room in SLOW_ROOMS else len(SLOW_ROOMS)


@contextmanager
def _locked(file: IO[Any], *, shared: bool = False) -> Iterator[None]:
    fcntl.flock(file, fcntl.LOCK_SH if shared else fcntl.LOCK_EX)
    try:
        yield
    finally:
        fcntl.flock(file, fcntl.LOCK_UN)  # a forked child may have the file open still
