"""Evaluate a model on records that it has not seen."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
from sklearn.metrics import confusion_matrix, f1_score

from models.decision import Decisions, NearestCentroid, distances_between
from models.encoder import Encoder
from models.schema import Matrix
from training.dataset.dataset import Labels, Rows
from training.evaluation.operations import GAP, Operations, measure_operations
from training.fitting.fit import balanced_batches
from training.fitting.losses import LosslessTripletLoss
from training.recipe import EncoderRecipe


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement of verdicts with labels, in 0..1; labels without a record do not count."""

    accuracy: float  # share of records with the right verdict
    balanced_accuracy: float  # mean recall of the labels
    macro_f1: float  # mean F1 of the labels
    recall: Mapping[Any, float]  # share of each label's records with the right verdict
    records: int  # number of records

    @property
    def overall(self) -> tuple[float, float, float]:
        """Accuracy, balanced accuracy and macro-F1."""
        return self.accuracy, self.balanced_accuracy, self.macro_f1

    def false_alarm_rate(self, good: object) -> float | None:
        """Return the share of good records whose verdict is another; None if there are none."""
        return 1 - self.recall[good] if good in self.recall else None


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results on one set of records; shares and rates are in 0..1."""

    records: int  # number of records
    nearest: Scores  # scores when every record goes to its nearest class, as other classifiers do
    served: Scores  # scores of the verdicts as served, where unknown is always wrong
    # for each class, the share of its records with the right verdict, as served
    recall: dict[str, float]
    false_unknown_rate: float  # share of records of known classes that were called unknown
    false_unknown_by_class: dict[str, float]  # the same for each class
    false_alarm_rate: float  # share of good records with a fault class or unknown as verdict
    missed_fault_rate: float  # share of fault records that were called good
    confusion: list[list[int]]  # records by true class (rows) and verdict (columns, unknown last)
    calibration_error: float  # expected calibration error of the confidence, 15 bins
    # mean lossless loss of all triplets of class-balanced batches, in the learned parts
    loss: float
    excess_loss: float  # loss over the floor that geometry sets for this number of classes
    tightness: float  # mean distance to the own centroid over mean distance between centroids
    operations: Operations  # what operators care about, of the verdicts as served

    def as_json(self) -> dict[str, Any]:
        """Return plain values for the manifest, fractions with six digits."""
        content = asdict(self)
        for rule in ("nearest", "served"):  # what all records have in common is said once
            del content[rule]["records"], content[rule]["recall"]
        rounded: dict[str, Any] = json.loads(
            json.dumps(content), parse_float=lambda digits: round(float(digits), 6)
        )
        return rounded


def evaluate(
    encoder: Encoder,
    rule: NearestCentroid,
    classes: tuple[str, ...],
    rows: Rows,
    shape: EncoderRecipe,
    loss: LosslessTripletLoss,
    records: pl.DataFrame | None = None,
    gap: float = GAP,
) -> Evaluation:
    """Classify records by the rule that serves, and compare with their labels.

    `classes` are names by index, good traffic first. The loss is measured on the learned parts of
    the embedding, which `shape` gives, against the floor for the classes that the rows have.
    `records` tells time, series and event of the rows, as `timeline` returns them; `gap` is in
    seconds.
    """
    embeddings, labels = encoder.embed(rows.matrix), rows.labels
    decisions = rule.decide(embeddings)
    unknown = len(classes)
    verdicts = as_served(decisions, unknown)
    served = score(labels, verdicts)
    confusion = confusion_matrix(labels, verdicts, labels=range(unknown + 1))[:unknown]
    faults = labels != 0
    mean_loss = _mean_loss(loss, shape.learned(embeddings), labels)
    present = len(served.recall)
    return Evaluation(
        records=len(labels),
        nearest=score(labels, decisions.nearest),
        served=served,
        recall={classes[c]: recall for c, recall in served.recall.items()},
        false_unknown_rate=float((verdicts == unknown).mean()),
        false_unknown_by_class={
            classes[c]: float((verdicts[labels == c] == unknown).mean()) for c in served.recall
        },
        false_alarm_rate=served.false_alarm_rate(0) or 0.0,
        missed_fault_rate=float((verdicts[faults] == 0).mean()) if faults.any() else 0.0,
        confusion=confusion.tolist(),
        calibration_error=_calibration_error(decisions, labels),
        loss=mean_loss,
        excess_loss=loss.excess(mean_loss, present, shape.dimensions) if present > 1 else 0.0,
        tightness=tightness(embeddings, labels, rule.centroids),
        operations=measure_operations(
            labels, verdicts, classes, pl.DataFrame() if records is None else records, gap
        ),
    )


def as_served(decisions: Decisions, unknown: int) -> Labels:
    """Return the index of each record's verdict, int64 [n]; `unknown` where no class accepts it."""
    return np.where(decisions.accepted, decisions.nearest, unknown).astype(np.int64)


def score(labels: Sequence[str] | Labels, verdicts: Sequence[str] | Labels) -> Scores:
    """Compare verdicts with labels, both [n], names or numbers; other verdicts are wrong ones."""
    truth, verdict = np.asarray(labels), np.asarray(verdicts)
    present = sorted(set(truth.tolist()))
    recall = {label: float((verdict[truth == label] == label).mean()) for label in present}
    macro_f1 = f1_score(truth, verdict, labels=present, average="macro", zero_division=0)
    return Scores(
        accuracy=float((truth == verdict).mean()),
        balanced_accuracy=float(np.mean([*recall.values()])),
        macro_f1=float(macro_f1),
        recall=recall,
        records=len(truth),
    )


def tightness(points: Matrix, labels: Labels, centroids: Matrix) -> float:
    """Return the mean distance to the own centroid over the mean distance between centroids.

    Takes points float32 [n, N], labels int64 [n] and centroids float32 [classes, N].
    """
    own = distances_between(points, centroids)[np.arange(len(labels)), labels].mean()
    between = distances_between(centroids, centroids)[~np.eye(len(centroids), dtype=bool)].mean()
    return float(own / between)


def _mean_loss(loss: LosslessTripletLoss, parts: list[Matrix], labels: Labels) -> float:
    random = np.random.default_rng(0)
    classes = torch.from_numpy(labels)
    batches = list(balanced_batches(labels, batch=1024, count=4, random=random))
    values = [loss(torch.from_numpy(p[b]), classes[b]).item() for p in parts for b in batches]
    return float(np.mean(values))


def _calibration_error(decisions: Decisions, labels: Labels, bins: int = 15) -> float:
    """Return the mean gap between confidence and accuracy (Naeini et al., AAAI 2015)."""
    confidence = decisions.probabilities.max(axis=1).astype(float)
    right = (decisions.nearest == labels).astype(float)
    of_bin = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(of_bin, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))
