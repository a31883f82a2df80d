"""The load generator: wrk on a core of its own, posting one body over and over."""

from __future__ import annotations

import json
import math
import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

LOAD_CORE = 1
_SCRIPT = Path(__file__).with_name("post.lua")
_TIMEOUT_SECONDS = 60


class WrkError(RuntimeError):
    """wrk did not run to its end; the message says what it said."""


@dataclass(frozen=True, slots=True)
class Load:
    """What wrk saw.

    Attributes:
        requests: answers that came while it ran, the refused ones included.
        seconds: how long it ran.
        p50, p99: of the time from request to answer, in ms.
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


def parse(text: str) -> Load:
    """Read the line that the script wrote.

    Raises:
        WrkError: it is not there.
    """
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
    """The command line: one thread, on the load's core."""
    wrk = ["wrk", "-t1", f"-c{connections}", f"-d{math.ceil(seconds)}s", "--latency"]
    wrk += ["--timeout", f"{_TIMEOUT_SECONDS}s", "-s", str(_SCRIPT), url, "--", str(body)]
    lines = [f"{name}: {value}" for name, value in headers.items()]
    return ["taskset", "-c", str(LOAD_CORE), *wrk, *lines]


def run(
    url: str, body: Path, headers: Mapping[str, str], *, connections: int, seconds: float
) -> Load:
    """Load a URL.

    Args:
        url: where to post.
        body: file with the request's body.
        headers: of the request.
        connections: each of which waits for its answer before it sends again.
        seconds: how long; whole seconds, rounded up.

    Raises:
        WrkError: wrk is not installed, or failed.
    """
    if shutil.which("wrk") is None:
        raise WrkError("wrk is not installed: apt-get install wrk")
    words = command(url, body, headers, connections=connections, seconds=seconds)
    limit = math.ceil(seconds) + _TIMEOUT_SECONDS
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=limit, check=False)  # noqa: S603
    except subprocess.TimeoutExpired as error:
        raise WrkError(f"wrk did not end within {limit} s") from error
    return parse(done.stdout + done.stderr)
