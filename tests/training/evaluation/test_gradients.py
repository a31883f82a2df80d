from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from training.evaluation.gradients import zero_gradient_share
from training.fitting.losses import LOSSES, BatchLoss, ContrastiveLoss

TRIPLETS = ("lossless", "linear", "triplet")


def value_of(name: str, a: Tensor, p: Tensor, n: Tensor) -> Tensor:
    """A triplet's value, as design.md writes it."""
    width, pull, push = len(a), (a - p).square().sum(), (a - n).square().sum()
    match name:
        case "lossless":
            u, v = pull / width, (width - push) / width
            return -torch.log(1 - u + 1e-4) - torch.log(1 - v + 1e-4)
        case "linear":
            return pull + (width - push)
    return (pull - push + 0.2).relu()


def share_by_hand(name: str, points: Tensor, labels: Tensor) -> float:
    """One triplet after the other, each differentiated by autograd in three leaves."""
    silent = []
    for a, p, n in itertools.permutations(range(len(labels)), 3):
        if labels[a] == labels[p] and labels[a] != labels[n]:
            leaves = [points[i].clone().requires_grad_() for i in (a, p, n)]
            gradients = torch.autograd.grad(value_of(name, *leaves), leaves)
            silent.append(all(bool((each == 0).all()) for each in gradients))
    return sum(silent) / len(silent)


def pairs_by_hand(points: Tensor, labels: Tensor) -> float:
    """The contrastive loss, one pair after the other."""
    silent = []
    for i, j in itertools.permutations(range(len(labels)), 2):
        a, b = (points[k].clone().requires_grad_() for k in (i, j))
        distance = (a - b).square().sum()
        if distance == 0:
            silent.append(True)  # a square root has no derivative there; the loss takes 0
            continue
        value = distance if labels[i] == labels[j] else (1.0 - distance.sqrt()).relu().square()
        gradients = torch.autograd.grad(value, [a, b])
        silent.append(all(bool((each == 0).all()) for each in gradients))
    return sum(silent) / len(silent)


def batch(seed: int, spread: float = 1.0) -> tuple[Tensor, Tensor]:
    """Ten points of three classes in the cube, some of them equal: float64 [10, 3]."""
    random = np.random.default_rng(seed)
    corners = np.array([[0, 0, 0], [1, 1, 0], [0, 1, 1]])
    labels = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
    points = corners[labels] * (1 - spread) + random.random((10, 3)) * spread
    points[1] = points[0]
    points[4] = points[7]
    return torch.from_numpy(points), torch.from_numpy(labels)


@pytest.mark.parametrize("spread", [1.0, 0.5, 0.1])
@pytest.mark.parametrize("name", LOSSES)
def test_the_share_is_that_of_every_triplet_differentiated_on_its_own(
    name: str, spread: float
) -> None:
    points, labels = batch(1, spread)
    expected = (
        pairs_by_hand(points, labels)
        if name == "contrastive"
        else share_by_hand(name, points, labels)
    )
    assert zero_gradient_share(LOSSES[name](), points, labels) == pytest.approx(expected)


@given(st.integers(0, 10_000), st.floats(0.05, 1))
@settings(max_examples=30, deadline=None)
def test_a_triplet_that_costs_nothing_in_the_hinge_is_silent_and_no_other_but_coincident_ones(
    seed: int, spread: float
) -> None:
    points, labels = batch(seed, spread)
    loss = LOSSES["triplet"]()
    assert zero_gradient_share(loss, points, labels) == pytest.approx(
        loss.zero_share(points, labels)
    )


@given(st.integers(0, 10_000), st.floats(0.05, 1))
@settings(max_examples=30, deadline=None)
def test_no_triplet_of_the_lossless_loss_is_silent_while_two_of_its_points_differ(
    seed: int, spread: float
) -> None:
    points, labels = batch(seed, spread)
    for name in ("lossless", "linear"):
        assert zero_gradient_share(LOSSES[name](), points, labels) == 0


def test_two_points_at_opposite_corners_are_still_held_apart() -> None:
    points, labels = torch.tensor([[0.0], [0.0], [1.0], [1.0]]), torch.tensor([0, 0, 1, 1])
    assert zero_gradient_share(LOSSES["lossless"](), points, labels) == 0
    assert zero_gradient_share(LOSSES["triplet"](), points, labels) == 1
    wide = ContrastiveLoss(margin=0.5)
    assert zero_gradient_share(wide, points, labels) == 1


@pytest.mark.parametrize("name", LOSSES)
def test_points_that_all_coincide_move_under_no_loss_although_each_has_a_value(name: str) -> None:
    points, labels = torch.full((6, 2), 0.25), torch.tensor([0, 0, 0, 1, 1, 1])
    loss = LOSSES[name]()
    assert loss(points, labels) > 0
    assert zero_gradient_share(loss, points, labels) == 1


@pytest.mark.parametrize("labels", [[0, 0, 0], [0, 1, 2], [], [0]])
@pytest.mark.parametrize("name", TRIPLETS)
def test_without_a_triplet_the_share_is_zero(name: str, labels: list[int]) -> None:
    points = torch.rand((len(labels), 2), generator=torch.Generator().manual_seed(0))
    assert zero_gradient_share(LOSSES[name](), points, torch.tensor(labels, dtype=torch.int64)) == 0


def test_the_share_is_of_triplets_and_leaves_embeddings_and_weights_alone() -> None:
    points, labels = batch(3)
    points.requires_grad_()
    before = points.detach().clone()
    loss: BatchLoss = LOSSES["triplet"]()
    share = zero_gradient_share(loss, points, labels)
    triplets = 4 * 3 * 6 + 2 * (3 * 2 * 7)
    assert math.isclose(share * triplets, round(share * triplets))
    assert torch.equal(points, before)
    assert points.grad is None
