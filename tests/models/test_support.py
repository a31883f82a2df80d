from __future__ import annotations

import math
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decision import NearestCentroid, distances_between
from models.support import conformal_quantile, support_radius, with_class

Points = np.ndarray[Any, np.dtype[np.float32]]
OTHERS = np.array([0.01, 0.02, 0.06], dtype=np.float32)


def cloud(count: int, spread: float = 0.1, seed: int = 0, width: int = 4) -> Points:
    """Points about the middle of the cube."""
    points = np.random.default_rng(seed).normal(0.5, spread, (count, width))
    return points.clip(0.001, 0.999).astype(np.float32)


def to_the_rest(points: Points) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Distance of each point to the mean of the others, one by one."""
    wide = points.astype(np.float64)
    rests = [np.delete(wide, i, axis=0).mean(axis=0) for i in range(len(wide))]
    distances: np.ndarray[Any, np.dtype[np.float64]] = np.square(wide - rests).mean(axis=1)
    return distances


@pytest.mark.parametrize(
    ("count", "rate", "rank"),
    [
        (99, 0.01, 99),  # ceil(100 * 0.99)
        (100, 0.01, 100),  # ceil(101 * 0.99 = 99.99)
        (199, 0.01, 198),  # ceil(200 * 0.99)
        (9, 0.1, 9),
        (10, 0.1, 10),
        (19, 0.1, 18),
        (3, 0.25, 3),
        (1, 0.5, 1),
        (4, 0.5, 3),
        (49, 0.42, 29),  # 50 * (1 - 0.42) is a little more than 29 in floating point
    ],
)
def test_the_quantile_is_the_score_that_a_count_by_hand_gives(
    count: int, rate: float, rank: int
) -> None:
    scores = np.random.default_rng(0).permutation(np.arange(1.0, count + 1))
    assert conformal_quantile(scores, rate) == rank


@pytest.mark.parametrize(("count", "rate"), [(98, 0.01), (8, 0.1), (0, 0.01), (18, 0.05)])
def test_too_few_scores_promise_nothing(count: int, rate: float) -> None:
    assert conformal_quantile(np.arange(float(count)), rate) == math.inf


@given(st.integers(0, 400), st.integers(1, 49))
def test_the_rank_is_that_of_exact_arithmetic(count: int, percent: int) -> None:
    rank = math.ceil((count + 1) * (1 - Fraction(percent, 100)))
    expected = float(rank) if rank <= count else math.inf
    assert conformal_quantile(np.arange(1.0, count + 1), percent / 100) == expected


@pytest.mark.parametrize(("count", "rate"), [(99, 0.01), (40, 0.05), (250, 0.1)])
def test_a_new_score_is_above_the_quantile_at_most_as_often_as_promised(
    count: int, rate: float
) -> None:
    random = np.random.default_rng(1)
    draws = 4000
    scores = random.exponential(size=(draws, count + 1))
    above = [row[-1] > conformal_quantile(row[:-1], rate) for row in scores]
    error = math.sqrt(rate * (1 - rate) / draws)
    # Exchangeable scores: the chance is at most the rate, and at least rate - 1 / (n + 1).
    assert np.mean(above) <= rate + 4 * error
    assert np.mean(above) >= rate - 1 / (count + 1) - 4 * error


def test_a_single_record_borrows_twice_the_median_radius() -> None:
    assert support_radius(cloud(1), OTHERS, 0.01) == pytest.approx(2 * 0.02)
    assert support_radius(cloud(1), OTHERS + 0.9, 0.01) == 1


@pytest.mark.parametrize("count", [2, 5, 98])
def test_a_few_records_close_together_borrow_less_the_more_they_are(count: int) -> None:
    radius = support_radius(cloud(count, spread=1e-3), OTHERS, 0.01)
    assert radius == pytest.approx(0.02 * (1 + 1 / count))


@settings(deadline=None)
@given(st.integers(2, 98), st.integers(0, 1000))
def test_a_few_records_far_apart_reach_as_far_as_the_farthest_lies_from_the_rest(
    count: int, seed: int
) -> None:
    points = cloud(count, spread=0.3, seed=seed)
    radius = support_radius(points, OTHERS * 1e-6, 0.01)
    assert radius == pytest.approx(min(to_the_rest(points).max(), 1), abs=1e-5)
    rule = NearestCentroid(points.mean(axis=0)[None], np.array([radius], dtype=np.float32), 1.0)
    assert rule.decide(points).accepted.all()


@settings(deadline=None, max_examples=25)
@given(st.integers(19, 300), st.integers(0, 1000))
def test_enough_records_have_a_quantile_of_their_own(count: int, seed: int) -> None:
    points = cloud(count, seed=seed)
    radius = support_radius(points, OTHERS, 0.05)
    assert radius == pytest.approx(conformal_quantile(to_the_rest(points), 0.05), abs=1e-6)


def test_new_records_of_an_enrolled_class_are_refused_as_rarely_as_promised() -> None:
    shares = []
    for seed in range(40):
        points, new = cloud(120, seed=seed), cloud(400, seed=1000 + seed)
        radius = support_radius(points, OTHERS, 0.05)
        distances = distances_between(new, points.mean(axis=0)[None])
        shares.append((distances > radius).mean())
    assert np.mean(shares) == pytest.approx(0.05, abs=0.012)


def test_a_class_takes_the_place_it_is_given_and_the_rest_stay() -> None:
    rule = NearestCentroid(cloud(3), OTHERS, 0.5, scatter=0.25)
    points = cloud(5, seed=1)
    for place in range(4):
        other = with_class(rule, place, points, 0.125)
        rest = [c for c in range(3) if c != place]
        np.testing.assert_array_equal(other.centroids[place], points.mean(axis=0))
        np.testing.assert_array_equal(other.centroids[rest], rule.centroids[rest])
        np.testing.assert_array_equal(other.radii[rest], rule.radii[rest])
        assert other.radii[place] == 0.125
        assert other.support is not None
        assert other.support[place] == 5
        assert np.isinf(other.support[rest]).all()
        assert len(other.centroids) == len(other.radii) == len(other.support) == max(place + 1, 3)
        assert other.centroids.dtype == other.radii.dtype == np.float32
        assert (other.temperature, other.scatter) == (0.5, 0.25)
    np.testing.assert_array_equal(rule.radii, OTHERS)


def test_classes_enrolled_one_after_another_keep_their_numbers_of_records() -> None:
    rule = NearestCentroid(cloud(3), OTHERS, 0.5)
    for place, count in ((3, 2), (4, 7), (3, 1)):
        rule = with_class(rule, place, cloud(count), 0.125)
    assert rule.support is not None
    assert rule.support.tolist() == [np.inf, np.inf, np.inf, 1, 7]
