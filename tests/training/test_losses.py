from __future__ import annotations

import itertools
import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import hadamard
from torch import Tensor

from training import losses
from training.losses import LosslessTripletLoss, squared_distances

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


def test_the_module_exports_what_it_lists() -> None:
    assert set(losses.__all__) == {"LosslessTripletLoss", "squared_distances"}
