"""The training loop, from top to bottom on one page."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import f1_score

from models.decision import distances_between
from models.schema import Matrix
from training.dataset import Dataset, Labels
from training.encoder import Encoder
from training.losses import LosslessTripletLoss
from training.recipe import Recipe, RecipeError
from training.sampling import balanced_batches

__all__ = ["Epoch", "centroids_of", "embed", "fit"]

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
    dataset: Dataset, recipe: Recipe, report: Callable[[Epoch], None]
) -> tuple[Encoder, list[Epoch]]:
    """Fit an encoder; the state with the best dev macro-F1 is kept.

    The same data, recipe and libraries give the same weights, bit for bit, on the same kind of
    processor: torch runs on one thread here, which these small networks do not miss.

    Raises:
        RecipeError: the encoder collapsed.
    """
    settings = recipe.fit
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    random = np.random.default_rng(settings.seed)
    train, dev = dataset.train, dataset.dev
    encoder = Encoder(dataset.schema, train.matrix, recipe.encoder)
    loss_of = LosslessTripletLoss(settings.beta, settings.epsilon)
    steps = settings.epochs * settings.steps
    optimizer = torch.optim.AdamW(
        encoder.parameters(), settings.learning_rate, weight_decay=settings.weight_decay
    )
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=_warm_up(steps)
    )
    records, labels = torch.from_numpy(train.matrix), torch.from_numpy(train.labels)
    best, best_state, history = (-1.0, 0.0), encoder.state_dict(), []
    for number in range(1, settings.epochs + 1):
        encoder.train()
        losses = []
        for batch in balanced_batches(train.labels, settings.batch, settings.steps, random):
            loss = loss_of(encoder(records[batch]), labels[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
        embeddings = embed(encoder, train.matrix)
        if not embeddings.std(axis=0).max() >= _COLLAPSED:  # NaN is a collapse too
            raise RecipeError(
                "the encoder collapsed: every record has the same embedding; are the fields scaled "
                "wrongly (kind, unit), or is the learning rate too high?"
            )
        centroids = centroids_of(embeddings, train.labels, len(dataset.classes))
        distances = distances_between(embed(encoder, dev.matrix), centroids)
        macro_f1 = f1_score(dev.labels, distances.argmin(axis=1), average="macro", zero_division=0)
        loss_now = float(np.mean(losses))
        excess = loss_of.excess(loss_now, len(dataset.classes), embeddings.shape[1])
        history.append(Epoch(number, loss_now, excess, float(macro_f1)))
        report(history[-1])
        # Of epochs that dev cannot tell apart, the one that keeps true classes nearest is better.
        own = distances[np.arange(len(dev.labels)), dev.labels].mean()
        if (score := (round(float(macro_f1), 4), -float(own))) > best:
            best, best_epoch, best_state = score, number, copy.deepcopy(encoder.state_dict())
        if number - best_epoch >= settings.patience:
            break
    encoder.load_state_dict(best_state)
    return encoder.eval(), history


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
