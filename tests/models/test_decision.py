from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from scipy.special import softmax
from scipy.stats import multivariate_normal

from models.bundle import Calibration
from models.decision import Decisions, NearestCentroid, distances_between, log_prior_of
from models.schema import Matrix

UNIT = st.floats(0, 1, width=32)
TINY = float(np.finfo(np.float32).tiny)


@st.composite
def matrices(draw: st.DrawFn, rows: int, width: int) -> Matrix:
    """Some with free numbers, some with close points, some with corners of the cube."""
    shape = (rows, width)
    corners = nps.arrays(np.float32, shape, elements=st.sampled_from([0.0, 1.0]))
    random = st.integers(0, 2**32 - 1).map(
        lambda seed: np.random.default_rng(seed).random(shape, dtype=np.float32)
    )
    return draw(nps.arrays(np.float32, shape, elements=UNIT) | corners | random)


@st.composite
def points_and_centroids(draw: st.DrawFn) -> tuple[Matrix, Matrix]:
    width = draw(st.integers(1, 64))
    return (
        draw(matrices(draw(st.integers(1, 12)), width)),
        draw(matrices(draw(st.integers(2, 6)), width)),
    )


@st.composite
def problems(draw: st.DrawFn) -> tuple[Matrix, NearestCentroid]:
    points, centroids = draw(points_and_centroids())
    radii = draw(nps.arrays(np.float32, len(centroids), elements=UNIT))
    return points, NearestCentroid(centroids, radii, draw(st.floats(1e-3, 1e3)))


def brute_force(points: Matrix, centroids: Matrix) -> npt.NDArray[np.float64]:
    a, b = points.astype(np.float64), centroids.astype(np.float64)
    answer = np.zeros((len(a), len(b)))
    for i, p in enumerate(a):
        for k, c in enumerate(b):
            answer[i, k] = np.sum((p - c) ** 2) / len(p)
    return answer


def two_classes(temperature: float = 0.1, radius: float = 0.0625) -> NearestCentroid:
    """Centroids at 1/4 and 3/4 of a line: every number here is exact in float32."""
    centroids = np.array([[0.25], [0.75]], dtype=np.float32)
    return NearestCentroid(centroids, np.full(2, radius, dtype=np.float32), temperature)


@settings(deadline=None, max_examples=200)
@given(points_and_centroids())
def test_distances_are_the_mean_squared_differences(case: tuple[Matrix, Matrix]) -> None:
    distances = distances_between(*case)
    assert distances.dtype == np.float32
    np.testing.assert_allclose(distances, brute_force(*case), rtol=0, atol=1e-6)


@settings(deadline=None)
@given(points_and_centroids())
def test_distances_lie_between_0_and_1_and_are_symmetric(case: tuple[Matrix, Matrix]) -> None:
    points, centroids = case
    distances = distances_between(points, centroids)
    assert distances.min() >= 0
    assert distances.max() <= 1
    np.testing.assert_allclose(distances, distances_between(centroids, points).T, rtol=0, atol=1e-6)


@settings(deadline=None)
@given(points_and_centroids())
def test_equal_points_are_0_apart(case: tuple[Matrix, Matrix]) -> None:
    for points in case:
        np.testing.assert_allclose(np.diag(distances_between(points, points)), 0, atol=1e-6)


@pytest.mark.parametrize("width", [1, 3, 32])
def test_opposite_corners_are_1_apart(width: int) -> None:
    corners = np.repeat(np.array([[0.0], [1.0]], dtype=np.float32), width, axis=1)
    np.testing.assert_array_equal(distances_between(corners, corners), [[0, 1], [1, 0]])


@settings(deadline=None, max_examples=200)
@given(problems())
def test_the_nearest_centroid_decides_within_its_own_radius(
    problem: tuple[Matrix, NearestCentroid],
) -> None:
    points, rule = problem
    decisions = rule.decide(points)
    exact = brute_force(points, rule.centroids)
    rows = np.arange(len(points))
    assert np.all(exact[rows, decisions.nearest] <= exact.min(axis=1) + 2e-6)
    shortest = decisions.distances[rows, decisions.nearest]
    np.testing.assert_array_equal(shortest, decisions.distances.min(axis=1))
    for k, accepted, distance in zip(decisions.nearest, decisions.accepted, shortest, strict=True):
        assert bool(accepted) == bool(distance <= rule.radii[k])


@settings(deadline=None)
@given(problems())
def test_probabilities_sum_to_1_and_favour_the_nearest_class(
    problem: tuple[Matrix, NearestCentroid],
) -> None:
    points, rule = problem
    decisions = rule.decide(points)
    np.testing.assert_allclose(decisions.probabilities.sum(axis=1), 1, atol=1e-6)
    favoured = decisions.probabilities[np.arange(len(points)), decisions.nearest]
    np.testing.assert_array_equal(favoured, decisions.probabilities.max(axis=1))


@settings(deadline=None)
@given(problems())
def test_probabilities_are_the_softmax_of_negative_distances_over_temperature(
    problem: tuple[Matrix, NearestCentroid],
) -> None:
    points, rule = problem
    decisions = rule.decide(points)
    logits = -decisions.distances.astype(np.float64) / rule.temperature
    weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    expected = weights / weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(decisions.probabilities, expected, atol=1e-5)


@settings(deadline=None)
@given(problems(), st.randoms(use_true_random=False))
def test_the_order_of_the_classes_does_not_matter(
    problem: tuple[Matrix, NearestCentroid], random: Any
) -> None:
    points, rule = problem
    order = list(range(len(rule.centroids)))
    random.shuffle(order)
    decisions = rule.decide(points)
    shuffled = NearestCentroid(
        rule.centroids[order], rule.radii[order], max(rule.temperature, 0.1)
    ).decide(points)
    reference = NearestCentroid(rule.centroids, rule.radii, max(rule.temperature, 0.1))
    np.testing.assert_allclose(shuffled.distances, decisions.distances[:, order], atol=1e-6)
    np.testing.assert_allclose(
        shuffled.probabilities, reference.decide(points).probabilities[:, order], atol=1e-4
    )
    best, second = np.sort(decisions.distances, axis=1)[:, :2].T
    clear = second - best > 1e-5
    assert np.all(np.array(order)[shuffled.nearest[clear]] == decisions.nearest[clear])
    clear &= np.abs(best - rule.radii[decisions.nearest]) > 1e-5
    np.testing.assert_array_equal(shuffled.accepted[clear], decisions.accepted[clear])


@settings(deadline=None)
@given(problems())
def test_a_point_alone_is_decided_as_it_is_in_a_batch(
    problem: tuple[Matrix, NearestCentroid],
) -> None:
    points, rule = problem
    batch = rule.decide(points)
    for i in range(len(points)):
        alone = rule.decide(points[i : i + 1])
        np.testing.assert_allclose(alone.distances[0], batch.distances[i], rtol=0, atol=1e-6)
        best, second = np.sort(batch.distances[i])[:2]
        if second - best > 1e-5:
            assert alone.nearest[0] == batch.nearest[i]
            if abs(best - rule.radii[alone.nearest[0]]) > 1e-5:
                assert alone.accepted[0] == batch.accepted[i]


@settings(deadline=None, max_examples=300)
@given(
    points_and_centroids(),
    st.floats(min_value=0, exclude_min=True, allow_infinity=False)
    | st.sampled_from([5e-324, 1e-320, 1e-50, 1e-45, 1e-40, 1e39, 1.7e308]),
)
def test_every_temperature_that_a_manifest_allows_gives_probabilities(
    case: tuple[Matrix, Matrix], temperature: float
) -> None:
    try:
        Calibration(unknown_rate=0.01, temperature=temperature, records={})
    except pydantic.ValidationError:
        assert not 1e-4 <= temperature <= 1e4  # a temperature of ordinary size has to be allowed
        return
    points, centroids = case
    rule = NearestCentroid(centroids, np.ones(len(centroids), np.float32), temperature)
    probabilities = rule.decide(points).probabilities
    assert np.all((probabilities >= 0) & (probabilities <= 1))
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


@settings(deadline=None)
@given(points_and_centroids(), st.floats(TINY, 3.4e38))
def test_no_temperature_of_float32_overflows(
    case: tuple[Matrix, Matrix], temperature: float
) -> None:
    points, centroids = case
    rule = NearestCentroid(centroids, np.ones(len(centroids), np.float32), temperature)
    np.testing.assert_allclose(rule.decide(points).probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_low_temperature_is_sure_and_a_high_one_is_not() -> None:
    point = np.array([[0.375]], dtype=np.float32)
    np.testing.assert_allclose(two_classes(1e-6).decide(point).probabilities, [[1, 0]])
    np.testing.assert_allclose(two_classes(1e6).decide(point).probabilities, 0.5, atol=1e-6)
    expected = 1 / (1 + np.exp((0.125**2 - 0.375**2) / 0.1))
    assert two_classes(0.1).decide(point).probabilities[0, 0] == pytest.approx(expected, abs=1e-6)


def test_a_class_accepts_what_lies_exactly_at_its_radius_and_nothing_beyond() -> None:
    edge = np.array([[0.0]], dtype=np.float32)  # (0 - 1/4)^2 = 1/16
    assert two_classes(radius=0.0625).decide(edge).accepted.tolist() == [True]
    below = float(np.nextafter(np.float32(0.0625), np.float32(0)))
    assert two_classes(radius=below).decide(edge).accepted.tolist() == [False]


def test_the_nearest_class_alone_may_accept() -> None:
    centroids = np.array([[0.25], [0.75]], dtype=np.float32)
    rule = NearestCentroid(centroids, np.array([0.0, 1.0], dtype=np.float32), 0.1)
    decisions = rule.decide(np.array([[0.375], [0.625]], dtype=np.float32))
    assert decisions.nearest.tolist() == [0, 1]
    assert decisions.accepted.tolist() == [False, True]


def test_between_two_classes_the_first_is_the_nearest() -> None:
    decisions = two_classes().decide(np.array([[0.5]], dtype=np.float32))
    assert decisions.nearest.tolist() == [0]
    assert decisions.accepted.tolist() == [True]
    assert decisions.probabilities.tolist() == [[0.5, 0.5]]


def test_no_points_give_no_decisions() -> None:
    decisions = two_classes().decide(np.empty((0, 1), dtype=np.float32))
    assert decisions.distances.shape == decisions.probabilities.shape == (0, 2)
    assert len(decisions.nearest) == len(decisions.accepted) == 0


@settings(deadline=None, max_examples=40)
@given(st.sampled_from([2, 9, 65]), st.lists(st.integers(0, 40), min_size=1, max_size=4))
def test_decisions_concatenated_are_those_of_all_records(classes: int, counts: list[int]) -> None:
    random = np.random.default_rng(sum(counts))
    centroids = random.random((classes, 5), dtype=np.float32)
    rule = NearestCentroid(centroids, np.full(classes, 0.1, np.float32), 0.02)
    parts = [rule.decide(random.random((count, 5), dtype=np.float32)) for count in counts]
    joined = Decisions.concatenate(parts)
    assert joined.rule is rule
    for name in ("nearest", "accepted", "distance", "confidence"):
        expected = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_array_equal(getattr(joined, name), expected)
    for name in ("distances", "probabilities"):
        expected = np.concatenate([getattr(part, name) for part in parts])
        np.testing.assert_allclose(getattr(joined, name), expected, atol=1e-5)


def test_decisions_of_one_part_are_returned_as_they_are() -> None:
    decisions = two_classes().decide(np.full((3, 1), 0.3, np.float32))
    assert Decisions.concatenate([decisions]) is decisions


@settings(deadline=None)
@given(problems())
def test_classes_of_endless_support_are_told_by_distance_alone(
    problem: tuple[Matrix, NearestCentroid],
) -> None:
    points, rule = problem
    endless = np.full(len(rule.radii), np.inf)
    same = dataclasses.replace(rule, support=endless, scatter=0.3)
    one, other = rule.decide(points), same.decide(points)
    for name in ("nearest", "accepted", "distance", "confidence", "distances", "probabilities"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name))


@given(problems())
def test_few_records_are_judged_as_many_are(problem: tuple[Matrix, NearestCentroid]) -> None:
    points, rule = problem
    distances = distances_between(points[:2], rule.centroids)
    few = rule.decide_by_distances(distances)
    many = rule.decide_by_distances(np.repeat(distances, 100, axis=0))
    for name in ("nearest", "accepted"):
        np.testing.assert_array_equal(getattr(few, name), getattr(many, name)[::100])
    for name in ("distance", "confidence", "probabilities"):
        close, other = getattr(few, name), getattr(many, name)[::100]
        np.testing.assert_allclose(close, other, rtol=1e-4, atol=1e-6)


def test_a_class_of_one_record_is_preferred_as_the_predictive_density_says() -> None:
    random = np.random.default_rng(0)
    centroids = random.uniform(0.3, 0.7, (3, 5)).astype(np.float32)
    points = random.uniform(0.2, 0.8, (200, 5)).astype(np.float32)
    support, variance = np.array([np.inf, 1, 4]), 0.02
    rule = NearestCentroid(centroids, np.ones(3, np.float32), 0.1, support, scatter=variance)
    densities = np.stack(
        [
            multivariate_normal(c, variance * (1 + 1 / n) * np.eye(5)).logpdf(points)
            for c, n in zip(centroids.astype(np.float64), support, strict=True)
        ],
        axis=1,
    )
    decisions = rule.decide(points)
    np.testing.assert_array_equal(decisions.nearest, densities.argmax(axis=1))
    np.testing.assert_array_equal(decisions.probabilities.argmax(axis=1), decisions.nearest)
    assert (decisions.nearest != decisions.distances.argmin(axis=1)).any()


def test_a_record_that_few_support_records_attract_is_accepted_by_its_true_distance() -> None:
    centroids = np.array([[0.25], [0.75]], dtype=np.float32)
    radii = np.array([1, 0.0625], dtype=np.float32)
    rule = NearestCentroid(centroids, radii, 0.1, np.array([np.inf, 1.0]), scatter=0.0)
    decisions = rule.decide(np.array([[0.46], [0.51]], dtype=np.float32))
    assert decisions.nearest.tolist() == [1, 1]
    assert decisions.accepted.tolist() == [False, True]


@settings(deadline=None, max_examples=40)
@given(
    st.integers(65, 300), st.integers(0, 70), st.integers(0, 1000), st.booleans(), st.integers(0, 9)
)
def test_many_classes_decide_as_few_do(
    classes: int, count: int, seed: int, few: bool, alike: int
) -> None:
    random = np.random.default_rng(seed)
    centroids = random.random((classes, 9), dtype=np.float32)
    centroids[:, :alike] = centroids[0, :alike]
    radii = random.random(classes, dtype=np.float32) * np.float32(0.05)
    support = random.choice([1, 3, 50, np.inf], classes) if few else None
    rule = NearestCentroid(centroids, radii, 0.02, support, 0.03)
    points = random.random((count, 9), dtype=np.float32)
    many, plain = (
        rule.decide(points),
        rule.decide_by_distances(distances_between(points, centroids)),
    )
    assert rule.has_many
    expected = np.sort(rule.expected(plain.distances), axis=1)
    clear = expected[:, 1] - expected[:, 0] > 1e-5
    np.testing.assert_array_equal(many.nearest[clear], plain.nearest[clear])
    np.testing.assert_allclose(many.distance[clear], plain.distance[clear], atol=1e-6)
    np.testing.assert_allclose(many.confidence, plain.confidence, atol=1e-3)
    np.testing.assert_allclose(many.distances, plain.distances, atol=1e-6)
    away = np.abs(plain.distance - radii[plain.nearest]) > 1e-5
    np.testing.assert_array_equal(many.accepted[clear & away], plain.accepted[clear & away])
    part = many[3:9]
    np.testing.assert_array_equal(part.nearest, many.nearest[3:9])
    np.testing.assert_array_equal(part.distances, many.distances[3:9])
    if count:
        rows = np.arange(count)
        np.testing.assert_array_equal(many.distances[rows, many.nearest], many.distance)


@given(st.integers(0, 1000))
def test_few_records_get_their_allowance_as_many_do(seed: int) -> None:
    random = np.random.default_rng(seed)
    centroids = random.random((5, 6), dtype=np.float32)
    radii = random.random(5, dtype=np.float32) * np.float32(0.1)
    rule = NearestCentroid(centroids, radii, 0.02, random.choice([1, 4, np.inf], 5), 0.03)
    distances = distances_between(random.random((3, 6), dtype=np.float32), centroids)
    few, many = (
        rule.decide_by_distances(distances),
        rule.decide_by_distances(np.repeat(distances, 50, axis=0)),
    )
    ordered = np.sort(rule.expected(distances), axis=1)
    clear = ordered[:, 1] - ordered[:, 0] > 1e-6
    np.testing.assert_array_equal(few.nearest[clear], many.nearest[::50][clear])
    np.testing.assert_array_equal(few.accepted[clear], many.accepted[::50][clear])
    np.testing.assert_allclose(few.confidence, many.confidence[::50], rtol=1e-4)


def with_prior(
    problem: tuple[Matrix, NearestCentroid], seed: int, enrolled: int
) -> tuple[NearestCentroid, npt.NDArray[np.float64]]:
    """A rule with prior shares of all classes but the last ones, and these shares."""
    rule = problem[1]
    trained = len(rule.radii) - enrolled
    shares = np.random.default_rng(seed).dirichlet(np.ones(trained)).clip(1e-6)
    log_prior = log_prior_of([*shares.tolist(), *[None] * enrolled])
    return dataclasses.replace(rule, log_prior=log_prior), shares


def softmax_of(rule: NearestCentroid, distances: Matrix) -> npt.NDArray[np.float64]:
    return np.asarray(softmax(distances.astype(np.float64) / -rule.temperature, axis=1))


@settings(deadline=None)
@given(problems(), st.integers(0, 2**32 - 1))
def test_probabilities_are_those_of_bayes_rule(
    problem: tuple[Matrix, NearestCentroid], seed: int
) -> None:
    points, rule = problem
    rule = dataclasses.replace(rule, temperature=max(rule.temperature, 0.02))
    decided, shares = with_prior((points, rule), seed, 0)
    weights = softmax_of(rule, distances_between(points, rule.centroids)) * shares
    weights /= weights.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(decided.decide(points).probabilities, weights, atol=2e-4)


@settings(deadline=None)
@given(problems(), st.integers(0, 2**32 - 1))
def test_an_enrolled_class_is_as_probable_as_without_a_prior(
    problem: tuple[Matrix, NearestCentroid], seed: int
) -> None:
    points, rule = problem
    rule = dataclasses.replace(rule, temperature=max(rule.temperature, 0.02))
    decided, shares = with_prior((points, rule), seed, 1)
    flat = softmax_of(rule, distances_between(points, rule.centroids))
    probabilities = decided.decide(points).probabilities
    np.testing.assert_allclose(probabilities[:, -1], flat[:, -1], atol=2e-4)
    among = flat[:, :-1] * shares
    among *= flat[:, :-1].sum(axis=1, keepdims=True) / among.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(probabilities[:, :-1], among, atol=2e-4)


@pytest.mark.parametrize("classes", [5, 100])
def test_alone_or_in_a_batch_a_record_has_the_same_prior(classes: int) -> None:
    random = np.random.default_rng(classes)
    points, centroids = (random.random((n, 8), dtype=np.float32) for n in (200, classes))
    rule = NearestCentroid(centroids, np.full(classes, 0.05, np.float32), 0.02)
    rule, _ = with_prior((points, rule), 0, 2)
    batch = rule.decide(points)
    alone = [rule.decide(points[i : i + 1]) for i in range(len(points))]
    assert batch.nearest.tolist() == [one.nearest[0] for one in alone]
    np.testing.assert_allclose(batch.confidence, [one.confidence[0] for one in alone], rtol=1e-4)
    np.testing.assert_array_equal(batch.probabilities.argmax(axis=1), batch.nearest)
    np.testing.assert_allclose(batch.probabilities.max(axis=1), batch.confidence, rtol=1e-3)
