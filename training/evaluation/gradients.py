"""Which triplets still teach: those with a gradient in any of their embeddings."""

import torch
from torch import Tensor

from training.fitting.losses import BatchLoss, ContrastiveLoss, TripletMarginLoss


def zero_gradient_share(loss: BatchLoss, embeddings: Tensor, labels: Tensor) -> float:
    """Return the share of all triplets whose gradient is exactly 0 in all three embeddings.

    Each triplet is differentiated on its own, because gradients of a batch's mean may cancel. The
    gradient of d_ap in p is 2 (p - a), so a triplet is silent if its three points coincide, as
    copies of one record do, and under the triplet loss also if its value is 0. Pairs are counted
    instead under the contrastive loss, as in `BatchLoss.zero_share`; negative ones beyond the
    margin are silent too. A saturated sigmoid may stop the other gradients as well, under any loss.
    """
    silent = total = 0
    for anchor in range(len(labels)):
        moved = _moved(loss, embeddings, labels, anchor)
        silent, total = silent + int((~moved).sum()), total + len(moved)
    return silent / max(total, 1)


def _moved(loss: BatchLoss, embeddings: Tensor, labels: Tensor, anchor: int) -> Tensor:
    """Return for every triplet or pair of an anchor whether it moves a point: bool [T]."""
    same = labels == labels[anchor]
    negatives = torch.nonzero(~same)[:, 0]
    same[anchor] = False
    positives = torch.nonzero(same)[:, 0]
    if isinstance(loss, ContrastiveLoss):
        members = [torch.cat([positives, negatives])]
    else:
        members = list(torch.cartesian_prod(positives, negatives).T)
    # Every triplet gets its own copies of points, so that one call returns all gradients.
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
    return torch.stack([(gradient != 0).any(dim=1) for gradient in gradients]).any(dim=0)
