"""Commands whose workers, and which themselves, are killed; by every engine that is installed."""

from __future__ import annotations

import importlib.util
import os
import secrets
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.running import environment, eventually

__all__ = ["ENGINES", "ROOT", "Run", "content", "interrupted_and_run_again"]

ROOT = Path(__file__).parents[2]
_PROGRAM = Path(sys.executable).parent / "faultcube"
_MARK = "WORKERS_TEST_MARK"
_WORKERS = {"local": b"spawn_main", "ray": b"ray::_do", "spark": b"pyspark.daemon"}
_LIBRARIES = {"local": "os", "ray": "ray", "spark": "pyspark"}
ENGINES = [
    pytest.param(
        name,
        marks=pytest.mark.skipif(
            importlib.util.find_spec(library) is None, reason=f"{library} is not installed"
        ),
    )
    for name, library in _LIBRARIES.items()
]


class Run:
    """A command with two workers, and all processes that came of it."""

    def __init__(self, engine: str, out: Path, *command: str | Path) -> None:
        self.mark, self.engine, self.out = secrets.token_hex(8), engine, out
        self.process = subprocess.Popen(
            [_PROGRAM, *command, "--out", out, "--engine", engine, "--jobs", "2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            cwd=ROOT,
            env=environment(**{_MARK: self.mark}),
        )

    def wait_for_a_part(self) -> None:
        eventually(lambda: [*self.out.rglob("[!.]*.parquet")] or None, seconds=300)

    def kill_a_worker(self) -> None:
        def kill() -> bool | None:
            for pid in self._pids():
                if _WORKERS[self.engine] in _read(pid, "cmdline"):
                    os.kill(pid, signal.SIGKILL)
                    return True
            return None

        eventually(kill, seconds=300)

    def ended(self) -> str:
        said, _ = self.process.communicate(timeout=600)
        assert self.process.returncode == 0, said
        return said

    def end(self) -> None:
        with self.process:
            self.process.kill()
        for pid in self._pids():
            os.kill(pid, signal.SIGKILL)

    def _pids(self) -> list[int]:
        wanted = f"{_MARK}={self.mark}".encode()
        pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
        return [pid for pid in pids if wanted in _read(pid, "environ")]


def _read(pid: int, name: str) -> bytes:
    try:
        return Path(f"/proc/{pid}/{name}").read_bytes()
    except OSError:  # it has ended
        return b""


def interrupted_and_run_again(engine: str, out: Path, *command: str | Path) -> str:
    """Kill a command at its first part, and a worker of the next; return what that one says."""
    first = Run(engine, out, *command)
    try:
        first.wait_for_a_part()
        first.process.kill()
    finally:
        first.end()
    second = Run(engine, out, *command)
    try:
        second.kill_a_worker()
        return second.ended()
    finally:
        second.end()


def content(out: Path) -> dict[str, bytes]:
    """Return all files of a folder, by path."""
    return {str(p.relative_to(out)): p.read_bytes() for p in out.rglob("*") if p.is_file()}
