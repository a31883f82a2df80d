"""Classes known from a few support records: their radius, and adding them to a rule."""

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
"""Added to a radius: float32 distances of a record differ by less than this between batches."""


def conformal_quantile(scores: npt.NDArray[np.float64], rate: float) -> float:
    """Return the ceil((n + 1)(1 - rate))-th smallest score; infinite if n is too small for that."""
    rank = math.ceil((len(scores) + 1) * (1 - rate) - 1e-9)
    return float(np.sort(scores)[rank - 1]) if rank <= len(scores) else math.inf


def support_radius(points: Matrix, others: Matrix, unknown_rate: float) -> float:
    """Return the radius of a class that is known from its support records only, in 0..1.

    Support records lie nearer to their own mean than new records will, so each is measured
    against the mean of the rest, (n / (n - 1))^2 times as far. If there are enough of them (99
    for 1 %), the radius is their conformal quantile, as for any class. With fewer it is the
    largest such distance, or the median radius of the calibrated classes if that is more, because
    a single record shows no spread. The median is widened by 1 + 1/n, because new records lie
    (1 + 1/n) variances from a mean of n records on average.

    The quantile over all held-out records, which small classes borrow in calibration, is too
    small: most of those are good traffic, which is tight. When the three shipped fault classes
    were each held out and enrolled from one record, it rejected 99, 69 and 29 % of the records
    nearest to them; the widened median rejected 0, 25 and 0 %.

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


def with_class(rule: NearestCentroid, index: int, points: Matrix, radius: float) -> NearestCentroid:
    """Return the rule with a class replaced, or added if `index` is the number of classes.

    It has no prior share, since nobody knows how common it is.

    Args:
        rule: the rule to change.
        index: of the class.
        points: float32 [n, N], its embedded support records.
        radius: of the class.
    """
    support = np.full(len(rule.radii), np.inf) if rule.support is None else rule.support
    log_prior = None if rule.log_prior is None else _put(rule.log_prior, index, math.nan)
    return dataclasses.replace(
        rule,
        centroids=_put(rule.centroids, index, points.mean(axis=0)),
        radii=_put(rule.radii, index, np.float32(radius)),
        support=_put(support, index, len(points)),
        log_prior=log_prior,
    )


def _put(values: npt.NDArray[Any], index: int, value: Any) -> npt.NDArray[Any]:
    """Return the array with the value at an index, or appended if that is its length."""
    return np.concatenate([values[:index], [value], values[index + 1 :]]).astype(values.dtype)
