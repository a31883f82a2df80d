"""Bodies that cost their sender little: what they cost the service."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.load import Load, Stream, clock
from benchmarks.harness.process import settle
from benchmarks.harness.report import Figure, Section, below, none_of
from benchmarks.harness.server import Running
from benchmarks.resilience.bodies import Case, cases
from benchmarks.resilience.service import growth, reset_peak
from benchmarks.resilience.stage import Stage, livez
from benchmarks.serving.rounds import say

_TIMES = 3
_ANSWER_BYTES = 8_000
_ANSWER_MS, _LIVEZ_MS, _MEMORY_MIB = 1000.0, 100.0, 128.0
_LONG_SECONDS, _LONGEST_SECONDS = 3.0, 120.0
_TEXT = f"""\
Each body is sent {_TIMES} times (fewer if that takes long), one after the other, to a service with
its defaults; *answered* is the median, from the first byte on. *Memory* is by how much the peak of
the resident memory exceeds what was resident before. /livez is asked 50 times a second."""


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a body cost: bytes, milliseconds and MiB."""

    case: Case
    statuses: frozenset[int]
    milliseconds: float
    answer: int
    memory: float
    livez: float

    @property
    def row(self) -> str:
        """Of the table."""
        statuses = ", ".join("none" if not each else str(each) for each in sorted(self.statuses))
        cells = [self.case.name, f"{len(self.case.body):,}", statuses]
        cells += [f"{self.milliseconds:,.0f}", f"{self.answer:,}"]
        cells += [f"{self.memory:,.1f}", f"{self.livez:,.0f}"]
        return f"| {' | '.join(cells)} |"


def measure(stage: Stage) -> Section:
    """Send them all."""
    costs = []
    with stage.service() as running:
        for case in cases():
            costs.append(_cost(running, case))
            say(f"amplification: {costs[-1].row}")
    head = (
        "| body | bytes | status | answered, ms | answer, bytes | memory, MiB | /livez worst, ms |"
    )
    marks = "|---|--:|--:|--:|--:|--:|--:|"
    table = "\n".join([head, marks, *(cost.row for cost in costs)])
    return Section("Amplification", f"{_TEXT}\n\n{table}", _figures(costs))


def _cost(running: Running, case: Case) -> _Cost:
    settle(running.process.pid)
    before = reset_peak(running)
    stream, alive = Stream(_some(case.request)), livez()
    Load(running.port, [stream, alive]).run(_LONGEST_SECONDS, drain=_LONGEST_SECONDS, until=stream)
    outcome = stream.outcome
    waits = [1e3 * (d - b) for b, d in zip(outcome.begun, outcome.done, strict=True)]
    return _Cost(
        case=case,
        statuses=frozenset(outcome.status),
        milliseconds=statistics.median(waits),
        answer=outcome.largest,
        memory=growth(running, before),
        livez=alive.outcome.worst(),
    )


def _some(request: bytes) -> Iterator[bytes]:
    """The same again, unless it takes long."""
    begin = clock()
    for number in range(_TIMES):
        if number == 0 or clock() - begin < _LONG_SECONDS:
            yield request


def _figures(costs: list[_Cost]) -> list[Figure]:
    refused = [cost for cost in costs if cost.case.refused]
    odd = sum(not all(400 <= each < 500 for each in cost.statuses) for cost in refused)
    return [
        none_of("bodies that should be refused and are not with 4xx", odd, len(refused)),
        below("longest refusal", max(cost.answer for cost in refused), _ANSWER_BYTES, "bytes"),
        below("slowest answer", max(cost.milliseconds for cost in costs), _ANSWER_MS, "ms"),
        below("largest growth of memory", max(cost.memory for cost in costs), _MEMORY_MIB, "MiB"),
        below("worst of /livez", max(cost.livez for cost in costs), _LIVEZ_MS, "ms"),
    ]
