"""What a process has counted and how it stands: plain numbers, quick to add to and to sum up."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from typing import TypeVar

import msgspec
import numpy as np

from models.schema import Matrix
from service.observability.drift import Window

__all__ = ["Histogram", "Moment", "Report", "Tally"]

K = TypeVar("K")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DISTANCES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


Two = tuple[str, str]
"""What the bundle that answers has or says, and then the shadow."""

_EARLIER: Two = ("", "")
_BUNDLES = 8
"""Pairs of bundles that are told apart; what is counted of earlier ones is put together."""
_PAIRS = 1000
"""Pairs of labels that are told apart: a bundle may have any number of classes."""
_AGREED, _DISAGREED = ("(other)", "(other)"), ("(other)", "(another)")


class Histogram(msgspec.Struct):
    """How often values fell between bounds.

    Attributes:
        bounds: upper ends of the buckets, ascending; one more takes what is beyond.
        counts: of each bucket.
        total: sum of the values.
    """

    bounds: tuple[float, ...]
    counts: list[int]
    total: float = 0.0

    @classmethod
    def of(cls, bounds: Sequence[float]) -> Histogram:
        """An empty one."""
        return cls(tuple(map(float, bounds)), [0] * (len(bounds) + 1))

    @classmethod
    def of_seconds(cls) -> Histogram:
        """For durations."""
        return cls.of(_SECONDS)

    @classmethod
    def of_distances(cls) -> Histogram:
        """For distances, 0 to 1."""
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
        places = np.searchsorted(self.bounds, values)
        for place, number in enumerate(np.bincount(places, minlength=len(self.counts)).tolist()):
            self.counts[place] += number
        self.total += float(values.sum(dtype=np.float64))

    def add(self, other: Histogram) -> None:
        """Count what another one of the same bounds has counted."""
        self.counts = [a + b for a, b in zip(self.counts, other.counts, strict=True)]
        self.total += other.total


class Tally(msgspec.Struct):
    """What only ever grows.

    Attributes:
        requests: by route and status.
        seconds: of requests by route.
        records: that were answered.
        verdicts: by label.
        distance: of records to their nearest class.
        inference: seconds of the model for a piece.
        rejected: requests by the reason of their refusal.
        swaps: times that another bundle took over.
        refused: times that a bundle was refused.
        cpu_seconds: of the process.
        shadow: records that a shadow decided on too, by versions and by labels.
        shadow_skipped: records that it had no time for, by versions.
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
    shadow: dict[Two, dict[Two, int]] = msgspec.field(default_factory=dict)
    shadow_skipped: dict[Two, int] = msgspec.field(default_factory=dict)

    def add(self, other: Tally) -> None:
        """Count what another process has counted."""
        _add(self.requests, other.requests)
        _add(self.verdicts, other.verdicts)
        _add(self.rejected, other.rejected)
        for route, histogram in other.seconds.items():
            self.seconds.setdefault(route, Histogram.of(histogram.bounds)).add(histogram)
        self.distance.add(other.distance)
        self.inference.add(other.inference)
        self.records += other.records
        self.swaps += other.swaps
        self.refused += other.refused
        self.cpu_seconds += other.cpu_seconds
        for versions, found in other.shadow.items():
            _add(self.shadow.setdefault(versions, {}), found)
        _add(self.shadow_skipped, other.shadow_skipped)

    def count_shadow(self, versions: Two, found: Mapping[Two, int]) -> None:
        """Count records by what two bundles said of them."""
        _add_some(self.shadow.setdefault(versions, {}), found)
        told = [each for each in self.shadow if each not in {versions, _EARLIER}]
        for oldest in told[: max(len(told) - _BUNDLES, 0)]:
            _add_some(self.shadow.setdefault(_EARLIER, {}), self.shadow.pop(oldest))
            _add(self.shadow_skipped, {_EARLIER: self.shadow_skipped.pop(oldest, 0)})

    def skip_shadow(self, versions: Two, records: int) -> None:
        """Count records that a shadow had no time for."""
        self.shadow_skipped[versions] = self.shadow_skipped.get(versions, 0) + records


class Moment(msgspec.Struct):
    """How a process stands now.

    Attributes:
        queue: large requests under way or waiting.
        held: bytes of bodies.
        bundle: name and version of the bundle that is served, None when none is.
        process: what the operating system says of the process, by metric.
        drift: the records that were looked at last, None when there is nothing to compare with.
        revision: of the enrolled classes that are served.
        enrolled: how many these are.
        store: whether the database of classes can be asked, None when there is none.
    """

    queue: int = 0
    held: int = 0
    bundle: tuple[str, str] | None = None
    process: dict[str, float] = msgspec.field(default_factory=dict)
    drift: Window | None = None
    revision: int = 0
    enrolled: int = 0
    store: bool | None = None


class Report(msgspec.Struct):
    """All that one process has to say."""

    tally: Tally = msgspec.field(default_factory=Tally)
    moment: Moment = msgspec.field(default_factory=Moment)

    def encoded(self) -> bytes:
        """The report in bytes, as it stands at one instant.

        Nothing is counted meanwhile, whichever thread calls this: it holds the interpreter's lock.
        """
        return msgspec.msgpack.encode(self)

    @classmethod
    def decoded(cls, content: bytes) -> Report:
        """The report that was encoded.

        Raises:
            msgspec.DecodeError: it is none.
        """
        return msgspec.msgpack.decode(content, type=cls)


def _add_some(counts: dict[Two, int], others: Mapping[Two, int]) -> None:
    for pair, number in others.items():
        key = pair
        if pair not in counts and len(counts) >= _PAIRS:
            key = _AGREED if pair[0] == pair[1] else _DISAGREED
        counts[key] = counts.get(key, 0) + number


def _add(counts: dict[K, int], others: Mapping[K, int]) -> None:
    for key, number in others.items():
        counts[key] = counts.get(key, 0) + number
