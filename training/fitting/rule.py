"""The decision rule of a fit."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import numpy as np

from models.decision import NearestCentroid, distances_between
from models.schema import Matrix
from training.dataset.dataset import Rows
from training.fitting.calibrate import calibrate
from training.fitting.fit import centroids_of

__all__ = ["decision_rule"]


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
