"""The same encoder, budget and seeds under each loss, scored on the test rows."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor

from models.decision import distances_between
from models.schema import Matrix
from training.dataset.dataset import Dataset, Labels, Rows
from training.evaluation.evaluate import Scores
from training.evaluation.few_shot import Draws, few_shot
from training.evaluation.gradients import zero_gradient_share
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch, centroids_of, embed, fit
from training.fitting.losses import LOSSES, BatchLoss, make_loss
from training.fitting.sampling import balanced_batches
from training.recipe import EncoderRecipe, FewShot, Recipe, RecipeError

__all__ = [
    "DRAWS",
    "Plan",
    "Report",
    "Trial",
    "compare",
    "each_in_turn",
    "loss_and_zero_share",
    "score",
    "with_loss",
]

Report = Callable[[str, Epoch], None]
"""Told the name of the fit in progress, and each epoch as it ends."""

DRAWS = 30
"""How often the one support record of a held-out class is drawn."""
_BATCH, _BATCHES = 120, 2
"""Records and number of the batches whose triplets are looked at."""

Asked = TypeVar("Asked")
Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Plan:
    """What is compared.

    Attributes:
        losses: names of `LOSSES`.
        seeds: fits of each loss; their seeds are the recipe's, the next, and so on.
        hold_out: fault classes for a second fit, that does not see them; may be empty.
        animate: the two fault classes of the animation; chosen by test records when empty.
        jobs: processes that fit at the same time; the numbers do not depend on it.

    Raises:
        RecipeError: it makes no sense.
    """

    losses: tuple[str, ...] = tuple(LOSSES)
    seeds: int = 5
    hold_out: tuple[str, ...] = ()
    animate: tuple[str, ...] = ()
    jobs: int = 1

    @property
    def fits(self) -> Mapping[str, int]:
        """How many fits are reported under one name, of the names that have several."""
        names = [name for loss in self.losses for name in (loss, _without_held_out(loss))]
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
class Trial:
    """What one loss made of one seed; shares are in 0..1.

    Attributes:
        loss, seed: what was tried.
        scores: of the test rows, by nearest centroid.
        tightness: mean distance of test rows to their own centroid over that between centroids.
        losses: after every epoch, mean loss of triplets of training rows.
        zero_loss: after every epoch, the share of them that cost exactly 0.
        zero_gradient: after the last, the share of them that moves no embedding.
        one_shot: by space (embedding, raw, lda), with the held-out classes enrolled from one
            record; empty when none was held out.
    """

    loss: str
    seed: int
    scores: Scores
    tightness: float
    losses: tuple[float, ...]
    zero_loss: tuple[float, ...]
    zero_gradient: float
    one_shot: Mapping[str, Draws]


def compare(recipe: Recipe, dataset: Dataset, plan: Plan, report: Report) -> list[Trial]:
    """Fit every loss with every seed, and score what each gives.

    Args:
        recipe: how to fit; its own loss does not matter.
        dataset: the recipe's.
        plan: losses, seeds, classes held out.
        report: told of every epoch; when a fit has ended, if several run at the same time.

    Raises:
        RecipeError: an encoder collapsed, or a class cannot be held out.
    """
    asked = [(loss, recipe.fit.seed + i) for loss in plan.losses for i in range(plan.seeds)]
    return list(
        each_in_turn(partial(_try, recipe, dataset, plan.hold_out), asked, report, plan.jobs)
    )


def with_loss(recipe: Recipe, loss: str, seed: int) -> Recipe:
    """The recipe with this loss and seed."""
    changes = {"loss": loss, "seed": seed}
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update=changes)})


def each_in_turn(
    answer: Callable[[Asked, Report], Answer], asked: Iterable[Asked], report: Report, jobs: int
) -> Iterator[Answer]:
    """Answer each, in order, in this process or in several, which changes no answer.

    A fit uses one thread, so that processes do not get in each other's way.
    """
    if jobs == 1:
        yield from (answer(each, report) for each in asked)
        return
    # A forked child would inherit torch's threads in whatever state they are.
    with ProcessPoolExecutor(jobs, multiprocessing.get_context("spawn")) as pool:
        for result, said in pool.map(partial(_remember, answer), asked):
            for each in said:
                report(*each)
            yield result


def _remember(
    answer: Callable[[Asked, Report], Answer], asked: Asked
) -> tuple[Answer, list[tuple[str, Epoch]]]:
    said: list[tuple[str, Epoch]] = []
    return answer(asked, lambda *each: said.append(each)), said


def _try(
    recipe: Recipe,
    dataset: Dataset,
    hold_out: tuple[str, ...],
    asked: tuple[str, int],
    report: Report,
) -> Trial:
    loss, seed = asked
    recipe = with_loss(recipe, loss, seed)
    # First what may be refused: a class that cannot be held out.
    one_shot = _one_shot(recipe, hold_out, report) if hold_out else {}
    shape, value_of = recipe.encoder, make_loss(recipe.fit)
    seen: list[tuple[float, float]] = []

    def watch(epoch: Epoch, encoder: Encoder) -> None:
        seen.append(loss_and_zero_share(value_of, encoder, shape, dataset.train))
        report(loss, epoch)

    train, test = dataset.train, dataset.test
    try:
        encoder, _ = fit(dataset.schema, train, dataset.dev, shape, recipe.fit, watch)
    except RecipeError as error:
        raise RecipeError(f"{loss}, seed {seed}: {error}") from error
    share = partial(zero_gradient_share, value_of)
    centroids = centroids_of(embed(encoder, train.matrix), train.labels, len(dataset.classes))
    scores, tightness = score(embed(encoder, test.matrix), test.labels, centroids)
    losses, zero_loss = zip(*seen, strict=True)
    return Trial(
        loss=loss,
        seed=seed,
        scores=scores,
        tightness=tightness,
        losses=losses,
        zero_loss=zero_loss,
        zero_gradient=_mean(share, encoder, shape, train),
        one_shot=one_shot,
    )


def _without_held_out(loss: str) -> str:
    return f"{loss}, held out"


def _one_shot(recipe: Recipe, hold_out: tuple[str, ...], report: Report) -> Mapping[str, Draws]:
    plan = FewShot(hold_out=hold_out, shots=(1,), draws=DRAWS)
    name = _without_held_out(recipe.fit.loss)
    result = few_shot(recipe, plan, lambda epoch, _: report(name, epoch))
    return {space: by_shots[1] for space, by_shots in result.items()}


def loss_and_zero_share(
    loss: BatchLoss, encoder: Encoder, shape: EncoderRecipe, rows: Rows
) -> tuple[float, float]:
    """Mean loss, and share of triplets that cost exactly 0, in the parts that the loss has learned.

    Batches are class-balanced, whatever the fit's were, so that the loss can be held against its
    floor; they are always the same, and dropout is off.
    """
    mean = _mean(lambda points, labels: loss(points, labels).item(), encoder, shape, rows)
    return mean, _mean(loss.zero_share, encoder, shape, rows)


def _mean(
    value: Callable[[Tensor, Tensor], float], encoder: Encoder, shape: EncoderRecipe, rows: Rows
) -> float:
    """The mean of a value of batches, from points and labels, over batches and members."""
    random = np.random.default_rng(0)
    values = []
    for batch in balanced_batches(rows.labels, _BATCH, _BATCHES, random):
        labels = torch.from_numpy(rows.labels[batch])
        members = shape.learned(embed(encoder, rows.matrix[batch]))
        values += [value(torch.from_numpy(points), labels) for points in members]
    return float(np.mean(values))


def score(points: Matrix, labels: Labels, centroids: Matrix) -> tuple[Scores, float]:
    """Nearest-centroid scores and tightness, as `evaluate` has them.

    Args:
        points: float32 [n, N], each in [0, 1].
        labels: int64 [n], index of the class; not every class need be there.
        centroids: float32 [classes, N].
    """
    distances = distances_between(points, centroids)
    nearest, present = distances.argmin(axis=1), np.unique(labels)
    recalls = [(nearest[labels == c] == c).mean() for c in present]
    macro_f1 = f1_score(labels, nearest, labels=present, average="macro", zero_division=0)
    own = distances[np.arange(len(labels)), labels].mean()
    between = distances_between(centroids, centroids)[~np.eye(len(centroids), dtype=bool)].mean()
    scores = Scores(float((nearest == labels).mean()), float(np.mean(recalls)), float(macro_f1))
    return scores, float(own / between)
