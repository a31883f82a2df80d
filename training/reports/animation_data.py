"""Record two fits, frame by frame, in a cube of three dimensions: triplet and lossless loss."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import numpy.typing as npt

from models.decision import distances_between
from models.schema import Matrix
from training.dataset.dataset import Dataset, Labels, load_dataset
from training.evaluation.evaluate import score
from training.evaluation.loss_comparison import Report, loss_and_zero_share, run_tasks, with_loss
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch, centroids_of, embed, fit
from training.fitting.losses import BatchLoss, make_loss
from training.recipe import FitRecipe, Recipe, RecipeError

SEPARATE = 0.9
"""Two faults separate if this share of their test records is nearer to the own centroid."""
_TITLES = {"triplet": "Standard triplet loss", "lossless": "Lossless triplet loss"}
_CUBE = {"dimensions": 3, "members": 1, "linear": False, "gain": 4.0}
"""The cube is the whole embedding, and its gain lets records reach the corners."""
_FRAMES = 48
_PARTS = 8
"""Parts of an epoch: most happens in the first one, so frames are dense there and rare later."""
_MAX_POINTS = 150  # Test records of a class that are shown


@dataclass(frozen=True, slots=True)
class Selection:
    """Three classes to show, good traffic first, and int [n], the test rows that are drawn.

    The recipe is the user's, changed to an embedding in three dimensions and these classes.
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
    """State of a fit; centroids are those of training rows, everything else is of test rows."""

    epochs: float  # epochs so far, in eighths if the batches of an epoch can be divided so
    # loss and excess_loss and zero_loss: of triplets of training rows
    loss: float
    excess_loss: float
    points: Matrix  # float32 [n, 3], those drawn
    centroids: Matrix  # float32 [3, 3]
    macro_f1: float  # by nearest centroid
    zero_loss: float
    # distance of the fault centroids over the root mean square distance of records to them
    gap: float
    # share of a fault's records nearer to its centroid than to the other's, mean of both
    recall: float


@dataclass(frozen=True, slots=True)
class Recording:
    """The fit with one loss; the last frame is its end."""

    loss: str
    frames: tuple[Frame, ...]

    @property
    def title(self) -> str:
        """The loss's common name."""
        return _TITLES[self.loss]

    @property
    def outcome(self) -> str:
        """Whether the two fault classes are apart in the end."""
        verb = "separate" if self.frames[-1].recall >= SEPARATE else "do not separate"
        return f"the two fault classes {verb}"

    @property
    def verdict(self) -> str:
        """The outcome, with its number and rule."""
        last = self.frames[-1]
        return (
            f"{self.outcome}. Of their test records {last.recall:.3f} (mean of both) are nearer to "
            f"their own centroid than to the other fault's; from {SEPARATE:g} on they separate. "
            f"The centroids are {last.gap:.1f} spreads apart."
        )


@dataclass(frozen=True, slots=True)
class Animation:
    """Both recordings, with the same classes, records, seed and epochs."""

    selection: Selection
    recordings: tuple[Recording, ...]


def select(recipe: Recipe, dataset: Dataset, faults: Sequence[str]) -> Selection | None:
    """Select two fault classes, by default those with most test rows; None if there are not two.

    The ratio of beta to N stays that of the recipe.

    Raises:
        RecipeError: a class does not exist.
    """
    dataset = dataset.fitted
    counts = np.bincount(dataset.test.labels, minlength=len(dataset.classes))
    present = [name for c, name in enumerate(dataset.classes) if c and counts[c]]
    for name in faults:
        if name not in present:
            raise RecipeError(
                f"{name!r} cannot be animated; the fault classes with test rows are "
                + ", ".join(present)
            )
    present.sort(key=lambda name: -counts[dataset.classes.index(name)])
    faults = faults or present[:2]
    if len(faults) < 2:
        return None
    others = set(dataset.classes[1:]) - set(faults)
    beta, width = recipe.fit.beta, recipe.encoder.dimensions
    recipe = recipe.model_copy(
        update={
            "drop_labels": (*recipe.drop_labels, *sorted(others)),
            "encoder": recipe.encoder.model_copy(update=_CUBE),
            "fit": recipe.fit.model_copy(update={"beta": beta and max(3 * beta / width, 3.0)}),
        }
    )
    dataset = load_dataset(recipe).fitted
    random, labels = np.random.default_rng(0), dataset.test.labels
    rows = [random.permutation(np.flatnonzero(labels == c))[:_MAX_POINTS] for c in range(3)]
    return Selection(recipe, dataset, np.sort(np.concatenate(rows)))


def record(selection: Selection, report: Report, jobs: int = 1) -> Animation:
    """Fit with both losses and the recipe's seed, all epochs each."""
    recordings = run_tasks(partial(_record, selection), _TITLES, report, jobs)
    return Animation(selection, tuple(recordings))


def _record(selection: Selection, loss: str, report: Report) -> Recording:
    dataset = selection.dataset
    recipe = with_loss(selection.recipe, loss, selection.recipe.fit.seed)
    settings, parts = _in_parts(recipe.fit)
    shown = set(np.geomspace(1, settings.epochs, _FRAMES).round().astype(int).tolist())
    criterion, frames = make_loss(recipe.fit), []

    def add_frame(part: Epoch, encoder: Encoder) -> None:
        if part.number in shown:
            frames.append(_frame(selection, part.number / parts, encoder, criterion))
        if part.number % parts == 0:
            report(f"film: {loss}", replace(part, number=part.number // parts))

    fit(dataset.schema, dataset.train, dataset.dev, recipe.encoder, settings, add_frame)
    return Recording(loss, tuple(frames))


def _in_parts(settings: FitRecipe) -> tuple[FitRecipe, int]:
    """Return settings of the same fit, batch for batch, in shorter epochs, and their ratio."""
    parts = math.gcd(settings.steps, _PARTS)
    changes = {"epochs": settings.epochs * parts, "steps": settings.steps // parts}
    return settings.model_copy(update=changes), parts


def _frame(selection: Selection, epochs: float, encoder: Encoder, criterion: BatchLoss) -> Frame:
    train, test = selection.dataset.train, selection.dataset.test
    points = embed(encoder, test.matrix)
    centroids = centroids_of(embed(encoder, train.matrix), train.labels, 3)
    scores = score(test.labels, distances_between(points, centroids).argmin(axis=1))
    gap, recall = faults_apart(points, test.labels, centroids)
    loss, zero_loss = loss_and_zero_share(criterion, encoder, selection.recipe.encoder, train)
    return Frame(
        epochs=epochs,
        loss=loss,
        excess_loss=criterion.excess(loss, 3, 3),
        points=points[selection.shown],
        centroids=centroids,
        macro_f1=scores.macro_f1,
        zero_loss=zero_loss,
        gap=gap,
        recall=recall,
    )


def faults_apart(points: Matrix, labels: Labels, centroids: Matrix) -> tuple[float, float]:
    """Return gap and recall of classes 1 and 2, as `Frame` defines them."""
    distances = distances_between(points, centroids)
    spreads, recalls = [], []
    for fault, other in ((1, 2), (2, 1)):
        of_fault = distances[labels == fault]
        spreads.append(of_fault[:, fault].mean())
        recalls.append((of_fault[:, fault] < of_fault[:, other]).mean())
    between = distances_between(centroids[1:2], centroids[2:3])[0, 0]
    # If all records are at their centroids, the gap would be infinite.
    return float(np.sqrt(between / max(np.mean(spreads), 1e-12))), float(np.mean(recalls))
