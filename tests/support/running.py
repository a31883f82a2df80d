"""A service that a test started as a process, and what it says while it runs."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import httpx2

__all__ = ["Running", "classify", "environment", "eventually", "output_of", "running"]

T = TypeVar("T")
_ADDRESS = re.compile(r"http://[\w.]+:\d+")


@dataclass
class Running:
    """A process with an address, and all the lines that it printed."""

    process: subprocess.Popen[str]
    lines: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        assert self.process.stdout is not None
        target, pipe = self.lines.extend, self.process.stdout
        self.reader = threading.Thread(target=target, args=[pipe], daemon=True)
        self.reader.start()

    @property
    def output(self) -> str:
        return "".join(self.lines)

    @property
    def url(self) -> str | None:
        """The first address that was printed."""
        found = _ADDRESS.search(self.output)
        return found and found.group()

    def stop(self, *, seconds: float = 20) -> int:
        """Press Ctrl-C: every process of the terminal's foreground group gets it.

        Returns:
            The exit status; negative when a signal ended it.
        """
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGINT)
        status = self.process.wait(seconds)
        self.reader.join(seconds)
        return status


@contextmanager
def running(
    command: str, *, cwd: Path, env: Mapping[str, str], seconds: float
) -> Iterator[tuple[Running, str]]:
    """Start a command, wait for the address that it prints, and end it afterwards."""
    process = subprocess.Popen(
        # a shell's background jobs ignore Ctrl-C, and so do the processes that they start
        ["env", "--default-signal=INT", *shlex.split(command)],
        cwd=cwd,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    service = Running(process)
    try:
        url = eventually(lambda: _address(service), seconds=seconds)
        assert eventually(lambda: _answers(f"{url}/readyz"), seconds=30)
        yield service, url
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait(10)
        service.reader.join(10)
        if process.stdout is not None:
            process.stdout.close()


def output_of(program: Sequence[str], *, cwd: Path, env: Mapping[str, str]) -> str:
    """Run a program to its end, which must be a good one, and give what it printed."""
    done = subprocess.run(
        program, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=900
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def eventually(look: Callable[[], T | None], *, seconds: float) -> T:
    """Look until there is something to see, at most so many seconds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if (seen := look()) is not None:
            return seen
        time.sleep(0.1)
    raise AssertionError(f"not seen within {seconds:g} seconds")


def environment(**changes: str) -> dict[str, str]:
    """This process's environment without what `make` and the service would take from it."""
    ours = ("MAKE", "MFLAGS", "FAULTCUBE_", "COMPOSE_", "PYTEST_", "VIRTUAL_ENV")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return kept | changes


def classify(url: str, body: bytes) -> list[str]:
    """Send a request body to be classified; gives the labels."""
    answer = httpx2.post(f"{url}/classify", content=body, timeout=30)
    assert answer.status_code == 200, answer.text
    return [verdict["label"] for verdict in answer.json()["results"]]


def _address(service: Running) -> str | None:
    status = service.process.poll()
    assert status is None, f"ended with status {status}:\n{service.output}"
    return service.url


def _answers(url: str) -> bool | None:
    try:
        return httpx2.get(url).is_success or None
    except httpx2.TransportError:
        return None
