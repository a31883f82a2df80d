"""Radii and confidence from held-out records."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from sklearn.metrics import log_loss

from models.decision import NearestCentroid, distances_between
from models.schema import Matrix
from training.dataset import Labels

Scores = npt.NDArray[np.float64]

__all__ = ["calibrate", "conformal_quantile"]


def calibrate(
    train: tuple[Matrix, Labels],
    held_out: tuple[Matrix, Labels],
    centroids: Matrix,
    unknown_rate: float,
) -> NearestCentroid:
    """Set each class's radius by split-conformal calibration, and the confidence's temperature.

    A class with enough held-out records (99 for a rate of 1 %) gets the conformal quantile of
    their distances to its centroid: a new record of the class then lies outside with at most that
    probability (Vovk et al., "Algorithmic Learning in a Random World", 2005). A class with fewer
    borrows: distances in units of the class's own spread are pooled over all classes, and the
    pooled quantile times the spread is its radius, or its own largest distance when that is more.

    Args:
        train: embeddings float32 [n, N] and labels int [n] that the spreads are taken from.
        held_out: the same of records that were not trained on.
        centroids: float32 [k, N].
        unknown_rate: share of a class's own records that may be called unknown.
    """
    spreads = _own_distances(*train, centroids)
    spread = np.array([max(_of(spreads, train[1], c).mean(), 1e-6) for c in range(len(centroids))])
    embeddings, labels = held_out
    own = _own_distances(embeddings, labels, centroids)
    pooled = conformal_quantile(own / spread[labels], unknown_rate)
    if math.isinf(pooled):
        pooled = float((own / spread[labels]).max())
    radii = []
    for c in range(len(centroids)):
        mine = _of(own, labels, c)
        radius = conformal_quantile(mine, unknown_rate)
        if math.isinf(radius):
            radius = max(pooled * spread[c], mine.max(initial=0))
        radii.append(min(radius, 1.0))
    distances = distances_between(embeddings, centroids).astype(np.float64)
    return NearestCentroid(
        centroids, np.array(radii, dtype=np.float32), _temperature(distances, labels)
    )


def conformal_quantile(scores: Scores, rate: float) -> float:
    """The ceil((n + 1)(1 - rate))-th smallest score; infinite when n is too small for that."""
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def _own_distances(embeddings: Matrix, labels: Labels, centroids: Matrix) -> Scores:
    distances = distances_between(embeddings, centroids).astype(np.float64)
    return distances[np.arange(len(labels)), labels]


def _of(values: Scores, labels: Labels, label: int) -> Scores:
    mine: Scores = values[labels == label]
    return mine


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
