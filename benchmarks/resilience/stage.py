"""What every scenario stands on: a service that runs, and the usual streams."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.process import settle
from benchmarks.harness.requests import LIVEZ_ANEW, singles
from benchmarks.harness.server import Running
from benchmarks.resilience.service import serve, wait_until_ready

DELAY_MS = 50.0
"""By how much others may delay a small request, at p99."""
_PROBES = 50
_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Stage:
    """Where a scenario runs.

    Attributes:
        folder: of its own.
        seconds: how long the longest of its measurements takes.
    """

    folder: Path
    seconds: float

    @contextmanager
    def service(
        self, settings: Mapping[str, str] | None = None, bundle: Path | None = None
    ) -> Iterator[Running]:
        """Start a service, warm it up, and end it afterwards."""
        with serve(self.folder, settings or {}, bundle=bundle) as running:
            wait_until_ready(running)
            Load(running.port, [Stream(singles())]).run(_WARM_UP_SECONDS)
            settle(running.process.pid)
            yield running


def closed_loop(
    running: Running, requests: Iterator[bytes], *, connections: int, seconds: float
) -> Outcome:
    """Ask on so many connections, on each as soon as it was answered."""
    settle(running.process.pid)
    stream = Stream(requests, connections)
    Load(running.port, [stream]).run(seconds)
    return stream.outcome


def probe() -> Stream:
    """Single records at a steady rate that is nothing to the service."""
    return Stream(singles(), 2 * _PROBES, _PROBES, urgent=True)


def livez() -> Stream:
    """Looks at whether the process lives, likewise, each on a connection of its own."""
    return Stream(repeat(LIVEZ_ANEW), 2 * _PROBES, _PROBES, urgent=True)
