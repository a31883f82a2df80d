"""Radii and confidence from held-out records."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from models.decision import NearestCentroid, distances_between
from models.schema import Matrix
from models.support import ROUNDING, conformal_quantile
from training.dataset.dataset import Labels

Scores = npt.NDArray[np.float64]

__all__ = ["calibrate"]


def calibrate(
    embeddings: Matrix, labels: Labels, centroids: Matrix, unknown_rate: float
) -> NearestCentroid:
    """Set each class's radius by split-conformal calibration, and the confidence's temperature.

    A class's radius is the conformal quantile of the distances of all held-out records that are
    nearest to it, so that a new record of a known class, drawn as those were, is called unknown
    with at most this probability (Vovk et al., "Algorithmic Learning in a Random World", 2005;
    conditional on the nearest class). Distances to a record's own class would not do: one record
    that lies in another cluster stretches the radius of its own beyond any use.

    A class with fewer held-out records than that takes (99 for 1 %) borrows the quantile over all
    classes, or takes its own largest distance when that is more.

    Args:
        embeddings: float32 [n, N], of records that were not trained on.
        labels: int [n], their classes.
        centroids: float32 [k, N].
        unknown_rate: share of records of known classes that may be called unknown.
    """
    distances = distances_between(embeddings, centroids).astype(np.float64)
    nearest, shortest = distances.argmin(axis=1), distances.min(axis=1)
    pooled = min(conformal_quantile(shortest, unknown_rate), float(shortest.max()))
    radii = []
    for c in range(len(centroids)):
        mine = shortest[nearest == c]
        radius = conformal_quantile(mine, unknown_rate)
        radii.append(max(pooled, mine.max(initial=0)) if math.isinf(radius) else radius)
    widened = np.array(radii, dtype=np.float32) + ROUNDING
    return NearestCentroid(centroids, widened.clip(0, 1), _temperature(distances, labels))


def _temperature(distances: Scores, labels: Labels) -> float:
    """The temperature under which softmax(-distance / T) is least surprised by the labels."""

    def surprise(log_t: float) -> float:
        logits = -distances / math.exp(log_t)
        logits -= logits.max(axis=1, keepdims=True)
        weights = np.exp(logits)
        weights /= weights.sum(axis=1, keepdims=True)
        return float(log_loss(labels, weights, labels=range(distances.shape[1])))

    found = minimize_scalar(surprise, bounds=(math.log(1e-4), math.log(10)), method="bounded")
    return float(np.float32(math.exp(found.x)))
