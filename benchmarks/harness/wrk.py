"""A load generator in C: wrk on a core of its own, posting one body over and over."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from benchmarks.harness.client import ServerError
from benchmarks.harness.process import LOAD_CORE, cpu_seconds, pss
from benchmarks.harness.server import Server

_SCRIPT = Path(__file__).with_name("post.lua")
_TIMEOUT_SECONDS = 60


class WrkError(ServerError):
    """wrk did not run to its end; the message is what it printed."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk measured.

    Attributes:
        requests: answers that came while it ran, refusals included.
        p50, p99: milliseconds from request to answer.
        errors: answers that were not 2xx, and connections that failed or timed out.
    """

    requests: int
    seconds: float
    p50: float
    p99: float
    errors: int

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds

    def answered(self) -> Load:
        """Return this, or raise WrkError if some requests got no answer that is 2xx."""
        if self.errors:
            raise WrkError(f"{self.errors} of {self.requests} requests got no answer that is 2xx")
        return self


def parse(text: str) -> Load:
    """Parse the line that the script prints; raise WrkError if it is missing."""
    lines = [line for line in text.splitlines() if line.startswith("RESULT ")]
    if not lines:
        raise WrkError(f"wrk said: {text.strip()[:200] or 'nothing'}")
    result = json.loads(lines[-1].removeprefix("RESULT "))
    errors = sum(result[kind] for kind in ("refused", "connect", "read", "write", "timeout"))
    return Load(
        requests=result["requests"],
        seconds=result["microseconds"] / 1e6,
        p50=result["p50"] / 1e3,
        p99=result["p99"] / 1e3,
        errors=errors,
    )


def command(
    url: str, body: Path, headers: Mapping[str, str], *, connections: int, seconds: float
) -> list[str]:
    """Return the command: one thread, on the load's core."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--latency"]
    wrk += ["--timeout", f"{_TIMEOUT_SECONDS}s", "-s", str(_SCRIPT), url, "--", str(body)]
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return ["taskset", "-c", str(LOAD_CORE), *wrk, *lines]


def run(
    url: str, body: Path, headers: Mapping[str, str], *, connections: int, seconds: float
) -> Load:
    """Post the body in a file to a URL for some whole seconds; raise WrkError if that fails."""
    if shutil.which("wrk") is None:
        raise WrkError("wrk is not installed: apt-get install wrk")
    words = command(url, body, headers, connections=connections, seconds=seconds)
    limit = math.ceil(seconds) + _TIMEOUT_SECONDS
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise WrkError(f"wrk did not end within {limit} s") from error
    return parse(done.stdout + done.stderr)


def measure(
    server: Server,
    path: str,
    body: Path,
    headers: Mapping[str, str],
    *,
    connections: int,
    warm_up: float,
    seconds: Callable[[float], float],
) -> tuple[Load, float, int]:
    """Resume a server, post the body in a file after a warm-up, and pause the server again.

    How long to measure depends on the requests a second of the warm-up.

    Returns:
        What wrk measured, and of all processes of the server CPU seconds and bytes of memory.
    """
    url = f"http://127.0.0.1:{server.port}{path}"
    server.resume()
    try:
        warm = run(url, body, headers, connections=connections, seconds=warm_up)
        server.settle()
        pids = server.pids
        before = cpu_seconds(pids)
        load = run(url, body, headers, connections=connections, seconds=seconds(warm.rate))
        return load, cpu_seconds(pids) - before, pss(server.pids)
    finally:
        server.pause()
