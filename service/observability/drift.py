"""How far the records of now are from those that the model was calibrated on.

Told by the population stability index (PSI) of every dimension of the embedding,

    PSI = sum over bins of (q - p) ln(q / p),

p the shares that were expected in bins cut at the deciles of the reference records, q those found
in a window that slides over a sample of what is answered. Over 0.1 the shift is called moderate,
over 0.25 major. What we do beside the formula:

- **Expected is the mix of now.** A healthy network sends hardly any faults, the reference holds
  plenty. So p is put together from the classes of the reference in the shares in which the window
  holds them; a record's class here is that of the nearest centroid. Compared with the reference as
  a whole, its own good records alone would show a PSI of 0.8.
- **What does not matter is not seen.** Clusters are tight, and deciles inside of one would tell
  values apart that no verdict depends on. Every value is blurred by up to 1 % of the cube's side to
  both sides, so deciles always differ.
- **Empty bins** count as a share of 0.0001, as in M. Burke's `population-stability-index`.
- **Chance is taken off.** Samples of n and m records of one population differ by
  (bins - 1)(1/n + 1/m) on average (Yurdakul and Naranjo, "Statistical properties of the population
  stability index", 2020); that is subtracted, and nothing is told of fewer than 500 records.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random

import msgspec
import numpy as np
import numpy.typing as npt

from models import Model
from models.decision import distances_between
from models.schema import Matrix
from service.observability.reservoir import Reservoir

__all__ = ["LEAST_RECORDS", "Drift", "Drifts", "Window"]

LEAST_RECORDS = 500
"""Of a window, before anything is told."""

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

_BINS = 10
_FLOOR = 1e-4
_BLUR = 0.02
_BUCKETS = 10
_SAMPLED = 500
"""Records that are looked at together, at most."""
_PAUSE_SECONDS = 10.0
"""Between two looks, at least: hardly 0.1 % of a core."""
_LEAST_REFERENCE = 100
_SEED = 20_250_101
_LIKE_ALL = 5.0
"""Records of a class that are taken to be like all: a class with few has gaps by chance."""
_CHUNK = 500


class Window(msgspec.Struct):
    """Where the records that were looked at lie.

    Attributes:
        version: of the bundle.
        records: how many.
        classes: how many have their nearest centroid in each class.
        counts: int64 [dimensions, bins] in bytes.
    """

    version: str
    records: int
    classes: list[int]
    counts: bytes


@dataclass(frozen=True, slots=True)
class Drifts:
    """The population stability index over the dimensions of the embedding.

    Attributes:
        mean: of all dimensions.
        largest: of any.
    """

    mean: float
    largest: float


class Drift:
    """Compares what is answered with the records that a model was calibrated on.

    Args:
        version: of the bundle.
        embed: the model's encoder, float32 [n, fields] to float32 [n, dimensions].
        centroids: float32 [k, dimensions].
        reference: float32 [m, fields], the records to compare with.
        window: sampled records that are compared, about.
        seed: of sampling and blurring; all workers need the same.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        version: str,
        embed: Callable[[Matrix], Matrix],
        centroids: Matrix,
        reference: Matrix,
        *,
        window: int,
        seed: int,
        clock: Callable[[], float],
    ) -> None:
        self.version, self.embed, self.clock = version, embed, clock
        self._fields = reference.shape[1]
        self._bins = _Bins(embed(reference), centroids, np.random.default_rng(seed))
        self._random = Random(seed)
        self._size = max(window // _BUCKETS, 1)
        self._sample = self._empty()
        self._buckets = deque([self._bins.none()], maxlen=_BUCKETS)
        self._lock = threading.Lock()
        self._looked = -np.inf

    @classmethod
    def of(cls, model: Model, *, window: int, clock: Callable[[], float]) -> Drift | None:
        """What compares with a model's own reference; None when there is too little of that.

        Args:
            model: with or without one.
            window: sampled records that are compared, about.
            clock: seconds that only go forward.
        """
        manifest, reference = model.manifest, model.reference
        if reference is None or len(reference.records) < _LEAST_REFERENCE:
            return None
        centroids = np.array([known.centroid for known in manifest.classes], np.float32)
        return cls(
            manifest.version,
            model.encoder.embed,
            centroids,
            reference.records,
            window=window,
            seed=_SEED,
            clock=clock,
        )

    def offer(self, matrix: Matrix) -> None:
        """Take a sample of records that were answered: float32 [n, fields]."""
        sample = self._sample
        sample.skip -= len(matrix)
        if sample.skip < 0:
            sample.take(matrix)

    def look(self) -> None:
        """Embed what was sampled since the last time, and move the window on; not too often."""
        with self._lock:
            now = self.clock()
            if now - self._looked < _PAUSE_SECONDS:
                return
            self._looked = now
            sample, self._sample = self._sample, self._empty()
            found = self._bins.place(self.embed(sample.rows(self._fields)))
            self._buckets[-1] = _sum([self._buckets[-1], found])
            if self._buckets[-1].records >= self._size:
                self._buckets.append(self._bins.none())

    def window(self) -> Window:
        """What the window holds."""
        with self._lock:
            places = _sum(self._buckets)
        return Window(
            self.version, places.records, places.classes.tolist(), places.counts.tobytes()
        )

    def measure(self, windows: Sequence[Window]) -> tuple[int, Drifts | None]:
        """How many records windows of this bundle hold, and their drift.

        Args:
            windows: of this process and others; those of other bundles are left out.

        Returns:
            The records, and None while they are too few.
        """
        own = [self._bins.none()]
        own += [self._bins.of(window) for window in windows if window.version == self.version]
        places = _sum(own)
        if places.records < LEAST_RECORDS:
            return places.records, None
        values = self._bins.compare(places)
        return places.records, Drifts(float(values.mean()), float(values.max()))

    def _empty(self) -> Reservoir:
        return Reservoir(min(_SAMPLED, self._size), self._random)


@dataclass(frozen=True, slots=True)
class _Places:
    """Where records lie.

    Attributes:
        classes: [k] records by the class of the nearest centroid.
        counts: [d, bins] records by dimension and bin.
    """

    classes: Counts
    counts: Counts

    @property
    def records(self) -> int:
        return int(self.classes.sum())


class _Bins:
    """The bins of every dimension, and how the reference fills them.

    Args:
        points: float32 [m, d], the reference.
        centroids: float32 [k, d].
        random: blurs.
    """

    def __init__(self, points: Matrix, centroids: Matrix, random: np.random.Generator) -> None:
        self.centroids, self.random = centroids, random
        cuts = np.arange(1, _BINS) / _BINS
        self.edges = np.quantile(self._blurred(points), cuts, axis=0).T.astype(np.float32)
        nearest = self._nearest(points)
        by_class = [self._count(points[nearest == k]) for k in range(len(centroids))]
        records = np.bincount(nearest, minlength=len(centroids)) + _LIKE_ALL
        everything = np.sum(by_class, axis=0) / len(points)
        self.records = records
        self.shares = (np.array(by_class) + _LIKE_ALL * everything) / records[:, None, None]

    def none(self) -> _Places:
        """Where no records lie."""
        return _Places(
            np.zeros(len(self.centroids), np.int64), np.zeros((len(self.edges), _BINS), np.int64)
        )

    def of(self, window: Window) -> _Places:
        """Where the records of a window lie."""
        counts = np.frombuffer(window.counts, np.int64).reshape(-1, _BINS)
        return _Places(np.array(window.classes, np.int64), counts)

    def place(self, points: Matrix) -> _Places:
        """Where points lie: float32 [n, d]."""
        classes = np.bincount(self._nearest(points), minlength=len(self.centroids))
        return _Places(classes, self._count(points))

    def compare(self, found: _Places) -> Shares:
        """The population stability index of each dimension: [d], at least 0."""
        mix = found.classes / found.records
        expected = np.tensordot(mix, self.shares, axes=1)
        p, q = np.maximum(expected, _FLOOR), np.maximum(found.counts / found.records, _FLOOR)
        by_chance = 1 / found.records + (np.square(mix) / self.records).sum()
        filled = (expected > _FLOOR).sum(axis=1)
        index: Shares = ((q - p) * np.log(q / p)).sum(axis=1) - (filled - 1) * by_chance
        return np.maximum(index, 0)

    def _nearest(self, points: Matrix) -> npt.NDArray[np.intp]:
        nearest: npt.NDArray[np.intp] = distances_between(points, self.centroids).argmin(axis=1)
        return nearest

    def _blurred(self, points: Matrix) -> Matrix:
        return points + self.random.uniform(-_BLUR / 2, _BLUR / 2, points.shape).astype(np.float32)

    def _count(self, points: Matrix) -> Counts:
        """Count points by dimension and bin."""
        dimensions = len(self.edges)
        counts = np.zeros(dimensions * _BINS, np.int64)
        firsts = np.arange(dimensions) * _BINS
        for start in range(0, len(points), _CHUNK):
            blurred = self._blurred(points[start : start + _CHUNK])
            bins = np.zeros(blurred.shape, np.int64) + firsts
            for edges in self.edges.T:
                bins += blurred > edges
            counts += np.bincount(bins.ravel(), minlength=len(counts))
        return counts.reshape(dimensions, _BINS)


def _sum(places: Sequence[_Places]) -> _Places:
    return _Places(
        np.sum([each.classes for each in places], axis=0),
        np.sum([each.counts for each in places], axis=0),
    )
