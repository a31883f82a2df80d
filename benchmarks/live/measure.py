"""CPU time of a request: without the live page, with it, and with viewers who look."""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.harness import process as processes
from benchmarks.harness import wrk
from benchmarks.harness.requests import real_body
from benchmarks.harness.server import Server
from benchmarks.harness.wires import ROWS
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
    records, connections = LOADS[load]
    with tempfile.NamedTemporaryFile(suffix=".json") as body:
        body.write(real_body(records))
        body.flush()
        for number in range(rounds):
            # Machines get slower and faster: who is first changes.
            order = [*VARIANTS][:: 1 if number % 2 else -1]
            for name in order:
                looks = name.endswith("with viewers")
                with _looked_at(servers[name], viewers if looks else 0, costs):
                    cost = _cost(servers[name], Path(body.name), connections, seconds)
                    costs.of[name].append(cost)
    return costs


@contextmanager
def _looked_at(server: Server, viewers: int, costs: Costs) -> Iterator[None]:
    if not viewers:
        yield
        return
    with looking(server.port, viewers) as looked:
        before, begun = looked.told, time.monotonic()
        yield
        costs.told = (looked.told - before) / (time.monotonic() - begun) / viewers


def _cost(server: Server, body: Path, connections: int, seconds: float) -> float:
    """Return the CPU seconds of a request.

    wrk keeps the service busy even beside viewers on its core. Where the load falls short, fewer
    requests share an inference, and each costs more for that alone.
    """
    url = f"http://127.0.0.1:{server.port}/classify"
    before = processes.cpu_seconds(server.pids)
    load = wrk.run(url, body, ROWS.headers, connections=connections, seconds=seconds).answered()
    return (processes.cpu_seconds(server.pids) - before) / max(load.requests, 1)
