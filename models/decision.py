"""The decision rule: the nearest centroid decides, and may refuse.

All distances are squared Euclidean distances divided by N, the number of dimensions, so that they
lie in 0..1 for points of the unit cube.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.schema import Matrix

__all__ = ["Decisions", "NearestCentroid", "distances_between", "expected_distances"]

_MIDDLE = np.float32(0.5)


def distances_between(points: Matrix, centroids: Matrix) -> Matrix:
    """Squared Euclidean distance over N.

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


def expected_distances(
    distances: Matrix, support: npt.NDArray[np.float64], scatter: float
) -> Matrix:
    """Distances as they would be if every centroid were exact.

    The mean of n records is off by 1/n of the scatter, and so a record of its class lies 1 + 1/n
    times as far from it. In a Gaussian model with a flat prior, minus twice the log of the
    predictive density is d / (1 + 1/n) + scatter ln(1 + 1/n), up to one factor and one constant
    for all classes (Gelman et al., "Bayesian Data Analysis", 3.5). Without this a class known from
    a single record loses most of its own records to well-known neighbours.

    Args:
        distances: float [n, k], to k centroids.
        support: float [k], how many records each centroid is the mean of; infinite when it is
            exact.
        scatter: mean distance of a class's records from its exact mean.
    """
    few = 1 / support
    expected: Matrix = (distances / (1 + few) + scatter * np.log1p(few)).astype(distances.dtype)
    return expected


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the rule says of n records.

    Attributes:
        nearest: int [n], index of the class that fits best: the one with the nearest centroid,
            once those that rest on few records are given their due.
        accepted: bool [n], False where that class refuses the record: it is unknown.
        distance: float32 [n], to the centroid of that class, 0..1.
        confidence: float32 [n], calibrated probability of that class.
        distances: float32 [n, k] to every centroid, 0..1.
        logits: float32 [n, k], 0 for that class and below for the others.
    """

    nearest: npt.NDArray[np.intp]
    accepted: npt.NDArray[np.bool_]
    distance: Matrix
    confidence: Matrix
    distances: Matrix
    logits: Matrix

    @property
    def probabilities(self) -> Matrix:
        """float32 [n, k], calibrated probability of each known class; rows sum to 1."""
        weights = np.exp(self.logits)
        probabilities: Matrix = weights / weights.sum(axis=1, keepdims=True)
        return probabilities


@dataclass(frozen=True, slots=True)
class NearestCentroid:
    """Nearest centroid with a radius per class and a temperature for the confidence.

    Attributes:
        centroids: float32 [k, N], mean embedding of each class.
        radii: float32 [k]; a class accepts what lies within this distance of its centroid.
        temperature: probabilities are softmax(-distance / temperature); fitted on held-out
            records (Guo et al., "On Calibration of Modern Neural Networks", 2017).
        support: float [k], how many records each centroid is the mean of, infinite where so many
            that it is exact; None when all are.
        scatter: how far records of a class lie from its exact mean, on average; 0..1.
    """

    centroids: Matrix
    radii: Matrix
    temperature: float
    support: npt.NDArray[np.float64] | None = None
    scatter: float = 0.0

    def decide(self, embeddings: Matrix) -> Decisions:
        """Find the nearest class of each point and whether it accepts the point.

        Args:
            embeddings: float32 [n, N], each in (0, 1).
        """
        return self.judge(distances_between(embeddings, self.centroids))

    def judge(self, distances: Matrix) -> Decisions:
        """Find the nearest class, and whether it accepts, of points whose distances are known.

        Args:
            distances: float32 [n, k], to the centroids.
        """
        expected = distances
        if self.support is not None:
            expected = expected_distances(distances, self.support, self.scatter)
        nearest = expected.argmin(axis=1)
        # `take` on flat indices: half the time of fancy indexing, which is what a single record
        # would spend most of its time on.
        flat = np.arange(len(expected)) * expected.shape[1] + nearest
        distance = distances.take(flat)
        logits = (expected.take(flat)[:, None] - expected) / np.float32(self.temperature)
        return Decisions(
            nearest=nearest,
            accepted=distance <= self.radii.take(nearest),
            distance=distance,
            confidence=1 / np.add.reduce(np.exp(logits), axis=1),
            distances=distances,
            logits=logits,
        )
