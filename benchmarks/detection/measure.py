"""What one task of the detection benchmark measures; tasks do not depend on one another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]

from benchmarks.detection import baselines, openset
from benchmarks.detection.ours import fit_ours, learned_nearest, with_dev
from benchmarks.losses import peers
from training.dataset.dataset import load_dataset
from training.evaluation.few_shot import few_shot
from training.recipe import FewShot, Recipe, RecipeError

OURS = "Faultcube"


@dataclass(frozen=True, slots=True)
class Task:
    """Fits with one seed, and what to measure on them.

    Attributes:
        recipes: one for each table of the set, with the seed in them.
        first: whether this is the first seed: what has no seed is measured once.
        case: the class left out (open-set) or the loss (losses).
        plan: what to hold out and draw (few-shot).
    """

    section: str
    set: str
    recipes: tuple[Recipe, ...]
    first: bool
    case: str = ""
    plan: FewShot | None = None

    @property
    def seed(self) -> int:
        """Of the fits and of seeded classifiers."""
        return self.recipes[0].fit.seed

    @property
    def title(self) -> str:
        """The task in a line."""
        return f"{self.section} {self.set}{self.case and f', {self.case}'}, seed {self.seed}"


@dataclass(frozen=True, slots=True)
class Result:
    """One number: a share of 1 or seconds, and its deviation over draws within the seed.

    The case is that of the task, or in few-shot the number of shots.
    """

    section: str
    set: str
    case: str
    method: str
    metric: str
    seed: int
    value: float
    spread: float = 0.0


Measured = Iterator[tuple[str, str, str, float, float]]
"""Case, method, metric, value, spread."""


def measure(task: Task) -> tuple[list[Result], str]:
    """Return what a task measures, on one thread, and why it failed: others must go on."""
    results = []
    try:
        with threadpool_limits(1):
            for case, method, metric, value, spread in _SECTIONS[task.section](task):
                key = (task.section, task.set, case, method, metric)
                results.append(Result(*key, task.seed, value, spread))
    except RecipeError as error:
        return results, f"{task.title}: {error}"
    except Exception as error:
        traceback.print_exc()
        return results, f"{task.title}: {type(error).__name__}: {error}"
    return results, ""


def _detection(task: Task) -> Measured:
    datasets = [load_dataset(recipe) for recipe in task.recipes]
    labels = np.concatenate([dataset.test.labels for dataset in datasets])
    training = [baselines.training_rows(dataset) for dataset in datasets]
    for name in baselines.CLASSIFIERS:
        if task.first or name in baselines.SEEDED:
            pairs = zip(training, datasets, strict=True)
            tries = [baselines.classify(name, task.seed, rows, d.test.table) for rows, d in pairs]
            predicted = np.concatenate([classes for classes, _ in tries])
            yield from _scored(name, baselines.scores(labels, predicted))
            yield "", name, "seconds", sum(seconds for _, seconds in tries), 0.0
    nearest, learned, seconds = [], [], 0.0
    for dataset, recipe in zip(datasets, task.recipes, strict=True):
        ours = fit_ours(with_dev(dataset), recipe)
        nearest.append(ours.decide(dataset.test).nearest)
        learned.append(learned_nearest(ours, dataset, recipe.encoder))
        seconds += ours.seconds
    for method, classes in {OURS: nearest, f"{OURS}, learned part": learned}.items():
        yield from _scored(method, baselines.scores(labels, np.concatenate(classes)))
    yield "", OURS, "seconds", seconds, 0.0


def _scored(method: str, scores: Mapping[str, float], case: str = "") -> Measured:
    for metric, value in scores.items():
        yield case, method, metric, value, 0.0


def _few_shot(task: Task) -> Measured:
    if task.plan is None:
        raise ValueError("a few-shot task needs a plan")
    for space, by_shots in few_shot(task.recipes[0], task.plan, lambda *_: None).items():
        method = OURS if space == "embedding" else space
        for shots, draws in by_shots.items():
            yield str(shots), method, "accuracy", *draws.accuracy
            yield str(shots), method, "macro-F1", *draws.macro_f1
            yield str(shots), method, "held-out recall", *draws.held_out_recall


def _open_set(task: Task) -> Measured:
    recipe = task.recipes[0]
    dataset = load_dataset(recipe, held_out=(task.case,))
    known, unknown = openset.leave_out(dataset, task.case)
    scores = dict(openset.of_ours(fit_ours(known, recipe), known))
    if task.first:
        scores |= openset.of_classifiers(baselines.training_rows(known))
    for name, score in scores.items():
        of_known, of_unknown = score(known.test), score(unknown)
        yield task.case, name, "AUROC", openset.auroc(of_known, of_unknown), 0.0
        yield task.case, name, "FPR95", openset.rejected_known(of_known, of_unknown), 0.0


def _losses(task: Task) -> Measured:
    dataset = load_dataset(task.recipes[0])
    recipe, loss = peers.with_loss(task.case, task.recipes[0], len(dataset.classes))
    ours = fit_ours(dataset, recipe, loss)
    nearest = ours.decide(dataset.test).nearest
    yield from _scored(task.case, baselines.scores(dataset.test.labels, nearest))
    yield "", task.case, "seconds", ours.seconds, 0.0


_SECTIONS: Mapping[str, Callable[[Task], Measured]] = {
    "detection": _detection,
    "few-shot": _few_shot,
    "open-set": _open_set,
    "losses": _losses,
}
