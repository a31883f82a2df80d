"""A member of the cube that is no network: trees, whose class probabilities are a point.

Trees cut where fields have thresholds; they err otherwise than perceptrons, so that distances to
both together err less. Random trees hardly mind another device's levels. Boosted trees, each fitted
to what those before it got wrong, tell classes apart that lie close together. Each class has a
corner of a cube of their own, all as far from one another (rows of a Hadamard matrix): the place
where the lossless loss has its minimum. A record is the mean of the corners by its probabilities.
Boosted trees are sure even of a record that is like nothing they know, so their cube is smaller: a
distance in it counts half, or they would outvote what tells an enrolled class from the others.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, Self

import numpy as np
import numpy.typing as npt
import torch
from scipy.linalg import hadamard
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from threadpoolctl import threadpool_limits
from torch import Tensor, nn

from models.schema import Matrix
from training.dataset.dataset import Labels
from training.recipe import Growth

TREES = 25
"""Of each kind of random trees: more are hardly better, and each costs time with every record."""
LEAVES = 128
"""Of a random tree at most."""
ROUNDS: Final = {"max_iter": 25, "learning_rate": 0.2}
"""Of boosting, with a tree for each class in each: few, at twice scikit-learn's rate, because every
tree costs time with each record."""
_Tree = tuple[npt.NDArray[Any], ...]
"""Arrays of its nodes, the root first, as `_nodes` returns them."""
_KINDS: tuple[Callable[..., Any], ...] = (RandomForestClassifier, ExtraTreesClassifier)
_DIMENSIONS = 16
"""Of the cube, as of a perceptron's; more where there are as many classes."""
_MARGIN = 1e-3
"""Between a corner and that of the unit cube: points are inside, however digits are rounded."""
_SUREST = 10.0
"""A leaf's score, e^10 to 1: one without limits would leave no digits to the others."""


class Forest(nn.Module):
    """Trees as one module, all classes alike.

    All trees go down one step at a time, together; a leaf leads to itself.

    Args:
        trees: their nodes.
        classes: K.
        is_boosted: whether leaves add up to the logarithm of a probability, up to a constant, or to
            the probability itself.

    Attributes:
        dimensions: of the points.
        roots: int64 [trees], the node that each tree begins at.
        features, thresholds, lower, upper: [nodes], where a record goes on: to `lower` if the
            feature is at most the threshold.
        scores: float32 [nodes, K], what a leaf adds to each class; [nodes, 1] where every K trees
            in a row are those of the classes.
        corners: float32 [K, dimensions].
    """

    def __init__(self, trees: Sequence[_Tree], classes: int, *, is_boosted: bool) -> None:
        super().__init__()
        starts = np.cumsum([0, *(len(tree[0]) for tree in trees)])
        nodes = [_placed(tree, start) for tree, start in zip(trees, starts, strict=False)]
        features, thresholds, lower, upper, scores = (
            torch.from_numpy(np.concatenate(parts)) for parts in zip(*nodes, strict=True)
        )
        self.classes, self.is_boosted = classes, is_boosted
        self.depth = max(_depth(tree) for tree in trees)
        self.roots = nn.Buffer(torch.from_numpy(starts[:-1]))
        self.features, self.thresholds = nn.Buffer(features), nn.Buffer(thresholds)
        self.lower, self.upper = nn.Buffer(lower), nn.Buffer(upper)
        self.scores = nn.Buffer(scores)
        self.corners = nn.Buffer(torch.from_numpy(_corners(classes, 0.5 if is_boosted else 1)))
        self.dimensions = self.corners.shape[1]

    @classmethod
    def grow(cls, values: Matrix, labels: Labels, growth: Growth, seed: int) -> Self:
        """Fit trees, on one thread, so that they are the same everywhere.

        Args:
            values: float32 [n, width], the training records; no value is missing.
            labels: int64 [n], 0..K-1.
            growth: random trees, half of them extremely random, or boosted trees.
            seed: of the trees.
        """
        options = {
            "class_weight": "balanced",  # as the batches of perceptrons are
            "random_state": seed % 2**32,
        }
        fit = _boosted if growth == "boosted" else _random
        # scikit-learn sums up huge numbers.
        with np.errstate(over="ignore", invalid="ignore"), threadpool_limits(1):
            trees = [*fit(values, labels, options)]
        return cls(trees, int(labels.max()) + 1, is_boosted=growth == "boosted")

    def forward(self, values: Tensor) -> Tensor:
        """Return points: float32 [n, width] to float32 [n, dimensions] in (0, 1)."""
        at = self.roots.expand(len(values), -1)
        for _ in range(self.depth):
            is_low = values.gather(1, self.features[at]) <= self.thresholds[at]
            at = torch.where(is_low, self.lower[at], self.upper[at])
        scores = self.scores[at].reshape(len(values), -1, self.classes).sum(dim=1)
        points: Tensor = (scores.softmax(dim=1) if self.is_boosted else scores) @ self.corners
        return points


def _random(values: Matrix, labels: Labels, options: dict[str, Any]) -> Iterator[_Tree]:
    """Yield trees whose leaves are their share of the probabilities."""
    for kind in _KINDS:
        for fitted in kind(TREES, max_leaf_nodes=LEAVES, **options).fit(values, labels).estimators_:
            tree = fitted.tree_
            shares = tree.value[:, 0] / tree.value[:, 0].sum(axis=1, keepdims=True)
            yield _nodes(
                tree.feature,
                tree.threshold,
                tree.children_left,
                tree.children_right,
                tree.children_left < 0,
                shares / (TREES * len(_KINDS)),
            )


def _boosted(values: Matrix, labels: Labels, options: dict[str, Any]) -> Iterator[_Tree]:
    """Yield trees whose leaves add up to scores; the first of a class adds where they start.

    scikit-learn has no public way to its trees.
    """
    model = HistGradientBoostingClassifier(early_stopping=False, **ROUNDS, **options)
    model.fit(values, labels)
    start = model._baseline_prediction.ravel()  # noqa: SLF001
    for number, trees in enumerate(model._predictors):  # noqa: SLF001
        for of_class, tree in enumerate(trees):
            nodes = tree.nodes
            scores = nodes["value"].clip(-_SUREST, _SUREST)[:, None]
            scores = scores + (0 if number else start[of_class])
            if len(trees) == 1:  # of two classes, the second's odds
                scores = np.pad(scores, ((0, 0), (1, 0)))
            sides = nodes["left"].astype(np.int64), nodes["right"].astype(np.int64)
            is_leaf = nodes["is_leaf"].astype(bool)
            yield _nodes(nodes["feature_idx"], nodes["num_threshold"], *sides, is_leaf, scores)


def _nodes(
    features: npt.NDArray[Any],
    thresholds: npt.NDArray[np.float64],
    lower: npt.NDArray[np.int64],
    upper: npt.NDArray[np.int64],
    is_leaf: npt.NDArray[np.bool_],
    scores: npt.NDArray[np.float64],
) -> _Tree:
    """Return the nodes of a tree, numbered from 0, as `Forest` has them."""
    here = np.arange(len(features))
    return (
        np.where(is_leaf, 0, features).astype(np.int64),
        _rounded_down(np.where(is_leaf, 0, thresholds)),
        np.where(is_leaf, here, lower),
        np.where(is_leaf, here, upper),
        scores.astype(np.float32),
    )


def _placed(tree: _Tree, start: int) -> _Tree:
    """Return a tree whose first node is number `start` of all."""
    features, thresholds, lower, upper, scores = tree
    return features, thresholds, start + lower, start + upper, scores


def _depth(tree: _Tree) -> int:
    """Return how many steps the longest way from the root takes."""
    _, _, lower, upper, _ = tree
    at, depth = np.zeros(1, np.int64), 0
    while len(inner := at[lower[at] != at]):
        at, depth = np.concatenate([lower[inner], upper[inner]]), depth + 1
    return depth


def _rounded_down(thresholds: npt.NDArray[np.float64]) -> Matrix:
    """Return the largest float32 up to each: what is compared is float32, and so goes as before."""
    rounded: Matrix = thresholds.astype(np.float32)
    too_large: npt.NDArray[np.bool_] = rounded > thresholds
    rounded[too_large] = np.nextafter(rounded[too_large], np.float32(-np.inf))
    return rounded


def _corners(classes: int, weight: float) -> Matrix:
    """Return a corner for each class, all as far from one another.

    That is half of the dimensions by the squared distance, times the weight.
    """
    size = max(_DIMENSIONS, 1 << classes.bit_length())
    signs = hadamard(size)[1 : classes + 1]  # the first row is the only one that is not balanced
    corners: Matrix = (0.5 + (0.5 - _MARGIN) * weight**0.5 * signs).astype(np.float32)
    return corners
