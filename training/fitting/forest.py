"""A member of the cube that is no network: trees, whose class probabilities are a point.

Trees cut where fields have thresholds, and hardly mind another device's levels; they err otherwise
than perceptrons, so that distances to both together err less. Each class has a corner of a cube of
their own, all as far from one another (rows of a Hadamard matrix): the place where the lossless
loss has its minimum. A record is the mean of the corners by its probabilities.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import hadamard
from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier
from torch import Tensor, nn

from models.schema import Matrix
from training.dataset.dataset import Labels

TREES = 25
"""Of each kind: more are hardly better, and every one costs time with each record."""
LEAVES = 128
"""Of a tree at most."""
_KINDS: tuple[Callable[..., Any], ...] = (RandomForestClassifier, ExtraTreesClassifier)
_DIMENSIONS = 16
"""Of the cube, as of a perceptron's; more where there are as many classes."""
_MARGIN = 1e-3
"""Between a corner and that of the unit cube: points are inside, however digits are rounded."""


class Forest(nn.Module):
    """Random trees and extremely random trees, all classes alike, as one module.

    All trees go down one step at a time, together; a leaf leads to itself.

    Args:
        values: float32 [n, width], the training records; no value is missing.
        labels: int64 [n], 0..K-1.
        seed: of the trees.

    Attributes:
        dimensions: of the points.
        roots: int64 [trees], the node that each tree begins at.
        features, thresholds, lower, upper: [nodes], where a record goes on: to `lower` if the
            feature is at most the threshold.
        shares: float32 [nodes, K], the shares of the classes at a leaf.
        corners: float32 [K, dimensions].
    """

    def __init__(self, values: Matrix, labels: Labels, seed: int) -> None:
        super().__init__()
        options = {
            "max_leaf_nodes": LEAVES,
            "class_weight": "balanced",  # as the batches of perceptrons are
            "random_state": seed % 2**32,
        }
        with np.errstate(over="ignore", invalid="ignore"):  # scikit-learn sums up huge numbers
            fitted = [kind(TREES, **options).fit(values, labels) for kind in _KINDS]
        trees = [tree.tree_ for forest in fitted for tree in forest.estimators_]
        starts = np.cumsum([0, *(tree.node_count for tree in trees)])
        nodes = [_nodes_of(tree, start) for tree, start in zip(trees, starts, strict=False)]
        features, thresholds, lower, upper, shares = (
            torch.from_numpy(np.concatenate(parts)) for parts in zip(*nodes, strict=True)
        )
        self.depth = max(tree.max_depth for tree in trees)
        self.roots = nn.Buffer(torch.from_numpy(starts[:-1]))
        self.features, self.thresholds = nn.Buffer(features), nn.Buffer(thresholds)
        self.lower, self.upper = nn.Buffer(lower), nn.Buffer(upper)
        self.shares = nn.Buffer(shares)
        self.corners = nn.Buffer(torch.from_numpy(_corners(self.shares.shape[1])))
        self.dimensions = self.corners.shape[1]

    def forward(self, values: Tensor) -> Tensor:
        """Return points: float32 [n, width] to float32 [n, dimensions] in (0, 1)."""
        at = self.roots.expand(len(values), -1)
        for _ in range(self.depth):
            is_low = values.gather(1, self.features[at]) <= self.thresholds[at]
            at = torch.where(is_low, self.lower[at], self.upper[at])
        probabilities = self.shares[at].mean(dim=1)
        points: Tensor = probabilities @ self.corners
        return points


def _nodes_of(tree: Any, start: int) -> tuple[npt.NDArray[Any], ...]:
    """Return a tree of scikit-learn, whose first node is number `start` of all, as `Forest` has it.

    Returns:
        [nodes] features, thresholds, lower and upper; [nodes, K] shares.
    """
    is_leaf = tree.children_left < 0
    here = np.arange(tree.node_count)
    return (
        np.where(is_leaf, 0, tree.feature).astype(np.int64),
        _rounded_down(np.where(is_leaf, 0, tree.threshold)),
        start + np.where(is_leaf, here, tree.children_left).astype(np.int64),
        start + np.where(is_leaf, here, tree.children_right).astype(np.int64),
        (tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)).astype(np.float32),
    )


def _rounded_down(thresholds: npt.NDArray[np.float64]) -> Matrix:
    """Return the largest float32 up to each: what is compared is float32, and so goes as before."""
    rounded: Matrix = thresholds.astype(np.float32)
    too_large: npt.NDArray[np.bool_] = rounded > thresholds
    rounded[too_large] = np.nextafter(rounded[too_large], np.float32(-np.inf))
    return rounded


def _corners(classes: int) -> Matrix:
    """Return a corner for each class, half of the dimensions apart from each other one."""
    size = max(_DIMENSIONS, 1 << classes.bit_length())
    signs = hadamard(size)[1 : classes + 1]  # the first row is the only one that is not balanced
    corners: Matrix = (0.5 + (0.5 - _MARGIN) * signs).astype(np.float32)
    return corners
