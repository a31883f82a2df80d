"""CPU time of a request: without the live page, with it, and with viewers who look."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import repeat

from benchmarks.harness import process as processes
from benchmarks.harness.load import Load, Stream, clock
from benchmarks.harness.requests import batch, singles
from benchmarks.harness.server import Server
from benchmarks.live.viewers import looking

__all__ = ["LOADS", "VARIANTS", "Costs", "measure"]

_WITHOUT = {"page": "off"}
_WITH_ALL = {
    "page": "on",
    "database_url": "sqlite:///{folder}/classes.sqlite",
    "journal": "{folder}/journal",
    "alertmanagers": "http://127.0.0.1:9",
}
VARIANTS: Mapping[str, Mapping[str, str]] = {
    "off": _WITHOUT,
    "all on, idle": _WITH_ALL,
    "all on, with viewers": _WITH_ALL,
}
"""Settings, in which {folder} is one of its own: with all on, incidents are kept and ready to be
told, points would be taken, and the live page is there. Each has a service of its own: when viewers
leave, it goes on for a while as if they still looked."""
LOADS: Mapping[str, tuple[int, int]] = {"1 record x 8": (1, 8), "1,000 records x 2": (1000, 2)}
"""Records of a request, and connections that ask again as soon as they are answered."""


@dataclass(slots=True)
class Costs:
    """CPU seconds of a request, in each round.

    Attributes:
        of: by variant.
        told: bytes in a second that a viewer was told.
    """

    of: dict[str, list[float]] = field(default_factory=dict)
    told: float = 0.0

    def ratios(self, variant: str) -> list[float]:
        """Return the throughput of each round as a ratio to that without a page."""
        return [off / on for off, on in zip(self.of["off"], self.of[variant], strict=True)]

    def ratio(self, variant: str) -> float:
        """Return their median."""
        return statistics.median(self.ratios(variant))


def measure(
    servers: Mapping[str, Server], load: str, *, viewers: int, rounds: int, seconds: float
) -> Costs:
    """Let all variants take turns.

    Args:
        servers: by variant.
        load: one of `LOADS`.
        viewers: who look, where somebody does.
        rounds: in which each variant is measured once.
        seconds: of a measurement.
    """
    costs = Costs({name: [] for name in VARIANTS})
    for number in range(rounds):
        # Machines get slower and faster: who is first changes.
        order = [*VARIANTS][:: 1 if number % 2 else -1]
        for name in order:
            looks = name.endswith("with viewers")
            with _looked_at(servers[name], viewers if looks else 0, costs):
                costs.of[name].append(_cost(servers[name], load, seconds))
    return costs


@contextmanager
def _looked_at(server: Server, viewers: int, costs: Costs) -> Iterator[None]:
    if not viewers:
        yield
        return
    with looking(server.port, viewers) as looked:
        before, begun = looked.told, clock()
        yield
        costs.told = (looked.told - before) / (clock() - begun) / viewers


def _cost(server: Server, load: str, seconds: float) -> float:
    """Return the CPU seconds of a request."""
    records, connections = LOADS[load]
    requests = singles() if records == 1 else repeat(batch(records))
    stream = Stream(iter(requests), connections)
    before = processes.cpu_seconds(server.pids)
    Load(server.port, [stream]).run(seconds)
    spent = processes.cpu_seconds(server.pids) - before
    return spent / max(len(stream.outcome), 1)
