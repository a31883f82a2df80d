from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from sklearn.metrics import log_loss

from models.decision import NearestCentroid, distances_between
from models.support import conformal_quantile
from training.dataset.dataset import Rows
from training.fitting.calibration import HeldOut, Space, decision_rule, fit_temperature
from training.fitting.prior import shares_of

Points = np.ndarray[Any, np.dtype[np.float32]]
CORNERS = np.array([[0.1, 0.1], [0.9, 0.9], [0.1, 0.9]], dtype=np.float32)


def around(
    centroids: Points, counts: list[int], spread: float, seed: int = 0
) -> tuple[Points, np.ndarray[Any, np.dtype[np.int64]]]:
    """Points about centroids, and their classes."""
    random = np.random.default_rng(seed)
    labels = np.repeat(np.arange(len(counts)), counts)
    points = centroids[labels] + random.normal(0, spread, (len(labels), centroids.shape[1]))
    return np.clip(points, 0.001, 0.999).astype(np.float32), labels


def calibrate(
    points: Points,
    labels: np.ndarray[Any, np.dtype[np.int64]],
    centroids: Points,
    rate: float,
    shares: np.ndarray[Any, np.dtype[np.float64]] | None = None,
) -> NearestCentroid:
    """Calibrate on held-out points of the space that these centroids are in."""
    space = Space(centroids, 0.0)
    return decision_rule(space, HeldOut(space.measure(points), labels), rate, shares)


def test_calibrated_radii_keep_their_promise_on_new_records() -> None:
    rate, shares = 0.05, []
    for seed in range(25):
        points, labels = around(CORNERS, [120, 120, 120], 0.1, seed)
        rule = calibrate(points, labels, CORNERS, rate)
        new, _ = around(CORNERS, [120, 120, 120], 0.1, 1000 + seed)
        shares.append(1 - rule.decide(new).accepted.mean())
    assert np.mean(shares) == pytest.approx(rate, abs=0.012)


def test_each_radius_is_the_quantile_of_the_records_nearest_to_its_class() -> None:
    points, labels = around(CORNERS, [150, 120, 130], 0.08)
    points[0] = CORNERS[1]  # lies in another cluster: it must not stretch its own
    rule = calibrate(points, labels, CORNERS, 0.02)
    distances = distances_between(points, CORNERS)
    nearest = distances.argmin(axis=1)
    for c in range(3):
        mine = np.sort(distances[nearest == c, c])
        rank = math.ceil((len(mine) + 1) * 0.98)
        assert rule.radii[c] == pytest.approx(mine[rank - 1], abs=2e-6)
    assert rule.radii.dtype == np.float32


def test_the_records_that_set_a_radius_are_accepted_as_counted() -> None:
    points, labels = around(CORNERS, [150, 150, 150], 0.05)
    rule = calibrate(points, labels, CORNERS, 0.1)
    decisions = rule.decide(points)
    for c in range(3):
        mine = decisions.nearest == c
        refused = (~decisions.accepted[mine]).sum()
        assert refused == mine.sum() - math.ceil((mine.sum() + 1) * 0.9)


def test_a_small_class_borrows_the_radius_of_all() -> None:
    points, labels = around(CORNERS, [150, 150, 8], 0.05)
    points[labels == 2] = CORNERS[2]  # tighter than the others: its own largest distance is 0
    rule = calibrate(points, labels, CORNERS, 0.02)
    shortest = distances_between(points, CORNERS).min(axis=1).astype(np.float64)
    assert rule.radii[2] == pytest.approx(conformal_quantile(shortest, 0.02), abs=2e-6)


def test_a_small_class_that_is_wider_takes_its_own_largest_distance() -> None:
    points, labels = around(CORNERS, [150, 150, 4], 0.02)
    points[labels == 2] = CORNERS[2] + np.array([0.15, 0.0], dtype=np.float32)
    rule = calibrate(points, labels, CORNERS, 0.02)
    assert rule.radii[2] == pytest.approx(0.15**2 / 2, rel=1e-4)


def test_a_class_that_nothing_is_nearest_to_borrows_too() -> None:
    points, labels = around(CORNERS[:2], [150, 150], 0.03)
    radii = calibrate(points, labels, CORNERS, 0.02).radii
    assert radii[2] == pytest.approx(np.mean(radii[:2]), rel=0.5)


def test_a_handful_of_records_gives_finite_radii() -> None:
    points, labels = around(CORNERS, [2, 1, 1], 0.05)
    rule = calibrate(points, labels, CORNERS, 0.01)
    shortest = distances_between(points, CORNERS).min(axis=1)
    assert rule.radii.tolist() == pytest.approx([shortest.max()] * 3, abs=2e-6)
    assert rule.decide(points).accepted.all()


@pytest.mark.parametrize("spread", [0.05, 0.2, 0.4])
def test_the_temperature_surprises_less_than_others(spread: float) -> None:
    points, labels = around(CORNERS, [200, 200, 200], spread)
    rule = calibrate(points, labels, CORNERS, 0.01)

    def surprise(temperature: float) -> float:
        other = NearestCentroid(rule.centroids, rule.radii, temperature)
        probabilities = other.decide(points).probabilities.astype(np.float64)
        probabilities /= probabilities.sum(axis=1, keepdims=True)
        return float(log_loss(labels, probabilities))

    fitted = surprise(rule.temperature)
    assert fitted < surprise(1.0)
    assert fitted < surprise(0.01)
    if spread > 0.1:  # there is a best temperature, neither end of the search
        assert fitted <= surprise(rule.temperature * 1.1)
        assert fitted <= surprise(rule.temperature / 1.1)


def test_confidence_is_as_often_right_as_it_says() -> None:
    points, labels = around(CORNERS, [3000, 3000, 3000], 0.3)
    rule = calibrate(points[::2], labels[::2], CORNERS, 0.01)
    decisions = rule.decide(points[1::2])
    confidence = decisions.probabilities.max(axis=1)
    right = decisions.nearest == labels[1::2]
    for low, high in ((0.4, 0.7), (0.7, 0.9), (0.9, 1.01)):
        chosen = (confidence >= low) & (confidence < high)
        assert chosen.sum() > 100
        assert right[chosen].mean() == pytest.approx(confidence[chosen].mean(), abs=0.06)


def test_perfect_separation_still_gives_a_positive_temperature() -> None:
    points, labels = around(CORNERS, [50, 50, 50], 0.0)
    rule = calibrate(points, labels, CORNERS, 0.05)
    assert rule.temperature > 0
    assert np.isfinite(rule.decide(points).probabilities).all()


def cloud(count: int, spread: float = 0.1, seed: int = 0, width: int = 4) -> Points:
    """Points about the middle of the cube."""
    points = np.random.default_rng(seed).normal(0.5, spread, (count, width))
    return points.clip(0.001, 0.999).astype(np.float32)


def test_a_rule_has_centroids_and_scatter_of_train_and_is_calibrated_on_dev() -> None:
    labels = np.arange(60) % 3
    train, dev = (Rows(cloud(60, seed=seed), labels) for seed in (1, 2))
    train.matrix[labels == 1] *= np.float32(0.5)

    def halved(matrix: Points) -> Points:
        return matrix[:, :2] * np.float32(0.5)

    space = Space.of(halved, train)
    held_out = HeldOut(space.measure(halved(dev.matrix)), dev.labels)
    rule = decision_rule(space, held_out, 0.1, None)
    centroids = np.stack([halved(train.matrix)[labels == c].mean(axis=0) for c in range(3)])
    expected = calibrate(halved(dev.matrix), labels, centroids, 0.1)
    np.testing.assert_array_equal(rule.centroids, expected.centroids)
    np.testing.assert_array_equal(rule.radii, expected.radii)
    assert rule.temperature == expected.temperature
    own = np.square(halved(train.matrix) - centroids[labels]).mean(axis=1)
    scatter = np.mean([own[labels == c].mean() for c in range(3)])
    assert rule.scatter == pytest.approx(scatter, abs=1e-7)


def test_a_rare_class_is_as_much_farther_as_it_is_rarer() -> None:
    points, labels = around(CORNERS, [800, 100, 100], 0.3)
    shares = shares_of(labels)
    rule, without = (calibrate(points, labels, CORNERS, 0.01, prior) for prior in (shares, None))
    middle = CORNERS[:2].mean(axis=0, keepdims=True)
    assert rule.decide(middle).nearest.tolist() == [0]
    odds = rule.decide(middle).probabilities[0]
    assert odds[0] / odds[1] == pytest.approx(8, rel=1e-3)
    assert without.decide(middle).probabilities[0].tolist() == pytest.approx([1 / 3] * 3, rel=1e-3)
    right = [(r.decide(points).nearest == labels).mean() for r in (rule, without)]
    assert right[0] > right[1]


def test_radii_are_those_of_the_records_that_the_prior_gives_to_a_class() -> None:
    points, labels = around(CORNERS, [800, 100, 100], 0.3)
    rule = calibrate(points, labels, CORNERS, 0.05, shares_of(labels))
    decisions = rule.decide(points)
    for c in range(3):
        mine = decisions.nearest == c
        assert (~decisions.accepted[mine]).mean() == pytest.approx(0.05, abs=0.02)


def test_the_temperature_is_that_of_traffic_made_up_otherwise_than_the_records() -> None:
    """Faults are half of the records held out, and one record in a thousand of the traffic."""
    shares = np.array([0.999, 0.001])
    centroids = np.array([[0.45] * 16, [0.55] * 16], dtype=np.float32)

    def temperature(counts: list[int], *, weighted: bool) -> float:
        points, labels = around(centroids, counts, 0.1)
        space = Space(centroids, 0.0)
        held_out = HeldOut(space.measure(points), labels)
        held_out = held_out.as_traffic(shares) if weighted else held_out
        return fit_temperature(held_out, shares)[0]

    wanted = temperature([999_000, 1_000], weighted=False)
    assert temperature([20_000, 20_000], weighted=True) == pytest.approx(wanted, rel=0.35)
    assert temperature([20_000, 20_000], weighted=False) < 0.5 * wanted
