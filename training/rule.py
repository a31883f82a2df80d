"""The decision rule of a fit, and of classes that are enrolled after it."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decision import NearestCentroid, distances_between
from models.schema import Matrix
from training.calibrate import calibrate, conformal_quantile
from training.dataset import Rows
from training.fit import centroids_of

Array = npt.NDArray[Any]

__all__ = ["decision_rule", "support_radius", "with_class"]


def decision_rule(
    embedding: Callable[[Matrix], Matrix], train: Rows, dev: Rows, unknown_rate: float
) -> NearestCentroid:
    """Centroids and scatter of the training records; radii and temperature from held-out ones.

    Args:
        embedding: float32 [n, fields] to float32 [n, N], by the library that will decide: torch in
            process, onnxruntime for a bundle. Their last digits differ.
        train: labels are 0..K-1, and every class has a record.
        dev: records that were not trained on, at least one.
        unknown_rate: share of records of known classes that may be called unknown.
    """
    classes = int(train.labels.max()) + 1
    points, labels = embedding(train.matrix), train.labels
    centroids = centroids_of(points, labels, classes)
    own = distances_between(points, centroids)[np.arange(len(labels)), labels]
    scatter = float(np.mean([own[labels == c].mean() for c in range(classes)]))
    rule = calibrate(embedding(dev.matrix), dev.labels, centroids, unknown_rate)
    return dataclasses.replace(rule, scatter=scatter)


def support_radius(points: Matrix, others: Matrix, unknown_rate: float) -> float:
    """The radius of a class that only its support records tell of, in 0..1.

    Support records lie nearer to their own mean than new records will, so each is measured
    against the mean of the rest, (n / (n - 1))^2 times as far. When there are enough of them (99
    for 1 %), the radius is their conformal quantile, as it is for any class. With fewer it is the
    largest such distance, or the median radius of the calibrated classes if that is more, for a
    single record shows no spread. The median is widened by 1 + 1/n since a mean of n records is
    off itself: new records lie (1 + 1/n) variances from it on average.

    Not the quantile over all held-out records, which small classes borrow when a model is
    calibrated: most of those are good traffic, which is tight. Of shipped fault classes that were
    held out and enrolled from one record, it refused 99, 69 and 29 % of the records nearest to
    them, and the widened median 0, 25 and 0 %.

    Args:
        points: float32 [n, N], the embedded support records.
        others: float32 [k], radii of the calibrated classes.
        unknown_rate: share of the class's records that may be called unknown.
    """
    n = len(points)
    distances = distances_between(points, points.mean(axis=0, keepdims=True)).astype(np.float64)
    to_the_rest = distances[:, 0] * (n / max(n - 1, 1)) ** 2
    radius = conformal_quantile(to_the_rest, unknown_rate)
    if math.isinf(radius):
        radius = max(float(np.median(others)) * (1 + 1 / n), float(to_the_rest.max()))
    return min(radius, 1.0)


def with_class(rule: NearestCentroid, place: int, points: Matrix, radius: float) -> NearestCentroid:
    """The rule with another class in this place, or one more where place is the class count.

    Args:
        rule: as it was.
        place: of the class.
        points: float32 [n, N], its embedded support records.
        radius: of the class.
    """
    support = np.full(len(rule.radii), np.inf) if rule.support is None else rule.support
    return dataclasses.replace(
        rule,
        centroids=_put(rule.centroids, place, points.mean(axis=0)),
        radii=_put(rule.radii, place, np.float32(radius)),
        support=_put(support, place, len(points)),
    )


def _put(values: Array, place: int, value: Any) -> Array:
    """The array with the value in this place, or behind it where place is its length."""
    return np.concatenate([values[:place], [value], values[place + 1 :]]).astype(values.dtype)
