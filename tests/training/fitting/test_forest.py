from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)

from models.decision import distances_between
from models.schema import Matrix
from training.dataset.dataset import Labels
from training.fitting.forest import LEAVES, ROUNDS, TREES, Forest
from training.recipe import Growth

SEED = 7
NUMBERS = (0, 1, 1 + 2**-23, 1 + 2**-22, -3e38, 3e38, 1e-45)
"""Neighbouring ones too, between which a threshold is no float32."""


def fitted(values: Matrix, labels: Labels, growth: Growth) -> tuple[Matrix, Forest]:
    """Return the probabilities of scikit-learn's own trees, and ours."""
    options: dict[str, Any] = {"class_weight": "balanced", "random_state": SEED}
    if growth == "random":
        kinds = RandomForestClassifier, ExtraTreesClassifier
        theirs = [kind(TREES, max_leaf_nodes=LEAVES, **options) for kind in kinds]
    else:
        theirs = [HistGradientBoostingClassifier(early_stopping=False, **ROUNDS, **options)]
    with np.errstate(over="ignore", invalid="ignore"):
        probabilities = np.mean(
            [of.fit(values, labels).predict_proba(values) for of in theirs], axis=0
        )
    return probabilities, Forest.grow(values, labels, growth, SEED)


@pytest.mark.parametrize("growth", ["random", "boosted"])
@pytest.mark.parametrize("classes", [2, 3])
@settings(max_examples=10)
@given(
    values=arrays(
        np.float32,
        st.tuples(st.just(90), st.integers(1, 4)),
        elements=st.sampled_from(np.array(NUMBERS, np.float32).tolist()),
    )
)
def test_points_are_the_probabilities_of_scikit_learn_times_the_corners(
    values: Matrix, classes: int, growth: Growth
) -> None:
    labels = np.arange(90) % classes
    probabilities, forest = fitted(values, labels, growth)
    points = forest(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(points, probabilities @ forest.corners.numpy(), atol=1e-5)
    assert ((points > 0) & (points < 1)).all()
    # In float64, as estimators embed, all go the same way.
    twice = forest.double()(torch.from_numpy(values).double()).numpy()
    np.testing.assert_allclose(twice, points, atol=1e-5)


def test_boosted_trees_tell_apart_what_they_were_fitted_to() -> None:
    values = np.random.default_rng(0).normal(size=(600, 3)).astype(np.float32)
    labels = (values[:, 0] > 0).astype(np.int64) + (values[:, 1] > 0.5)
    probabilities, forest = fitted(values, labels, "boosted")
    assert probabilities.max(axis=1).min() > 0.5
    points = forest(torch.from_numpy(values)).numpy()
    np.testing.assert_allclose(points, probabilities @ forest.corners.numpy(), atol=1e-5)
    nearest = distances_between(points, forest.corners.numpy()).argmin(axis=1)
    assert (nearest == labels).all()


def test_no_leaf_of_a_boosted_tree_is_so_sure_that_others_have_no_digits_left(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setitem(ROUNDS, "learning_rate", 1e6)
    values = np.random.default_rng(0).normal(size=(200, 2)).astype(np.float32)
    forest = Forest.grow(values, np.arange(200) % 3, "boosted", SEED)
    assert 1 < float(forest.scores.abs().max()) < 15


@pytest.mark.parametrize(("growth", "distance"), [("random", 0.5), ("boosted", 0.25)])
@pytest.mark.parametrize(("classes", "dimensions"), [(2, 16), (15, 16), (16, 32), (40, 64)])
def test_every_class_has_a_corner_as_far_from_each_other_one(
    classes: int, dimensions: int, growth: Growth, distance: float
) -> None:
    labels = np.arange(2 * classes) % classes
    values = np.eye(2 * classes, dtype=np.float32)
    corners = Forest.grow(values, labels, growth, SEED).corners.numpy()
    assert corners.shape == (classes, dimensions)
    apart = distances_between(corners, corners)[~np.eye(classes, dtype=bool)]
    np.testing.assert_allclose(apart, distance, atol=2e-3)


@pytest.mark.parametrize("growth", ["random", "boosted"])
def test_a_seed_gives_the_same_trees_again(growth: Growth) -> None:
    values = np.random.default_rng(0).normal(size=(100, 3)).astype(np.float32)
    labels = (values[:, 0] > 0).astype(np.int64)
    one, same, other = (Forest.grow(values, labels, growth, seed) for seed in (1, 1, 2**40))
    assert torch.equal(one.thresholds, same.thresholds)
    assert torch.equal(one.scores, same.scores)
    if growth == "random":  # boosting draws nothing from so few records
        assert not torch.equal(one.scores, other.scores)
