"""A PostgreSQL server of our own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Self

import psycopg

from benchmarks.harness.client import ServerError
from benchmarks.harness.process import send, tree

_PROGRAMS = Path("/usr/lib/postgresql")
_SECONDS = 60


class Postgres:
    """A server that listens on a socket in a folder of its own, and syncs what it writes."""

    def __init__(self, programs: Path, folder: Path) -> None:
        self._programs, self._folder = programs, folder
        self._databases = 0
        # It refuses to run as root. It ends when its parent does.
        self._as = ["setpriv", "--pdeathsig", "QUIT"] if shutil.which("setpriv") else []
        if os.geteuid() == 0:
            self._as = [*self._as, "--reuid=nobody", "--regid=nogroup", "--clear-groups"]
            shutil.chown(folder, "nobody", "nogroup")
        self._server: subprocess.Popen[bytes] | None = None
        words = ["--pgdata", str(folder / "data"), "--username", "faultcube", "--auth", "trust"]
        words += ["--encoding", "UTF8", "--locale", "C", "--no-sync"]
        done = subprocess.run(  # noqa: S603
            [*self._as, programs / "initdb", *words],
            cwd=folder,
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        if done.returncode:
            raise ServerError(f"initdb: {done.stderr}")

    def start(self) -> None:
        """Start the server, and wait until it answers."""
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": "60",
            "logging_collector": "off",
        }
        words = [f"--{name}={value}" for name, value in settings.items()]
        log = self._folder / "log"
        with log.open("ab") as file:
            self._server = subprocess.Popen(  # noqa: S603
                [*self._as, self._programs / "postgres", "-D", self._folder / "data", *words],
                cwd=self._folder,
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
            )
        deadline = time.monotonic() + _SECONDS
        while True:
            try:
                psycopg.connect(f"{self._conninfo} dbname=postgres", connect_timeout=2).close()
            except psycopg.OperationalError as error:
                if self._server.poll() is not None or time.monotonic() > deadline:
                    raise ServerError(f"postgres: {log.read_text()[-2000:]}") from error
                time.sleep(0.05)
            else:
                return

    @classmethod
    @contextmanager
    def running(cls) -> Iterator[Self]:
        """Run a server until the context ends."""
        folder = Path(tempfile.mkdtemp(prefix="faultcube-pg-", dir="/tmp"))
        try:
            server = cls(programs(), folder)
            try:
                server.start()
                yield server
            finally:
                server.kill()
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    @property
    def pids(self) -> list[int]:
        """All its processes, the parent first; none when it does not run."""
        return [] if self._server is None else tree(self._server.pid)

    def kill(self) -> list[int]:
        """Kill all processes of the server, so that it can tidy nothing up; return their pids."""
        if self._server is None:
            return []
        os.kill(self._server.pid, signal.SIGSTOP)  # it starts no others meanwhile
        pids = self.pids
        send(pids, signal.SIGKILL)
        self._server.wait(_SECONDS)
        self._server = None
        return pids

    def execute(self, statement: str, database: str = "postgres") -> list[tuple[object, ...]]:
        """Execute a statement and return its rows."""
        info = f"{self._conninfo} dbname={database}"
        with psycopg.connect(info, autocommit=True) as connection:
            cursor = connection.execute(statement.encode())
            return cursor.fetchall() if cursor.description else []

    def database(self) -> str:
        """Make a database and return its URL."""
        self._databases += 1
        self.execute(f"CREATE DATABASE test{self._databases}")
        return self.url(f"test{self._databases}")

    def url(self, database: str) -> str:
        """Return the URL of a database, whether it exists or not."""
        return f"postgresql://faultcube:secret-word@/{database}?host={self._folder}"

    @property
    def _conninfo(self) -> str:
        return f"host={self._folder} user=faultcube"


def programs() -> Path:
    """Find the folder of initdb and postgres; raise ServerError if they are not installed."""
    folders = _PROGRAMS.glob("*/bin/initdb")
    if newest := max(folders, key=lambda path: float(path.parent.parent.name), default=None):
        return newest.parent
    if program := shutil.which("initdb"):
        return Path(program).resolve().parent
    raise ServerError("PostgreSQL is not installed (no initdb): apt-get install postgresql")
