"""What every scenario needs: a service that runs, and the usual probes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import repeat
from pathlib import Path

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.requests import LIVEZ_ANEW, singles
from benchmarks.harness.server import Server, running_service

DELAY_MS = 50.0
"""By how much others may delay a small request, at p99."""
_PROBES, _WAITING_SECONDS = 50, 10
"""Probes a second, and how long each may wait before there is no connection for the next."""
_WARM_UP_SECONDS = 1.0


@dataclass(frozen=True, slots=True)
class Run:
    """A run of a scenario: a folder of its own, and the seconds of its longest measurement."""

    folder: Path
    seconds: float

    @contextmanager
    def service(
        self, settings: Mapping[str, str] | None = None, bundle: Path | None = None
    ) -> Iterator[Server]:
        """Run a service, warmed up, until the context ends."""
        with running_service(self.folder, settings or {}, bundle) as server:
            Load(server.port, [Stream(singles())]).run(_WARM_UP_SECONDS)
            server.settle()
            yield server


def probe() -> Stream:
    """Return single records at a steady rate that is nothing to the service."""
    connections = _WAITING_SECONDS * _PROBES
    return Stream(singles(), connections, _PROBES, urgent=True, from_due=True)


def livez() -> Stream:
    """Return requests for /livez at that rate, each on a connection of its own."""
    connections = _WAITING_SECONDS * _PROBES
    return Stream(repeat(LIVEZ_ANEW), connections, _PROBES, urgent=True, from_due=True)
