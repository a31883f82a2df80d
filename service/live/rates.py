"""How fast the service is: rates and times between two looks at its counters."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from service.observability.counters import Counters

__all__ = ["Look", "Rates", "Speed"]

_SPAN = 10.0
"""Seconds that a rate is of, at least where there are so many."""
_OWN = ("/live/", "/page/", "/session", "none")
"""Routes that are asked for by the page itself, or by nobody in earnest."""
_RECORDS = ("/classify", "/embed", "/v2/")
"""Routes whose times are told."""
Clock = Callable[[], float]


@dataclass(frozen=True, slots=True)
class Look:
    """Counters at a moment; the buckets are of requests with records, by their seconds."""

    moment: float
    records: int
    points: int
    requests: int
    bounds: tuple[float, ...]
    buckets: tuple[int, ...]

    @classmethod
    def at(cls, counters: Counters, moment: float) -> Look:
        """Return the counters of this process."""
        requests = sum(n for (route, _), n in counters.requests.copy().items() if _counts(route))
        times = [h for route, h in counters.seconds.copy().items() if route.startswith(_RECORDS)]
        buckets = tuple(map(sum, zip(*(each.counts for each in times), strict=True)))
        bounds = times[0].bounds if times else ()
        assembled = counters.assembled.get("records", 0) - counters.assembled.get("insufficient", 0)
        records, points = counters.records + assembled, sum(counters.points.copy().values())
        return cls(moment, records, points, requests, bounds, buckets)


@dataclass(frozen=True, slots=True)
class Speed:
    """Numbers in a second, and times in milliseconds, None where nothing was timed."""

    records: float = 0.0
    points: float = 0.0
    requests: float = 0.0
    p50: float | None = None
    p99: float | None = None


class Rates:
    """Rates of the last ten seconds.

    Args:
        counters: of the process.
        clock: monotonic seconds.
    """

    def __init__(self, counters: Counters, clock: Clock = time.monotonic) -> None:
        self._counters, self._clock = counters, clock
        self._looks: deque[Look] = deque([Look.at(counters, clock())])

    def look(self) -> Speed:
        """Look at the counters, and return how they grew."""
        now = Look.at(self._counters, self._clock())
        looks = self._looks
        while len(looks) > 1 and looks[1].moment <= now.moment - _SPAN:
            looks.popleft()
        before = looks[0]
        if now.moment - looks[-1].moment >= _SPAN / 10:
            looks.append(now)
        seconds = max(now.moment - before.moment, 1e-9)
        # Before the first request there are no buckets.
        then = before.buckets or (0,) * len(now.buckets)
        buckets = [a - b for a, b in zip(now.buckets, then, strict=True)]
        return Speed(
            round((now.records - before.records) / seconds, 2),
            round((now.points - before.points) / seconds, 2),
            round((now.requests - before.requests) / seconds, 2),
            _quantile(0.5, now.bounds, buckets),
            _quantile(0.99, now.bounds, buckets),
        )


def _counts(route: str) -> bool:
    return route != "/" and not route.startswith(_OWN)


def _quantile(share: float, bounds: tuple[float, ...], buckets: list[int]) -> float | None:
    """Return a quantile in milliseconds, interpolated in its bucket as Prometheus does."""
    total = np.cumsum(buckets)
    if not len(total) or not total[-1]:
        return None
    at = int(np.searchsorted(total, share * total[-1]))
    if at >= len(bounds):
        return round(1000 * bounds[-1], 3)
    low, below = (bounds[at - 1], total[at - 1]) if at else (0.0, 0)
    within = (share * total[-1] - below) / buckets[at]
    return round(1000 * float(low + (bounds[at] - low) * within), 3)
