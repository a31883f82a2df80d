"""From a recipe to a bundle."""

import json
import math
from collections.abc import Callable, Sequence
from collections.abc import Mapping as Mappings
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import partial
from importlib.metadata import version
from typing import Any

import numpy as np
import polars as pl

from models.bundle import Bundle, Calibration, Class
from models.decision import NearestCentroid
from models.encoder import Encoder as OnnxEncoder
from models.reference import MOST, REFERENCE, Reference
from models.schema import RecordError
from models.telemetry.mapping import MAPPING, Mapping, MappingError
from training.dataset.dataset import Dataset, Labels, Rows, load_dataset, naming
from training.dataset.sampling import Sample
from training.dataset.tables import Added
from training.evaluation.evaluate import Evaluation, as_served, evaluate
from training.evaluation.timeline import timeline
from training.fitting.bins_choice import BinsChoice
from training.fitting.calibration import (
    HeldOut,
    Shares,
    Space,
    decision_rule,
    with_carried,
)
from training.fitting.cross import FOLDS
from training.fitting.encoder import Encoder
from training.fitting.estimator import SiameseClassifier, one_thread
from training.fitting.families import Choice
from training.fitting.fit import Epoch
from training.fitting.forest_choice import ForestChoice
from training.fitting.losses import LosslessTripletLoss
from training.fitting.prior import PriorChoice
from training.onnx.export import export
from training.recipe import Recipe, RecipeError, Role, Split
from training.reports import figures
from training.reports.model_card import Calibrated, write_card
from training.reports.timeline_figure import timeline_figure

Report = Callable[[str, Epoch | None, Encoder | None], None]
"""Called after every epoch with the name of the fit, the epoch and the encoder; with None for both
after each fit that calibrates."""


_CALIBRATED_BY = {
    "dev": "dev rows calibrated radii and confidence and were not fitted",
    "groups": f"{FOLDS} fits, each without some groups, measured the train and dev rows of those "
    "groups and so calibrated radii and confidence; the last fit took all of these rows",
    "events": f"{FOLDS} fits, each without some events and a quarter of the rows of no event, "
    "neighbours in time, measured these and so calibrated radii and confidence; the last fit "
    "took all train and dev rows",
    "blocks": f"{FOLDS} fits, each without a quarter of each class's train and dev rows, which "
    "stand next to each other, measured these and so calibrated radii and confidence; the last fit "
    "took all of them",
}


@dataclass(frozen=True, slots=True)
class Fitted:
    """An encoder, its decision rule, and the results of both on the test rows."""

    dataset: Dataset
    graph: bytes
    encoder: OnnxEncoder
    rule: NearestCentroid
    rows: Rows  # the records that were fitted
    held_out: HeldOut  # the records that calibrated the rule
    evaluation: Evaluation
    history: list[Epoch]
    calibration: str  # what calibrated radii and confidence, as a sentence
    choice: Choice  # which fields are pooled, and why
    forest: ForestChoice  # which trees are a member, if any, and why
    bins: BinsChoice  # how many bins a number has, and why
    prior: PriorChoice  # how much the share of a class counts, and why
    shares: Shares | None  # of each class that was fitted, as the rule knows it

    @property
    def choices(self) -> tuple[str, ...]:
        """What the fit chose, a line each."""
        chosen = (self.choice, self.forest, self.bins, self.prior)
        return tuple(choice.note for choice in chosen if choice.note)


def train(
    recipe: Recipe, created: datetime, report: Report, retrained_from: str | None = None
) -> tuple[Bundle, Fitted]:
    """Fit, export, calibrate and evaluate a model and its backtests, as a bundle.

    The manifest records the time, which is no part of the version, and the version of the bundle
    that this one is to replace, if any.

    Raises:
        RecipeError: the recipe or its table cannot be trained on.
        ExportError: the exported graph differs from the encoder.
    """
    dataset, *others = _datasets(recipe)
    fitted = _fit_and_test(recipe, dataset, partial(report, recipe.name))
    backtests = {
        backtest.name: _fit_and_test(recipe, other, partial(report, backtest.name)).evaluation
        for backtest, other in zip(recipe.backtests, others, strict=True)
    }
    return _bundle(recipe, created, fitted, backtests, retrained_from), fitted


def join_training(recipe: Recipe) -> None:
    """Take part in the fits of `train` in another process, and make nothing of them.

    Raises:
        RecipeError: the recipe or its table cannot be trained on.
    """
    with one_thread():
        for dataset in _datasets(recipe):
            SiameseClassifier.of(recipe, dataset, lambda *_: None)


def _datasets(recipe: Recipe) -> list[Dataset]:
    """Return the dataset of the model and that of each backtest, all before the first fit."""
    datasets = [_checked(recipe, load_dataset(recipe))]
    for backtest in recipe.backtests:
        with naming(backtest):
            datasets.append(_checked(recipe, load_dataset(recipe, backtest.split)))
    return datasets


def _checked(recipe: Recipe, dataset: Dataset) -> Dataset:
    """Return the dataset, or raise RecipeError where its fit would end in one."""
    _check_mapping(recipe, dataset)
    _records(recipe, dataset)
    return dataset


def _check_mapping(recipe: Recipe, dataset: Dataset) -> None:
    """Raise RecipeError unless the recipe's mapping makes fields of the model.

    It may also make columns of the table that are no fields, such as those that never move.
    """
    if recipe.mapping is None:
        return
    try:
        Mapping.read(recipe.mapping).without(dataset.dropped).check(dataset.schema)
    except MappingError as error:
        raise RecipeError(str(error)) from error


def fit_and_test(
    recipe: Recipe,
    split: Split,
    report: Callable[[Epoch | None, Encoder | None], None],
    added: Sequence[Added] | None = None,
) -> Fitted:
    """Fit on train rows, calibrate on dev rows, and evaluate on test rows of one split.

    `added` replaces the rows to add that the recipe names.
    """
    dataset = _checked(recipe, load_dataset(recipe, split, added=added))
    return _fit_and_test(recipe, dataset, report)


@one_thread()
def _fit_and_test(
    recipe: Recipe, dataset: Dataset, report: Callable[[Epoch | None, Encoder | None], None]
) -> Fitted:
    """Fit on a dataset that is checked, calibrate and evaluate."""
    records = _records(recipe, dataset)
    classifier = SiameseClassifier.of(recipe, dataset, report)
    graph = export(classifier.encoder_, dataset.dev.matrix)
    encoder = OnnxEncoder(graph)
    # The graph serves, and its last digits differ from torch's.
    fitted, held_out = dataset.fitted, classifier.held_out_
    rows = fitted.train if held_out is None else fitted.known
    space = Space.of(encoder.embed, rows)
    if held_out is None:
        held_out = HeldOut(space.measure(encoder.embed(fitted.dev.matrix)), fitted.dev.labels)
        if classifier.traffic_ is not None:
            held_out = held_out.as_traffic(classifier.traffic_)
    rule = decision_rule(space, held_out, recipe.unknown_rate, classifier.shares_)
    rule = with_carried(rule, encoder.embed, dataset, recipe.unknown_rate)
    loss = LosslessTripletLoss(recipe.fit.beta, recipe.fit.epsilon)
    evaluation = evaluate(
        encoder,
        rule,
        dataset.classes,
        dataset.test,
        recipe.encoder,
        loss,
        records,
        recipe.episode_gap,
    )
    return Fitted(
        dataset,
        graph,
        encoder,
        rule,
        rows,
        held_out,
        evaluation,
        classifier.history_,
        _CALIBRATED_BY[classifier.calibrated_by_],
        classifier.choice_,
        classifier.forest_choice_,
        classifier.bins_choice_,
        classifier.prior_choice_,
        classifier.shares_,
    )


def _records(recipe: Recipe, dataset: Dataset) -> pl.DataFrame:
    return timeline(dataset.test.table, recipe.time, recipe.series, recipe.event)


def _bundle(
    recipe: Recipe,
    created: datetime,
    fitted: Fitted,
    backtests: Mappings[str, Evaluation],
    retrained_from: str | None,
) -> Bundle:
    dataset, rule, classes = fitted.dataset, fitted.rule, fitted.dataset.classes
    points, labels = fitted.encoder.embed(dataset.test.matrix), dataset.test.labels
    decisions = rule.decide(points)
    files = {
        "encoder.onnx": fitted.graph,
        "examples.json": _examples(fitted),
        REFERENCE: _reference(dataset.dev, recipe.fit.seed).to_bytes(),
        "card.md": write_card(
            recipe,
            dataset,
            rule,
            fitted.evaluation,
            backtests,
            Calibrated(fitted.calibration, fitted.held_out.labels),
            fitted.choices,
        ).encode(),
        "figures/confusion.png": figures.confusion_figure(fitted.evaluation, classes),
        "figures/distances.png": figures.distances_figure(
            decisions.distances, labels, rule, classes
        ),
        "figures/embedding.png": figures.embedding_figure(points, labels, rule, classes),
        "figures/history.png": figures.history_figure(fitted.history),
    }
    if recipe.mapping is not None:
        files[MAPPING] = recipe.mapping.read_bytes()
    if recipe.time:
        verdicts, records = as_served(decisions, len(classes)), _records(recipe, dataset)
        files["figures/timeline.png"] = timeline_figure(labels, verdicts, classes, records)
    return Bundle.make(
        files,
        name=recipe.name,
        created=created,
        about=recipe.about.strip(),
        dimensions=rule.centroids.shape[1],
        adapted=bool(recipe.sites),
        fields=dataset.schema.fields,
        classes=_classes(recipe, fitted),
        calibration=Calibration(
            unknown_rate=recipe.unknown_rate,
            temperature=rule.temperature,
            records=_counts(fitted.held_out.labels, classes),
            scatter=rule.scatter,
        ),
        training=_provenance(recipe, fitted)
        | ({"retrained_from": retrained_from} if retrained_from else {}),
        metrics={
            "test": fitted.evaluation.as_json(),
            "backtests": {name: result.as_json() for name, result in backtests.items()},
        },
    )


def _classes(recipe: Recipe, fitted: Fitted) -> tuple[Class, ...]:
    rule, dataset = fitted.rule, fitted.dataset
    severity = {**dataset.severity, **recipe.severity}
    shares = () if fitted.shares is None else fitted.shares
    counts = _counts(fitted.rows.labels, dataset.classes)
    known = _counts(dataset.known.labels, dataset.classes)
    return tuple(
        Class(
            name=name,
            good=name == recipe.good,
            severity="none" if name == recipe.good else severity.get(name, "major"),
            centroid=tuple(rule.centroids[c].tolist()),
            radius=float(rule.radii[c]),
            records=(known if name in dataset.carried else counts)[name],
            share=float(shares[c]) if c < len(shares) else None,
            enrolled=name in dataset.carried,
            lasting=recipe.roles.get(name, Role()).lasting,
            echo_of=_cause(name, recipe, dataset.classes),
        )
        for c, name in enumerate(dataset.classes)
    )


def _cause(name: str, recipe: Recipe, classes: tuple[str, ...]) -> str | None:
    """Return the class that a class echoes; None too where that one has no rows to be fitted."""
    cause = recipe.roles.get(name, Role()).echo_of
    return cause if cause in classes else None


def _counts(labels: Labels, classes: tuple[str, ...]) -> dict[str, int]:
    return {name: int((labels == c).sum()) for c, name in enumerate(classes)}


def _reference(dev: Rows, seed: int) -> Reference:
    """Return the calibration rows, or a random sample of them in their order."""
    rows = np.arange(len(dev.labels))
    if len(rows) > MOST:
        rows = np.sort(np.random.default_rng(seed).choice(rows, MOST, replace=False))
    return Reference(dev.matrix[rows], dev.labels[rows].astype(np.int16))


def _provenance(recipe: Recipe, fitted: Fitted) -> dict[str, Any]:
    dataset = fitted.dataset
    libraries = ("torch", "onnx", "onnxruntime", "numpy", "scikit-learn")
    return {
        "recipe": recipe.as_recorded(),
        "rows": {part: len(rows) for part, rows in dataset.parts.items()},
        **({"sample": _sampled(dataset.sample)} if dataset.sample else {}),
        "calibration": fitted.calibration,
        "families": [list(family) for family in fitted.choice.families],
        "choice": fitted.choice.note,
        **({"trees": fitted.forest.note} if fitted.forest.note else {}),
        **({"bins": fitted.bins.note} if fitted.bins.note else {}),
        **({"prior": fitted.prior.note} if fitted.prior.note else {}),
        "dropped": dict(dataset.dropped),
        **({"added": [asdict(addition) for addition in dataset.added]} if dataset.added else {}),
        "libraries": {name: version(name) for name in libraries},
    }


def _sampled(sample: Sample) -> dict[str, Any]:
    """Return how many rows of how many were taken, and of each label."""
    return {"rows": len(sample.rows), "of": sample.of, "labels": dict(sample.classes)}


def _examples(fitted: Fitted) -> bytes:
    """Return a request body with one real record of each class."""
    records = [_example(fitted, c) for c in range(len(fitted.dataset.classes))]
    return json.dumps({"records": records}, indent=1, allow_nan=False).encode() + b"\n"


def _example(fitted: Fitted, label: int) -> dict[str, object]:
    """Return a record of median distance among those with the right verdict."""
    dataset = fitted.dataset
    for rows in (dataset.test, dataset.dev, dataset.train):
        decisions = fitted.rule.decide(fitted.encoder.embed(rows.matrix))
        right = (rows.labels == label) & (decisions.nearest == label) & decisions.accepted
        indices = np.flatnonzero(right)
        order = indices[np.argsort(decisions.distances[indices, label], kind="stable")]
        for row in np.roll(order, -len(order) // 2):
            record = _record(rows, int(row), dataset)
            try:
                dataset.schema.encode([record])
            except RecordError:
                continue
            return record
    return _record(dataset.train, int(np.flatnonzero(dataset.train.labels == label)[0]), dataset)


def _record(rows: Rows, row: int, dataset: Dataset) -> dict[str, object]:
    """Return a row of the table as a client would send it."""
    record: dict[str, object] = {}
    for field in dataset.schema.fields:
        kind = pl.String if field.kind == "category" else pl.Float64
        value: str | float | None = rows.table[field.name][row : row + 1].cast(kind).item()
        if value == "" or (isinstance(value, float) and not math.isfinite(value)):
            value = None
        record[field.name] = bool(value) if field.kind == "boolean" and value is not None else value
    return record
