"""Faultcube's own part of the comparison: an encoder and its decision rule, not yet exported."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import nn

from models.decision import Decisions, NearestCentroid
from models.schema import Matrix
from training.dataset.dataset import Dataset, Labels, Rows
from training.fitting.bins_choice import FINE
from training.fitting.calibration import HeldOut, Space, decision_rule
from training.fitting.encoder import Encoder
from training.fitting.estimator import SiameseClassifier
from training.fitting.fit import embed, fit
from training.fitting.prior import choose_prior, shares_of
from training.recipe import EncoderRecipe, Recipe

OURS = "Faultcube"


@dataclass(frozen=True, slots=True)
class Ours:
    """A fitted encoder, its decision rule, the seconds that fitting took, and what it took."""

    encoder: Encoder
    rule: NearestCentroid
    seconds: float
    choices: Mapping[str, float] = field(default_factory=dict)

    def embed(self, rows: Rows) -> Matrix:
        """Embed rows: float32 [n, N]."""
        return embed(self.encoder, rows.matrix)

    def decide(self, rows: Rows) -> Decisions:
        """Decide rows."""
        return self.rule.decide(self.embed(rows))


def train_ours(dataset: Dataset, recipe: Recipe) -> Ours:
    """Fit to train and dev rows and calibrate, as `faultcube train` does.

    The seconds are those of all fits.
    """
    begin = time.perf_counter()
    classifier = SiameseClassifier.of(recipe, dataset, lambda *_: None)
    seconds = time.perf_counter() - begin
    choices = {
        "metrics pooled": float(len(classifier.choice_.families)),
        "random trees": float(classifier.forest_choice_.growth == "random"),
        "boosted trees": float(classifier.forest_choice_.growth == "boosted"),
        "fine bins": float(classifier.bins_choice_.bins == FINE),
        "weight of the prior": classifier.prior_choice_.weight,
    }
    return Ours(classifier.encoder_, classifier.rule_, seconds, choices)


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
    shares = shares_of(train.labels, recipe.fault_share)
    choice = choose_prior(held_out, shares, recipe.prior)
    rule = decision_rule(space, held_out, recipe.unknown_rate, choice.apply(shares))
    return Ours(encoder, rule, seconds)


def learned_nearest(ours: Ours, rows: Rows, shape: EncoderRecipe) -> Labels:
    """Return the nearest class of each row without the linear part of the embedding."""
    width = shape.members * shape.dimensions
    rule = dataclasses.replace(ours.rule, centroids=ours.rule.centroids[:, :width])
    nearest: Labels = rule.decide(ours.embed(rows)[:, :width]).nearest
    return nearest
