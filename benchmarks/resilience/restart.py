"""The end of a service and its return: nothing that it has received is lost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import repeat

from benchmarks.harness.load import Load, Stream, clock
from benchmarks.harness.outcome import ANSWERED, Outcome
from benchmarks.harness.report import Figure, Section, below, none_of, told
from benchmarks.harness.requests import LARGE, batch, http, singles
from benchmarks.resilience.service import ROOMY, serve
from benchmarks.resilience.stage import Stage
from benchmarks.serving.rounds import say

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
    """What happened to requests when services were told to end."""

    before: int = 0
    lost: int = 0
    later: int = 0
    later_lost: int = 0
    failed: int = 0

    def add(self, outcome: Outcome, moment: float) -> None:
        """Add a stream of one of them."""
        lost = outcome.lost_before(moment)
        before = sum(sent <= moment for sent in outcome.sent)
        self.before += before
        self.lost += lost
        self.later += len(outcome) - before
        self.later_lost += outcome.count(0) - lost


def measure(stage: Stage) -> Section:
    """End and start services."""
    return Section("Restart", _TEXT, [*_told_to_end(stage), *_killed(stage)])


def _told_to_end(stage: Stage) -> list[Figure]:
    ends = _Ends()
    for number in range(_TIMES):
        say(f"restart: SIGTERM, {number + 1}/{_TIMES}")
        with stage.service(ROOMY) as running:
            streams = _streams()
            moment = _during(running.port, streams, stage, running.process.terminate)
            ends.failed += running.process.wait(20) != 0
        for stream in streams:
            ends.add(stream.outcome, moment)
    later = f"{ends.later:,}, of which {ends.later_lost:,} found nobody"
    return [
        none_of("requests lost with SIGTERM", ends.lost, ends.before),
        told("requests that were not all sent by then", later),
        none_of("ends with another status than 0", ends.failed, _TIMES),
    ]


def _killed(stage: Stage) -> list[Figure]:
    figures = []
    for name, load in {"idle": list[Stream], "under load": _streams}.items():
        times = []
        for number in range(_TIMES):
            say(f"restart: SIGKILL {name}, {number + 1}/{_TIMES}")
            with ExitStack() as stack:
                times.append(_restart(stage, stack, load()))
        what = f"until ready after SIGKILL, {name}"
        figures.append(told(f"{what}, median", statistics.median(times), "s"))
        figures.append(below(f"{what}, longest", max(times), _READY_SECONDS, "s"))
    return figures


def _restart(stage: Stage, stack: ExitStack, streams: Sequence[Stream]) -> float:
    """Seconds from one process to the next that is ready."""
    running = stack.enter_context(stage.service(ROOMY))

    def replace() -> None:
        running.process.kill()
        running.process.wait()
        stack.enter_context(serve(stage.folder, ROOMY, port=running.port))

    ready = Stream(repeat(http("GET", "/readyz")), _LOOKS, _LOOKS, urgent=True)
    moment = _during(running.port, [ready, *streams], stage, replace)
    looks = zip(ready.outcome.begun, ready.outcome.done, ready.outcome.status, strict=True)
    found = [done for begun, done, status in looks if begun > moment and status == ANSWERED]
    return min(found, default=math.inf) - moment


def _streams() -> list[Stream]:
    return [Stream(singles(), 32), Stream(repeat(batch(LARGE)), 4)]


def _during(port: int, streams: Sequence[Stream], stage: Stage, work: Callable[[], None]) -> float:
    """Do something under load; gives the moment."""
    moments: list[float] = []

    def act() -> None:
        moments.append(clock())
        work()

    before = max(1.0, stage.seconds / 20)
    Load(port, streams).run(before + _AFTER_SECONDS, at=(before, act))
    return moments[0]
