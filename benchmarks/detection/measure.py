"""What one task of the detection benchmark measures; tasks do not depend on one another."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from threadpoolctl import threadpool_limits

from benchmarks.detection import baselines, networks, openset, separation
from benchmarks.detection.ours import OURS, fit_ours, learned_nearest, train_ours
from benchmarks.losses import peers
from training.dataset.dataset import Dataset, Labels, load_dataset
from training.evaluation.evaluate import as_served
from training.evaluation.few_shot import few_shot
from training.evaluation.operations import Operations, measure_operations
from training.evaluation.timeline import timeline
from training.recipe import FewShot, Recipe, RecipeError

SERVED = "as served"
"""The method of the verdicts of our rule, which may be unknown; all others name a class."""
CHOSEN = "chosen"
"""The method of what our fits chose, which is no score."""
EPISODES = "false episodes a device and day"
ALARMS = (EPISODES, "events", "found", "found by chance", "median delay, s")
"""What is measured as served where time, series and events are known."""


@dataclass(frozen=True, slots=True)
class Task:
    """Fits with one seed, and what to measure on them.

    Attributes:
        recipes: one for each table of the set, with the seed in them.
        first: whether this is the first seed: what has no seed is measured once.
        case: the class left out (open-set), the loss (losses), or loss and gain (separation).
        plan: what to hold out and draw (few-shot).
        site: columns that name a network or device of its own (networks).
    """

    section: str
    set: str
    recipes: tuple[Recipe, ...]
    first: bool
    case: str = ""
    plan: FewShot | None = None
    site: tuple[str, ...] = ()

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
    """One number, and its deviation over draws within the seed.

    The case is that of the task, in few-shot the number of shots, as served the rows of the fit.
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
            yield from _judged(name, labels, np.concatenate([classes for classes, _ in tries]))
            yield "", name, "seconds", sum(seconds for _, seconds in tries), 0.0
    nearest, learned, served, seconds = [], [], [], 0.0
    pooled: dict[str, list[Labels]] = {name: [] for name in baselines.TREES}
    for dataset, recipe in zip(datasets, task.recipes, strict=True):
        ours = train_ours(dataset, recipe)
        decisions = ours.decide(dataset.test)
        nearest.append(decisions.nearest)
        learned.append(learned_nearest(ours, dataset.test, recipe.encoder))
        served.append(as_served(decisions, len(dataset.classes)))
        seconds += ours.seconds
        yield from _scored(CHOSEN, ours.choices)
        if pooling := ours.encoder.pooling:
            for name, verdicts in pooled.items():
                verdicts.append(baselines.classify_pooled(name, task.seed, pooling, dataset))
    yield from _judged(OURS, labels, np.concatenate(nearest))
    yield from _judged(f"{OURS}, learned part", labels, np.concatenate(learned))
    yield "", OURS, "seconds", seconds, 0.0
    for name, verdicts in pooled.items():
        if len(verdicts) == len(datasets):
            yield from _judged(f"{name}, pooled", labels, np.concatenate(verdicts))
    yield from _served(task, datasets, np.concatenate(served), "train and dev")


def _judged(method: str, labels: Labels, verdicts: Labels, case: str = "") -> Measured:
    scores = baselines.scores(labels, verdicts) | baselines.alarm_errors(labels, verdicts)
    return _scored(method, scores, case)


def _served(task: Task, datasets: Sequence[Dataset], verdicts: Labels, case: str) -> Measured:
    """Score verdicts, `len(classes)` for unknown, as those who operate a network do."""
    labels = np.concatenate([dataset.test.labels for dataset in datasets])
    classes, recipe = datasets[0].classes, task.recipes[0]
    context = (recipe.time, recipe.series, recipe.event)
    records = pl.concat([timeline(dataset.test.table, *context) for dataset in datasets])
    operations = measure_operations(labels, verdicts, classes, records, recipe.episode_gap)
    yield from _judged(SERVED, labels, verdicts, case)
    yield case, SERVED, "unknown", float((verdicts == len(classes)).mean()), 0.0
    yield from _scored(SERVED, _alarms_and_events(operations), case)


def _alarms_and_events(operations: Operations) -> dict[str, float]:
    """Return what is known of a set's alarms over time and of its events."""
    episodes, events = operations.false_alarms.episodes_per_device_day, operations.events
    known: dict[str, float | None] = {EPISODES: episodes}
    if events is not None:
        known |= {
            "events": events.total,
            "found": events.found,
            "found by chance": events.by_chance,
            "median delay, s": events.delay and events.delay[0],
        }
    return {metric: value for metric, value in known.items() if value is not None}


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
    scores = dict(openset.of_ours(train_ours(known, recipe), known))
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


def _networks(task: Task) -> Measured:
    [recipe] = task.recipes
    dataset = load_dataset(recipe)
    labels, verdicts = networks.judge(dataset, recipe, task.site)
    for method, classes in verdicts.items():
        yield from _judged(method, labels, classes)


def _separation(task: Task) -> Measured:
    [recipe] = task.recipes
    yield from _scored("", separation.measure_separation(recipe, task.case), task.case)


_SECTIONS: Mapping[str, Callable[[Task], Measured]] = {
    "detection": _detection,
    "few-shot": _few_shot,
    "open-set": _open_set,
    "losses": _losses,
    "networks": _networks,
    "separation": _separation,
}
