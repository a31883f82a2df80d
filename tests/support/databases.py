"""Databases for tests: files of SQLite, and a PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

__all__ = ["KINDS", "Postgres", "running"]

KINDS = ("sqlite", "postgresql")


class Postgres:
    """A server that listens on a socket in its folder, and syncs what it writes.

    Args:
        programs: where initdb and postgres are.
        folder: of its own, empty.
    """

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._made = 0
        # It refuses to run as root. Its parent's end is also its own.
        self._as = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        if os.geteuid() == 0:
            self._as = [*self._as, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(folder, "nobody", "nogroup")
        self._server: subprocess.Popen[bytes] | None = None
        self._run(
            *("initdb", "--pgdata", folder / "data", "--username", "faultcube", "--auth", "trust"),
            *("--encoding", "UTF8", "--locale", "C", "--no-sync"),
        )

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": "60",
            "logging_collector": "off",
        }
        options = [f"--{name}={value}" for name, value in settings.items()]
        with (self._folder / "log").open("ab") as log:
            self._server = subprocess.Popen(
                [*self._as, self._programs / "postgres", "-D", self._folder / "data", *options],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        deadline = time.monotonic() + 60
        while True:
            try:
                psycopg.connect(f"{self._conninfo} dbname=postgres", connect_timeout=2).close()
            except psycopg.OperationalError:
                assert self._server.poll() is None, (self._folder / "log").read_text()[-2000:]
                assert time.monotonic() < deadline, (self._folder / "log").read_text()[-2000:]
                time.sleep(0.05)
            else:
                return

    def stop(self) -> None:
        """Stop the server in good order, but wait for nobody."""
        if self._server is not None:
            with suppress(ProcessLookupError):
                self._server.send_signal(signal.SIGINT)
            self._server.wait(60)
            self._server = None

    def kill(self) -> None:
        """Kill the server and each process of it: it can put nothing in order."""
        if self._server is None:
            return
        parent = self._server.pid
        os.kill(parent, signal.SIGSTOP)  # it starts no others meanwhile
        children = _children(parent)
        for pid in [parent, *children]:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self._server.wait(60)
        self._server = None
        deadline = time.monotonic() + 60
        while any(_is_alive(pid) for pid in children):
            assert time.monotonic() < deadline
            time.sleep(0.01)

    @contextmanager
    def still(self) -> Iterator[None]:
        """Let the server and each process of it stand still meanwhile."""
        assert self._server is not None
        pids = [self._server.pid]
        os.kill(pids[0], signal.SIGSTOP)
        pids += _children(pids[0])
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        try:
            yield
        finally:
            for pid in pids:
                os.kill(pid, signal.SIGCONT)

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute a statement and return its rows."""
        info = f"{self._conninfo} dbname={database}"
        with psycopg.connect(info, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """Make a database and return its URL."""
        self._made += 1
        self.execute(f"CREATE DATABASE test{self._made}")
        return self.url(f"test{self._made}")

    def url(self, database: str) -> str:
        """Return the URL of a database, which need not exist."""
        return f"postgresql://faultcube:secret-word@/{database}?host={self._folder}"

    @property
    def _conninfo(self) -> str:
        return f"host={self._folder} user=faultcube"

    def _run(self, program: str, *arguments: str | Path) -> None:
        done = subprocess.run(
            [*self._as, self._programs / program, *arguments],
            cwd=self._folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        assert done.returncode == 0, done.stderr


@contextmanager
def running() -> Iterator[Postgres]:
    """A server that runs meanwhile; the test is skipped where PostgreSQL is not installed."""
    folder = Path(tempfile.mkdtemp(prefix="faultcube-pg-", dir="/tmp"))
    try:
        server = Postgres(_programs(), folder)
        try:
            server.start()
            yield server
        finally:
            server.kill()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _programs() -> Path:
    programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=_version)
    if programs:
        return programs[-1].parent
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    pytest.skip("PostgreSQL is not installed (no initdb): apt-get install postgresql")


def _version(program: Path) -> float:
    return float(program.parent.parent.name)


def _children(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii")
    return [int(child) for child in children.split()]


def _is_alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state != "Z"
