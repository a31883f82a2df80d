"""Two fits as they go on, in a cube of three dimensions: the standard triplet loss and ours."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from models.decision import distances_between
from models.schema import Matrix
from training.dataset.dataset import Dataset, Labels, load_dataset
from training.evaluation.loss_comparison import (
    Report,
    each_in_turn,
    loss_and_zero_share,
    score,
    with_loss,
)
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch, centroids_of, embed, fit
from training.fitting.losses import BatchLoss, make_loss
from training.recipe import FitRecipe, Recipe, RecipeError

__all__ = ["SEPARATE", "Film", "Frame", "Scene", "Side", "faults_apart", "shoot", "stage"]

SEPARATE = 0.9
"""Two faults separate when this share of their test records is nearer to the own centroid."""
_SIDES = {"triplet": "Standard triplet loss", "lossless": "Lossless triplet loss"}
_CUBE = {"dimensions": 3, "members": 1, "linear": False, "gain": 4.0}
"""One cube is the whole embedding, with the gain that lets records reach its corners."""
_MOST_FRAMES = 48
_PARTS = 8
"""Of an epoch: most happens in the first, so that frames are dense there and rare in the end."""
_MOST_POINTS = 150
"""Test records shown of each class."""


@dataclass(frozen=True, slots=True)
class Scene:
    """What is filmed: three classes, good traffic first.

    Attributes:
        recipe: the one asked for, with an embedding in three dimensions and three classes.
        dataset: what it gives.
        shown: int [n], the test rows that are drawn.
    """

    recipe: Recipe
    dataset: Dataset
    shown: npt.NDArray[np.int64]

    @property
    def labels(self) -> Labels:
        """Class of each row that is drawn: int [n], 0 good."""
        return self.dataset.test.labels[self.shown]


@dataclass(frozen=True, slots=True)
class Frame:
    """One moment; centroids are those of the training rows, everything else is of test rows.

    Attributes:
        epochs: that have passed, in parts of 1/8 where the batches of one can be parted so.
        loss, excess_loss: mean of triplets of training rows.
        points: float32 [n, 3], those drawn.
        centroids: float32 [3, 3].
        macro_f1: by nearest centroid.
        zero_loss: share of triplets of training rows that cost exactly 0.
        gap: distance between the two fault centroids over the root mean square distance of their
            records to them.
        recall: share of each fault class's records that are nearer to their own centroid than to
            the other fault's, mean of both.
    """

    epochs: float
    loss: float
    excess_loss: float
    points: Matrix
    centroids: Matrix
    macro_f1: float
    zero_loss: float
    gap: float
    recall: float


@dataclass(frozen=True, slots=True)
class Side:
    """One loss, frame by frame; the last frame is the end of the fit."""

    loss: str
    frames: tuple[Frame, ...]

    @property
    def title(self) -> str:
        """The loss as people call it."""
        return _SIDES[self.loss]

    @property
    def outcome(self) -> str:
        """Whether the two fault classes are apart in the end."""
        found = "separate" if self.frames[-1].recall >= SEPARATE else "do not separate"
        return f"the two fault classes {found}"

    @property
    def verdict(self) -> str:
        """The outcome, by which number and rule."""
        last = self.frames[-1]
        return (
            f"{self.outcome}. Of their test records {last.recall:.3f} (mean of both) are nearer to "
            f"their own centroid than to the other fault's; from {SEPARATE:g} on they separate. "
            f"The centroids are {last.gap:.1f} spreads apart."
        )


@dataclass(frozen=True, slots=True)
class Film:
    """Both sides, with the same classes, records, seed and epochs."""

    scene: Scene
    sides: tuple[Side, ...]


def stage(recipe: Recipe, dataset: Dataset, wanted: Sequence[str]) -> Scene | None:
    """Choose what is filmed; None when there are no two fault classes with test rows.

    Args:
        recipe: what was asked for; beta stays as many times N as it is there.
        dataset: the recipe's.
        wanted: two fault classes, or none: those with the most test rows are taken.

    Raises:
        RecipeError: a class is not there.
    """
    counts = np.bincount(dataset.test.labels, minlength=len(dataset.classes))
    known = [name for c, name in enumerate(dataset.classes) if c and counts[c]]
    for name in wanted:
        if name not in known:
            raise RecipeError(
                f"{name!r} cannot be animated; the fault classes with test rows are "
                + ", ".join(known)
            )
    known.sort(key=lambda name: -counts[dataset.classes.index(name)])
    faults = wanted or known[:2]
    if len(faults) < 2:
        return None
    others = set(dataset.classes[1:]) - set(faults)
    beta, width = recipe.fit.beta, recipe.encoder.dimensions
    three = recipe.model_copy(
        update={
            "drop_labels": (*recipe.drop_labels, *sorted(others)),
            "encoder": recipe.encoder.model_copy(update=_CUBE),
            "fit": recipe.fit.model_copy(update={"beta": beta and max(3 * beta / width, 3.0)}),
        }
    )
    small = load_dataset(three)
    return Scene(three, small, _chosen(small.test.labels))


def _chosen(labels: Labels) -> npt.NDArray[np.int64]:
    random = np.random.default_rng(0)
    rows = [random.permutation(np.flatnonzero(labels == c))[:_MOST_POINTS] for c in range(3)]
    return np.sort(np.concatenate(rows))


def shoot(scene: Scene, report: Report, jobs: int = 1) -> Film:
    """Fit both losses with the recipe's seed, all epochs each.

    Raises:
        RecipeError: an encoder collapsed.
    """
    return Film(scene, tuple(each_in_turn(partial(_side, scene), _SIDES, report, jobs)))


def _side(scene: Scene, loss: str, report: Report) -> Side:
    recipe, dataset = with_loss(scene.recipe, loss, scene.recipe.fit.seed), scene.dataset
    parted, parts = _parted(recipe.fit)
    wanted = set(np.geomspace(1, parted.epochs, _MOST_FRAMES).round().astype(int).tolist())
    value_of, frames = make_loss(recipe.fit), []

    def expose(part: Epoch, encoder: Encoder) -> None:
        if part.number in wanted:
            frames.append(_frame(scene, part.number / parts, encoder, value_of))
        if part.number % parts == 0:
            report(f"film: {loss}", replace(part, number=part.number // parts))

    fit(dataset.schema, dataset.train, dataset.dev, recipe.encoder, parted, expose)
    return Side(loss, tuple(frames))


def _parted(settings: FitRecipe) -> tuple[FitRecipe, int]:
    """The same fit, batch for batch, told of more often, and how often in an epoch."""
    parts = math.gcd(settings.steps, _PARTS)
    changes = {"epochs": settings.epochs * parts, "steps": settings.steps // parts}
    return settings.model_copy(update=changes), parts


def _frame(scene: Scene, epochs: float, encoder: Encoder, value_of: BatchLoss) -> Frame:
    train, test = scene.dataset.train, scene.dataset.test
    points = embed(encoder, test.matrix)
    centroids = centroids_of(embed(encoder, train.matrix), train.labels, 3)
    scores, _ = score(points, test.labels, centroids)
    gap, recall = faults_apart(points, test.labels, centroids)
    loss, zero_loss = loss_and_zero_share(value_of, encoder, scene.recipe.encoder, train)
    return Frame(
        epochs=epochs,
        loss=loss,
        excess_loss=value_of.excess(loss, 3, 3),
        points=points[scene.shown],
        centroids=centroids,
        macro_f1=scores.macro_f1,
        zero_loss=zero_loss,
        gap=gap,
        recall=recall,
    )


def faults_apart(points: Matrix, labels: Labels, centroids: Matrix) -> tuple[float, float]:
    """How far classes 1 and 2 are apart: gap and recall, as `Frame` has them."""
    distances = distances_between(points, centroids)
    spreads, recalls = [], []
    for own, other in ((1, 2), (2, 1)):
        mine = distances[labels == own]
        spreads.append(mine[:, own].mean())
        recalls.append((mine[:, own] < mine[:, other]).mean())
    between = distances_between(centroids[1:2], centroids[2:3])[0, 0]
    # Records that all are at their centroid would make the gap endless.
    return float(np.sqrt(between / max(np.mean(spreads), 1e-12))), float(np.mean(recalls))
