"""What the service must reach beside others: every number is in this file."""

from __future__ import annotations

from dataclasses import dataclass
from operator import attrgetter

from benchmarks.serving.contestants import OURS
from benchmarks.serving.samples import Measured, Ratio, Scenario, ratio

LIVEZ_P99_MS = 50.0
"""p99 of `/livez`, in ms, while batches of 10,000 records saturate the service: under this."""

MEMORY_GROWTH = 1.10
"""Resident memory after 1,000,000 records, as a share of that after 10,000: at most this."""


@dataclass(frozen=True, slots=True)
class Target:
    """How many times the requests a second of theirs ours must be, at least."""

    ours: str
    theirs: str
    scenario: Scenario
    times: float

    def by_rate(self, measured: Measured) -> Ratio | None:
        """Return the ratio that was measured; None if one of them failed in some round."""
        ours, theirs = (measured.whole(name, self.scenario) for name in (self.ours, self.theirs))
        return ratio(ours, theirs, attrgetter("rate"))

    def by_cpu(self, measured: Measured) -> Ratio | None:
        """Return how many times our CPU time theirs takes for a request; None as for `by_rate`."""
        ours, theirs = (measured.whole(name, self.scenario) for name in (self.ours, self.theirs))
        return ratio(theirs, ours, attrgetter("cpu"))


_ARROW, _V2, _BINARY = "faultcube Arrow", "faultcube V2", "faultcube V2 binary"
_ONE, _THOUSAND, _MANY = Scenario(1, 8), Scenario(1_000, 2), Scenario(10_000, 2)

TARGETS = (
    Target(OURS, "fastapi", _ONE, 4.5),
    Target(OURS, "bentoml", _ONE, 11),
    Target(OURS, "litserve", _ONE, 9),
    Target(OURS, "mlserver V2", _ONE, 4.5),
    Target(OURS, "kserve V1", _ONE, 4.5),
    Target(OURS, "ray", _ONE, 50),
    Target(OURS, "fastapi", _THOUSAND, 5.5),
    Target(OURS, "bentoml", _THOUSAND, 4),
    Target(OURS, "litserve", _THOUSAND, 7),
    Target(_ARROW, OURS, _MANY, 5),
    Target(_ARROW, "mlserver V2", _MANY, 3.5),
    Target(_V2, "mlserver V2", _ONE, 4),
    Target(_V2, "mlserver V2", _THOUSAND, 1.3),
    Target(_V2, "mlserver V2", _MANY, 1.3),
    Target(_BINARY, "pytriton V2 binary", _ONE, 6),
    Target(_BINARY, "pytriton V2 binary", _THOUSAND, 3),
    Target(_BINARY, "pytriton V2 binary", _MANY, 2),
)


def reached(measured: float, target: float) -> bool:
    """Whether at least the target was measured."""
    return measured >= target


def verdict(is_reached: bool | None) -> str:
    """Return whether a target is reached, in words; None stands for not measured."""
    return {None: "not measured", True: "reached", False: "**not reached**"}[is_reached]
