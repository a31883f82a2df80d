from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from training.dataset.dataset import Rows
from training.fitting.calibrate import calibrate
from training.fitting.rule import decision_rule

Points = np.ndarray[Any, np.dtype[np.float32]]


def cloud(count: int, spread: float = 0.1, seed: int = 0, width: int = 4) -> Points:
    """Points about the middle of the cube."""
    points = np.random.default_rng(seed).normal(0.5, spread, (count, width))
    return points.clip(0.001, 0.999).astype(np.float32)


def test_a_rule_has_centroids_and_scatter_of_train_and_is_calibrated_on_dev() -> None:
    labels = np.arange(60) % 3
    train, dev = (Rows(cloud(60, seed=seed), labels) for seed in (1, 2))
    train.matrix[labels == 1] *= np.float32(0.5)

    def halved(matrix: Points) -> Points:
        return matrix[:, :2] * np.float32(0.5)

    rule = decision_rule(halved, train, dev, 0.1)
    centroids = np.stack([halved(train.matrix)[labels == c].mean(axis=0) for c in range(3)])
    expected = calibrate(halved(dev.matrix), labels, centroids, 0.1)
    np.testing.assert_array_equal(rule.centroids, expected.centroids)
    np.testing.assert_array_equal(rule.radii, expected.radii)
    assert rule.temperature == expected.temperature
    own = np.square(halved(train.matrix) - centroids[labels]).mean(axis=1)
    scatter = np.mean([own[labels == c].mean() for c in range(3)])
    assert rule.scatter == pytest.approx(scatter, abs=1e-7)
