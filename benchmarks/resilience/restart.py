"""A service is ended and started again: nothing that it has received is lost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat

from benchmarks.harness.load import Load, Stream, clock
from benchmarks.harness.outcome import ANSWERED, Outcome
from benchmarks.harness.report import Figure, Section, below, info, none_of, progress
from benchmarks.harness.requests import LARGE, batch, http, singles
from benchmarks.harness.server import LARGE_BODIES, start_service
from benchmarks.resilience.run import Run

_TIMES = 5
_READY_SECONDS = 3.0
_AFTER_SECONDS = 4.0
_LOOKS = 100
_TEXT = f"""\
{_TIMES} times SIGTERM while single records come on 32 connections and batches of {LARGE:,} on four,
each of which asks again as soon as it is answered. *Lost* is a request that was sent, to its last
byte, before the signal, and never answered; what a client sends later may find nobody. Then
{_TIMES} times SIGKILL, and at once a new start on the same port, without and under the same load:
seconds until `/readyz`, asked {_LOOKS} times a second, says 200."""


@dataclass(slots=True)
class _Ends:
    """What happened to requests when services got SIGTERM."""

    before: int = 0
    lost: int = 0
    later: int = 0
    later_lost: int = 0
    failed: int = 0

    def add(self, outcome: Outcome, moment: float) -> None:
        """Add a stream of requests to one service."""
        lost = outcome.lost_before(moment)
        before = sum(sent <= moment for sent in outcome.sent)
        self.before += before
        self.lost += lost
        self.later += len(outcome) - before
        self.later_lost += outcome.count(0) - lost


def measure(run: Run) -> Section:
    """End and start services."""
    return Section("Restart", _TEXT, [*_terminated(run), *_killed(run)])


def _terminated(run: Run) -> list[Figure]:
    ends = _Ends()
    for number in range(_TIMES):
        progress(f"restart: SIGTERM, {number + 1}/{_TIMES}")
        with run.service(LARGE_BODIES) as server:
            streams = _streams()
            moment = _during(server.port, streams, run, server.process.terminate)
            ends.failed += server.process.wait(20) != 0
        for stream in streams:
            ends.add(stream.outcome, moment)
    later = f"{ends.later:,}, of which {ends.later_lost:,} found nobody"
    return [
        none_of("requests lost with SIGTERM", ends.lost, ends.before),
        info("requests that were not all sent by then", later),
        none_of("ends with another status than 0", ends.failed, _TIMES),
    ]


def _killed(run: Run) -> list[Figure]:
    figures = []
    for name, load in {"idle": list[Stream], "under load": _streams}.items():
        times = []
        for number in range(_TIMES):
            progress(f"restart: SIGKILL {name}, {number + 1}/{_TIMES}")
            with ExitStack() as stack:
                times.append(_restart(run, stack, load()))
        what = f"until ready after SIGKILL, {name}"
        figures.append(info(f"{what}, median", statistics.median(times), "s"))
        figures.append(below(f"{what}, longest", max(times), _READY_SECONDS, "s"))
    return figures


def _restart(run: Run, stack: ExitStack, streams: Sequence[Stream]) -> float:
    """Return the seconds from the end of one process until the next is ready."""
    server = stack.enter_context(run.service(LARGE_BODIES))

    def replace() -> None:
        server.process.kill()
        server.process.wait()
        stack.enter_context(start_service(run.folder, LARGE_BODIES, port=server.port))

    ready = Stream(repeat(http("GET", "/readyz")), _LOOKS, _LOOKS, urgent=True)
    moment = _during(server.port, [ready, *streams], run, replace)
    looks = zip(ready.outcome.begun, ready.outcome.done, ready.outcome.status, strict=True)
    times = [done for begun, done, status in looks if begun > moment and status == ANSWERED]
    return min(times, default=math.inf) - moment


def _streams() -> list[Stream]:
    return [Stream(singles(), 32), Stream(repeat(batch(LARGE)), 4)]


def _during(port: int, streams: Sequence[Stream], run: Run, work: Callable[[], None]) -> float:
    """Call something under load; return the moment."""
    moments: list[float] = []

    def act() -> None:
        moments.append(clock())
        work()

    before = max(1.0, run.seconds / 20)
    Load(port, streams).run(before + _AFTER_SECONDS, at=(before, act))
    return moments[0]
