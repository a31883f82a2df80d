"""Which triplets still teach: those whose value moves an embedding when they are followed."""

from __future__ import annotations

import torch
from torch import Tensor

from training.fitting.losses import BatchLoss, ContrastiveLoss, TripletMarginLoss

__all__ = ["zero_gradient_share"]


def zero_gradient_share(loss: BatchLoss, embeddings: Tensor, labels: Tensor) -> float:
    """Share of all triplets whose value has gradient exactly 0 in each of its three embeddings.

    Each triplet is differentiated on its own, for the mean of a batch cancels where its parts do
    not. What follows for f(d_ap) + g(d_an), since the gradient of d_ap in p is 2 (p - a):

    - lossless and linear: f' and g' are never 0, so a triplet is silent only when its three points
      coincide, as copies of one record do;
    - triplet: silent when its value is 0, and when its three points coincide, where it is alpha;
    - contrastive: its values are of pairs, and so is the share, as in `BatchLoss.zero_share`. A
      pair is silent when it coincides, and a negative one beyond the margin too.

    The gradient is the one that reaches the embedding. What a saturated sigmoid before it lets
    through is another matter, and the same for every loss.

    Args:
        loss: what is differentiated, without class weights.
        embeddings: float [B, N], each in [0, 1].
        labels: int [B].

    Returns:
        A share in 0..1; 0 when there is nothing to count.
    """
    silent = total = 0
    for anchor in range(len(labels)):
        moved = _moved(loss, embeddings, labels, anchor)
        silent, total = silent + int((~moved).sum()), total + len(moved)
    return silent / max(total, 1)


def _moved(loss: BatchLoss, embeddings: Tensor, labels: Tensor, anchor: int) -> Tensor:
    """For every triplet or pair of an anchor, whether it moves a point: bool [T]."""
    same = labels == labels[anchor]
    negatives = torch.nonzero(~same)[:, 0]
    same[anchor] = False
    positives = torch.nonzero(same)[:, 0]
    if isinstance(loss, ContrastiveLoss):
        members = [torch.cat([positives, negatives])]
    else:
        members = list(torch.cartesian_prod(positives, negatives).T)
    # Every triplet gets points of its own, so that one call gives the gradient of each.
    ends = [embeddings[rows].detach().requires_grad_() for rows in members]
    start = embeddings[anchor].detach().expand_as(ends[0]).clone().requires_grad_()
    distances = [(start - end).square().sum(dim=1) for end in ends]
    kinds = [labels[rows] == labels[anchor] for rows in members]
    n = embeddings.shape[1]
    costs = [loss.costs(d, kind, n) for d, kind in zip(distances, kinds, strict=True)]
    values = torch.stack(costs).sum(dim=0)
    if isinstance(loss, TripletMarginLoss):
        values = values.relu()
    gradients = torch.autograd.grad(values.sum(), [start, *ends])
    return torch.stack([(each != 0).any(dim=1) for each in gradients]).any(dim=0)
