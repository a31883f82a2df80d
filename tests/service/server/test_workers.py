from __future__ import annotations

import os
import signal
import socket
from collections.abc import Iterator
from multiprocessing import Pipe
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from service.observability.multiprocess import FOLDER
from service.server import workers
from service.server.server import Config, Server
from service.server.workers import run
from service.settings import Settings


@pytest.fixture
def listening() -> Iterator[socket.socket]:
    with socket.socket() as made:
        yield made


@pytest.fixture(autouse=True)
def own_process_class(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let uvicorn have its own class again afterwards."""
    monkeypatch.setattr(multiprocess, "Process", multiprocess.Process)


class Answering(Server):
    """A server that does not run, and is settled if it is told so."""

    def __init__(self) -> None:
        self.is_settled = False

    @property
    def settled(self) -> bool:
        return self.is_settled


def worker(**attributes: Any) -> Any:
    """Make a worker without a process."""
    made = workers._Worker.__new__(workers._Worker)
    vars(made).update(attributes)
    return made


def test_one_worker_serves_in_this_process(
    bundle: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    served: list[object] = []

    def serve(server: Server, sockets: list[socket.socket]) -> None:
        served.append((server.config.settings.bundle, sockets, FOLDER in os.environ))

    monkeypatch.setattr(Server, "run", serve)
    run(Settings(bundle=bundle, workers=1), listening)
    assert served == [(bundle, [listening], False)]


@pytest.mark.parametrize("failed", [False, True])
def test_several_workers_share_a_folder_and_their_failure_to_start_is_that_of_the_command(
    failed: bool, bundle: Path, listening: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders: list[Path] = []

    class Supervisor:
        def __init__(self, config: Config, sockets: list[socket.socket]) -> None:
            assert (config.workers, sockets) == (2, [listening])
            self.processes = [SimpleNamespace(exitcode=0)]

        def run(self) -> None:
            folders.append(Path(os.environ[FOLDER]))
            assert folders[0].is_dir()
            assert multiprocess.Process is workers._Worker
            if failed:
                self.processes.append(SimpleNamespace(exitcode=STARTUP_FAILURE))

    monkeypatch.setattr(workers, "_Supervisor", Supervisor)
    settings = Settings(bundle=bundle, workers=2)
    if failed:
        with pytest.raises(SystemExit) as caught:
            run(settings, listening)
        assert caught.value.code == STARTUP_FAILURE
    else:
        run(settings, listening)
    assert (FOLDER in os.environ, folders[0].exists()) == (False, False)


@pytest.mark.parametrize("fails", [False, True])
def test_signals_wait_while_a_worker_starts_and_its_end_of_the_pipe_is_closed(fails: bool) -> None:
    blocked: list[set[signal.Signals | int]] = []

    def start() -> None:
        blocked.append({*signal.pthread_sigmask(signal.SIG_BLOCK, [])})
        if fails:
            raise OSError("no more processes")

    _, child = Pipe()
    made = worker(process=SimpleNamespace(start=start), child_conn=child)
    if fails:
        with pytest.raises(OSError, match="no more processes"):
            made.start()
    else:
        made.start()
        assert child.closed
    assert blocked[0] >= {signal.SIGINT, signal.SIGTERM}
    assert {signal.SIGINT, signal.SIGTERM}.isdisjoint(signal.pthread_sigmask(signal.SIG_BLOCK, []))
    child.close()


def test_a_worker_is_ready_once_its_bundle_is_settled() -> None:
    parent, child = Pipe()
    server = Answering()
    made = worker(child_conn=child, parent_conn=parent, _server=server)
    told = []
    with parent, child:
        for server.is_settled in (False, True):
            parent.send(b"ping")
            made.pong()
            told.append(parent.recv())
    assert told == [False, True]


def test_a_worker_that_does_not_serve_yet_is_not_ready(bundle: Path) -> None:
    parent, child = Pipe()
    made = worker(config=Config(Settings(bundle=bundle)), child_conn=child, _server=None)
    with parent, child:
        parent.send(b"ping")
        made.pong()
        assert parent.recv() is False


def test_the_port_is_free_for_whoever_comes_next_before_the_workers_end(
    listening: socket.socket,
) -> None:
    supervisor = workers._Supervisor.__new__(workers._Supervisor)
    seen: list[int] = []
    process: Any = SimpleNamespace(terminate=lambda: seen.append(listening.fileno()))
    supervisor.sockets, supervisor.processes = [listening], [process, process]
    supervisor.terminate_all()
    assert seen == [-1, -1]
