"""What became of the requests of one kind."""

from __future__ import annotations

from array import array
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

LOST = 0
"""The status of a request that got no answer, or half of one."""
ANSWERED = 200

Times = npt.NDArray[np.float64]


@dataclass(slots=True)
class Outcome:
    """Requests of one kind, each with its times in seconds of one clock.

    Attributes:
        begun, sent: when the first and the last byte was handed over; NaN if it never was.
        done: when the answer was complete, or nothing more could come.
        status: of the answer, or `LOST`.
        unsent: requests that were due while every connection had one under way.
        retry: answers with `Retry-After`.
        largest: bytes of the longest body of an answer.
        faults: what a stream's check found wrong with answers, and how often.
        first, last: when the first request was due, and when no more were.
    """

    begun: array[float] = field(default_factory=lambda: array("d"))
    sent: array[float] = field(default_factory=lambda: array("d"))
    done: array[float] = field(default_factory=lambda: array("d"))
    status: array[int] = field(default_factory=lambda: array("H"))
    unsent: int = 0
    retry: int = 0
    largest: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    first: float = 0.0
    last: float = 0.0

    def add(self, begun: float, sent: float, done: float, status: int) -> None:
        """Add a request."""
        self.begun.append(begun)
        self.sent.append(sent)
        self.done.append(done)
        self.status.append(status)

    def __len__(self) -> int:
        return len(self.status)

    @property
    def seconds(self) -> float:
        """How long requests were due."""
        return self.last - self.first

    @property
    def due_rate(self) -> float:
        """Requests a second that were due."""
        return (len(self) + self.unsent) / self.seconds

    @property
    def sent_rate(self) -> float:
        """Requests a second that were sent."""
        return len(self) / self.seconds

    def count(self, status: int) -> int:
        """Count the requests with a status."""
        return self.status.count(status)

    @property
    def failed(self) -> int:
        """How many were due and did not get a 200."""
        return len(self) + self.unsent - self.count(ANSWERED)

    def rate(self, status: int = ANSWERED) -> float:
        """Return answers a second with a status while requests were due."""
        ended = (self._array("status") == status) & (self._array("done") <= self.last)
        return float(np.count_nonzero(ended)) / self.seconds

    def waits(self, status: int = ANSWERED) -> Times:
        """Return milliseconds from begin to answer of the requests with a status."""
        waits: Times = 1e3 * (self._array("done") - self._array("begun"))
        chosen: Times = waits[self._array("status") == status]
        return chosen

    def p99(self, status: int = ANSWERED) -> float:
        """Return the 99th percentile of the waits; NaN when there are none."""
        waits = self.waits(status)
        return float(np.quantile(waits, 0.99, method="higher")) if len(waits) else float("nan")

    def worst(self, status: int = ANSWERED) -> float:
        """Return the longest wait; NaN when there are none."""
        waits = self.waits(status)
        return float(waits.max()) if len(waits) else float("nan")

    def lost_before(self, moment: float) -> int:
        """Count the requests sent whole before a moment and never answered."""
        lost = (self._array("status") == LOST) & (self._array("sent") <= moment)
        return int(np.count_nonzero(lost))

    def _array(self, name: str) -> npt.NDArray[Any]:
        return np.array(getattr(self, name))
