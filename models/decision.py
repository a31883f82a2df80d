"""The decision rule: the nearest centroid decides, and may refuse.

All distances are squared Euclidean distances divided by N, the number of dimensions, so that they
lie in 0..1 for points of the unit cube.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models.schema import Matrix

__all__ = ["Decisions", "NearestCentroid", "distances_between"]


def distances_between(points: Matrix, centroids: Matrix) -> Matrix:
    """Squared Euclidean distance over N.

    Args:
        points: float32 [n, N], each in [0, 1].
        centroids: float32 [k, N], each in [0, 1].

    Returns:
        float32 [n, k], each in 0..1.
    """
    # Centred on the cube's middle, products stay small and float32 keeps its digits.
    a, b = points - np.float32(0.5), centroids - np.float32(0.5)
    squares = np.square(a).sum(axis=1)[:, None] + np.square(b).sum(axis=1) - 2 * (a @ b.T)
    distances: Matrix = np.clip(squares / np.float32(points.shape[1]), 0, 1)
    return distances


@dataclass(frozen=True, slots=True)
class Decisions:
    """What the rule says of n records.

    Attributes:
        nearest: int [n], index of the class with the nearest centroid.
        accepted: bool [n], False where that class refuses the record: it is unknown.
        distances: float32 [n, k] to every centroid, 0..1.
        probabilities: float32 [n, k], calibrated probability of each known class; rows sum to 1.
    """

    nearest: npt.NDArray[np.intp]
    accepted: npt.NDArray[np.bool_]
    distances: Matrix
    probabilities: Matrix


@dataclass(frozen=True, slots=True)
class NearestCentroid:
    """Nearest centroid with a radius per class and a temperature for the confidence.

    Attributes:
        centroids: float32 [k, N], mean embedding of each class.
        radii: float32 [k]; a class accepts what lies within this distance of its centroid.
        temperature: probabilities are softmax(-distance / temperature); fitted on held-out
            records (Guo et al., "On Calibration of Modern Neural Networks", 2017).
    """

    centroids: Matrix
    radii: Matrix
    temperature: float

    def decide(self, embeddings: Matrix) -> Decisions:
        """Find the nearest class of each point and whether it accepts the point.

        Args:
            embeddings: float32 [n, N], each in (0, 1).
        """
        distances = distances_between(embeddings, self.centroids)
        nearest = distances.argmin(axis=1)
        shortest = distances[np.arange(len(distances)), nearest]
        logits = (shortest[:, None] - distances) / np.float32(self.temperature)
        weights = np.exp(logits)
        return Decisions(
            nearest=nearest,
            accepted=shortest <= self.radii[nearest],
            distances=distances,
            probabilities=weights / weights.sum(axis=1, keepdims=True),
        )
