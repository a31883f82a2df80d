"""The lossless triplet loss over every triplet of a batch, exactly, from its pairs."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

__all__ = ["LosslessTripletLoss", "squared_distances"]


def squared_distances(embeddings: Tensor) -> Tensor:
    """Squared Euclidean distance of every pair.

    Args:
        embeddings: float [B, N], each in [0, 1].

    Returns:
        float [B, B], each in [0, N]; exactly 0 on the diagonal.
    """
    # Distances do not change by centring, and float32 then cancels far less in the Gram form.
    centred = embeddings - embeddings.detach().mean(dim=0)
    squares = centred.square().sum(dim=1)
    gram = squares[:, None] + squares[None, :] - 2 * centred @ centred.T
    distances = gram.clamp(0, embeddings.shape[1])
    return distances.masked_fill(torch.eye(len(gram), dtype=torch.bool, device=gram.device), 0)


class LosslessTripletLoss(nn.Module):
    """The lossless triplet loss, exact over all valid triplets of a batch in O(B^2).

    It is the mean over the triplets (a, p, n) of

        -ln(1 - d(a,p)/beta + epsilon) - ln(1 - (N - d(a,n))/beta + epsilon)

    with d the squared Euclidean distance in the unit cube of N dimensions
    (M. Arsenault, "Lossless triplet loss", 2018). The loss is a sum f(d_ap) + g(d_an), so the sum
    over all triplets is a sum over pairs, each positive pair counted once for every negative of
    its anchor and each negative pair once for every positive of its anchor.

    Args:
        beta: at least N; N when not given.
        epsilon: keeps the logarithms finite; 1e-8 in the article, 1e-4 trains as well.

    Raises:
        ValueError: epsilon is not positive.
    """

    def __init__(self, beta: float | None = None, epsilon: float = 1e-4) -> None:
        super().__init__()
        if epsilon <= 0:
            raise ValueError(f"epsilon must be positive, not {epsilon:g}")
        self.beta, self.epsilon = beta, epsilon

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Compute the loss; a batch without a valid triplet gives 0, still on the graph.

        Args:
            embeddings: float [B, N], each in [0, 1]; half precision is computed in float32.
            labels: int [B].

        Returns:
            A scalar, finite and with finite gradient anywhere in the closed cube.

        Raises:
            ValueError: beta is less than N, where the logarithm has no value.
        """
        n = embeddings.shape[1]
        beta = n if self.beta is None else self.beta
        if beta < n:
            raise ValueError(f"beta = {beta:g} is less than N = {n}; give at least N")
        with torch.autocast(embeddings.device.type, enabled=False):
            if embeddings.dtype in (torch.float16, torch.bfloat16):
                embeddings = embeddings.float()
            distances = squared_distances(embeddings)
            same = labels[:, None] == labels[None, :]
            positive = same & ~torch.eye(len(labels), dtype=torch.bool, device=labels.device)
            positives = positive.sum(dim=1, dtype=distances.dtype)
            negatives = (~same).sum(dim=1, dtype=distances.dtype)
            triplets = (positives * negatives).sum()
            if not triplets:
                return embeddings.sum() * 0

            # 1 - u + epsilon would lose epsilon to rounding; slack keeps it apart from 1.
            slack = beta * (1 + self.epsilon) - n
            pull = math.log(beta) - torch.log((n - distances) + slack)
            push = math.log(beta) - torch.log(distances + slack)
            pulls = (pull * positive).sum(dim=1) * negatives
            pushes = (push * ~same).sum(dim=1) * positives
            return (pulls + pushes).sum() / triplets

    def excess(self, loss: float, classes: int, dimensions: int) -> float:
        """How far a mean loss of class-balanced batches lies over what geometry allows."""
        beta = dimensions if self.beta is None else self.beta
        return loss - self.floor(classes, beta / dimensions)

    @staticmethod
    def floor(classes: int, beta_over_n: float = 1.0) -> float:
        """The value that the mean loss cannot fall under with this many classes.

        K points of the cube are at most N K / (2 (K - 1)) apart on average when K is even and
        N (K + 1) / (2 K) when it is odd (Plotkin, "Binary codes with specified minimum
        distance", 1960); -ln is convex, so the mean loss is at least that of the average.
        """
        most = (classes + 1) / (2 * classes) if classes % 2 else classes / (2 * (classes - 1))
        return -math.log(1 - (1 - most) / beta_over_n)
