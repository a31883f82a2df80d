"""Databases for tests: files of SQLite, and a PostgreSQL server of our own."""

from __future__ import annotations

import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from benchmarks.harness import postgres
from benchmarks.harness.client import ServerError
from benchmarks.harness.process import send

__all__ = ["KINDS", "Postgres", "running", "url_of"]

KINDS = ("sqlite", "postgresql")


class Postgres(postgres.Postgres):
    """A server that can also be stopped, in good order or for a while."""

    def stop(self) -> None:
        """Stop the server in good order, but wait for nobody."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                self._server.send_signal(signal.SIGINT)
            self._server.wait(60)
            self._server = None

    def kill(self) -> list[int]:
        """Kill the server, and wait until none of its processes is alive."""
        pids = super().kill()
        latest = time.monotonic() + 60
        while any(_is_alive(pid) for pid in pids):
            assert time.monotonic() < latest
            time.sleep(0.01)
        return pids

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let the server and each process of it stand still meanwhile."""
        assert self._server is not None
        send(self.pids[:1], signal.SIGSTOP)
        pids = self.pids
        send(pids, signal.SIGSTOP)
        try:
            yield
        finally:
            send(pids, signal.SIGCONT)


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that runs meanwhile; the test is skipped where PostgreSQL is not installed."""
    try:
        postgres.programs()
    except ServerError as error:
        pytest.skip(str(error))
    with Postgres.running() as server:
        yield server


def url_of(request: pytest.FixtureRequest, path: Path) -> str:
    """Return the URL of a database that holds nothing, of the kind that is the parameter.

    A file of SQLite at the path, or a database of the fixture `server`.
    """
    if request.param == "sqlite":
        return f"sqlite:///{path}"
    server: Postgres = request.getfixturevalue("server")
    return server.database()


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
