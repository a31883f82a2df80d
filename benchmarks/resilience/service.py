"""A service process on a core of its own, and its memory."""

from __future__ import annotations

import http.client
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path

from benchmarks.harness.load import clock
from benchmarks.harness.process import rss
from benchmarks.harness.server import SERVER_CORE, Running, ServerError, free_port
from benchmarks.serving.contestants import OURS, SERVERS
from benchmarks.serving.environments import ROOT

ROOMY: Mapping[str, str] = {"max_body_bytes": str(64 << 20)}
"""Settings for batches of 10,000 of these records, which are longer than 16 MiB of JSON."""

_START_SECONDS = 60.0


def serve(
    scratch: Path,
    settings: Mapping[str, str],
    *,
    bundle: Path | None = None,
    port: int | None = None,
) -> Running:
    """Start a service that is ended with its context; it need not be ready yet.

    Args:
        scratch: an existing folder for its log.
        settings: of the service, by name; the others have their defaults.
        bundle: to serve, or a folder of them; the one that ships if None.
        port: to listen on; any free one if None.
    """
    port = port or free_port()
    script = str(Path(sys.executable).with_name("faultcube"))
    words = [script, "serve", *([str(bundle)] if bundle else []), "--port", str(port)]
    kept = {name: text for name, text in os.environ.items() if not name.startswith("FAULTCUBE_")}
    ours = {f"FAULTCUBE_{name.upper()}": text for name, text in settings.items()}
    taskset = shutil.which("taskset") or "/usr/bin/taskset"
    log = scratch / "log.txt"
    with log.open("ab") as file:
        process = subprocess.Popen(  # noqa: S603
            [taskset, "-c", str(SERVER_CORE), *words],
            cwd=scratch,
            env={**kept, **ours, "PYTHONPATH": str(ROOT), "ORT_DISABLE_TELEMETRY": "1"},
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    return Running(SERVERS[OURS], port, process, log)


def wait_until_ready(running: Running) -> float:
    """Wait until it serves a bundle.

    Returns:
        Seconds that this took.

    Raises:
        ServerError: it ended, or takes too long.
    """
    begin = clock()
    while clock() - begin < _START_SECONDS:
        if running.process.poll() is not None:
            raise ServerError(f"it ended: {running.last_words()}")
        with suppress(OSError, http.client.HTTPException):
            if ask(running.port, "GET", "/readyz")[0] == 200:
                return clock() - begin
        time.sleep(0.005)
    raise ServerError(f"not ready after {_START_SECONDS:g} s: {running.last_words()}")


def ask(
    port: int, method: str, path: str, headers: dict[str, str] | None = None
) -> tuple[int, bytes]:
    """Ask once, without a body; gives status and answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path, headers=headers or {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def reset_peak(running: Running) -> int:
    """Begin to measure the peak of its memory anew.

    Returns:
        Bytes of its resident memory now.
    """
    (Path("/proc") / str(running.process.pid) / "clear_refs").write_text("5", encoding="ascii")
    return rss(running.process.pid)


def peak(running: Running) -> int:
    """Bytes of resident memory that it has had at most since `reset_peak`."""
    text = (Path("/proc") / str(running.process.pid) / "status").read_text(encoding="utf-8")
    return int(text.partition("VmHWM:")[2].split()[0]) << 10


def open_files_of(running: Running) -> int:
    """How many files it has open, connections among them."""
    return len(os.listdir(f"/proc/{running.process.pid}/fd"))  # noqa: PTH208 - they come and go


def growth(running: Running, before: int) -> float:
    """MiB that its memory grew at most since `reset_peak` gave so many bytes."""
    return max(0, peak(running) - before) / 2**20
