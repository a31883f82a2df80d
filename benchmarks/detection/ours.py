"""Faultcube's own part of the comparison: an encoder and its decision rule, not yet exported."""

from __future__ import annotations

import dataclasses
import time
from dataclasses import dataclass

import numpy as np
from torch import nn

from models.decision import Decisions, NearestCentroid, distances_between
from models.schema import Matrix
from training.dataset.dataset import Dataset, Labels, Rows
from training.fitting.calibration import HeldOut, Space, decision_rule, shares_of
from training.fitting.encoder import Encoder
from training.fitting.fit import embed, fit
from training.recipe import EncoderRecipe, Recipe


@dataclass(frozen=True, slots=True)
class Ours:
    """A fitted encoder, its decision rule, and the seconds that fitting took."""

    encoder: Encoder
    rule: NearestCentroid
    seconds: float

    def embed(self, rows: Rows) -> Matrix:
        """Embed rows: float32 [n, N]."""
        return embed(self.encoder, rows.matrix)

    def decide(self, rows: Rows) -> Decisions:
        """Decide rows."""
        return self.rule.decide(self.embed(rows))


def with_dev(dataset: Dataset) -> Dataset:
    """Return the dataset with dev rows among the training rows, as other classifiers get them.

    Nothing was chosen on them, but what is calibrated on them after that promises nothing.
    """
    train, dev = dataset.train, dataset.dev
    matrix = np.concatenate([train.matrix, dev.matrix])
    return dataclasses.replace(
        dataset, train=Rows(matrix, np.concatenate([train.labels, dev.labels]))
    )


def fit_ours(dataset: Dataset, recipe: Recipe, loss: nn.Module | None = None) -> Ours:
    """Fit on train rows, by another loss than the recipe's if given, and calibrate on dev rows."""
    begin = time.perf_counter()
    train, dev = dataset.train, dataset.dev
    encoder, _ = fit(
        dataset.schema, train, dev, recipe.encoder, recipe.fit, lambda *_: None, loss=loss
    )
    seconds = time.perf_counter() - begin
    space = Space.of(lambda matrix: embed(encoder, matrix), train)
    held_out = HeldOut(space.measure(embed(encoder, dev.matrix)), dev.labels)
    shares = shares_of(train.labels, recipe.fault_share) if recipe.prior else None
    rule = decision_rule(space, held_out, recipe.unknown_rate, shares)
    return Ours(encoder, rule, seconds)


def learned_nearest(ours: Ours, dataset: Dataset, shape: EncoderRecipe) -> Labels:
    """Return the nearest class of each test row without the linear part of the embedding."""
    width = shape.members * shape.dimensions
    points, centroids = ours.embed(dataset.test)[:, :width], ours.rule.centroids[:, :width]
    nearest: Labels = distances_between(points, centroids).argmin(axis=1)
    return nearest
