"""How much the parts of the benchmark measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """A folder for databases and logs, that of the public data sets, and how much to measure.

    Draws are of support records, times are enrolments between replicas, kills are for each
    database, rounds and seconds are of the throughput.
    """

    folder: Path
    data: Path
    draws: int = 30
    times: int = 50
    kills: int = 100
    rounds: int = 7
    seconds: float = 3.0
