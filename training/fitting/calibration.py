"""The decision rule of a fitted encoder: centroids, calibrated radii and confidence."""

import dataclasses
import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import log_loss

from models.decision import NearestCentroid, distances_between
from models.schema import Matrix
from models.support import ROUNDING, conformal_quantile
from training.dataset.dataset import Labels, Rows
from training.fitting.fit import centroids_of


def decision_rule(
    embedding: Callable[[Matrix], Matrix], train: Rows, dev: Rows, unknown_rate: float
) -> NearestCentroid:
    """Take centroids and scatter from the training records, radii and temperature from the others.

    The embedding is by the library that will decide, torch in process and onnxruntime for a bundle,
    for their last digits differ. Labels are 0..K-1, and every class has a training record.
    """
    classes = int(train.labels.max()) + 1
    points, labels = embedding(train.matrix), train.labels
    centroids = centroids_of(points, labels, classes)
    to_own_centroid = distances_between(points, centroids)[np.arange(len(labels)), labels]
    scatter = float(np.mean([to_own_centroid[labels == c].mean() for c in range(classes)]))
    rule = calibrate(embedding(dev.matrix), dev.labels, centroids, unknown_rate)
    return dataclasses.replace(rule, scatter=scatter)


def calibrate(
    embeddings: Matrix, labels: Labels, centroids: Matrix, unknown_rate: float
) -> NearestCentroid:
    """Set each class's radius by split-conformal calibration, and the confidence's temperature.

    A class's radius is the conformal quantile of the distances of all held-out records that are
    nearest to it. So a new record of a known class, drawn from the same distribution, is called
    unknown with at most this probability (Vovk et al., "Algorithmic Learning in a Random World",
    2005; conditional on the nearest class). Distances to a record's own class would not do: one
    record that lies in another cluster stretches the radius of its class beyond any use. A class
    with too few held-out records (99 are needed for 1 %) takes the quantile over all classes, or
    its own largest distance if that is larger.
    """
    distances = distances_between(embeddings, centroids).astype(np.float64)
    nearest, shortest = distances.argmin(axis=1), distances.min(axis=1)
    pooled = min(conformal_quantile(shortest, unknown_rate), float(shortest.max()))
    radii = []
    for c in range(len(centroids)):
        of_class = shortest[nearest == c]
        radius = conformal_quantile(of_class, unknown_rate)
        radii.append(max(pooled, of_class.max(initial=0)) if math.isinf(radius) else radius)
    widened = np.array(radii, dtype=np.float32) + ROUNDING
    return NearestCentroid(centroids, widened.clip(0, 1), _temperature(distances, labels))


def _temperature(distances: npt.NDArray[np.float64], labels: Labels) -> float:
    """Return the T with the lowest cross-entropy of softmax(-distance / T) and the labels."""

    def cross_entropy(log_t: float) -> float:
        probabilities = softmax(-distances / math.exp(log_t), axis=1)
        return float(log_loss(labels, probabilities, labels=range(distances.shape[1])))

    best = minimize_scalar(cross_entropy, bounds=(math.log(1e-4), math.log(10)), method="bounded")
    return float(np.float32(math.exp(best.x)))
