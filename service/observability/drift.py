"""How far recent records are from those that the model was calibrated on.

Measured by the population stability index (PSI) of every dimension of the embedding,

    PSI = sum over bins of (q - p) ln(q / p),

with p the expected shares in bins cut at the deciles of the reference records, and q the shares in
a sliding window over a sample of the traffic. Above 0.1 a shift is called moderate, above 0.25
major. What differs from the plain formula:

- **The expected mix is the current one.** A healthy network sends hardly any faults, the reference
  holds plenty. So p combines the classes of the reference in the shares that the window has; the
  class of a record here is that of the nearest centroid. Against the whole reference, its own good
  records alone would have a PSI of 0.8.
- **Irrelevant differences are blurred.** Clusters are tight: deciles inside one would separate
  values that no verdict depends on. Every value is blurred by up to 1 % of the cube's side in both
  directions, so that deciles always differ.
- **Empty bins** count as a share of 0.0001, as in M. Burke's `population-stability-index`.
- **Chance is subtracted.** Samples of n and m records of one population differ by
  (bins - 1)(1/n + 1/m) on average (Yurdakul and Naranjo, "Statistical properties of the population
  stability index", 2020). Below 500 records there is no result.
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
"""Of a window, to measure drift."""

Counts = npt.NDArray[np.int64]
Shares = npt.NDArray[np.float64]

_BINS = 10
_FLOOR = 1e-4
_BLUR = 0.02
_BUCKETS = 10
"""Parts of the window; the oldest is dropped when the newest is full."""
_MAX_SAMPLED = 500
"""Records that are embedded at once."""
_PAUSE_SECONDS = 10.0
"""Between two embeddings of samples, at least: hardly 0.1 % of a core."""
_LEAST_REFERENCE = 100
_SEED = 20_250_101
_PRIOR_RECORDS = 5.0
"""Records of the whole reference that are added to each class: a small class has gaps by chance."""
_CHUNK = 500


class Window(msgspec.Struct):
    """Where the sampled records of a window lie.

    Attributes:
        version: of the bundle.
        records: number of sampled records.
        counts: `_Bins.count` of them, int64 in bytes.
    """

    version: str
    records: int
    counts: bytes


@dataclass(frozen=True, slots=True)
class Drifts:
    """Population stability index over the dimensions of the embedding.

    Attributes:
        mean: of all dimensions.
        largest: of any dimension.
    """

    mean: float
    largest: float


class Drift:
    """Compares recent records with those that a model was calibrated on.

    Args:
        version: of the bundle.
        embed: the model's encoder, float32 [n, fields] to float32 [n, dimensions].
        centroids: float32 [k, dimensions].
        reference: float32 [m, fields], the records to compare with.
        window: approximate number of sampled records to compare.
        seed: of sampling and blurring; all workers need the same.
        clock: monotonic seconds.
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
        self._sample = self._new_sample()
        self._buckets = deque([self._bins.zeros()], maxlen=_BUCKETS)
        self._lock = threading.Lock()
        self._looked = -np.inf

    @classmethod
    def of(cls, model: Model, *, window: int, clock: Callable[[], float]) -> Drift | None:
        """Return a comparison with the model's own reference, or None if that is too small.

        Args:
            model: with or without a reference.
            window: approximate number of sampled records to compare.
            clock: monotonic seconds.
        """
        manifest, reference = model.manifest, model.reference
        if reference is None or len(reference.records) < _LEAST_REFERENCE:
            return None
        centroids = np.array([known.centroid for known in manifest.classes], np.float32)
        embed, version = model.encoder.embed, manifest.version
        records = reference.records
        return cls(version, embed, centroids, records, window=window, seed=_SEED, clock=clock)

    def offer(self, matrix: Matrix) -> None:
        """Sample records that were answered: float32 [n, fields]."""
        self._sample.offer(matrix)

    def look(self) -> None:
        """Embed the records sampled since the last time, unless that was a moment ago."""
        with self._lock:
            now = self.clock()
            if now - self._looked < _PAUSE_SECONDS:
                return
            self._looked = now
            sample, self._sample = self._sample, self._new_sample()
            self._buckets[-1] += self._bins.count(self.embed(sample.rows(self._fields)))
            if self._bins.records(self._buckets[-1]) >= self._size:
                self._buckets.append(self._bins.zeros())

    def window(self) -> Window:
        """Return the counts of the window."""
        with self._lock:
            counts = np.sum(self._buckets, axis=0)
        return Window(self.version, self._bins.records(counts), counts.tobytes())

    def measure(self, windows: Sequence[Window]) -> tuple[int, Drifts | None]:
        """Return the number of records in all windows of this bundle, and their drift.

        Args:
            windows: of this process and others; those of other bundles are ignored.

        Returns:
            The records, and None while they are too few.
        """
        counts = self._bins.zeros()
        for window in windows:
            if window.version == self.version:
                counts += np.frombuffer(window.counts, np.int64)
        records = self._bins.records(counts)
        if records < LEAST_RECORDS:
            return records, None
        index = self._bins.compare(counts)
        return records, Drifts(float(index.mean()), float(index.max()))

    def _new_sample(self) -> Reservoir:
        return Reservoir(min(_MAX_SAMPLED, self._size), self._random)


class _Bins:
    """The bins of every dimension, and the shares of the reference in them.

    Counts of records are int64 [k + dimensions * bins]: by the class of the nearest centroid, then
    by dimension and bin.

    Args:
        points: float32 [m, dimensions], the reference.
        centroids: float32 [k, dimensions].
        random: for blurring.
    """

    def __init__(self, points: Matrix, centroids: Matrix, random: np.random.Generator) -> None:
        self.centroids, self.random = centroids, random
        cuts = np.arange(1, _BINS) / _BINS
        self.edges = np.quantile(self._blurred(points), cuts, axis=0).T.astype(np.float32)
        nearest = self._nearest(points)
        by_class = [self._count_bins(points[nearest == k]) for k in range(len(centroids))]
        whole = np.sum(by_class, axis=0) / len(points)
        self.sizes = np.bincount(nearest, minlength=len(centroids)) + _PRIOR_RECORDS
        self.shares = (np.array(by_class) + _PRIOR_RECORDS * whole) / self.sizes[:, None, None]

    def zeros(self) -> Counts:
        """Return the counts of no records."""
        return np.zeros(len(self.centroids) + len(self.edges) * _BINS, np.int64)

    def records(self, counts: Counts) -> int:
        """Return the number of counted records."""
        return int(counts[: len(self.centroids)].sum())

    def count(self, points: Matrix) -> Counts:
        """Count points: float32 [n, dimensions]."""
        classes = np.bincount(self._nearest(points), minlength=len(self.centroids))
        return np.concatenate([classes, self._count_bins(points).ravel()])

    def compare(self, counts: Counts) -> Shares:
        """Return the population stability index of each dimension: [dimensions], at least 0."""
        classes, bins = np.split(counts, [len(self.centroids)])
        records = classes.sum()
        mix = classes / records
        expected = np.tensordot(mix, self.shares, axes=1)
        p, q = np.maximum(expected, _FLOOR), np.maximum(bins.reshape(-1, _BINS) / records, _FLOOR)
        by_chance = 1 / records + (np.square(mix) / self.sizes).sum()
        filled = (expected > _FLOOR).sum(axis=1)
        index: Shares = ((q - p) * np.log(q / p)).sum(axis=1) - (filled - 1) * by_chance
        return np.maximum(index, 0)

    def _nearest(self, points: Matrix) -> npt.NDArray[np.intp]:
        nearest: npt.NDArray[np.intp] = distances_between(points, self.centroids).argmin(axis=1)
        return nearest

    def _blurred(self, points: Matrix) -> Matrix:
        return points + self.random.uniform(-_BLUR / 2, _BLUR / 2, points.shape).astype(np.float32)

    def _count_bins(self, points: Matrix) -> Counts:
        """Count points by dimension and bin: [dimensions, bins]."""
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
