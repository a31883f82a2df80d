"""Losses to fit the same encoder with: ours by name, and pytorch-metric-learning's as they come."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from training.recipe import Recipe

PACKAGE = "pytorch_metric_learning"


class _Mined(nn.Module):
    """A loss over the pairs that its miner picks."""

    def __init__(self, loss: Any, miner: Any) -> None:
        super().__init__()
        self.loss, self.miner = loss, miner

    def forward(self, embeddings: Tensor, labels: Tensor) -> Tensor:
        """Mine, then compute the loss."""
        value: Tensor = self.loss(embeddings, labels, self.miner(embeddings, labels))
        return value


_OURS = {"lossless": "lossless", "FaceNet triplet": "triplet", "contrastive": "contrastive"}
_THEIRS: Mapping[str, Callable[[Any, Any, int, int], nn.Module]] = {
    "SupCon": lambda losses, *_: losses.SupConLoss(),
    "ProxyAnchor": lambda losses, _, *shape: losses.ProxyAnchorLoss(*shape),
    "MultiSimilarity": lambda losses, miners, *_: _Mined(
        losses.MultiSimilarityLoss(), miners.MultiSimilarityMiner()
    ),
    "ArcFace": lambda losses, _, *shape: losses.ArcFaceLoss(*shape),
}
LOSSES = (*_OURS, *_THEIRS)
"""What the losses are called in the report."""


def with_loss(name: str, recipe: Recipe, classes: int) -> tuple[Recipe, nn.Module | None]:
    """Return the recipe of a bare encoder, and a loss of theirs unless it is one of ours.

    The encoder has one member and no linear part, so that the loss decides the whole embedding. The
    seed of the recipe decides where proxies and class weights begin.
    """
    bare = recipe.encoder.model_copy(update={"members": 1, "linear": False})
    recipe = recipe.model_copy(update={"encoder": bare})
    if name in _OURS:
        settings = recipe.fit.model_copy(update={"loss": _OURS[name]})
        return recipe.model_copy(update={"fit": settings}), None
    torch.manual_seed(recipe.fit.seed)
    losses, miners = (importlib.import_module(f"{PACKAGE}.{m}") for m in ("losses", "miners"))
    return recipe, _THEIRS[name](losses, miners, classes, recipe.encoder.dimensions)
