"""Telling records of a class that training never saw from records of known classes.

A score says how unknown a record seems, more being more unknown.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable, Mapping

import numpy as np
import numpy.typing as npt
from sklearn.covariance import ledoit_wolf
from sklearn.neighbors import NearestNeighbors

from benchmarks.detection.baselines import Points, TrainingRows, fit_classifier
from benchmarks.detection.ours import Ours
from training.dataset.dataset import Dataset, Labels, Rows

Scores = npt.NDArray[np.floating]
Score = Callable[[Rows], Scores]

UNKNOWN_FOUND = 0.95
"""The share of unknown records at which known ones are counted."""


def auroc(known: Scores, unknown: Scores) -> float:
    """Return how probably an unknown record scores more than a known one; ties count half."""
    ordered = np.sort(known)
    below = np.searchsorted(ordered, unknown, side="left")
    up_to = np.searchsorted(ordered, unknown, side="right")
    return float((below + up_to).mean() / (2 * len(known)))


def rejected_known(known: Scores, unknown: Scores) -> float:
    """Return FPR95: the share of known records rejected once 95 % of the unknown ones are."""
    threshold = np.sort(unknown)[::-1][math.ceil(UNKNOWN_FOUND * len(unknown)) - 1]
    return float((known >= threshold).mean())


def leave_out(dataset: Dataset, name: str) -> tuple[Dataset, Rows]:
    """Return the dataset without a class, and the class's test rows.

    The dataset must have been loaded with the class held out, so that its fields say nothing of it.
    """
    gone = dataset.classes.index(name)

    def without(rows: Rows) -> Rows:
        kept = rows.labels != gone
        labels = rows.labels[kept]
        return Rows(rows.matrix[kept], labels - (labels > gone), rows.table.filter(kept))

    test = dataset.test
    left_out = test.labels == gone
    known = dataclasses.replace(
        dataset,
        classes=tuple(label for label in dataset.classes if label != name),
        train=without(dataset.train),
        dev=without(dataset.dev),
        test=without(test),
    )
    return known, Rows(test.matrix[left_out], test.labels[left_out], test.table.filter(left_out))


def of_ours(ours: Ours, dataset: Dataset) -> Mapping[str, Score]:
    """Return scores from the cube, by name."""
    rule = ours.rule
    reference = np.concatenate([ours.embed(rows) for rows in (dataset.train, dataset.dev)])
    fifth = _neighbour(reference, 5)

    def by_radius(rows: Rows) -> Scores:
        decisions = ours.decide(rows)
        shortest = decisions.distances.min(axis=1)
        radii = rule.radii[decisions.nearest]
        shares: Scores = shortest / np.maximum(radii, np.finfo(np.float32).tiny)
        return shares

    return {
        "distance": lambda rows: ours.decide(rows).distances.min(axis=1),
        "distance / radius": by_radius,
        "1 - confidence": lambda rows: 1 - ours.decide(rows).probabilities.max(axis=1),
        "5-NN in the cube": lambda rows: fifth(ours.embed(rows)),
    }


def of_classifiers(training: TrainingRows) -> Mapping[str, Score]:
    """Return scores from raw standardised columns, by name."""
    regression = fit_classifier("logistic regression", 0, training)
    distances = {
        "raw 5-NN": _neighbour(training.points, 5),
        "raw 1-NN": _neighbour(training.points, 1),
        "Mahalanobis": _mahalanobis(training.points, training.labels),
        "1 - max softmax": lambda points: 1 - regression.predict_proba(points).max(axis=1),
    }
    return {name: _on_scaled(training, score) for name, score in distances.items()}


def _on_scaled(training: TrainingRows, score: Callable[[Points], Scores]) -> Score:
    return lambda rows: score(training.scaler(rows.table))


def _neighbour(
    reference: npt.NDArray[np.floating], k: int
) -> Callable[[npt.NDArray[np.floating]], Scores]:
    """Score by the distance to the k-th nearest of the reference points."""
    neighbours = NearestNeighbors(n_neighbors=min(k, len(reference))).fit(reference)
    return lambda points: neighbours.kneighbors(points)[0][:, -1]


def _mahalanobis(points: Points, labels: Labels) -> Callable[[Points], Scores]:
    """Score by distance to the nearest class mean, one shrunk covariance (Lee et al., 2018)."""
    means = np.stack([points[labels == c].mean(axis=0) for c in np.unique(labels)])
    covariance, _ = ledoit_wolf(points - means[labels], assume_centered=True)
    values, vectors = np.linalg.eigh(covariance)
    whiten = vectors / np.sqrt(np.maximum(values, 1e-12))

    def score(records: Points) -> Scores:
        white, centres = records @ whiten, means @ whiten
        squares = [np.square(white - centre).sum(axis=1) for centre in centres]
        nearest: Scores = np.min(squares, axis=0)
        return nearest

    return score
