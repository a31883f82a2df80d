"""Losses over all pairs or triplets of a batch, exact, in O(B^2).

d is the squared Euclidean distance in the unit cube of N dimensions; a triplet (a, p, n) is
an anchor, a positive of its class and a negative of another. Triplets are counted, not enumerated.
"""

import math
import warnings
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from inspect import signature
from typing import ClassVar, TypedDict, Unpack

import torch
from torch import Tensor, nn

from training.recipe import FitRecipe

__all__ = [
    "LOSSES",
    "BatchLoss",
    "ContrastiveLoss",
    "LinearTripletLoss",
    "LosslessTripletLoss",
    "TripletMarginLoss",
    "make_loss",
    "squared_distances",
]


_ALL = slice(None)


def squared_distances(embeddings: Tensor, anchors: slice = _ALL) -> Tensor:
    """Squared Euclidean distance of every pair: float [B, N] in [0, 1] to [B, B] in [0, N].

    With `anchors`, only of these rows to all. A point is exactly 0 from itself.
    """
    # Centring changes no distance, and the Gram form then cancels far fewer digits of float32.
    centred = embeddings - embeddings.detach().mean(dim=0)
    squares = centred.square().sum(dim=1)
    gram = torch.addmm(squares, centred[anchors], centred.T, alpha=-2)
    gram.add_(squares[anchors, None])
    return _fill_own(gram.clamp(0, embeddings.shape[1]), anchors, 0)


def _fill_own(pairs: Tensor, anchors: slice, value: float) -> Tensor:
    """Set the pair of each anchor with itself, in [anchors, B], and return all of them."""
    pairs.diagonal(anchors.start or 0).fill_(value)
    return pairs


class _Shared(TypedDict, total=False):
    class_weights: Tensor | None
    validate: bool


class BatchLoss(nn.Module):
    """A mean over all pairs of a batch, or over pairs that are given.

    Args:
        class_weights: float [K], 0 or more, for labels 0..K-1: the weight of a pair or triplet in
            the mean is that of its anchor's class.
        validate: reject embeddings outside the unit cube.

    `empty_batches` counts the calls that had no pair or triplet to average.
    """

    class_weights: Tensor | None
    _forms: ClassVar[tuple[int, ...]] = (3, 4)

    def __init__(self, *, class_weights: Tensor | None = None, validate: bool = True) -> None:
        super().__init__()
        if class_weights is not None and (
            class_weights.ndim != 1 or not (class_weights.isfinite() & (class_weights >= 0)).all()
        ):
            raise ValueError("class_weights must be one finite number, 0 or more, per class")
        self.register_buffer("class_weights", class_weights)
        self.validate, self.empty_batches, self._warned = validate, 0, False

    @abstractmethod
    def costs(self, distances: Tensor, same: Tensor, n: int) -> Tensor:
        """Return the cost of each pair, of one class where `same`, of two elsewhere: [B, B]."""

    def excess(self, loss: float, classes: int, dimensions: int) -> float:  # noqa: ARG002
        """Return a mean loss of class-balanced batches less the smallest possible one."""
        return loss

    def forward(
        self,
        embeddings: Tensor,
        labels: Tensor,
        indices_tuple: Sequence[Tensor] | None = None,
        anchors: slice = _ALL,
    ) -> Tensor:
        """Compute the loss; a batch without a valid triplet or pair gives 0, still on the graph.

        Args:
            embeddings: float [B, N], values in [0, 1]; half precision is computed in float32.
            labels: int [B].
            indices_tuple: three int [T], the triplets (a, p, n) to average over instead of all; the
                contrastive loss takes their pairs, and pairs (a, p, a, n) too.
            anchors: rows of the batch; only what they add to the mean over all is computed. The
                values of slices that make up the batch add up to the loss. Not with indices.

        Returns:
            A scalar, finite and with finite gradient anywhere in the closed cube. NaN that carries
            a gradient gives NaN, which the training loop reports as a collapse.
        """
        costs, same = self._costs(embeddings, labels, anchors)
        weights = costs.new_ones(len(labels))
        if self.class_weights is not None:
            weights = self.class_weights.to(costs)[labels.long()]
        if indices_tuple is None:
            positives, negatives = _others(labels, costs)
            total = (weights * self._numbers(positives, negatives)).sum()
            pairs = positives[anchors, None], negatives[anchors, None]
            counts = _fill_own(self._counts(costs, same, *pairs, anchors), anchors, 0)
            weights, values = weights[anchors], (counts * costs).sum(dim=1).to(costs)
        else:
            a, p, b, n = _checked(indices_tuple, same, self._forms)
            values = self._values(costs[a, p], costs[b, n])
            weights = weights[torch.cat([a, b])[: len(values)]]  # a triplet has one anchor
            total = (weights * torch.ones_like(values)).sum()
        return (weights * values).sum() / total if total > 0 else self._empty(embeddings)

    @torch.no_grad()
    def zero_share(self, embeddings: Tensor, labels: Tensor) -> float:
        """Return the share of all triplets (or pairs) that cost exactly 0, without weights."""
        zeros = total = 0
        for anchor, (costs, same) in enumerate(zip(*self._costs(embeddings, labels), strict=True)):
            other = torch.arange(len(same), device=same.device) != anchor
            values = self._values(costs[same & other][:, None], costs[~same])
            zeros, total = zeros + int((values == 0).sum()), total + values.numel()
        return zeros / max(total, 1)

    def _numbers(self, positives: Tensor, negatives: Tensor) -> Tensor:
        """Return how many values each anchor has, from its other records, [B] all of them."""
        return positives + negatives

    def _counts(
        self,
        costs: Tensor,
        same: Tensor,
        positives: Tensor,  # noqa: ARG002
        negatives: Tensor,  # noqa: ARG002
        anchors: slice,  # noqa: ARG002
    ) -> Tensor:
        """Return the multiplicity of each pair, [anchors, B]; `positives` are [anchors, 1]."""
        return torch.ones_like(same, dtype=costs.dtype)

    def _values(self, pulls: Tensor, pushes: Tensor) -> Tensor:
        """Return the values to average, from the costs of positive and of negative pairs."""
        return torch.cat([pulls.flatten(), pushes.flatten()])

    def _costs(
        self, embeddings: Tensor, labels: Tensor, anchors: slice = _ALL
    ) -> tuple[Tensor, Tensor]:
        self._check(embeddings, labels)
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.dtype in (torch.float16, torch.bfloat16):
                embeddings = embeddings.float()
            same = labels[anchors, None] == labels[None, :]
            distances = squared_distances(embeddings, anchors)
            return self.costs(distances, same, embeddings.shape[1]), same

    def _check(self, embeddings: Tensor, labels: Tensor) -> None:
        shapes_match = embeddings.ndim == 2 and labels.shape == embeddings.shape[:1]
        whole = not (labels.is_floating_point() or labels.is_complex())
        if not (shapes_match and whole and embeddings.shape[1] and embeddings.is_floating_point()):
            forms = " and ".join(f"{t.dtype} {[*t.shape]}" for t in (embeddings, labels))
            raise ValueError(f"give embeddings float [B, N] and labels int [B], not {forms}")
        if self.class_weights is not None and len(labels):
            first, last, count = int(labels.min()), int(labels.max()), len(self.class_weights)
            if first < 0 or last >= count:
                raise ValueError(f"give a weight for each label: {count} for {first}..{last}")
        if self.validate and len(labels):
            low, high = (value.item() for value in embeddings.detach().aminmax())
            if low < 0 or high > 1 or (math.isnan(low) and not embeddings.requires_grad):
                raise ValueError(f"embeddings in {low:g}..{high:g} must be in 0..1; use a sigmoid")

    def _empty(self, embeddings: Tensor) -> Tensor:
        self.empty_batches += 1
        # A batch without a gradient is a measurement, and its loss is simply 0.
        if embeddings.requires_grad and not self._warned:
            self._warned = True
            warnings.warn("nothing to compare here: draw two classes, one twice", stacklevel=2)
        return embeddings.sum(dtype=torch.promote_types(embeddings.dtype, torch.float32)) * 0


class _TripletLoss(BatchLoss):
    """A mean over triplets: a pair counts once for every pair of the other kind of its anchor."""

    _forms = (3,)

    def _numbers(self, positives: Tensor, negatives: Tensor) -> Tensor:
        return positives * negatives

    def _counts(
        self,
        costs: Tensor,  # noqa: ARG002
        same: Tensor,
        positives: Tensor,
        negatives: Tensor,
        anchors: slice,  # noqa: ARG002
    ) -> Tensor:
        return torch.where(same, negatives, positives)

    def _values(self, pulls: Tensor, pushes: Tensor) -> Tensor:
        return pulls + pushes


class LosslessTripletLoss(_TripletLoss):
    """-ln(1 - d_ap/beta + epsilon) - ln(1 - (N - d_an)/beta + epsilon), mean of triplets in O(B^2).

    M. Arsenault, "Lossless triplet loss", 2018.

    Args:
        beta: at least N, the default.
        epsilon: keeps the logarithms finite; 1e-8 in the article, 1e-4 trains equally well.
        **shared: class_weights and validate, as in `BatchLoss`.
    """

    def __init__(
        self, beta: float | None = None, epsilon: float = 1e-4, **shared: Unpack[_Shared]
    ) -> None:
        super().__init__(**shared)
        if not 1e-30 <= epsilon < math.inf:  # float32 has no room for a gradient of 1 / less
            raise ValueError(f"epsilon must be positive, not {epsilon:g}; try 1e-4")
        self.beta, self.epsilon = beta, epsilon

    def costs(self, distances: Tensor, same: Tensor, n: int) -> Tensor:
        """Return -ln(1 - u/beta + epsilon), u = d for a pair of one class, u = N - d for two."""
        beta = n if self.beta is None else self.beta
        if not n <= beta < math.inf:
            raise ValueError(f"beta = {beta:g} is less than N = {n}; give at least N")
        # 1 - u/beta + epsilon would lose epsilon to rounding; slack keeps it apart from 1.
        slack = (beta - n) + beta * self.epsilon
        # n - d or d to the bit; `where` takes longer, forth and back.
        positive = same.to(distances)
        left = (distances * (1 - 2 * positive)).add_(positive, alpha=n).add_(slack)
        return torch.log(left.div_(beta)).neg_()

    def excess(self, loss: float, classes: int, dimensions: int) -> float:
        """Return a mean loss of class-balanced batches less the floor that geometry sets."""
        beta = dimensions if self.beta is None else self.beta
        return loss - self.floor(classes, beta / dimensions)

    @staticmethod
    def floor(classes: int, beta_over_n: float = 1.0) -> float:
        """Return the lower bound of the mean loss for this number of classes.

        K points of the cube are at most N K / (2 (K - 1)) apart on average when K is even and
        N (K + 1) / (2 K) when it is odd (Plotkin, "Binary codes with specified minimum
        distance", 1960); -ln is convex, so the mean loss is at least that of the average.
        """
        distance = (classes + 1) / (2 * classes) if classes % 2 else classes / (2 * (classes - 1))
        return -math.log(1 - (1 - distance) / beta_over_n)


class LinearTripletLoss(_TripletLoss):
    """d_ap + (N - d_an), mean of triplets in O(B^2): the lossless loss without its logarithms.

    M. Arsenault, "Lossless triplet loss", 2018. It merges classes; kept for the comparison.
    """

    def costs(self, distances: Tensor, same: Tensor, n: int) -> Tensor:
        """Return the distance d for a pair of one class, N - d for two."""
        return torch.where(same, distances, n - distances)


class TripletMarginLoss(_TripletLoss):
    """max(d_ap - d_an + alpha, 0), mean of triplets, zeros too, in O(B^2 log B).

    Schroff et al., "FaceNet", CVPR 2015, eq. 2. Sorting an anchor's costs counts those above 0.
    """

    def __init__(self, alpha: float = 0.2, **shared: Unpack[_Shared]) -> None:
        super().__init__(**shared)
        if not 0 <= alpha < math.inf:
            raise ValueError(f"alpha must be 0 or more, not {alpha:g}; FaceNet's is 0.2")
        self.alpha = alpha

    def costs(self, distances: Tensor, same: Tensor, n: int) -> Tensor:  # noqa: ARG002
        """Return the distance d plus alpha for a pair of one class, -d for two."""
        return torch.where(same, distances + self.alpha, -distances)

    def _values(self, pulls: Tensor, pushes: Tensor) -> Tensor:
        return (pulls + pushes).relu()

    def _counts(
        self,
        costs: Tensor,
        same: Tensor,
        positives: Tensor,  # noqa: ARG002
        negatives: Tensor,  # noqa: ARG002
        anchors: slice,
    ) -> Tensor:
        costs = costs.detach()
        pulls = _fill_own(torch.where(same, costs, -math.inf), anchors, -math.inf)
        pulls = pulls.sort(dim=1).values
        pushes = torch.where(same, math.inf, -costs).sort(dim=1).values
        nearer = torch.searchsorted(pushes, costs)
        farther = same.shape[1] - torch.searchsorted(pulls, -costs, right=True)
        # Costs cancel in the sum; float64 keeps that free of rounding errors.
        return torch.where(same, nearer, farther).double()


class ContrastiveLoss(BatchLoss):
    """d_ij for a pair of one class, max(margin - sqrt(d_ij), 0)^2 for two, mean of pairs.

    Hadsell, Chopra, LeCun, "Dimensionality reduction by learning an invariant mapping", CVPR 2006,
    eq. 4 times two. Coinciding points of two classes have no gradient: it has no direction.
    """

    def __init__(self, margin: float = 1.0, **shared: Unpack[_Shared]) -> None:
        super().__init__(**shared)
        if not 0 < margin < math.inf:
            raise ValueError(f"margin must be positive, not {margin:g}; the cube is sqrt(N) across")
        self.margin = margin

    def costs(self, distances: Tensor, same: Tensor, n: int) -> Tensor:  # noqa: ARG002
        """Return the distance d for a pair of one class, max(margin - sqrt(d), 0)^2 for two."""
        roots = distances.clamp_min(torch.finfo(distances.dtype).tiny).sqrt()
        return torch.where(same, distances, (self.margin - roots).relu().square())


def _others(labels: Tensor, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return how many other records each one has in its class and in other classes, [B] each."""
    _, classes, sizes = torch.unique(labels, return_inverse=True, return_counts=True)
    positives = sizes[classes].to(like) - 1
    return positives, len(labels) - 1 - positives


def _checked(indices: Sequence[Tensor], same: Tensor, forms: tuple[int, ...]) -> list[Tensor]:
    """Return triplets (a, p, n), or pairs (a, p, a, n), in the second form."""
    indices = [torch.as_tensor(rows, device=same.device) for rows in indices]
    if len(indices) not in forms:
        raise ValueError("give triplets (a, p, n); only the contrastive loss takes (a, p, a, n)")
    a, p, b, n = indices if len(indices) == 4 else (*indices[:2], indices[0], indices[2])
    if a.ndim != 1 or a.shape != p.shape or b.ndim != 1 or b.shape != n.shape:
        raise ValueError("give an anchor for every positive and every negative, each a list [T]")
    rows = torch.cat(indices)
    if rows.dtype != torch.int64 or ((rows < 0) | (rows >= len(same))).any():
        raise ValueError(f"give rows of this batch: int64, 0..{len(same) - 1}")
    if not same[a, p].all() or same[b, n].any():
        raise ValueError("labels contradict the indices; mine both from one batch")
    return [a, p, b, n]


LOSSES: Mapping[str, type[BatchLoss]] = {
    "lossless": LosslessTripletLoss,
    "linear": LinearTripletLoss,
    "triplet": TripletMarginLoss,
    "contrastive": ContrastiveLoss,
}
"""The registry: to add a loss, add its class here, and name and parameters to `FitRecipe`."""


def make_loss(settings: FitRecipe) -> BatchLoss:
    """Make the loss that the settings name; its parameters are the settings of the same names."""
    loss = LOSSES[settings.loss]
    names = signature(loss).parameters.keys() & FitRecipe.model_fields.keys()
    return loss(**{name: getattr(settings, name) for name in names})
