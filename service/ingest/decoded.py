"""What every decoder returns: points, and what could not be used."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from models.telemetry.points import Points, SeriesTable

__all__ = [
    "BAD_TIME",
    "LARGEST_INTEGER",
    "LARGEST_TIME",
    "NO_NUMBER",
    "Batch",
    "Decoded",
    "Decoder",
    "UnusableError",
    "nanoseconds",
]

NO_NUMBER = "values that are no numbers"
BAD_TIME = "times outside the years 1677 to 2262"

LARGEST_INTEGER = 1 << 64
"""Integers from here on are no counters, and some are larger than any float."""
LARGEST_TIME = (1 << 63) - 1
"""Nanoseconds, and least when negative: what is beyond is no int64, or has no absolute value."""


class UnusableError(Exception):
    """A sample cannot be used; the message says which kind of sample, and repeats nothing of it."""


@dataclass(frozen=True, slots=True)
class Decoded:
    """The content of one body.

    Attributes:
        points: in the order of the body.
        reasons: why samples could not be used, with how many of them.
    """

    points: Points
    reasons: Mapping[str, int]

    @property
    def rejected(self) -> int:
        """How many samples could not be used."""
        return sum(self.reasons.values())


class Decoder(Protocol):
    """Decodes bodies of one wire format."""

    def __call__(self, body: bytes, table: SeriesTable, now: int) -> Decoded:
        """Decode a body.

        Args:
            body: without its content encoding.
            table: of the series known so far; it learns the new ones.
            now: nanoseconds since the Unix epoch, for points that come without a time.

        Raises:
            MalformedInputError: it is not of this format.
        """


@dataclass(slots=True)
class Batch:
    """Points on their way into columns.

    Attributes:
        series: ids; they, times and values grow together.
        times: nanoseconds.
        values: NaN where there is none.
        reasons: why samples could not be used, with how many of them.
        parts: messages that were looked into so far.
    """

    series: list[int] = field(default_factory=list)
    times: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    reasons: Counter[str] = field(default_factory=Counter)
    parts: int = 0

    def reject(self, reason: str, samples: int = 1) -> None:
        """Count samples that cannot be used."""
        if samples:
            self.reasons[reason] += samples

    def decoded(self) -> Decoded:
        """Return what has been gathered."""
        points = Points(
            np.array(self.series, np.int32),
            np.array(self.times, np.int64),
            np.array(self.values, np.float64),
        )
        return Decoded(points, self.reasons)


def nanoseconds(time: float) -> int:
    """Return a time since the Unix epoch in nanoseconds; its magnitude tells its unit.

    Seconds below 10^11, then milliseconds, microseconds and nanoseconds, each a thousand times
    more. A time with a fraction is taken to the microsecond, which is what a float still tells.

    Raises:
        UnusableError: it is beyond int64.
    """
    size = abs(time)
    if size < 1e11:
        time = time * 1_000_000_000 if isinstance(time, int) else round(time * 1e6) * 1000
    elif size < 1e14:
        time = round(time) * 1_000_000
    elif size < 1e17:
        time = round(time) * 1000
    if not -LARGEST_TIME <= time <= LARGEST_TIME:
        raise UnusableError(BAD_TIME)
    return int(time)
