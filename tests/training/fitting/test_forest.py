from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

from models.decision import distances_between
from models.schema import Matrix
from training.dataset.dataset import Labels
from training.fitting.forest import LEAVES, TREES, Forest

SEED = 7
NUMBERS = (0, 1, 1 + 2**-23, 1 + 2**-22, -3e38, 3e38, 1e-45)
"""Neighbouring ones too, between which a threshold is no float32."""


def fitted(values: Matrix, labels: Labels) -> tuple[Matrix, Forest]:
    """Return the mean probabilities of scikit-learn's own forests, and ours."""
    options: dict[str, Any] = {
        "max_leaf_nodes": LEAVES,
        "class_weight": "balanced",
        "random_state": SEED,
    }
    kinds = RandomForestClassifier, ExtraTreesClassifier
    with np.errstate(over="ignore", invalid="ignore"):
        theirs = [kind(TREES, **options).fit(values, labels) for kind in kinds]
        probabilities = np.mean([of.predict_proba(values) for of in theirs], axis=0)
    return probabilities, Forest(values, labels, SEED)


@settings(max_examples=10)
@given(
    arrays(
        np.float32,
        st.tuples(st.just(60), st.integers(1, 4)),
        elements=st.sampled_from(np.array(NUMBERS, np.float32).tolist()),
    )
)
def test_points_are_the_probabilities_of_scikit_learn_times_the_corners(values: Matrix) -> None:
    labels = np.arange(60) % 3
    probabilities, forest = fitted(values, labels)
    points = forest(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(points, probabilities @ forest.corners.numpy(), atol=1e-6)
    assert ((points > 0) & (points < 1)).all()
    # In float64, as estimators embed, all go the same way.
    twice = forest.double()(torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(twice, points, atol=1e-6)


@pytest.mark.parametrize(("classes", "dimensions"), [(2, 16), (15, 16), (16, 32), (40, 64)])
def test_every_class_has_a_corner_half_of_the_cube_away_from_each_other_one(
    classes: int, dimensions: int
) -> None:
    labels = np.arange(2 * classes) % classes
    corners = Forest(np.eye(2 * classes, dtype=np.float32), labels, SEED).corners.numpy()
    assert corners.shape == (classes, dimensions)
    apart = distances_between(corners, corners)[~np.eye(classes, dtype=bool)]
    np.testing.assert_allclose(apart, 0.5, atol=2e-3)


def test_a_seed_gives_the_same_trees_again() -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    labels = (values[:, 0] > 0).astype(np.int64)
    one, same, other = (Forest(values, labels, seed) for seed in (1, 1, 2**40))
    assert torch.equal(one.thresholds, same.thresholds)
    assert not torch.equal(one.roots, other.roots) or not torch.equal(
        one.thresholds, other.thresholds
    )
