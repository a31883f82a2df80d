"""Server processes: started on a core of their own, asked whether they are right, paused, ended."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

from benchmarks.harness.process import adopt_orphans, born, kill, send, tree
from benchmarks.harness.wires import Answer
from benchmarks.serving.contestants import OURS, Server
from benchmarks.serving.environments import ROOT, python_of

SERVER_CORE = 0
_START_SECONDS, _STOP_SECONDS, _ANSWER_SECONDS = 120, 10, 60
_MOST_BODY_BYTES = 64 << 20
"""Ours refuses more than 16 MiB unless told so; 10,000 records of 46 fields are 17 MB of JSON."""

_QUIET = {
    "BENTOML_DO_NOT_TRACK": "True",
    "DO_NOT_TRACK": "1",
    "ORT_DISABLE_TELEMETRY": "1",
    "RAY_USAGE_STATS_ENABLED": "0",
}
"""Nothing leaves the machine."""


class ServerError(RuntimeError):
    """A server did not start, or does not answer as it must; the message says why."""


def free_port() -> int:
    """A port on loopback that nothing listens on now."""
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


@dataclass(slots=True)
class Running:
    """A server that runs, on the servers' core; a context that ends it and all it started."""

    server: Server
    port: int
    process: subprocess.Popen[bytes]
    log: Path

    @classmethod
    def start(cls, server: Server, scratch: Path) -> Running:
        """Start a server and wait until it is ready.

        Args:
            server: which.
            scratch: an existing folder for its log and whatever it writes.

        Raises:
            InstallError: it cannot be installed.
            ServerError: it cannot be started.
        """
        port = free_port()
        words = ["taskset", "-c", str(SERVER_CORE), *_command(server, port, scratch)]
        log = scratch / "log.txt"
        with log.open("wb") as file:
            process = subprocess.Popen(  # noqa: S603
                words,
                cwd=scratch,
                env=_environment(scratch),
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=adopt_orphans,  # noqa: PLW1509 - this program has one thread
            )
        running = cls(server, port, process, log)
        try:
            running._wait()
        except BaseException:
            running.stop()
            raise
        return running

    def _wait(self) -> None:
        deadline = time.monotonic() + _START_SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise ServerError(f"it ended with {self.process.returncode}: {self.last_words()}")
            if _answers(self.port, self.server.ready):
                return
            time.sleep(0.2)
        raise ServerError(f"not ready after {_START_SECONDS} s: {self.last_words()}")

    def last_words(self) -> str:
        """The last line of its log."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").split("\n")
        return next((line.strip()[:200] for line in reversed(lines) if line.strip()), "no words")

    @property
    def pids(self) -> list[int]:
        """Its processes, the first one first."""
        return tree(self.process.pid)

    def pause(self) -> None:
        """Stop it from taking any CPU time."""
        send(self.pids, signal.SIGSTOP)

    def resume(self) -> None:
        """Let it go on."""
        send(reversed(self.pids), signal.SIGCONT)

    def stop(self) -> None:
        """End it."""
        started = born(self.pids)
        self.resume()
        self.process.terminate()
        try:
            self.process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            started |= born(self.pids)
        kill(started)
        self.process.wait(_STOP_SECONDS)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


def _command(server: Server, port: int, scratch: Path) -> list[str]:
    if server.name == OURS:
        script = Path(sys.executable).with_name("faultcube")
        return [str(script), "serve", "--host", "127.0.0.1", "--port", str(port)]
    python = python_of(server.name) if server.own else Path(sys.executable)
    module = f"benchmarks.serving.peers.{server.name}"
    return [str(python), "-m", module, str(port), str(free_port()), str(scratch)]


def _environment(scratch: Path) -> dict[str, str]:
    """Ours, without settings of the service's, so that it runs with its defaults."""
    kept = {name: text for name, text in os.environ.items() if not name.startswith("FAULTCUBE_")}
    ours = {
        "FAULTCUBE_MAX_BODY_BYTES": str(_MOST_BODY_BYTES),
        "PYTHONPATH": str(ROOT),
        "BENTOML_HOME": str(scratch),
        "TMPDIR": str(scratch),
    }
    return {**kept, **_QUIET, **ours}


def _answers(port: int, path: str) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=2)
    try:
        connection.request("GET", path)
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def post(port: int, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
    """Ask once.

    Raises:
        ServerError: there is no answer, or it is not 200.
    """
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ANSWER_SECONDS)
    try:
        connection.request("POST", path, body, dict(headers))
        response = connection.getresponse()
        content = response.read()
    except (OSError, http.client.HTTPException) as error:
        raise ServerError(f"no answer: {error or type(error).__name__}") from error
    finally:
        connection.close()
    if response.status != 200:
        raise ServerError(f"answers {response.status} {response.reason}: {_said(content)}")
    return Answer({name.lower(): text for name, text in response.getheaders()}, content)


def _said(content: bytes) -> str:
    """What an answer says of its error, in short."""
    text = content.decode(errors="replace").strip()
    with contextlib.suppress(ValueError, LookupError, TypeError):
        text = str(json.loads(text)["detail"])
    return text[:150]
