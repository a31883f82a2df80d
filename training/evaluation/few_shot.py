"""Enrol fault classes that training never saw from a few records each.

A learned embedding has to beat two baselines by the nearest centroid: raw standardised fields, and
linear discriminant analysis.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from models.decision import NearestCentroid
from models.schema import Matrix
from training.dataset.dataset import Dataset, Labels, load_dataset
from training.evaluation.evaluate import score
from training.evaluation.operations import measure_operations
from training.evaluation.timeline import timeline
from training.fitting.encoder import Encoder
from training.fitting.estimator import SiameseClassifier
from training.fitting.fit import Epoch
from training.recipe import FewShot, Recipe, RecipeError

Points = npt.NDArray[np.floating]
Space = Callable[[Matrix], Points]
"""Maps raw records, float32 [n, fields], to points, float [n, width]."""


@dataclass(frozen=True, slots=True)
class Draws:
    """Mean and standard deviation of scores over draws of the support records; in 0..1."""

    accuracy: tuple[float, float]  # over all test records
    macro_f1: tuple[float, float]  # over all classes, including those held out
    held_out_recall: tuple[float, float]  # mean recall of the classes held out
    false_alarms: tuple[float, float]  # share of good records called a fault
    # share of the events of the classes held out that were found and named, counted for each series
    # that one shows in; None if the recipe names no event, or none of them has one
    events_named: tuple[float, float] | None


FewShotResult = Mapping[str, Mapping[int, Draws]]
"""Draws by space (embedding, raw, lda) and number of support records."""


def few_shot(
    recipe: Recipe, plan: FewShot, report: Callable[[Epoch | None, Encoder | None], None]
) -> FewShotResult:
    """Fit without some fault classes, enrol them from a few records, and classify the test rows.

    A class's support records are drawn from its train and dev rows; its centroid is their mean. All
    other centroids are means of all training rows. In the cube, the decision rule allows for the
    error of a mean of few records, as it does in the service.

    Raises:
        RecipeError: a class does not exist, is good traffic, or has too few records.
    """
    if recipe.good in plan.hold_out:
        raise RecipeError(f"good traffic, {recipe.good!r}, cannot be held out; name fault classes")
    dataset = load_dataset(recipe, held_out=plan.hold_out)
    held_out = _check(dataset, plan)
    records = timeline(dataset.test.table, recipe.time, recipe.series, recipe.event)
    seen = dataset.without(plan.hold_out)
    # One fit is enough: no radius is looked at, and support records come from the dev rows too.
    recipe = recipe.model_copy(update={"calibration": "dev"})
    classifier = SiameseClassifier.of(recipe, seen, report)
    spaces = {"embedding": classifier.transform, **_baselines(seen.fitted)}
    rules = {"embedding": classifier.rule_}  # the baselines are the plain nearest centroid
    return {
        name: {
            shots: _draw(
                dataset, held_out, space, shots, plan.draws, recipe, rules.get(name), records
            )
            for shots in plan.shots
        }
        for name, space in spaces.items()
    }


def _check(dataset: Dataset, plan: FewShot) -> tuple[int, ...]:
    """Return the indices of the classes to hold out, or raise RecipeError."""
    for name in plan.hold_out:
        if name not in dataset.classes[1:]:
            faults = ", ".join(dataset.classes[1:])
            raise RecipeError(f"{name!r} cannot be held out; the fault classes are {faults}")
        label = dataset.classes.index(name)
        rows = sum(int((part.labels == label).sum()) for part in (dataset.train, dataset.dev))
        if rows < max(plan.shots):
            raise RecipeError(
                f"{name!r} has {rows} train and dev rows, {max(plan.shots)} are asked for"
            )
        if not (dataset.test.labels == label).any():
            raise RecipeError(f"{name!r} has no test row, by which it could be judged")
    if not {*dataset.classes[1:]} - {*plan.hold_out, *dataset.carried}:
        raise RecipeError("a fault class must be left to train on; hold out fewer")
    return tuple(dataset.classes.index(name) for name in plan.hold_out)


def _baselines(seen: Dataset) -> dict[str, Space]:
    """Fit raw standardised fields, and shrinkage LDA on them, to the seen classes."""
    raw = _standardise(seen)
    lda = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    lda.fit(raw(seen.train.matrix), seen.train.labels)
    return {"raw": raw, "lda": lambda records: lda.transform(raw(records))}


def _standardise(seen: Dataset) -> Space:
    """Standardise numbers, with missing ones at the mean, and make categories one-hot."""
    numbers = np.array([not field.categories for field in seen.schema.fields])
    values = seen.train.matrix[:, numbers].astype(np.float64)
    mean, deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
    deviation[deviation == 0] = 1

    def points(records: Matrix) -> npt.NDArray[np.float64]:
        scaled = np.nan_to_num((records[:, numbers] - mean) / deviation)
        one_hot = [
            (records[:, [i]] == np.arange(len(field.categories))).astype(np.float64)
            for i, field in enumerate(seen.schema.fields)
            if field.categories
        ]
        return np.concatenate([scaled, *one_hot], axis=1)

    return points


def _draw(
    dataset: Dataset,
    held_out: Sequence[int],
    space: Space,
    shots: int,
    draws: int,
    recipe: Recipe,
    rule: NearestCentroid | None,
    records: pl.DataFrame,
) -> Draws:
    """Draw support records again and again, and score the test rows after each draw."""
    random = np.random.default_rng(recipe.fit.seed)
    labels, train_labels = dataset.test.labels, dataset.train.labels
    train, test = space(dataset.train.matrix), space(dataset.test.matrix)
    pool = np.concatenate([train, space(dataset.dev.matrix)])
    pool_labels = np.concatenate([train_labels, dataset.dev.labels])
    centroids = [train[train_labels == c].mean(axis=0) for c in range(len(dataset.classes))]
    seen = [c for c in range(len(dataset.classes)) if c not in held_out]
    distances = np.stack([_distances(test, centroid) for centroid in centroids], axis=1)
    width = test.shape[1]
    support = np.full(len(centroids), np.inf)
    if rule is not None:
        support[list(held_out)] = shots
        if rule.support is not None:
            support[seen] = rule.support
        log_prior = None
        if rule.log_prior is not None:
            log_prior = np.full(len(centroids), np.nan)
            log_prior[seen] = rule.log_prior
        # Distances are given, so centroids and radii are not looked at.
        nothing = np.zeros((len(centroids), width), np.float32)
        rule = dataclasses.replace(
            rule, centroids=nothing, radii=nothing[:, 0], support=support, log_prior=log_prior
        )
    values, named = [], []
    for _ in range(draws):
        for c in held_out:
            chosen = random.choice(np.flatnonzero(pool_labels == c), shots, replace=False)
            distances[:, c] = _distances(test, pool[chosen].mean(axis=0))
        nearest = distances.argmin(axis=1)
        if rule is not None:
            nearest = rule.expected(distances / width).argmin(axis=1)
        scores = score(labels, nearest)
        recalls = [scores.recall[c] for c in held_out if c in scores.recall]
        rate = scores.false_alarm_rate(0) or 0.0
        values.append((scores.accuracy, scores.macro_f1, float(np.mean(recalls)), rate))
        named.append(_events_named(dataset, held_out, nearest, records, recipe.episode_gap))
    shares = [share for share in named if share is not None]
    accuracy, macro_f1, recall, alarms = map(_mean_and_deviation, zip(*values, strict=True))
    events = _mean_and_deviation(shares) if shares else None
    return Draws(accuracy, macro_f1, recall, alarms, events)


def _events_named(
    dataset: Dataset, held_out: Sequence[int], nearest: Labels, records: pl.DataFrame, gap: float
) -> float | None:
    if "event" not in records:
        return None
    operations = measure_operations(dataset.test.labels, nearest, dataset.classes, records, gap)
    found = [each for c in held_out if (each := operations.by_class.get(dataset.classes[c]))]
    total = sum(each.total for each in found)
    return sum(each.named for each in found) / total if total else None


def _mean_and_deviation(values: Sequence[float]) -> tuple[float, float]:
    return float(np.mean(values)), float(np.std(values))


def _distances(points: Points, centre: Points) -> Points:
    distances: Points = np.square(points - centre).sum(axis=1)
    return distances
