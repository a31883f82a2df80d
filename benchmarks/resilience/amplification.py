"""Bodies that cost their sender little: what they cost the service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.harness.load import Load, Stream, clock
from benchmarks.harness.process import growth, reset_peak
from benchmarks.harness.report import Figure, Section, below, none_of, progress, table
from benchmarks.harness.server import Server
from benchmarks.resilience.bodies import Case, cases
from benchmarks.resilience.run import Run, livez

_TIMES = 3
_ANSWER_BYTES = 8_000
_ANSWER_MS, _LIVEZ_MS, _MEMORY_MIB = 1000.0, 100.0, 128.0
_LONG_SECONDS, _MAX_SECONDS = 3.0, 120.0
_TEXT = f"""\
Each body is sent {_TIMES} times (fewer if that takes long), one after the other, to a service with
its defaults; *answered* is the slowest, from the first byte on. *Memory* is by how much the peak of
the resident memory exceeds what was resident before. /livez is asked 50 times a second."""
_HEAD = (
    *("body", "bytes", "status", "answered, ms", "answer, bytes", "memory, MiB"),
    "/livez worst, ms",
)


@dataclass(frozen=True, slots=True)
class _Cost:
    """What a body cost: milliseconds, bytes of answer, MiB of memory, milliseconds of /livez.

    And how often /livez was asked meanwhile, and not answered with 200.
    """

    case: Case
    statuses: frozenset[int]
    milliseconds: float
    answer: int
    memory: float
    livez: float
    unanswered: int
    asked: int

    @property
    def row(self) -> list[str]:
        """Of the table."""
        statuses = ", ".join(str(status or "none") for status in sorted(self.statuses))
        cells = [self.case.name, f"{len(self.case.body):,}", statuses]
        cells += [f"{self.milliseconds:,.0f}", f"{self.answer:,}"]
        return [*cells, f"{self.memory:,.1f}", f"{self.livez:,.0f}"]


def measure(run: Run) -> Section:
    """Send all bodies."""
    costs = []
    with run.service() as server:
        for case in cases():
            costs.append(_cost(server, case))
            progress(f"amplification: {', '.join(costs[-1].row)}")
    lines = ["", *table(_HEAD, [cost.row for cost in costs])[:-1]]
    return Section("Amplification", "\n".join([_TEXT, *lines]), _figures(costs))


def _cost(server: Server, case: Case) -> _Cost:
    server.settle()
    before = reset_peak(server.pid)
    stream, alive = Stream(_repeated(case.request)), livez()
    Load(server.port, [stream, alive]).run(_MAX_SECONDS, drain=_MAX_SECONDS, until=stream)
    outcome = stream.outcome
    waits = [1e3 * (d - b) for b, d in zip(outcome.begun, outcome.done, strict=True)]
    return _Cost(
        case=case,
        statuses=frozenset(outcome.status),
        milliseconds=max(waits),
        answer=outcome.largest,
        memory=growth(server.pid, before),
        livez=alive.outcome.worst(),
        unanswered=alive.outcome.failed,
        asked=len(alive.outcome) + alive.outcome.unsent,
    )


def _repeated(request: bytes) -> Iterator[bytes]:
    """Yield the same request again, unless it takes long."""
    begin = clock()
    for number in range(_TIMES):
        if number == 0 or clock() - begin < _LONG_SECONDS:
            yield request


def _figures(costs: list[_Cost]) -> list[Figure]:
    refused = [cost for cost in costs if cost.case.refused]
    odd = sum(not all(400 <= status < 500 for status in cost.statuses) for cost in refused)
    return [
        none_of("bodies that should be refused and are not with 4xx", odd, len(refused)),
        below("longest refusal", max(cost.answer for cost in refused), _ANSWER_BYTES, "bytes"),
        below("slowest answer", max(cost.milliseconds for cost in costs), _ANSWER_MS, "ms"),
        below("largest growth of memory", max(cost.memory for cost in costs), _MEMORY_MIB, "MiB"),
        below("worst of /livez", max(cost.livez for cost in costs), _LIVEZ_MS, "ms"),
        none_of(
            "/livez not answered with 200",
            sum(cost.unanswered for cost in costs),
            sum(cost.asked for cost in costs),
        ),
    ]
