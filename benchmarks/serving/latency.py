"""How long small requests wait while large batches saturate the service.

Probes go out 50 times a second whether or not earlier ones were answered, each on a connection of
its own, and a probe's time counts from the moment it was due.
"""

from __future__ import annotations

import asyncio
import math
import signal
import statistics
import subprocess
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import wrk
from benchmarks.harness.process import settle
from benchmarks.harness.records import Batch
from benchmarks.harness.server import Running
from benchmarks.harness.wires import ROWS
from benchmarks.serving.contestants import OURS, SERVERS
from benchmarks.serving.rounds import Pace, say

BATCH, _LOOPS = 10_000, 2
_PROBES_A_SECOND, _TIMEOUT_SECONDS = 50, 10.0
_TIMES = 3
"""A window of probes is this many times as long as one of requests."""


@dataclass(slots=True)
class Waits:
    """Of one kind of probe.

    Attributes:
        probe: what was asked.
        idle: p99 in ms of each round without batches.
        loaded: the same with batches.
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
        """Idle and loaded, over rounds."""
        return statistics.median(self.idle), statistics.median(self.loaded)

    def add(self, times: list[float], target: list[float]) -> None:
        """Add a round of probes to `idle` or `loaded`."""
        target.append(quantile(times, 0.99))
        self.failed += sum(time >= 1e3 * _TIMEOUT_SECONDS for time in times)


def measure(batches: Mapping[int, Batch], pace: Pace, scratch: Path) -> list[Waits]:
    """Probe a service of its own.

    Args:
        batches: of 1 and of 10,000 records.
        pace: rounds and their length.
        scratch: an existing folder.

    Raises:
        ServerError: it cannot be started.
        WrkError: the batches cannot be sent.
    """
    single, _ = ROWS.encode(batches[1])
    large = scratch / "large"
    large.write_bytes(ROWS.encode(batches[BATCH])[0])
    probes = {
        "GET /livez": _request("GET", "/livez", b""),
        "POST /classify, 1 record": _request("POST", "/classify", single),
    }
    found = [Waits(name) for name in probes]
    seconds = _TIMES * pace.seconds
    with Running.start(SERVERS[OURS], scratch) as running:
        for number in range(pace.rounds):
            for waits in found:
                say(f"latency, round {number + 1}/{pace.rounds}, {waits.probe}")
                settle(running.process.pid)
                _round(waits, running.port, probes[waits.probe], large, seconds)
    return found


def _round(waits: Waits, port: int, request: bytes, large: Path, seconds: float) -> None:
    """Probe without and with batches."""
    waits.add(asyncio.run(_probe(port, request, seconds)), waits.idle)
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
            waits.add(asyncio.run(_probe(port, request, seconds)), waits.loaded)
        finally:
            process.send_signal(signal.SIGINT)
        said, _ = process.communicate()
    load = wrk.parse(said)
    waits.batches.append(load.rate)
    waits.refused += load.errors


def quantile(values: list[float], share: float) -> float:
    """The smallest value that at least this share of them do not exceed."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)]


def _request(method: str, path: str, body: bytes) -> bytes:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", "Connection: close"]
    if body:
        lines += ["Content-Type: application/json", f"Content-Length: {len(body)}"]
    return "\r\n".join([*lines, "", ""]).encode() + body


async def _probe(port: int, request: bytes, seconds: float) -> list[float]:
    """Milliseconds of every probe, failed ones at the time-out."""
    loop = asyncio.get_running_loop()
    begin, tasks = loop.time(), []
    for i in range(int(seconds * _PROBES_A_SECOND)):
        due = begin + i / _PROBES_A_SECOND
        await asyncio.sleep(max(0.0, due - loop.time()))
        tasks.append(asyncio.create_task(_one(port, request, due)))
    return list(await asyncio.gather(*tasks))


async def _one(port: int, request: bytes, due: float) -> float:
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(_TIMEOUT_SECONDS):
            answer = await _ask(port, request)
    except (OSError, TimeoutError):
        answer = b""
    if not answer.startswith(b"HTTP/1.1 200"):
        return 1e3 * _TIMEOUT_SECONDS
    return 1e3 * (loop.time() - due)


async def _ask(port: int, request: bytes) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(request)
        return await reader.read()
    finally:
        writer.close()
