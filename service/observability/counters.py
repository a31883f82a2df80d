"""Counters and status of one process: plain numbers, cheap to add to and to sum up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping
from functools import cache
from typing import Any

import msgspec
import numpy as np
import numpy.typing as npt

from models.schema import Matrix
from service.observability.drift import Window

__all__ = ["Counters", "Histogram", "ProcessReport", "ProcessStatus", "ServedShadow"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DISTANCES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)

ServedShadow = tuple[str, str]
"""A version or a label: first of the bundle that is served, then of the shadow."""

_EARLIER: ServedShadow = ("", "")
_MAX_VERSIONS = 8
"""Pairs of versions that are counted separately; those before them are counted together."""
_MAX_LABELS = 1000
"""Pairs of labels that are counted separately: a bundle may have any number of classes."""
_AGREED, _DISAGREED = ("(other)", "(other)"), ("(other)", "(another)")


class Histogram(msgspec.Struct):
    """How many values fell into each bucket.

    Not prometheus-client's: with several processes that takes 8 to 10 us an observation, this one
    0.27 us. A request makes about five, so the library would add 20 % to its 206 us.

    Attributes:
        bounds: upper bounds of the buckets, ascending; one more bucket takes all larger values.
        counts: of each bucket.
        total: sum of the values.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def of(cls, bounds: tuple[float, ...]) -> Histogram:
        """Return an empty histogram with these bounds."""
        return cls(tuple(map(float, bounds)), [0] * (len(bounds) + 1))

    @classmethod
    def of_seconds(cls) -> Histogram:
        """Return an empty histogram of durations."""
        return cls.of(_SECONDS)

    @classmethod
    def of_distances(cls) -> Histogram:
        """Return an empty histogram of distances, 0 to 1."""
        return cls.of(_DISTANCES)

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Matrix) -> None:
        """Count values: float [n]."""
        if len(values) == 1:
            self.observe(values.item())
            return
        buckets = np.bincount(_array(self.bounds).searchsorted(values), minlength=len(self.counts))
        self.counts = [a + b for a, b in zip(self.counts, buckets.tolist(), strict=True)]
        self.total += float(values.sum(dtype=np.float64))


@cache
def _array(bounds: tuple[float, ...]) -> npt.NDArray[np.float64]:
    """Return the bounds of a histogram as an array, made once: there are two kinds of them."""
    return np.array(bounds)


class Counters(msgspec.Struct):
    """Numbers that only grow.

    Attributes:
        requests: by route and status.
        seconds: of requests, by route.
        records: that were answered.
        verdicts: by label.
        distance: of records to their nearest class.
        inference: seconds of the model for a chunk.
        rejected: requests by the reason of the problem.
        swaps: times that another bundle took over.
        refused: times that a bundle was refused.
        cpu_seconds: of the process.
        shadow: records that the shadow decided on too, by versions and by labels.
        shadow_skipped: records that the shadow had no time for, by versions.
        opened: incidents that were told first, by class.
        closed: incidents that closed, by class.
        alerts_sent: states of incidents that a target took, by target.
        alerts_failed: attempts that it did not take, by target.
        points: metric points that were taken, by wire format.
        samples_rejected: that could not be used, by wire format.
        assembled: what became of the points, by the names of `models.telemetry.records.Counts`.
    """

    requests: dict[tuple[str, int], int] = msgspec.field(default_factory=dict)
    seconds: dict[str, Histogram] = msgspec.field(default_factory=dict)
    records: int = 0
    verdicts: dict[str, int] = msgspec.field(default_factory=dict)
    distance: Histogram = msgspec.field(default_factory=Histogram.of_distances)
    inference: Histogram = msgspec.field(default_factory=Histogram.of_seconds)
    rejected: dict[str, int] = msgspec.field(default_factory=dict)
    swaps: int = 0
    refused: int = 0
    cpu_seconds: float = 0.0
    shadow: dict[ServedShadow, dict[ServedShadow, int]] = msgspec.field(default_factory=dict)
    shadow_skipped: dict[ServedShadow, int] = msgspec.field(default_factory=dict)
    opened: dict[str, int] = msgspec.field(default_factory=dict)
    closed: dict[str, int] = msgspec.field(default_factory=dict)
    alerts_sent: dict[str, int] = msgspec.field(default_factory=dict)
    alerts_failed: dict[str, int] = msgspec.field(default_factory=dict)
    points: dict[str, int] = msgspec.field(default_factory=dict)
    samples_rejected: dict[str, int] = msgspec.field(default_factory=dict)
    assembled: dict[str, int] = msgspec.field(default_factory=dict)

    def add(self, other: Counters) -> None:
        """Add the counters of another process."""
        for name in self.__struct_fields__:
            setattr(self, name, _sum(getattr(self, name), getattr(other, name)))
        # Rounded, or the sum would depend on the order and could seem to fall by its last digit.
        self.cpu_seconds = round(self.cpu_seconds, 6)

    def count_shadow(self, versions: ServedShadow, labels: Mapping[ServedShadow, int]) -> None:
        """Count records by the labels that two bundles gave them."""
        _add_bounded(self.shadow.setdefault(versions, {}), labels)
        separate = [pair for pair in self.shadow if pair not in {versions, _EARLIER}]
        for oldest in separate[: max(len(separate) - _MAX_VERSIONS, 0)]:
            _add_bounded(self.shadow.setdefault(_EARLIER, {}), self.shadow.pop(oldest))
            self.skip_shadow(_EARLIER, self.shadow_skipped.pop(oldest, 0))

    def skip_shadow(self, versions: ServedShadow, records: int) -> None:
        """Count records that the shadow had no time for."""
        self.shadow_skipped[versions] = self.shadow_skipped.get(versions, 0) + records


class ProcessStatus(msgspec.Struct):
    """Current state of one process.

    Attributes:
        queue: large requests under way or waiting.
        held: bytes of request bodies in memory.
        bundle: name and version of the served bundle; None when there is none.
        process: the operating system's numbers of the process, by metric.
        drift: the window of sampled records; None without a reference to compare with.
        revision: of the enrolled classes that are served.
        enrolled: number of enrolled classes.
        store: whether the database of classes can be reached; None without a database.
        writable: whether it can be written; None while it cannot be reached.
        incidents: that are open.
        alerts: incidents with a change that a target was not told of yet.
        points: metric points that wait.
        source: whether the object store of bundles can be followed; None without one.
    """

    queue: int = 0
    held: int = 0
    bundle: tuple[str, str] | None = None
    process: dict[str, float] = msgspec.field(default_factory=dict)
    drift: Window | None = None
    revision: int = 0
    enrolled: int = 0
    store: bool | None = None
    writable: bool | None = None
    incidents: int = 0
    alerts: int = 0
    points: int = 0
    source: bool | None = None


class ProcessReport(msgspec.Struct):
    """Counters and status of one process, as other workers read them."""

    counters: Counters = msgspec.field(default_factory=Counters)
    status: ProcessStatus = msgspec.field(default_factory=ProcessStatus)

    def encoded(self) -> bytes:
        """Serialize the report; nothing is counted meanwhile, as msgspec holds the GIL."""
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, content: bytes) -> ProcessReport:
        """Parse a report.

        Raises:
            msgspec.DecodeError: the content is not a report.
        """
        return _report.decode(content)


# Made here, not at the first report: two threads that build a type of msgspec at once crash.
_report = msgspec.msgpack.Decoder(ProcessReport)


def _sum(one: Any, other: Any) -> Any:
    """Add numbers, histograms, or dictionaries of either, without changing them."""
    if isinstance(one, dict):
        shared = {key: _sum(one[key], value) for key, value in other.items() if key in one}
        return one | other | shared
    if isinstance(one, Histogram):
        counts = [a + b for a, b in zip(one.counts, other.counts, strict=True)]
        return Histogram(one.bounds, counts, one.total + other.total)
    return one + other


def _add_bounded(counts: dict[ServedShadow, int], others: Mapping[ServedShadow, int]) -> None:
    for pair, number in others.items():
        key = pair
        if pair not in counts and len(counts) >= _MAX_LABELS:
            key = _AGREED if pair[0] == pair[1] else _DISAGREED
        counts[key] = counts.get(key, 0) + number
