from __future__ import annotations

import copy
import io
import itertools
import math
import warnings
from collections.abc import Callable
from typing import Any, get_args

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from torch import Tensor

from training.fitting import losses
from training.fitting.losses import (
    LOSSES,
    BatchLoss,
    ContrastiveLoss,
    LinearTripletLoss,
    LosslessTripletLoss,
    TripletMarginLoss,
    squared_distances,
)
from training.recipe import LossName

UNEQUAL = torch.tensor([0, 0, 0, 0, 0, 1, 1, 1, 1, 2, 2, 3])


def over_all_triplets(points: Tensor, labels: Tensor, beta: float, epsilon: float) -> Tensor:
    """The formula, triplet by triplet, in float64."""
    valid = []
    for a, p, q in itertools.product(range(len(labels)), repeat=3):
        if a != p and labels[a] == labels[p] and labels[a] != labels[q]:
            valid.append((a, p, q))
    anchor, positive, negative = (points.double()[list(each)] for each in zip(*valid, strict=True))
    n = points.shape[1]
    d_ap = (anchor - positive).square().sum(dim=1)
    d_an = (anchor - negative).square().sum(dim=1)
    values = -torch.log(1 - d_ap / beta + epsilon) - torch.log(1 - (n - d_an) / beta + epsilon)
    return values.mean()


def points_of(seed: int, rows: int, n: int, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(rows, n, generator=generator, dtype=dtype).requires_grad_()


@pytest.mark.parametrize("epsilon", [1e-8, 1e-4, 1e-2])
@pytest.mark.parametrize("factor", [1.0, 1.5, 3.0])
@pytest.mark.parametrize(
    ("n", "dtype", "tolerance"),
    [
        (1, torch.float64, 1e-12),
        (3, torch.float64, 1e-12),
        (16, torch.float64, 1e-12),
        (3, torch.float32, 1e-5),
        (16, torch.float32, 1e-5),
    ],
)
def test_value_and_gradient_are_those_of_a_loop_over_every_valid_triplet(
    n: int, dtype: torch.dtype, tolerance: float, factor: float, epsilon: float
) -> None:
    points = points_of(n, len(UNEQUAL), n, dtype)
    looped = points.detach().clone().requires_grad_()
    expected = over_all_triplets(looped, UNEQUAL, factor * n, epsilon)
    expected.backward()  # type: ignore[no-untyped-call]

    value = LosslessTripletLoss(factor * n, epsilon)(points, UNEQUAL)
    value.backward()

    assert value.dtype == dtype
    assert value.item() == pytest.approx(expected.item(), rel=tolerance)
    assert points.grad is not None
    assert looped.grad is not None
    largest = looped.grad.abs().max().item()
    torch.testing.assert_close(
        points.grad, looped.grad, rtol=10 * tolerance, atol=tolerance * largest
    )


def test_beta_is_n_when_it_is_not_given() -> None:
    points = points_of(0, 12, 5)
    assert LosslessTripletLoss()(points, UNEQUAL) == LosslessTripletLoss(5)(points, UNEQUAL)
    assert LosslessTripletLoss()(points, UNEQUAL) != LosslessTripletLoss(6)(points, UNEQUAL)


def test_the_number_of_dimensions_is_taken_from_the_embeddings_not_from_the_batch() -> None:
    points = points_of(1, 12, 4)
    value = LosslessTripletLoss(epsilon=1e-4)(points, UNEQUAL)
    assert value.item() == pytest.approx(over_all_triplets(points, UNEQUAL, 4, 1e-4).item())


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("autocast", [False, True])
def test_value_and_gradient_are_finite_for_every_assignment_of_cube_corners(
    dtype: torch.dtype, autocast: bool
) -> None:
    # At 1e-8 the steepest gradient, about 1 / epsilon, is more than float16 can hold.
    loss = LosslessTripletLoss(epsilon=1e-4 if dtype == torch.float16 else 1e-8)
    labels = torch.tensor([0, 0, 1, 1])
    corners = list(itertools.product([0.0, 1.0], repeat=2))
    for batch in itertools.product(corners, repeat=4):
        points = torch.tensor(batch, dtype=dtype, requires_grad=True)
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
            value = loss(points, labels)
        value.backward()
        assert points.grad is not None
        assert math.isfinite(value.item()), batch
        assert torch.isfinite(points.grad).all(), batch


@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("place", [0.0, 1e-7, 0.3, 1.0])
def test_identical_points_cost_minus_ln_epsilon_and_have_no_gradient(
    dtype: torch.dtype, place: float
) -> None:
    points = torch.full((12, 3), place, dtype=dtype, requires_grad=True)
    value = LosslessTripletLoss(epsilon=1e-8)(points, UNEQUAL)
    value.backward()
    assert value.item() == pytest.approx(18.42, abs=0.01)  # the dead collapse: -ln 1e-8
    assert points.grad is not None
    torch.testing.assert_close(points.grad, torch.zeros_like(points.grad))


def test_nearly_identical_points_have_a_finite_value_and_gradient_in_float32() -> None:
    points = (0.7 + 1e-6 * points_of(4, 64, 8, torch.float32).detach()).requires_grad_()
    value = LosslessTripletLoss(epsilon=1e-8)(points, torch.arange(64) % 4)
    value.backward()
    assert points.grad is not None
    assert value.isfinite()
    assert points.grad.isfinite().all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=str)
def test_tight_clusters_at_opposite_corners_never_round_out_of_the_logarithm(
    dtype: torch.dtype,
) -> None:
    loss, labels = LosslessTripletLoss(epsilon=1e-8), torch.arange(64) % 5
    for seed in range(20):
        noise = 1e-6 * points_of(seed, 64, 7, dtype).detach()
        corner = (torch.arange(64) % 2).to(dtype)[:, None]
        points = (corner - noise).abs().requires_grad_()
        value = loss(points, labels)
        value.backward()
        assert points.grad is not None
        assert value.isfinite()
        assert points.grad.isfinite().all()


def test_opposite_corners_within_a_class_cost_minus_ln_epsilon_and_no_infinity() -> None:
    points = torch.tensor([[0.0, 0, 0], [1, 1, 1], [0, 0, 0], [1, 1, 1]])
    value = LosslessTripletLoss(epsilon=1e-8)(points, torch.tensor([0, 0, 1, 1]))
    # every pull is -ln(eps); of the pushes half are -ln(eps) and half -ln(1 + eps)
    assert value.item() == pytest.approx(1.5 * 18.4207, abs=1e-3)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_is_computed_in_float32(dtype: torch.dtype) -> None:
    points = points_of(5, 12, 4).detach().to(dtype)
    value = LosslessTripletLoss()(points, UNEQUAL)
    assert value.dtype == torch.float32
    assert value == LosslessTripletLoss()(points.float(), UNEQUAL)


def test_autocast_changes_nothing() -> None:
    points = points_of(6, 12, 4, torch.float32)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        inside = LosslessTripletLoss()(points, UNEQUAL)
    assert inside.dtype == torch.float32
    assert inside == LosslessTripletLoss()(points, UNEQUAL)


@pytest.mark.parametrize("beta", [0.5, 2.0, 2.999])
def test_a_beta_below_n_is_refused_with_both_numbers(beta: float) -> None:
    with pytest.raises(ValueError, match=rf"beta = {beta:g} is less than N = 3"):
        LosslessTripletLoss(beta)(points_of(0, 12, 3), UNEQUAL)


@pytest.mark.parametrize("epsilon", [0.0, -1e-8])
def test_an_epsilon_that_is_not_positive_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be positive"):
        LosslessTripletLoss(epsilon=epsilon)


@pytest.mark.parametrize(
    "labels", [[3, 3, 3, 3], [0, 1, 2, 3]], ids=["one class", "every label another"]
)
def test_a_batch_without_a_triplet_gives_zero_that_still_has_a_graph(labels: list[int]) -> None:
    points = points_of(7, 4, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that it says so is another matter
        value = LosslessTripletLoss()(points, torch.tensor(labels))
    assert value.item() == 0
    value.backward()
    assert points.grad is not None
    assert not points.grad.any()


def test_a_record_without_a_partner_still_serves_as_a_negative() -> None:
    points = points_of(8, 3, 2)
    value = LosslessTripletLoss(epsilon=1e-4)(points, torch.tensor([0, 0, 1]))
    value.backward()
    assert points.grad is not None
    assert points.grad[2].any()


def test_order_and_names_of_classes_do_not_matter() -> None:
    points = points_of(9, 12, 4)
    order = torch.randperm(12, generator=torch.Generator().manual_seed(0))
    value = LosslessTripletLoss()(points, UNEQUAL)
    torch.testing.assert_close(LosslessTripletLoss()(points[order], UNEQUAL[order]), value)
    torch.testing.assert_close(LosslessTripletLoss()(points, 100 - 7 * UNEQUAL), value)


def simplex(classes: int) -> Tensor:
    """The simplex code: `classes` corners of N = 7 that are 4 apart each."""
    return torch.tensor((hadamard(8)[:classes, 1:] + 1) // 2, dtype=torch.float64)


ALTERNATING = torch.tensor([[0.0, 0, 0], [0, 1, 1], [1, 0, 1], [1, 1, 0]], dtype=torch.float64)


@pytest.mark.parametrize(
    ("corners", "floor"),
    [
        (torch.tensor([[0.0, 0, 1], [1, 1, 0]], dtype=torch.float64), 0.0),
        (ALTERNATING[:3], math.log(1.5)),
        (ALTERNATING, math.log(1.5)),
        (simplex(7), math.log(7 / 4)),
        (simplex(8), math.log(7 / 4)),
    ],
    ids=["2 classes", "3 classes", "4 classes", "7 classes", "8 classes"],
)
def test_the_best_arrangement_of_corners_reaches_the_floor(corners: Tensor, floor: float) -> None:
    classes = len(corners)
    value = LosslessTripletLoss(epsilon=1e-8)(
        corners.repeat_interleave(3, dim=0), torch.arange(classes).repeat_interleave(3)
    )
    assert value.item() == pytest.approx(floor, abs=1e-3)
    assert LosslessTripletLoss.floor(classes) == pytest.approx(floor, abs=1e-12)


@pytest.mark.parametrize(
    ("classes", "floor"),
    [(2, 0.0), (3, 0.405), (4, 0.405), (5, 0.511), (6, 0.511), (7, 0.560), (8, 0.560)],
)
def test_the_floor_has_the_values_of_plotkins_bound(classes: int, floor: float) -> None:
    assert LosslessTripletLoss.floor(classes) == pytest.approx(floor, abs=5e-4)


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_no_balanced_batch_costs_less_than_the_floor(data: st.DataObject) -> None:
    classes = data.draw(st.integers(2, 6))
    each = data.draw(st.integers(2, 4))
    n = data.draw(st.integers(1, 5))
    coordinate = st.one_of(st.sampled_from([0.0, 0.5, 1.0]), st.floats(0, 1))
    count = classes * each * n
    values = data.draw(st.lists(coordinate, min_size=count, max_size=count))
    points = torch.tensor(values, dtype=torch.float64).reshape(classes * each, n)
    value = LosslessTripletLoss(epsilon=1e-8)(points, torch.arange(classes * each) % classes)
    assert value.item() >= LosslessTripletLoss.floor(classes) - 1e-6


def test_squared_distances_are_those_of_cdist() -> None:
    points = points_of(10, 20, 6).detach()
    expected = torch.cdist(points, points).square()
    torch.testing.assert_close(squared_distances(points), expected, rtol=1e-10, atol=1e-12)


def test_squared_distances_are_exact_on_the_diagonal_and_never_leave_their_range() -> None:
    points = torch.tensor([[0.1, 0.9], [0.1, 0.9], [0.0, 0.0], [1.0, 1.0]])
    distances = squared_distances(points)
    assert not distances.diagonal().any()
    assert distances.min() >= 0
    assert distances.max() == 2


# Every loss against its formula, one triplet or pair at a time.

Formula = Callable[[Tensor, Tensor, int], Tensor]
"""Value of a triplet by d_ap, d_an and N."""
EVERY_LOSS = list(LOSSES)
TRIPLET_LOSSES: dict[str, tuple[BatchLoss, Formula]] = {
    "lossless": (
        LosslessTripletLoss(epsilon=1e-4),
        lambda ap, an, n: -torch.log(1 - ap / n + 1e-4) - torch.log(1 - (n - an) / n + 1e-4),
    ),
    "lossless, wide": (
        LosslessTripletLoss(beta=9, epsilon=1e-2),
        lambda ap, an, n: -torch.log(1 - ap / 9 + 1e-2) - torch.log(1 - (n - an) / 9 + 1e-2),
    ),
    "linear": (LinearTripletLoss(), lambda ap, an, n: ap + (n - an)),
    "triplet": (TripletMarginLoss(), lambda ap, an, _: (ap - an + 0.2).relu()),
    "triplet, wide": (TripletMarginLoss(alpha=1.5), lambda ap, an, _: (ap - an + 1.5).relu()),
    "triplet, none": (TripletMarginLoss(alpha=0), lambda ap, an, _: (ap - an).relu()),
}
MARGINS = [0.1, 1.0, 2.5]
WEIGHTS = torch.tensor([0.5, 3, 0, 1.25])


def triplets_of(labels: Tensor) -> list[tuple[int, int, int]]:
    return [
        (a, p, n)
        for a, p, n in itertools.product(range(len(labels)), repeat=3)
        if a != p and labels[a] == labels[p] and labels[a] != labels[n]
    ]


def listed(indices: list[tuple[int, ...]]) -> tuple[Tensor, ...]:
    return tuple(torch.tensor(each) for each in zip(*indices, strict=True))


def mean_of(values: list[Tensor], anchors: list[int], labels: Tensor, weights: Tensor) -> Tensor:
    each = torch.tensor([weights[labels[a]].item() for a in anchors], dtype=torch.float64)
    return (torch.stack(values) * each).sum() / each.sum()


def distance(points: Tensor, i: int, j: int) -> Tensor:
    return (points[i].double() - points[j].double()).square().sum()


def triplet_by_triplet(
    formula: Formula,
    points: Tensor,
    labels: Tensor,
    chosen: list[tuple[int, int, int]],
    weights: Tensor,
) -> Tensor:
    n = points.shape[1]
    values = [formula(distance(points, a, p), distance(points, a, q), n) for a, p, q in chosen]
    return mean_of(values, [a for a, _, _ in chosen], labels, weights)


def pair_by_pair(
    margin: float, points: Tensor, labels: Tensor, chosen: list[tuple[int, int]], weights: Tensor
) -> Tensor:
    values = []
    for i, j in chosen:
        d = distance(points, i, j)
        values.append(d if labels[i] == labels[j] else (margin - d.sqrt()).relu().square())
    return mean_of(values, [i for i, _ in chosen], labels, weights)


def assert_equal_with_gradients(
    points: Tensor,
    value: Tensor,
    looped: Tensor,
    expected: Tensor,
    tolerance: float,
    steepness: float = 1,
) -> None:
    value.backward()  # type: ignore[no-untyped-call]
    expected.backward()  # type: ignore[no-untyped-call]
    assert value.dtype == points.dtype
    assert value.item() == pytest.approx(expected.item(), rel=tolerance, abs=tolerance)
    assert points.grad is not None
    assert looped.grad is not None
    largest = looped.grad.abs().max().item()
    tolerance *= steepness
    torch.testing.assert_close(
        points.grad, looped.grad, rtol=10 * tolerance, atol=tolerance * largest + 1e-30
    )


def twice(points: Tensor) -> tuple[Tensor, Tensor]:
    return points, points.detach().clone().requires_grad_()


PRECISIONS = pytest.mark.parametrize(
    ("dtype", "tolerance"), [(torch.float64, 1e-12), (torch.float32, 1e-5)], ids=str
)
WEIGHED = pytest.mark.parametrize("weights", [None, WEIGHTS], ids=["unweighted", "weighted"])
ON_EVERY_LOSS = pytest.mark.parametrize("name", EVERY_LOSS)


def weighted(loss: BatchLoss, weights: Tensor | None) -> BatchLoss:
    loss = copy.deepcopy(loss)
    loss.register_buffer("class_weights", weights)
    return loss


@PRECISIONS
@WEIGHED
@pytest.mark.parametrize("name", TRIPLET_LOSSES)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_a_triplet_loss_is_the_mean_of_its_formula_over_every_valid_triplet(
    n: int, name: str, weights: Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    loss, formula = TRIPLET_LOSSES[name]
    points, looped = twice(points_of(20 + n, len(UNEQUAL), n, dtype))
    each = torch.ones(4) if weights is None else weights
    expected = triplet_by_triplet(formula, looped, UNEQUAL, triplets_of(UNEQUAL), each)
    value = weighted(loss, weights)(points, UNEQUAL)
    assert_equal_with_gradients(points, value, looped, expected, tolerance)


@PRECISIONS
@WEIGHED
@pytest.mark.parametrize("name", TRIPLET_LOSSES)
def test_a_triplet_loss_over_given_triplets_is_the_mean_over_those(
    name: str, weights: Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    loss, formula = TRIPLET_LOSSES[name]
    points, looped = twice(points_of(31, len(UNEQUAL), 4, dtype))
    chosen = triplets_of(UNEQUAL)[::7]
    chosen += chosen[:3]  # a miner may give a triplet twice
    each = torch.ones(4) if weights is None else weights
    expected = triplet_by_triplet(formula, looped, UNEQUAL, chosen, each)
    value = weighted(loss, weights)(points, UNEQUAL, listed([*chosen]))
    assert_equal_with_gradients(points, value, looped, expected, tolerance)


@PRECISIONS
@WEIGHED
@pytest.mark.parametrize("margin", MARGINS)
@pytest.mark.parametrize("n", [1, 3, 8])
def test_the_contrastive_loss_is_the_mean_of_its_formula_over_every_pair(
    n: int, margin: float, weights: Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    points, looped = twice(points_of(40 + n, len(UNEQUAL), n, dtype))
    pairs = [*itertools.permutations(range(len(UNEQUAL)), 2)]
    each = torch.ones(4) if weights is None else weights
    expected = pair_by_pair(margin, looped, UNEQUAL, pairs, each)
    value = ContrastiveLoss(margin, class_weights=weights)(points, UNEQUAL)
    # The slope of a root is 1 / distance, and rounding grows with it: some points are 0.004 apart.
    assert_equal_with_gradients(points, value, looped, expected, tolerance, steepness=10)


@PRECISIONS
@WEIGHED
@pytest.mark.parametrize("form", ["triplets", "pairs"])
def test_the_contrastive_loss_takes_given_pairs_and_the_pairs_of_given_triplets(
    form: str, weights: Tensor | None, dtype: torch.dtype, tolerance: float
) -> None:
    points, looped = twice(points_of(51, len(UNEQUAL), 4, dtype))
    chosen = triplets_of(UNEQUAL)[::9]
    positive, negative = [(a, p) for a, p, _ in chosen], [(a, n) for a, _, n in chosen]
    indices = listed([*chosen])
    if form == "pairs":
        positive = positive[:5]
        indices = (*listed([*positive]), *listed([*negative]))
    each = torch.ones(4) if weights is None else weights
    expected = pair_by_pair(1.0, looped, UNEQUAL, positive + negative, each)
    value = ContrastiveLoss(class_weights=weights)(points, UNEQUAL, indices)
    assert_equal_with_gradients(points, value, looped, expected, tolerance, steepness=10)


@pytest.mark.parametrize("name", TRIPLET_LOSSES)
def test_giving_all_triplets_is_the_same_as_giving_none(name: str) -> None:
    loss, _ = TRIPLET_LOSSES[name]
    points = points_of(52, 12, 4)
    every = listed([*triplets_of(UNEQUAL)])
    torch.testing.assert_close(loss(points, UNEQUAL, every), loss(points, UNEQUAL))


def test_ties_and_many_zeros_do_not_confuse_the_count_of_active_triplets() -> None:
    corners = torch.tensor([*itertools.product([0.0, 1.0], repeat=3)] * 3, dtype=torch.float64)
    labels = torch.arange(24) % 5
    for alpha in (0.0, 0.2, 1.0, 2.0):  # at 0, 1 and 2 many triplets lie on the hinge itself
        points, looped = twice(corners.clone().requires_grad_())
        formula: Formula = lambda ap, an, _, alpha=alpha: (ap - an + alpha).relu()  # type: ignore[misc] # noqa: E731
        expected = triplet_by_triplet(formula, looped, labels, triplets_of(labels), torch.ones(5))
        value = TripletMarginLoss(alpha)(points, labels)
        assert_equal_with_gradients(points, value, looped, expected, 1e-12)


def test_a_triplet_loss_that_is_all_but_zero_is_not_lost_to_rounding() -> None:
    points = points_of(53, 200, 8, torch.float32).detach() * 0.02
    labels = torch.arange(200) % 2
    points[labels == 1] = 1 - points[labels == 1]
    assert TripletMarginLoss()(points, labels) == 0
    points[0] = 0.7  # the one record that costs anything
    value = TripletMarginLoss()(points, labels).item()
    assert value > 0
    wide = TripletMarginLoss()(points.double(), labels).item()
    assert value == pytest.approx(wide, rel=1e-4)


def test_what_is_hardly_over_the_hinge_is_not_lost_beside_what_cancels() -> None:
    labels = torch.arange(300) % 2
    points = 0.5 + 1e-5 * points_of(54, 300, 4, torch.float32).detach()
    points += 0.2236 * labels[:, None]  # 0.4472 apart, and 0.2 less that squared is 6e-6
    d = squared_distances(points)
    pull, push = (d + 0.2).double(), d.double()
    triplets = (pull[:, :, None] - push[:, None, :]).relu()
    same = labels[:, None] == labels
    valid = (same & ~torch.eye(300, dtype=torch.bool))[:, :, None] & ~same[:, None, :]
    value = TripletMarginLoss()(points, labels).item()
    assert 0 < value < 1e-4
    assert value == pytest.approx(triplets[valid].mean().item(), rel=1e-6)


@ON_EVERY_LOSS
@pytest.mark.parametrize(
    "dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16], ids=str
)
@pytest.mark.parametrize("autocast", [False, True])
def test_every_loss_is_finite_with_its_gradient_at_every_assignment_of_corners(
    name: str, dtype: torch.dtype, autocast: bool
) -> None:
    loss = LOSSES[name]()
    labels = torch.tensor([0, 0, 1, 1])
    given = listed([*triplets_of(labels)])
    corners = list(itertools.product([0.0, 1.0], repeat=2))
    for batch in itertools.product(corners, repeat=4):
        for arguments in ((labels,), (labels, given)):
            points = torch.tensor(batch, dtype=dtype, requires_grad=True)
            with torch.autocast("cpu", dtype=torch.bfloat16, enabled=autocast):
                value = loss(points, *arguments)
            value.backward()
            assert points.grad is not None
            assert math.isfinite(value.item()), batch
            assert torch.isfinite(points.grad).all(), batch


@ON_EVERY_LOSS
@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_every_loss_is_finite_and_not_negative_anywhere_in_the_closed_cube(
    name: str, data: st.DataObject
) -> None:
    coordinate = st.one_of(
        st.sampled_from([0.0, 1e-45, 1e-30, 1e-7, 0.5, 0.5 + 1e-7, 1 - 1e-7, 1.0]),
        st.floats(0, 1, width=32),
    )
    n, rows = data.draw(st.integers(1, 4)), data.draw(st.integers(4, 8))
    values = data.draw(st.lists(coordinate, min_size=rows * n, max_size=rows * n))
    labels = torch.arange(rows) % data.draw(st.integers(2, 3))
    points = torch.tensor(values).reshape(rows, n).requires_grad_()
    value = LOSSES[name]()(points, labels)
    value.backward()
    assert points.grad is not None
    assert value.isfinite()
    assert value >= -2.1e-4  # -2 ln(1 + epsilon) for the lossless loss, 0 for the others
    assert points.grad.isfinite().all()


@ON_EVERY_LOSS
@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 2**32 - 1), classes=st.integers(2, 5), n=st.integers(1, 6))
def test_order_names_and_a_mirrored_cube_change_no_loss(
    name: str, seed: int, classes: int, n: int
) -> None:
    loss = LOSSES[name]()
    points = points_of(seed, 12, n)
    generator = torch.Generator().manual_seed(seed)
    labels = torch.cat([torch.arange(classes), torch.randint(classes, (12 - classes,))])
    order, axes = torch.randperm(12, generator=generator), torch.randperm(n, generator=generator)
    value = loss(points, labels)
    torch.testing.assert_close(loss(points[order], labels[order]), value)
    torch.testing.assert_close(loss(points, 50 - 7 * labels), value)
    torch.testing.assert_close(loss(points[:, axes], labels), value)
    torch.testing.assert_close(loss(1 - points, labels), value)


@ON_EVERY_LOSS
def test_equal_class_weights_of_any_size_change_nothing(name: str) -> None:
    points = points_of(54, 12, 4)
    expected = LOSSES[name]()(points, UNEQUAL)
    for weight in (1e-6, 1.0, 1e6):
        value = LOSSES[name](class_weights=torch.full((4,), weight))(points, UNEQUAL)
        torch.testing.assert_close(value, expected, rtol=1e-6, atol=0)


@ON_EVERY_LOSS
def test_class_weights_move_with_the_module_and_are_saved_with_it(name: str) -> None:
    loss = LOSSES[name](class_weights=WEIGHTS)
    torch.testing.assert_close(loss.state_dict()["class_weights"], WEIGHTS)
    assert loss.double().class_weights.dtype == torch.float64  # type: ignore[union-attr]


@ON_EVERY_LOSS
def test_half_precision_and_autocast_are_computed_in_float32(name: str) -> None:
    points = points_of(55, 12, 4, torch.float32).detach()
    loss = LOSSES[name](class_weights=WEIGHTS)
    for half in (torch.float16, torch.bfloat16):
        assert loss(points.to(half), UNEQUAL) == loss(points.to(half).float(), UNEQUAL)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            inside = loss(points, UNEQUAL)
        assert inside.dtype == torch.float32
        assert inside == loss(points, UNEQUAL)


@ON_EVERY_LOSS
@pytest.mark.parametrize("kind", [torch.int64, torch.int32, torch.uint8, torch.int8], ids=str)
def test_labels_may_be_integers_of_any_width(name: str, kind: torch.dtype) -> None:
    points = points_of(56, 12, 4)
    loss = LOSSES[name](class_weights=WEIGHTS)
    assert loss(points, UNEQUAL.to(kind)) == loss(points, UNEQUAL)


# Mistakes that have been published.


def far_apart() -> tuple[Tensor, Tensor]:
    """Two classes at opposite corners: the best that there is."""
    return torch.tensor([[0.0] * 3] * 3 + [[1.0] * 3] * 3), torch.arange(6) // 3


def test_a_perfect_batch_costs_nothing_and_a_merged_one_costs_most() -> None:
    perfect, labels = far_apart()
    for name, merged in {"lossless": -math.log(1e-4), "linear": 3.0, "triplet": 0.2}.items():
        loss = LOSSES[name]()
        assert loss(perfect, labels).item() == pytest.approx(0, abs=3e-4), name
        # a lost sign, or epsilon folded into 1 and rounded away, would show here
        assert loss(torch.zeros(6, 3), labels).item() == pytest.approx(merged, rel=1e-3), name
    assert ContrastiveLoss()(perfect, labels).item() == 0
    assert ContrastiveLoss()(torch.zeros(6, 3), labels).item() == pytest.approx(18 / 30)


@pytest.mark.parametrize("name", ["lossless", "linear", "triplet"])
def test_a_step_against_the_gradient_draws_classes_together_and_apart(name: str) -> None:
    points = (0.5 + 0.1 * points_of(57, 12, 4)).detach().requires_grad_()
    labels = torch.arange(12) % 2
    LOSSES[name]()(points, labels).backward()
    assert points.grad is not None
    moved = points.detach() - 1e-3 * points.grad / points.grad.norm()
    same = labels[:, None] == labels
    change = squared_distances(moved) - squared_distances(points.detach())
    assert change[~same].mean() > change[same].mean()


@ON_EVERY_LOSS
def test_a_loss_is_a_mean_and_not_a_sum(name: str) -> None:
    corners = torch.tensor([[0.1, 0.2], [0.7, 0.3]])
    few = LOSSES[name]()(corners.repeat_interleave(50, dim=0), torch.arange(100) // 50)
    many = LOSSES[name]()(corners.repeat_interleave(200, dim=0), torch.arange(400) // 200)
    assert few.item() == pytest.approx(many.item(), rel=1e-2)


@ON_EVERY_LOSS
def test_every_argument_of_a_loss_is_used(name: str) -> None:
    points = points_of(58, 12, 4)
    others: dict[str, list[Any]] = {
        "lossless": [{"beta": 7.0}, {"epsilon": 0.1}],
        "linear": [],
        "triplet": [{"alpha": 1.0}],
        "contrastive": [{"margin": 2.0}],
    }
    for change in [*others[name], {"class_weights": WEIGHTS}]:
        assert LOSSES[name](**change)(points, UNEQUAL) != LOSSES[name]()(points, UNEQUAL)


@pytest.mark.parametrize("epsilon", [1e-30, 1e-20, 1e-16])
def test_an_epsilon_that_float64_would_lose_beside_one_is_kept(epsilon: float) -> None:
    points = torch.zeros(4, 3, requires_grad=True)
    value = LosslessTripletLoss(epsilon=epsilon)(points, torch.tensor([0, 0, 1, 1]))
    value.backward()
    assert value.item() == pytest.approx(-math.log(epsilon), rel=1e-5)
    assert points.grad is not None
    assert points.grad.isfinite().all()


# What is refused, and what is counted.


@ON_EVERY_LOSS
def test_a_batch_with_nothing_to_compare_gives_zero_warns_once_and_is_counted(name: str) -> None:
    loss = LOSSES[name]()
    labels = torch.tensor([0])
    points = points_of(59, 1, 3, torch.float32)
    with pytest.warns(UserWarning, match="draw two classes") as caught:
        value = loss(points, labels)
    assert len(caught) == 1
    value.backward()
    assert value.item() == 0
    assert points.grad is not None
    assert not points.grad.any()
    assert loss.empty_batches == 1
    loss(points, labels)  # a second warning would be an error here
    assert loss.empty_batches == 2
    with pytest.warns(UserWarning, match="draw two classes"):
        LOSSES[name]()(points, labels)  # another object warns for itself


@ON_EVERY_LOSS
def test_a_batch_that_is_only_measured_is_counted_without_a_warning(name: str) -> None:
    loss = LOSSES[name]()
    assert loss(torch.zeros(1, 2), torch.tensor([0])) == 0
    assert loss(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)) == 0
    assert loss.empty_batches == 2
    assert loss.zero_share(torch.zeros(0, 2), torch.zeros(0, dtype=torch.int64)) == 0


@ON_EVERY_LOSS
def test_no_given_triplet_and_no_weight_are_empty_batches_too(name: str) -> None:
    points = points_of(60, 12, 3)
    loss, none = LOSSES[name](class_weights=torch.zeros(4)), torch.zeros(0, dtype=torch.int64)
    with pytest.warns(UserWarning, match="nothing to compare"):
        assert loss(points, UNEQUAL) == 0
    assert loss(points, UNEQUAL, (none, none, none)) == 0
    assert loss.empty_batches == 2


def test_an_empty_batch_in_half_precision_does_not_overflow() -> None:
    points = torch.ones(5000, 16, dtype=torch.float16)
    assert ContrastiveLoss(class_weights=torch.zeros(1))(points, torch.zeros(5000).int()) == 0


@pytest.mark.parametrize("alpha", [-0.1, math.nan, math.inf])
def test_a_negative_alpha_is_refused(alpha: float) -> None:
    with pytest.raises(ValueError, match="alpha must be 0 or more"):
        TripletMarginLoss(alpha)


@pytest.mark.parametrize("margin", [0.0, -1.0, math.nan, math.inf])
def test_a_margin_that_is_not_positive_is_refused(margin: float) -> None:
    with pytest.raises(ValueError, match="margin must be positive"):
        ContrastiveLoss(margin)


@pytest.mark.parametrize("epsilon", [math.nan, math.inf, 1e-45])
def test_an_epsilon_that_float32_cannot_use_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon must be positive"):
        LosslessTripletLoss(epsilon=epsilon)


@pytest.mark.parametrize("beta", [math.nan, -1.0])
def test_a_beta_that_is_no_number_is_refused(beta: float) -> None:
    with pytest.raises(ValueError, match="give at least N"):
        LosslessTripletLoss(beta)(points_of(0, 12, 3), UNEQUAL)


@ON_EVERY_LOSS
@pytest.mark.parametrize("wrong", [-1e-6, 1 + 1e-6, 7.0, math.inf, -math.inf])
def test_embeddings_outside_the_cube_are_refused_unless_nobody_looks(
    name: str, wrong: float
) -> None:
    points = points_of(61, 12, 3, torch.float32).detach()
    points[5, 1] = wrong
    for each in (points, points.clone().requires_grad_()):
        with pytest.raises(ValueError, match=r"must be in 0\.\.1"):
            LOSSES[name]()(each, UNEQUAL)
        with pytest.raises(ValueError, match=r"must be in 0\.\.1"):
            LOSSES[name]().zero_share(each, UNEQUAL)
    LOSSES[name](validate=False)(points, UNEQUAL)


@ON_EVERY_LOSS
def test_nan_is_refused_when_it_is_measured_and_stays_nan_when_it_is_trained_on(name: str) -> None:
    points = points_of(62, 12, 3).detach()
    points[5, 1] = math.nan
    with pytest.raises(ValueError, match=r"must be in 0\.\.1"):
        LOSSES[name]()(points, UNEQUAL)
    assert LOSSES[name]()(points.requires_grad_(), UNEQUAL).isnan()
    assert LOSSES[name](validate=False)(points.detach(), UNEQUAL).isnan()


@ON_EVERY_LOSS
@pytest.mark.parametrize(
    ("points", "labels"),
    [
        (torch.zeros(4, 3), torch.tensor([0.0, 0, 1, 1])),
        (torch.zeros(4, 3), torch.tensor([0.0, 0, 1, math.nan])),
        (torch.zeros(4, 3), torch.tensor([0, 0, 1, 1], dtype=torch.complex64)),
        (torch.zeros(4, 3), torch.tensor([0, 0, 1])),
        (torch.zeros(4, 3), torch.tensor([[0], [0], [1], [1]])),
        (torch.zeros(4), torch.tensor([0, 0, 1, 1])),
        (torch.zeros(4, 3, 1), torch.tensor([0, 0, 1, 1])),
        (torch.zeros(4, 0), torch.tensor([0, 0, 1, 1])),
        (torch.zeros(4, 3, dtype=torch.int64), torch.tensor([0, 0, 1, 1])),
    ],
    ids=[
        "float labels",
        "NaN labels",
        "complex labels",
        "too few labels",
        "labels in a column",
        "embeddings in a row",
        "embeddings in a block",
        "no dimension",
        "whole embeddings",
    ],
)
def test_shapes_and_types_that_do_not_match_are_refused_with_what_was_given(
    name: str, points: Tensor, labels: Tensor
) -> None:
    with pytest.raises(ValueError, match=r"give embeddings float \[B, N\] and labels int \[B\]"):
        LOSSES[name](validate=False)(points, labels)


@pytest.mark.parametrize("weights", [[-1.0, 1], [math.nan, 1], [math.inf, 1], [[1.0, 1]]])
def test_class_weights_that_weigh_nothing_sensible_are_refused(weights: list[Any]) -> None:
    with pytest.raises(ValueError, match="class_weights must be"):
        LinearTripletLoss(class_weights=torch.tensor(weights))


@pytest.mark.parametrize("labels", [[0, 0, 1, 2], [0, 0, 1, -1]])
def test_labels_without_a_class_weight_are_refused(labels: list[int]) -> None:
    with pytest.raises(ValueError, match="give a weight for each label"):
        LinearTripletLoss(class_weights=torch.ones(2))(torch.zeros(4, 3), torch.tensor(labels))


@pytest.mark.parametrize("name", ["lossless", "linear", "triplet"])
def test_pairs_are_refused_by_a_triplet_loss_that_says_who_takes_them(name: str) -> None:
    pairs = [torch.tensor([each]) for each in (0, 1, 0, 5)]
    with pytest.raises(ValueError, match="only the contrastive loss"):
        LOSSES[name]()(points_of(63, 12, 3), UNEQUAL, pairs)


@ON_EVERY_LOSS
@pytest.mark.parametrize(
    ("indices", "advice"),
    [
        (([0], [1]), "give triplets"),
        (([0], [1], [0], [5], [0]), "give triplets"),
        (([0, 0], [1], [5]), "an anchor for every"),
        (([0], [1], [5, 6]), "an anchor for every"),
        (([[0]], [[1]], [[5]]), "an anchor for every"),
        (([0], [1], [12]), r"0\.\.11"),
        (([0], [-1], [5]), r"0\.\.11"),
        (([0.0], [1.0], [5.0]), "int64"),
        (([0], [5], [6]), "labels contradict"),
        (([0], [1], [2]), "labels contradict"),
    ],
)
def test_indices_that_mean_nothing_are_refused(
    name: str, indices: tuple[list[Any], ...], advice: str
) -> None:
    given = [torch.tensor(each) for each in indices]
    with pytest.raises(ValueError, match=advice):
        LOSSES[name]()(points_of(64, 12, 3), UNEQUAL, given)


# How much of a batch is dead.


@pytest.mark.parametrize("name", TRIPLET_LOSSES)
def test_zero_share_is_the_share_of_triplets_that_cost_exactly_nothing(name: str) -> None:
    loss, formula = TRIPLET_LOSSES[name]
    points = points_of(65, 12, 3).detach()
    points[:3] = 0
    values = [
        formula(distance(points, a, p), distance(points, a, n), 3).item()
        for a, p, n in triplets_of(UNEQUAL)
    ]
    share = loss.zero_share(points, UNEQUAL)
    assert share == sum(value == 0 for value in values) / len(values)
    assert (share > 0) == (loss.__class__ is TripletMarginLoss)


def test_zero_share_of_the_contrastive_loss_is_a_share_of_pairs() -> None:
    points = torch.tensor([[0.0, 0], [0, 0], [1, 1], [0.1, 0]])
    labels = torch.tensor([0, 0, 1, 1])
    # of the 6 pairs: (0, 1) coincide, and (0, 2), (1, 2) are more than 1 apart
    assert ContrastiveLoss().zero_share(points, labels) == 3 / 6


def test_a_perfect_batch_is_dead_for_faces_and_alive_for_the_lossless_loss() -> None:
    perfect, labels = far_apart()
    assert TripletMarginLoss().zero_share(perfect, labels) == 1
    assert LosslessTripletLoss().zero_share(perfect, labels) == 0
    assert LinearTripletLoss().zero_share(perfect, labels) == 1


@ON_EVERY_LOSS
def test_zero_share_leaves_no_trace(name: str) -> None:
    loss, points = LOSSES[name](), points_of(66, 12, 3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loss.zero_share(points, torch.zeros(12, dtype=torch.int64))
    assert points.grad is None
    assert loss.empty_batches == 0


@ON_EVERY_LOSS
def test_a_loss_can_be_copied_and_saved(name: str) -> None:
    loss, points = LOSSES[name](class_weights=WEIGHTS), points_of(67, 12, 3)
    file = io.BytesIO()
    torch.save(loss, file)
    file.seek(0)
    for other in (copy.deepcopy(loss), torch.load(file, weights_only=False)):
        assert other(points, UNEQUAL) == loss(points, UNEQUAL)


def test_the_losses_are_found_by_name() -> None:
    assert list(LOSSES) == ["lossless", "linear", "triplet", "contrastive"]
    assert all(issubclass(loss, BatchLoss) for loss in LOSSES.values())
    assert get_args(LossName) == tuple(LOSSES)


def test_the_module_exports_what_it_lists() -> None:
    public = {name for name in vars(losses) if name.endswith("Loss") and not name.startswith("_")}
    assert set(losses.__all__) == public | {"LOSSES", "make_loss", "squared_distances"}


@pytest.mark.parametrize("name", LOSSES)
def test_what_slices_of_a_batch_add_to_the_loss_makes_it_up(name: str) -> None:
    points = torch.rand(30, 4, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    labels = torch.arange(30) % 3 % 2  # twice as many of one class
    loss = LOSSES[name](class_weights=torch.tensor([0.5, 2.0]))

    def value_and_gradient(*slices: slice) -> tuple[Tensor, Tensor]:
        leaf = points.clone().requires_grad_()
        value = torch.stack([loss(leaf, labels, anchors=part) for part in slices]).sum()
        return value, torch.autograd.grad(value, leaf)[0]

    whole, of_whole = value_and_gradient(slice(None))
    total, of_parts = value_and_gradient(slice(0, 7), slice(7, 7), slice(7, 30))
    torch.testing.assert_close(total, whole, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(of_parts, of_whole, rtol=1e-12, atol=1e-12)
