"""The decision rule: the class of the nearest centroid, or unknown if that is too far.

All distances are squared Euclidean distances divided by N, the number of dimensions, so that they
lie in 0..1 for points of the unit cube.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import cast

import numpy as np
import numpy.typing as npt

from models.schema import Matrix
from models.softmax import softmax_of_product

__all__ = [
    "Decisions",
    "NearestCentroid",
    "distances_between",
    "log_prior_of",
]

_Scores = npt.NDArray[np.float64]

_MIDDLE = np.float32(0.5)
_FEW_DISTANCES = 64
_MANY_CLASSES = 64
_TILE = 256
"""Records that are compared with many classes at a time: enough for a product at full speed, and
few enough that what it makes stays in the cache."""


def distances_between(points: Matrix, centroids: Matrix) -> Matrix:
    """Return squared Euclidean distances over N.

    Args:
        points: float32 [n, N], each in [0, 1].
        centroids: float32 [k, N], each in [0, 1].

    Returns:
        float32 [n, k], each in 0..1.
    """
    # Centred on the cube's middle, products stay small and float32 keeps its digits.
    a, b = points - _MIDDLE, centroids - _MIDDLE
    distances: Matrix = a @ b.T
    distances *= -2
    distances += np.einsum("ij,ij->i", a, a)[:, None]
    distances += np.einsum("ij,ij->i", b, b)
    distances /= np.float32(points.shape[1])
    np.maximum(distances, 0, out=distances)
    np.minimum(distances, 1, out=distances)
    return distances


def _allowance(support: _Scores, scatter: float) -> tuple[_Scores, _Scores]:
    """Return the factors and summands that make distances what they would be to exact centroids.

    The mean of n records is off by 1/n of the scatter, and so a record of its class lies 1 + 1/n
    times as far from it. In a Gaussian model with a flat prior, minus twice the log of the
    predictive density is d / (1 + 1/n) + scatter ln(1 + 1/n), up to one factor and one constant
    for all classes (Gelman et al., "Bayesian Data Analysis", 3.5). Without this a class known from
    a single record loses most of its own records to well-known neighbours.

    Args:
        support: float [k], the number of records behind each centroid; infinite if it is exact.
        scatter: mean distance of a class's records from its exact mean.
    """
    return 1 / (1 + 1 / support), scatter * np.log1p(1 / support)


def log_prior_of(shares: Sequence[float | None]) -> _Scores | None:
    """Return the log of each class's prior share: [k], NaN for a class without one.

    Args:
        shares: of each class, or None for a class that was enrolled; None is returned if no class
            has one.
    """
    if all(share is None for share in shares):
        return None
    return np.log([math.nan if share is None else share for share in shares])


@dataclass(slots=True, eq=False)
class Decisions:
    """The decisions of a rule on n records; a slice holds those on some of them.

    Attributes:
        nearest: int [n], index of the class that is nearest, by `NearestCentroid.expected`.
        accepted: bool [n], False where the record is beyond the radius of that class: unknown.
        distance: float32 [n], to the centroid of that class, 0..1.
        confidence: float32 [n], calibrated probability of that class.
        rule: the rule that decided.
        points: float32 [n, N], the embedded records; None if the distances are computed already.
    """

    nearest: npt.NDArray[np.intp]
    accepted: npt.NDArray[np.bool_]
    distance: Matrix
    confidence: Matrix
    rule: NearestCentroid
    _distances: Matrix | None = None
    points: Matrix | None = None

    def __getitem__(self, records: slice | npt.NDArray[np.intp]) -> Decisions:
        return Decisions(
            self.nearest[records],
            self.accepted[records],
            self.distance[records],
            self.confidence[records],
            self.rule,
            None if self._distances is None else self._distances[records],
            None if self.points is None else self.points[records],
        )

    @classmethod
    def concatenate(cls, parts: Sequence[Decisions]) -> Decisions:
        """Join decisions of one rule.

        Args:
            parts: at least one; a single one is returned as it is.
        """
        if len(parts) == 1:
            return parts[0]
        points = [part.points for part in parts if part.points is not None]
        # Distances to many classes are only computed when somebody reads them.
        lazy = len(points) == len(parts)
        return cls(
            np.concatenate([part.nearest for part in parts]),
            np.concatenate([part.accepted for part in parts]),
            np.concatenate([part.distance for part in parts]),
            np.concatenate([part.confidence for part in parts]),
            parts[0].rule,
            None if lazy else np.concatenate([part.distances for part in parts]),
            np.concatenate(points) if lazy else None,
        )

    @property
    def distances(self) -> Matrix:
        """float32 [n, k] to every centroid, 0..1."""
        if self._distances is None:
            points = cast("Matrix", self.points)
            self._distances = distances_between(points, self.rule.centroids)
            self._distances[np.arange(len(points)), self.nearest] = self.distance
        return self._distances

    @property
    def probabilities(self) -> Matrix:
        """float32 [n, k], calibrated probability of each class; rows sum to 1."""
        expected = self.rule.expected(self.distances)
        shortest = expected.min(axis=1, keepdims=True)
        weights = np.exp((shortest - expected) / np.float32(self.rule.temperature))
        probabilities: Matrix = weights / weights.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True, slots=True)
class NearestCentroid:
    """Nearest centroid with a radius per class and a temperature for the confidence.

    Attributes:
        centroids: float32 [k, N], mean embedding of each class.
        radii: float32 [k]; a class accepts records within this distance of its centroid.
        temperature: probabilities are softmax(-distance / temperature); fitted on held-out
            records (Guo et al., "On Calibration of Modern Neural Networks", 2017).
        support: float [k], the number of records behind each centroid, infinite where it is exact;
            None if all are.
        scatter: mean distance of a class's records from its exact mean, 0..1.
        log_prior: float [k], by `log_prior_of`; None if all classes count alike. By Bayes' rule it
            belongs to the logits, so that a class is as much farther as it is rarer. Enrolled
            classes have none, because nobody knows how common they are: the trained classes
            together keep the probability that they have without a prior, which only shares it out
            among them.
    """

    centroids: Matrix
    radii: Matrix
    temperature: float
    support: _Scores | None = None
    scatter: float = 0.0
    log_prior: _Scores | None = None
    _allowances: tuple[Matrix, Matrix] | None = field(default=None, init=False, repr=False)
    _pairs: list[tuple[float, float]] | None = field(default=None, init=False, repr=False)
    _trained: slice | npt.NDArray[np.intp] | None = field(default=None, init=False, repr=False)
    _log_shares: _Scores | None = field(default=None, init=False, repr=False)
    _shares: dict[int, float] | None = field(default=None, init=False, repr=False)
    _radii: list[float] = field(default_factory=list, init=False, repr=False)
    _origin: Matrix | None = field(default=None, init=False, repr=False)
    _varying: npt.NDArray[np.intp] | None = field(default=None, init=False, repr=False)
    _projection: Matrix | None = field(default=None, init=False, repr=False)
    _trained_projection: Matrix | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        set_field = partial(object.__setattr__, self)  # the only way into a frozen dataclass
        set_field("_radii", self.radii.tolist())
        has_prior = None if self.log_prior is None else ~np.isnan(self.log_prior)
        if has_prior is not None and not has_prior.all():
            trained = np.flatnonzero(has_prior)
            log_shares = cast("_Scores", self.log_prior)[trained]
            come_first = bool(has_prior[: len(trained)].all())
            set_field("_trained", slice(len(trained)) if come_first else trained)
            set_field("_log_shares", log_shares)
            shares = np.exp(log_shares).tolist()
            set_field("_shares", dict(zip(trained.tolist(), shares, strict=True)))
        if self.support is not None or self.log_prior is not None:
            support = np.full(len(self.radii), np.inf) if self.support is None else self.support
            shrink, add = _allowance(support, self.scatter)
            if self.log_prior is not None and self._trained is None:
                add = add - self.temperature * self.log_prior
            set_field("_allowances", (shrink.astype(np.float32), add.astype(np.float32)))
            set_field("_pairs", list(zip(shrink.tolist(), add.tolist(), strict=True)))
        if self.has_many:
            varies = (self.centroids != self.centroids[0]).any(axis=0)
            # From a point that all centroids share where they do not vary, these dimensions say
            # nothing of any class but how far the point is from all: the product leaves them out.
            set_field("_origin", np.where(varies, _MIDDLE, self.centroids[0]).astype(np.float32))
            set_field("_varying", np.flatnonzero(varies))
            projection = self._projected()
            if self._trained is not None:
                set_field("_trained_projection", projection[:, self._trained])
                among = np.zeros(len(self.radii), np.float32)
                among[self._trained] = 1
                projection = np.vstack([projection, among])
                projection[-2, self._trained] += cast("_Scores", self._log_shares)
            set_field("_projection", projection)

    @property
    def has_many(self) -> bool:
        """Whether there are so many classes that `decide` beats `decide_by_distances`."""
        return len(self.radii) > _MANY_CLASSES

    def decide(self, embeddings: Matrix) -> Decisions:
        """Find the nearest class of each point, and whether it accepts the point.

        Args:
            embeddings: float32 [n, N], each in (0, 1).
        """
        if self._projection is not None:
            return self._decide_among_many(embeddings, self._projection)
        return self.decide_by_distances(distances_between(embeddings, self.centroids))

    def decide_by_distances(self, distances: Matrix) -> Decisions:
        """Decide on points whose distances are computed already.

        Args:
            distances: float32 [n, k], to the centroids.
        """
        if distances.size <= _FEW_DISTANCES:
            return self._decide_few(distances)
        expected = self.expected(distances)
        nearest = expected.argmin(axis=1)
        rows = np.arange(len(expected))
        distance = distances[rows, nearest]
        logits = (expected[rows, nearest][:, None] - expected) / np.float32(self.temperature)
        accepted, confidence = distance <= self.radii[nearest], 1 / np.exp(logits).sum(axis=1)
        return Decisions(nearest, accepted, distance, confidence, self, distances)

    def _decide_few(self, distances: Matrix) -> Decisions:
        """Decide in plain Python: for few numbers, calls of numpy take longer than their work."""
        radii, temperature, pairs = self._radii, self.temperature, self._pairs
        nearest, accepted, distance, confidence = [], [], [], []
        for row in distances.tolist():
            expected = row
            if pairs is not None:
                expected = [d * shrink + add for d, (shrink, add) in zip(row, pairs, strict=True)]
            if self._shares is not None:
                expected = self._with_prior_few(expected, self._shares)
            shortest = min(expected)
            index = expected.index(shortest)
            nearest.append(index)
            accepted.append(row[index] <= radii[index])
            distance.append(row[index])
            weights = sum([math.exp((shortest - other) / temperature) for other in expected])
            confidence.append(1 / weights)
        return Decisions(
            np.array(nearest, np.intp),
            np.array(accepted, np.bool_),
            np.array(distance, np.float32),
            np.array(confidence, np.float32),
            self,
            distances,
        )

    def _decide_among_many(self, points: Matrix, projection: Matrix) -> Decisions:
        """Decide by one matrix product, tile by tile so that it stays in the cache."""
        centred = points - cast("Matrix", self._origin)
        squares = np.einsum("ij,ij->i", centred, centred)[:, None]
        columns = [centred[:, self._varying], squares, np.ones_like(squares)]
        wide = np.concatenate(columns, axis=1, dtype=np.float32)
        if self._trained_projection is not None:
            balance = self._balance(wide @ self._trained_projection)
            wide = np.concatenate([wide, balance], axis=1, dtype=np.float32)
        nearest = np.empty(len(points), np.intp)
        confidence = np.empty(len(points), np.float32)
        for start in range(0, len(points), _TILE):
            tile = slice(start, start + _TILE)
            probabilities = softmax_of_product(wide[tile], projection)
            best = nearest[tile] = probabilities.argmax(axis=1)
            confidence[tile] = probabilities[np.arange(len(best)), best]
        offset = points - self.centroids[nearest]
        distance = np.einsum("ij,ij->i", offset, offset) / np.float32(points.shape[1])
        accepted = distance <= self.radii[nearest]
        return Decisions(nearest, accepted, distance, confidence, self, points=points)

    def _projected(self) -> Matrix:
        """Return the matrix [varying + 2, k] from [a, |a|^2, 1] to the logits of a point a.

        The first are its dimensions in which centroids vary, from the origin; the square is of
        all of them. A logit is minus the expected distance over the temperature.
        """
        centred = (self.centroids - cast("Matrix", self._origin)).astype(np.float64)
        shrink, add = self._allowances or (np.float32(1), np.float32(0))
        scale = np.broadcast_to(shrink / centred.shape[1], len(centred)).astype(np.float64)
        squares = np.einsum("ij,ij->i", centred, centred)
        products = -2 * scale * centred[:, self._varying].T
        rows = [products, scale[None], (scale * squares + add)[None]]
        logits = np.concatenate(rows) / -self.temperature
        return np.ascontiguousarray(logits, dtype=np.float32)

    def expected(self, distances: Matrix) -> Matrix:
        """Return distances, [n, k], as if every centroid were exact, with the prior in them."""
        if self._allowances is None:
            return distances
        shrink, add = self._allowances
        expected = distances * shrink + add
        if self._trained is not None:
            logits = expected[:, self._trained] / np.float32(-self.temperature)
            added = self._balance(logits) + cast("_Scores", self._log_shares)
            expected[:, self._trained] -= self.temperature * added.astype(logits.dtype)
        return expected

    def _balance(self, logits: Matrix) -> _Scores:
        """Return what keeps the sum of the trained classes' probabilities as it is.

        It is added to their logits, [n, trained], together with the log of the prior: [n, 1].
        """
        weights = np.exp(logits - logits.max(axis=1, keepdims=True), dtype=np.float64)
        before, after = weights.sum(axis=1), weights @ np.exp(cast("_Scores", self._log_shares))
        balance: _Scores = np.log(before / after)[:, None]
        return balance

    def _with_prior_few(self, expected: list[float], shares: dict[int, float]) -> list[float]:
        """Return the expected distances of one record with the prior among the trained classes."""
        temperature = self.temperature
        shortest = min(expected[k] for k in shares)
        weights = [math.exp((shortest - expected[k]) / temperature) for k in shares]
        after = sum([w * share for w, share in zip(weights, shares.values(), strict=True)])
        of_all = math.log(sum(weights) / after)
        moved = expected.copy()
        for k, share in shares.items():
            moved[k] -= temperature * (of_all + math.log(share))
        return moved
