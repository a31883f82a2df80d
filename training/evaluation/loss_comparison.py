"""The same encoder, budget and seeds under each loss, scored on the test rows."""

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from torch import Tensor

from models.decision import distances_between
from training.dataset.dataset import Dataset, Rows
from training.evaluation.evaluate import Scores, score, tightness
from training.evaluation.few_shot import Draws, few_shot
from training.evaluation.gradients import zero_gradient_share
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch, balanced_batches, centroids_of, embed, fit
from training.fitting.losses import LOSSES, BatchLoss, make_loss
from training.recipe import EncoderRecipe, FewShot, Recipe, RecipeError

__all__ = [
    "DRAWS",
    "LossTrial",
    "Plan",
    "Report",
    "compare",
    "loss_and_zero_share",
    "run_tasks",
    "with_loss",
]

Report = Callable[[str, Epoch | None], None]
"""Called after every epoch with the name of the fit."""

DRAWS = 30
"""Draws of the one support record of a held-out class."""
_BATCH, _BATCHES = 120, 2
"""Records in a batch whose triplets are measured, and number of such batches."""

_HELD_OUT = ", held out"
"""Follows the loss in the name of the fit that does not see the held-out classes."""

Task = TypeVar("Task")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Plan:
    """Settings of a comparison.

    Raises:
        RecipeError: a setting is invalid.
    """

    losses: tuple[str, ...] = tuple(LOSSES)  # names of `LOSSES`
    seeds: int = 5  # fits of each loss; their seeds are the recipe's, the next, and so on
    hold_out: tuple[str, ...] = ()  # fault classes that a second fit does not see; may be empty
    # the two fault classes of the animation; empty for those with most test records
    animate: tuple[str, ...] = ()
    jobs: int = 1  # processes that fit at the same time; the results do not depend on it

    @property
    def fits(self) -> Mapping[str, int]:
        """Number of fits that are reported under each name."""
        names = [name for loss in self.losses for name in (loss, loss + _HELD_OUT)]
        return dict.fromkeys(names, self.seeds)

    def __post_init__(self) -> None:
        for name in self.losses:
            if name not in LOSSES:
                raise RecipeError(f"there is no loss {name!r}; the losses are {', '.join(LOSSES)}")
        if len(set(self.losses)) < len(self.losses):
            raise RecipeError("a loss is named twice in --losses")
        if self.seeds < 1:
            raise RecipeError(f"give --seeds 1 or more, not {self.seeds}; 5 tell luck from merit")
        if self.jobs < 1:
            raise RecipeError(f"give --jobs 1 or more, not {self.jobs}")
        if self.animate and len(set(self.animate)) != 2:
            raise RecipeError("give --animate twice, for two fault classes, or not at all")


@dataclass(frozen=True, slots=True)
class LossTrial:
    """Results of one loss with one seed; shares are in 0..1."""

    # loss and seed: the loss and the seed
    loss: str
    seed: int
    scores: Scores  # of the test rows, by nearest centroid
    tightness: float  # mean distance of test rows to their own centroid over that between centroids
    losses: tuple[float, ...]  # after every epoch, mean loss of triplets of training rows
    zero_loss: tuple[float, ...]  # after every epoch, the share of them that cost exactly 0
    zero_gradient: float  # after the last, the share of them that moves no embedding
    # by space (embedding, raw, lda), with the held-out classes enrolled from one record; empty when
    # none was held out
    one_shot: Mapping[str, Draws]


def compare(recipe: Recipe, dataset: Dataset, plan: Plan, report: Report) -> list[LossTrial]:
    """Fit every loss with every seed, and score the results; the recipe's own loss is not used.

    Raises:
        RecipeError: an encoder collapsed, or a class cannot be held out.
    """
    tasks = [(loss, recipe.fit.seed + i) for loss in plan.losses for i in range(plan.seeds)]
    return list(run_tasks(partial(_try, recipe, dataset, plan.hold_out), tasks, report, plan.jobs))


def with_loss(recipe: Recipe, loss: str, seed: int) -> Recipe:
    """Return the recipe with this loss and seed."""
    changes = {"loss": loss, "seed": seed}
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update=changes)})


def run_tasks(
    run: Callable[[Task, Report], Result], tasks: Iterable[Task], report: Report, jobs: int
) -> Iterator[Result]:
    """Run tasks in this process or in several, and yield results in order, the same either way."""
    if jobs == 1:
        yield from (run(task, report) for task in tasks)
        return
    # A forked child would inherit torch's threads in whatever state they are.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for result, reports in pool.map(partial(_with_reports, run), tasks):
            for arguments in reports:
                report(*arguments)
            yield result


def _with_reports(
    run: Callable[[Task, Report], Result], task: Task
) -> tuple[Result, list[tuple[str, Epoch | None]]]:
    """Run a task in another process, and return what it reported together with its result."""
    reports: list[tuple[str, Epoch | None]] = []
    return run(task, lambda *arguments: reports.append(arguments)), reports


def _try(
    recipe: Recipe,
    dataset: Dataset,
    hold_out: tuple[str, ...],
    task: tuple[str, int],
    report: Report,
) -> LossTrial:
    loss, seed = task
    recipe = with_loss(recipe, loss, seed)
    # First, because it may reject a class to hold out: no fit is wasted.
    one_shot = _one_shot(recipe, hold_out, report) if hold_out else {}
    shape, criterion = recipe.encoder, make_loss(recipe.fit)
    by_epoch: list[tuple[float, float]] = []

    def measure(epoch: Epoch, encoder: Encoder) -> None:
        by_epoch.append(loss_and_zero_share(criterion, encoder, shape, dataset.train))
        report(loss, epoch)

    train, test = dataset.train, dataset.test
    try:
        encoder, _ = fit(dataset.schema, train, dataset.dev, shape, recipe.fit, measure)
    except RecipeError as error:
        raise RecipeError(f"{loss}, seed {seed}: {error}") from error
    centroids = centroids_of(embed(encoder, train.matrix), train.labels, len(dataset.classes))
    points = embed(encoder, test.matrix)
    losses, zero_loss = zip(*by_epoch, strict=True)
    return LossTrial(
        loss=loss,
        seed=seed,
        scores=score(test.labels, distances_between(points, centroids).argmin(axis=1)),
        tightness=tightness(points, test.labels, centroids),
        losses=losses,
        zero_loss=zero_loss,
        zero_gradient=_mean(partial(zero_gradient_share, criterion), encoder, shape, train),
        one_shot=one_shot,
    )


def _one_shot(recipe: Recipe, hold_out: tuple[str, ...], report: Report) -> Mapping[str, Draws]:
    plan, name = FewShot(hold_out=hold_out, shots=(1,), draws=DRAWS), recipe.fit.loss + _HELD_OUT
    result = few_shot(recipe, plan, lambda epoch, _: report(name, epoch))
    return {space: by_shots[1] for space, by_shots in result.items()}


def loss_and_zero_share(
    loss: BatchLoss, encoder: Encoder, shape: EncoderRecipe, rows: Rows
) -> tuple[float, float]:
    """Return the mean loss and the share of triplets that cost exactly 0, in the learned parts.

    Batches are class-balanced, so that the loss can be compared with its floor, and always the
    same; dropout is off.
    """
    mean = _mean(lambda points, labels: loss(points, labels).item(), encoder, shape, rows)
    return mean, _mean(loss.zero_share, encoder, shape, rows)


def _mean(
    value: Callable[[Tensor, Tensor], float], encoder: Encoder, shape: EncoderRecipe, rows: Rows
) -> float:
    """Return the mean over batches and members of a value of points and labels."""
    random = np.random.default_rng(0)
    values = []
    for batch in balanced_batches(rows.labels, _BATCH, _BATCHES, random):
        labels = torch.from_numpy(rows.labels[batch])
        members = shape.learned(embed(encoder, rows.matrix[batch]))
        values += [value(torch.from_numpy(points), labels) for points in members]
    return float(np.mean(values))
