"""Server processes on a core of their own: started, waited for, paused, ended."""

from __future__ import annotations

import http.client
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from benchmarks.harness import process as processes
from benchmarks.harness.client import Client, ServerError
from benchmarks.harness.records import ROOT

LARGE_BODIES: Mapping[str, str] = {"max_body_bytes": str(64 << 20)}
"""Settings for batches of 10,000 records of 46 fields: 17 MB of JSON, the default is 16 MiB."""

_START_SECONDS, _STOP_SECONDS = 120, 10


def free_port() -> int:
    """Return a port on loopback that nothing listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@dataclass(slots=True)
class Server:
    """A server process on the servers' core; a context that ends it and all that it started."""

    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(
        cls,
        command: Sequence[str],
        port: int,
        folder: Path,
        environment: Mapping[str, str],
        *,
        adopts_orphans: bool = False,
    ) -> Server:
        """Start a server in a folder, with its log there; it need not be ready yet.

        Args:
            command: to run.
            port: that the command makes it listen on.
            folder: an existing one.
            environment: added to this process's own, which loses settings of the service.
            adopts_orphans: whether it becomes the parent of all that its children leave behind;
                only for a program with a single thread.
        """
        log = folder / "log.txt"
        own = {name: text for name, text in os.environ.items() if not name.startswith("FAULTCUBE_")}
        quiet = {"PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"}
        taskset = shutil.which("taskset") or "/usr/bin/taskset"
        with log.open("ab") as file:
            process = subprocess.Popen(  # noqa: S603
                [taskset, "-c", str(processes.SERVER_CORE), *command],
                cwd=folder,
                env={**own, **quiet, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=processes.adopt_orphans if adopts_orphans else None,  # noqa: PLW1509
            )
        return cls(port, process, log)

    def wait_until_ready(self, path: str = "/readyz") -> None:
        """Wait until a path answers 200; raise ServerError if the server ends or takes too long."""
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"it ended with {self.process.returncode}: {self.last_line()}")
            with suppress(OSError, http.client.HTTPException), Client(self.port) as client:
                if client.ask("GET", path).status == 200:
                    return
            time.sleep(0.02)
        raise ServerError(f"not ready after {_START_SECONDS} s: {self.last_line()}")

    def last_line(self) -> str:
        """Return the last line of the log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no words")

    @property
    def pid(self) -> int:
        """Of the first process."""
        return self.process.pid

    @property
    def pids(self) -> list[int]:
        """Of all processes, the first one first."""
        return processes.tree(self.pid)

    def settle(self) -> None:
        """Wait until the server is at rest."""
        processes.settle(self.pid)

    def pause(self) -> None:
        """Keep the server from taking any CPU time."""
        processes.send(self.pids, signal.SIGSTOP)

    def resume(self) -> None:
        """Let the server go on."""
        processes.send(reversed(self.pids), signal.SIGCONT)

    def stop(self) -> None:
        """End the server and all that it started."""
        started = processes.start_times(self.pids)
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started |= processes.start_times(self.pids)
        processes.kill(started)
        self.process.wait(_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def start_service(
    folder: Path,
    settings: Mapping[str, str],
    *,
    bundle: Path | None = None,
    port: int | None = None,
) -> Server:
    """Start `faultcube serve`, by default of the shipped bundle and on any free port.

    Settings are by name, without their prefix; the others have their defaults.
    """
    port = port or free_port()
    script = str(Path(sys.executable).with_name("faultcube"))
    command = [script, "serve", *([str(bundle)] if bundle else []), "--port", str(port)]
    named = {f"FAULTCUBE_{name.upper()}": text for name, text in settings.items()}
    return Server.start(command, port, folder, named)


@contextmanager
def running_service(
    folder: Path, settings: Mapping[str, str], bundle: Path | None = None
) -> Iterator[Server]:
    """Run `faultcube serve`, ready, until the context ends."""
    with start_service(folder, settings, bundle=bundle) as server:
        server.wait_until_ready()
        yield server


@contextmanager
def running_program(
    program: str, folder: Path, environment: Mapping[str, str] | None = None
) -> Iterator[Server]:
    """Run `serve` of a Python program that ends in the command line, ready, until the context ends.

    It is paused until it is measured, and keeps its state in its folder.
    """
    folder.mkdir()
    port = free_port()
    words = [sys.executable, "-c", program, "serve", "--port", str(port)]
    own = {"XDG_STATE_HOME": str(folder), **(environment or {})}
    with Server.start(words, port, folder, own) as server:
        server.wait_until_ready()
        server.settle()
        server.pause()
        yield server
