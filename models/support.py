"""Classes that only a few records tell of: how far they reach, and their place in the rule."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import numpy as np
import numpy.typing as npt

from models.decision import NearestCentroid, distances_between
from models.schema import Matrix

__all__ = ["ROUNDING", "conformal_quantile", "support_radius", "with_class"]

ROUNDING = np.float32(1e-6)
"""Float32 distances of one record differ by less than this from batch to batch: a radius that is
used is wider by it."""


def conformal_quantile(scores: npt.NDArray[np.float64], rate: float) -> float:
    """The ceil((n + 1)(1 - rate))-th smallest score; infinite when n is too small for that."""
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


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


def _put(values: npt.NDArray[Any], place: int, value: Any) -> npt.NDArray[Any]:
    """The array with the value in this place, or behind it where place is its length."""
    return np.concatenate([values[:place], [value], values[place + 1 :]]).astype(values.dtype)
