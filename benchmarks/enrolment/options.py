"""How much the parts of the benchmark measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """How much to measure, and where.

    Attributes:
        folder: for databases and logs, empty.
        data: of the public data sets.
        draws: of support records.
        times: that an enrolment is waited for on another replica.
        kills: of the service, for each database.
        rounds: of the throughput.
        seconds: of one measurement of it.
    """

    folder: Path
    data: Path
    draws: int = 30
    times: int = 50
    kills: int = 100
    rounds: int = 7
    seconds: float = 3.0
