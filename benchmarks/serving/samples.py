"""What was measured, and ratios of it that a drifting machine does not distort."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, order=True)
class Scenario:
    """What is sent: records in a request, and connections with one request under way each."""

    records: int
    connections: int

    def __str__(self) -> str:
        return f"{self.records}x{self.connections}"

    @property
    def words(self) -> str:
        """As in a heading."""
        records = "1 record" if self.records == 1 else f"{self.records:,} records"
        return records + f", {self.connections} connection{'s' * (self.connections > 1)}"

    @classmethod
    def parse(cls, text: str) -> Scenario:
        """Parse RECORDSxCONNECTIONS; raise ValueError if it is something else."""
        records, _, connections = text.strip().partition("x")
        scenario = cls(int(records), int(connections))
        if min(scenario.records, scenario.connections) < 1:
            raise ValueError(text)
        return scenario


@dataclass(frozen=True, slots=True)
class Sample:
    """One contestant in one scenario and round.

    Attributes:
        rate: requests a second.
        cpu: milliseconds of user and system time of all its processes for each request.
        p50, p99: milliseconds from request to answer.
        memory: bytes of all its processes, shared pages counted once; 0 when not measured.
        errors: requests without an answer that is 2xx.
    """

    contestant: str
    scenario: Scenario
    round: int
    rate: float
    cpu: float
    p50: float
    p99: float
    memory: int
    errors: int

    @property
    def is_valid(self) -> bool:
        """Whether it tells anything about speed."""
        return not self.errors and self.rate > 0


@dataclass(slots=True)
class Measured:
    """All samples so far, and why others are missing, by contestant and scenario."""

    samples: list[Sample] = field(default_factory=list)
    failures: dict[tuple[str, Scenario], str] = field(default_factory=dict)

    def of(self, contestant: str, scenario: Scenario) -> list[Sample]:
        """Return the samples of a row."""
        row = (contestant, scenario)
        return [sample for sample in self.samples if (sample.contestant, sample.scenario) == row]

    def whole(self, contestant: str, scenario: Scenario) -> list[Sample]:
        """Return the samples of a row; none if it failed in some round."""
        failed = (contestant, scenario) in self.failures
        return [] if failed else self.of(contestant, scenario)


@dataclass(frozen=True, slots=True)
class Ratio:
    """Median, smallest and largest of the ratios of single rounds."""

    median: float
    low: float
    high: float
    rounds: int


def ratio(
    ours: Iterable[Sample], theirs: Iterable[Sample], value: Callable[[Sample], float]
) -> Ratio | None:
    """Return how many times their value ours is, round by round; None when no round has both.

    Samples with errors are left out.
    """
    mine = {sample.round: value(sample) for sample in ours if sample.is_valid}
    others = {sample.round: value(sample) for sample in theirs if sample.is_valid}
    ratios = [mine[i] / others[i] for i in mine.keys() & others.keys() if others[i] > 0]
    if not ratios:
        return None
    return Ratio(statistics.median(ratios), min(ratios), max(ratios), len(ratios))


def median_of(samples: Sequence[Sample], value: Callable[[Sample], float]) -> float:
    """Return the median over rounds."""
    return statistics.median(value(sample) for sample in samples)
