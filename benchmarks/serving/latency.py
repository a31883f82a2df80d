"""How long small requests wait while large batches saturate the service.

Probes go out 50 times a second whether or not earlier ones were answered, each on a connection of
its own, and a probe's time counts from the moment it was due.
"""

from __future__ import annotations

import math
import signal
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from itertools import repeat
from pathlib import Path

from benchmarks.harness import wrk
from benchmarks.harness.load import Load, Stream
from benchmarks.harness.records import Batch
from benchmarks.harness.report import progress
from benchmarks.harness.requests import LIVEZ_ANEW, http
from benchmarks.harness.server import LARGE_BODIES, running_service
from benchmarks.harness.wires import ROWS
from benchmarks.serving.rounds import Pace

BATCH, _LOOPS = 10_000, 2
_PROBES_A_SECOND, _TIMEOUT_SECONDS = 50, 10.0
_TIMES = 3
"""A window of probes is this many times as long as one of requests."""


@dataclass(slots=True)
class Waits:
    """The waits of one kind of probe.

    Attributes:
        idle, loaded: p99 in ms of each round, without and with batches.
        failed: probes that were not answered with 200 in time; they count as the time-out.
        batches: answered in a second, of each round.
        refused: batches that were not answered with 2xx.
    """

    probe: str
    idle: list[float] = field(default_factory=list)
    loaded: list[float] = field(default_factory=list)
    failed: int = 0
    batches: list[float] = field(default_factory=list)
    refused: int = 0

    def median(self) -> tuple[float, float]:
        """Return the medians over rounds, idle and loaded."""
        return statistics.median(self.idle), statistics.median(self.loaded)

    def add(self, times: list[float], target: list[float]) -> None:
        """Add a round of probes to `idle` or `loaded`."""
        target.append(quantile(times, 0.99))
        self.failed += sum(time >= 1e3 * _TIMEOUT_SECONDS for time in times)


def measure(batches: Mapping[int, Batch], pace: Pace, folder: Path) -> list[Waits]:
    """Probe a service of its own, beside no batches and beside batches of 10,000 records."""
    single, _ = ROWS.encode(batches[1])
    large = folder / "large"
    large.write_bytes(ROWS.encode(batches[BATCH])[0])
    probes = {
        "GET /livez": LIVEZ_ANEW,
        "POST /classify, 1 record": http("POST", "/classify", single, {"Connection": "close"}),
    }
    results = [Waits(name) for name in probes]
    seconds = _TIMES * pace.seconds
    with running_service(folder, LARGE_BODIES) as server:
        for number in range(pace.rounds):
            for waits in results:
                progress(f"latency, round {number + 1}/{pace.rounds}, {waits.probe}")
                server.settle()
                _round(waits, server.port, probes[waits.probe], large, seconds)
    return results


def _round(waits: Waits, port: int, request: bytes, large: Path, seconds: float) -> None:
    """Probe without and with batches."""
    waits.add(_probe(port, request, seconds), waits.idle)
    words = wrk.command(
        f"http://127.0.0.1:{port}/classify",
        large,
        ROWS.headers,
        connections=_LOOPS,
        seconds=seconds + 60,
    )
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as process:  # noqa: S603
        try:
            time.sleep(1)
            waits.add(_probe(port, request, seconds), waits.loaded)
        finally:
            process.send_signal(signal.SIGINT)
        output, _ = process.communicate()
    load = wrk.parse(output)
    waits.batches.append(load.rate)
    waits.refused += load.errors


def _probe(port: int, request: bytes, seconds: float) -> list[float]:
    """Return milliseconds of every probe, failed ones at the time-out."""
    # So many connections that one is free whenever a probe is due.
    connections = int(_PROBES_A_SECOND * (seconds + _TIMEOUT_SECONDS))
    stream = Stream(repeat(request), connections, _PROBES_A_SECOND, urgent=True, from_due=True)
    Load(port, [stream]).run(seconds, drain=_TIMEOUT_SECONDS)
    outcome, limit = stream.outcome, 1e3 * _TIMEOUT_SECONDS
    answered = [min(wait, limit) for wait in outcome.waits().tolist()]
    return [*answered, *[limit] * outcome.failed]


def quantile(values: list[float], share: float) -> float:
    """Return the smallest value that at least this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]
