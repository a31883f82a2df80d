"""The decision rule of a fitted encoder: centroids, calibrated radii, confidence and prior."""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import softmax
from sklearn.metrics import f1_score, log_loss

from models.decision import NearestCentroid, distances_between, log_prior_of
from models.schema import Matrix
from models.support import ROUNDING, conformal_quantile, support_radius, with_class
from training.dataset.dataset import Dataset, Labels, Rows
from training.fitting.fit import centroids_of

Shares = npt.NDArray[np.float64]
Distances = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class HeldOut:
    """Records that the encoder which measured them never saw."""

    distances: Distances  # [n, classes] to that encoder's centroids
    labels: Labels  # [n]
    weights: Shares | None = None  # [n], where classes are more or less common in traffic

    def as_traffic(self, shares: Shares) -> "HeldOut":
        """Return the records, each class weighted by its share in traffic, [classes]."""
        here = np.bincount(self.labels, minlength=len(shares)) / len(self.labels)
        weights = np.divide(shares, here, out=np.zeros_like(shares), where=here > 0)
        return replace(self, weights=weights[self.labels])

    @property
    def macro_f1(self) -> float:
        """Of giving each record to the nearest class."""
        nearest = self.distances.argmin(axis=1)
        # A class of which no record could be measured says nothing.
        known = np.unique(self.labels)
        score = f1_score(self.labels, nearest, labels=known, average="macro", zero_division=0)
        return float(score)


def is_worth_it(before: float, after: float) -> bool:
    """Return whether macro-F1 gains a tenth of what it lacks to 1: less may well be chance."""
    return after - before >= 0.1 * (1 - before) > 0


@dataclass(frozen=True, slots=True)
class Space:
    """Training records in the cube."""

    centroids: Matrix  # float32 [classes, N]
    scatter: float  # mean distance of a class's records from its centroid, mean over classes

    @classmethod
    def of(cls, embedding: Callable[[Matrix], Matrix], train: Rows) -> "Space":
        """Embed training records; labels are 0..K-1, and every class has a record."""
        classes = int(train.labels.max()) + 1
        points, labels = embedding(train.matrix), train.labels
        centroids = centroids_of(points, labels, classes)
        to_own = distances_between(points, centroids)[np.arange(len(labels)), labels]
        return cls(centroids, float(np.mean([to_own[labels == c].mean() for c in range(classes)])))

    def measure(self, points: Matrix) -> Distances:
        """Return the distances of points to the centroids."""
        return distances_between(points, self.centroids).astype(np.float64)


def decision_rule(
    space: Space, held_out: HeldOut, unknown_rate: float, shares: Shares | None
) -> NearestCentroid:
    """Calibrate radii and confidence on held-out records.

    A class's radius is the conformal quantile of the distances of all held-out records that the
    rule gives to it. So a new record of a known class, drawn from the same distribution, is called
    unknown with at most this probability (Vovk et al., "Algorithmic Learning in a Random World",
    2005; conditional on the nearest class). Distances to a record's own class would not do: one
    record that lies in another cluster stretches the radius of its class beyond any use. A class
    with too few held-out records (99 are needed for 1 %) takes the quantile over all classes, or
    its own largest distance if that is larger.

    Held-out records of whole groups (devices, events) make this hold for new groups, as far as they
    are like the known ones. Where they come from several fits that each left some groups out, the
    radii are those of CV+ without its correction for the number of fits (Barber et al., "Predictive
    inference with the jackknife+", 2021): at most twice the rate in theory, about the rate in
    practice.

    Args:
        space: of the encoder that serves.
        held_out: measured by encoders that were fitted alike.
        unknown_rate: share of records of known classes that may be called unknown.
        shares: prior share of each class; None for a rule without a prior.
    """
    temperature, expected = fit_temperature(held_out, shares)
    nearest = expected.argmin(axis=1)
    reached = held_out.distances[np.arange(len(nearest)), nearest]
    pooled = min(conformal_quantile(reached, unknown_rate), float(reached.max()))
    radii = []
    for c in range(len(space.centroids)):
        of_class = reached[nearest == c]
        radius = conformal_quantile(of_class, unknown_rate)
        radii.append(max(pooled, of_class.max(initial=0)) if math.isinf(radius) else radius)
    widened = np.array(radii, dtype=np.float32) + ROUNDING
    return NearestCentroid(
        space.centroids,
        widened.clip(0, 1),
        temperature,
        scatter=space.scatter,
        log_prior=None if shares is None else log_prior_of(shares.tolist()),
    )


def with_carried(
    rule: NearestCentroid,
    embedding: Callable[[Matrix], Matrix],
    dataset: Dataset,
    unknown_rate: float,
) -> NearestCentroid:
    """Add the classes of a dataset that are carried: each is enrolled from its train and dev rows.

    Args:
        rule: of the classes that were fitted; for them nothing changes.
        embedding: of the encoder that serves.
        dataset: with all classes.
        unknown_rate: share of records of known classes that may be called unknown.
    """
    known, calibrated = dataset.known, rule.radii
    for index, name in enumerate(dataset.classes):
        if name in dataset.carried:
            points = embedding(known.matrix[known.labels == index])
            radius = support_radius(points, calibrated, unknown_rate) + float(ROUNDING)
            rule = with_class(rule, index, points, min(radius, 1.0))
    return rule


def fit_temperature(held_out: HeldOut, shares: Shares | None) -> tuple[float, Distances]:
    """Return the T with the lowest cross-entropy of softmax(log share - distance / T).

    With it come the distances as the rule compares them, with the prior in them, [n, classes].
    """
    distances, labels = held_out.distances, held_out.labels
    prior = np.zeros(distances.shape[1]) if shares is None else np.log(shares)

    def cross_entropy(log_t: float) -> float:
        probabilities = softmax(prior - distances / math.exp(log_t), axis=1)
        every = range(distances.shape[1])
        return float(log_loss(labels, probabilities, labels=every, sample_weight=held_out.weights))

    best = minimize_scalar(cross_entropy, bounds=(math.log(1e-4), math.log(10)), method="bounded")
    temperature = float(np.float32(math.exp(best.x)))
    return temperature, distances - temperature * prior
