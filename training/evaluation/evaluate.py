"""What a model is worth on records it has not seen."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import confusion_matrix, f1_score

from models.decision import Decisions, NearestCentroid, distances_between
from models.encoder import Encoder
from models.schema import Matrix
from training.dataset.dataset import Labels, Rows
from training.fitting.losses import LosslessTripletLoss
from training.fitting.sampling import balanced_batches
from training.recipe import EncoderRecipe

__all__ = ["Evaluation", "Scores", "evaluate"]


@dataclass(frozen=True, slots=True)
class Scores:
    """Agreement with the labels; all in 0..1."""

    accuracy: float
    balanced_accuracy: float
    macro_f1: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Results on one set of records; shares and rates are in 0..1.

    Attributes:
        records: how many.
        nearest: scores when every record goes to its nearest class, as other classifiers do.
        served: scores of the verdicts as they are served, where unknown is never right.
        recall: share of each class's records that got its label, as served.
        false_unknown_rate: share of records of known classes that were called unknown.
        false_unknown_by_class: the same, for each class.
        false_alarm_rate: share of good records that were given a fault label or called unknown.
        missed_fault_rate: share of fault records that were called good.
        confusion: records by true class (rows) and verdict (columns, unknown last).
        calibration_error: expected calibration error of the confidence, 15 bins.
        loss: mean lossless loss of all triplets of class-balanced batches, in the learned parts.
        excess_loss: loss over the floor that geometry sets for this many classes.
        tightness: mean distance to the own centroid over mean distance between centroids.
    """

    records: int
    nearest: Scores
    served: Scores
    recall: dict[str, float]
    false_unknown_rate: float
    false_unknown_by_class: dict[str, float]
    false_alarm_rate: float
    missed_fault_rate: float
    confusion: list[list[int]]
    calibration_error: float
    loss: float
    excess_loss: float
    tightness: float

    def as_json(self) -> dict[str, Any]:
        """Plain values, fractions with six digits."""
        return {key: _rounded(value) for key, value in asdict(self).items()}


def evaluate(
    encoder: Encoder,
    rule: NearestCentroid,
    classes: tuple[str, ...],
    rows: Rows,
    shape: EncoderRecipe,
    loss: LosslessTripletLoss,
) -> Evaluation:
    """Classify records by the rule that serves, and compare with their labels.

    Args:
        encoder: the exported encoder.
        rule: the decision rule.
        classes: names by index, good traffic first.
        rows: the records and their labels.
        shape: tells the learned parts of an embedding.
        loss: measured on these, over the floor for the classes that the rows have.
    """
    embeddings, labels = encoder.embed(rows.matrix), rows.labels
    decisions = rule.decide(embeddings)
    unknown = len(classes)
    verdicts = np.where(decisions.accepted, decisions.nearest, unknown)
    present = np.unique(labels)
    confusion = confusion_matrix(labels, verdicts, labels=range(unknown + 1))[:unknown]
    totals = np.maximum(confusion.sum(axis=1), 1)
    good = labels == 0
    faults = len(present) > 1
    value = _mean_loss(loss, shape.learned(embeddings), labels)
    own = decisions.distances[np.arange(len(labels)), labels]
    between = distances_between(rule.centroids, rule.centroids)
    return Evaluation(
        records=len(labels),
        nearest=_scores(labels, decisions.nearest, present),
        served=_scores(labels, verdicts, present),
        recall={classes[c]: float(confusion[c, c] / totals[c]) for c in present},
        false_unknown_rate=float((verdicts == unknown).mean()),
        false_unknown_by_class={
            classes[c]: float(confusion[c, unknown] / totals[c]) for c in present
        },
        false_alarm_rate=float((verdicts[good] != 0).mean()) if good.any() else 0.0,
        missed_fault_rate=float((verdicts[~good] == 0).mean()) if (~good).any() else 0.0,
        confusion=confusion.tolist(),
        calibration_error=_calibration_error(decisions, labels),
        loss=value,
        excess_loss=loss.excess(value, len(present), shape.dimensions) if faults else 0.0,
        tightness=float(own.mean() / between[~np.eye(len(between), dtype=bool)].mean()),
    )


def _scores(labels: Labels, verdicts: np.ndarray, present: np.ndarray) -> Scores:
    recalls = [(verdicts[labels == c] == c).mean() for c in present]
    return Scores(
        accuracy=float((labels == verdicts).mean()),
        balanced_accuracy=float(np.mean(recalls)),
        macro_f1=float(
            f1_score(labels, verdicts, labels=present, average="macro", zero_division=0)
        ),
    )


def _mean_loss(loss: LosslessTripletLoss, parts: list[Matrix], labels: Labels) -> float:
    random = np.random.default_rng(0)
    classes = torch.from_numpy(labels)
    batches = list(balanced_batches(labels, batch=1024, count=4, random=random))
    values = [loss(torch.from_numpy(p[b]), classes[b]).item() for p in parts for b in batches]
    return float(np.mean(values))


def _calibration_error(decisions: Decisions, labels: Labels, bins: int = 15) -> float:
    """Mean gap of confidence and accuracy (Naeini et al., AAAI 2015)."""
    confidence = decisions.probabilities.max(axis=1).astype(float)
    right = (decisions.nearest == labels).astype(float)
    place = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = np.bincount(place, weights=right - confidence, minlength=bins)
    return float(np.abs(gaps).sum() / len(labels))


def _rounded(value: Any) -> Any:
    match value:
        case float():
            return round(value, 6)
        case dict():
            return {key: _rounded(each) for key, each in value.items()}
    return value
