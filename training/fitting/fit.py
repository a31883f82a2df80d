"""The training loop, from top to bottom on one page."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import nn

from models.decision import distances_between
from models.schema import Matrix, Schema
from training.dataset.dataset import Labels, Rows
from training.fitting.encoder import Encoder
from training.fitting.losses import LOSSES, BatchLoss
from training.fitting.sampling import balanced_batches
from training.recipe import EncoderRecipe, FitRecipe, RecipeError

__all__ = ["Epoch", "centroids_of", "embed", "fit", "make_loss"]

_COLLAPSED = 1e-3
"""Standard deviation of the embeddings under which all records are one point."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """What one epoch brought: mean batch loss, excess over the floor, dev macro-F1."""

    number: int
    loss: float
    excess_loss: float
    dev_macro_f1: float


def fit(
    schema: Schema,
    train: Rows,
    dev: Rows,
    shape: EncoderRecipe,
    settings: FitRecipe,
    report: Callable[[Epoch, Encoder], None],
    loss: nn.Module | None = None,
) -> tuple[Encoder, list[Epoch]]:
    """Fit an encoder for as long as the settings say; the learning rate ends at 0.

    Dev rows decide nothing, so that radii and confidence may be calibrated on them. The same
    data, settings and libraries give the same weights, bit for bit, on the same kind of processor:
    torch runs on one thread here, which these small networks do not miss.

    Args:
        schema: the fields of the records.
        train: what is learned from; labels are 0..K-1, and every class has two records or more.
        dev: what every epoch is measured on.
        shape: the encoder.
        settings: the loss and how it is minimised.
        report: told of every epoch, with the encoder as it then is.
        loss: another one than the settings name, called with embeddings and labels; parameters of
            its own are learned too.

    Raises:
        RecipeError: the encoder collapsed.
    """
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    random = np.random.default_rng(settings.seed)
    classes = int(train.labels.max()) + 1
    encoder = Encoder(schema, train.matrix, train.labels, shape)
    loss_of = make_loss(settings) if loss is None else loss
    steps = settings.epochs * settings.steps
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), *loss_of.parameters()],
        settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=_warm_up(steps)
    )
    records, labels = torch.from_numpy(train.matrix), torch.from_numpy(train.labels)
    history = []
    for number in range(1, settings.epochs + 1):
        encoder.train()
        losses = []
        for batch in balanced_batches(train.labels, settings.batch, settings.steps, random):
            points = encoder.learned(records[batch]).unbind(dim=1)
            value = torch.stack([loss_of(each, labels[batch]) for each in points]).mean()
            optimizer.zero_grad()
            value.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(value.item())
        embeddings = embed(encoder, train.matrix)
        if not min(part.std(axis=0).max() for part in shape.learned(embeddings)) >= _COLLAPSED:
            raise RecipeError(  # NaN is a collapse too
                "the encoder collapsed: every record has the same embedding; are the fields scaled "
                "wrongly (kind, unit), or is the learning rate too high?"
            )
        centroids = centroids_of(embeddings, train.labels, classes)
        nearest = distances_between(embed(encoder, dev.matrix), centroids).argmin(axis=1)
        macro_f1 = f1_score(dev.labels, nearest, average="macro", zero_division=0)
        loss_now = excess = float(np.mean(losses))
        if isinstance(loss_of, BatchLoss):
            excess = loss_of.excess(loss_now, classes, shape.dimensions)
        history.append(Epoch(number, loss_now, excess, float(macro_f1)))
        report(history[-1], encoder)
    return encoder.eval(), history


def make_loss(settings: FitRecipe) -> BatchLoss:
    """The loss that the settings name, with the parameters that it takes."""
    parameters: dict[str, dict[str, Any]] = {
        "lossless": {"beta": settings.beta, "epsilon": settings.epsilon},
        "triplet": {"alpha": settings.alpha},
        "contrastive": {"margin": settings.margin},
    }
    return LOSSES[settings.loss](**parameters.get(settings.loss, {}))


def _warm_up(steps: int) -> float:
    """The share of the steps in which the learning rate rises; torch divides by 0.1 * 10 - 1."""
    return 0.1 if steps > 10 else 0.3


@torch.inference_mode()
def embed(encoder: Encoder, matrix: Matrix) -> Matrix:
    """Embed without gradients: float32 [n, fields] to float32 [n, N]."""
    encoder.eval()
    embeddings: Matrix = encoder(torch.from_numpy(matrix)).numpy()
    return embeddings


def centroids_of(embeddings: Matrix, labels: Labels, classes: int) -> Matrix:
    """Mean embedding of each class: float32 [n, N] and int [n] to float32 [classes, N]."""
    return np.stack([embeddings[labels == c].mean(axis=0) for c in range(classes)])
