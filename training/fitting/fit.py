"""The training loop, from top to bottom on one page."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.metrics import f1_score
from torch import Tensor, nn

from models.decision import distances_between
from models.schema import Matrix, Schema
from training.dataset.dataset import Labels, Rows
from training.fitting import processes
from training.fitting.encoder import Encoder, in_blocks
from training.fitting.losses import BatchLoss, make_loss
from training.recipe import EncoderRecipe, FitRecipe, RecipeError

_COLLAPSED = 1e-3  # Standard deviation of the embeddings below which all records are one point

_MAX_CLASSES = 16
"""P if there are as many classes: enough negatives, and still many records of each class."""


@dataclass(frozen=True, slots=True)
class Epoch:
    """Results of one epoch: mean batch loss, excess over the floor, and dev macro-F1 if any."""

    number: int
    loss: float
    excess_loss: float
    dev_macro_f1: float | None


def fit(
    schema: Schema,
    train: Rows,
    dev: Rows | None,
    shape: EncoderRecipe,
    settings: FitRecipe,
    report: Callable[[Epoch, Encoder], None],
    loss: nn.Module | None = None,
) -> tuple[Encoder, list[Epoch]]:
    """Fit an encoder for all epochs of the settings.

    The same data, settings and libraries give the same weights, bit for bit, on the same kind of
    processor. Where a process group of torch is up, all of its processes call this alike, and fit
    one encoder: each computes its share of every batch, and the loss is that of the whole batch.
    Training labels are 0..K-1, and every class has two records or more. Another loss may
    replace that of the settings; its own parameters are learned too.

    Raises:
        RecipeError: the encoder collapsed.
    """
    # One thread gives the same digits everywhere, and networks this small lose no time by it.
    torch.manual_seed(settings.seed)
    torch.set_num_threads(1)
    device = processes.device_of(settings.device)
    random = np.random.default_rng(settings.seed)
    classes = int(train.labels.max()) + 1
    encoder = Encoder(schema, train.matrix, train.labels, shape).to(device)
    criterion = (make_loss(settings) if loss is None else loss).to(device)
    processes.broadcast_state(encoder)
    if others := processes.rank():  # what drops out here is not what drops out elsewhere
        torch.manual_seed(settings.seed + others)
    steps = settings.epochs * settings.steps
    optimizer = torch.optim.AdamW(
        [*encoder.parameters(), *criterion.parameters()],
        settings.learning_rate,
        weight_decay=settings.weight_decay,
    )
    # The rate ends at 0, so the last weights are the ones to keep: no dev row has to choose them.
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, settings.learning_rate, total_steps=steps, pct_start=_warm_up(steps)
    )
    records = torch.from_numpy(train.matrix).to(device)
    labels = torch.from_numpy(train.labels).to(device)
    history = []
    for number in range(1, settings.epochs + 1):
        encoder.train()
        losses = []
        # Most records are good traffic; unbalanced batches would hardly ever hold a rare fault.
        # Few records that are drawn again and again would draw the borders of all classes.
        for batch in balanced_batches(
            train.labels, settings.batch, settings.steps, random, oversample=False
        ):
            optimizer.zero_grad()
            losses.append(backward(encoder, criterion, records, labels, batch))
            optimizer.step()
            schedule.step()
        embeddings = embed_together(encoder, train.matrix)
        # Saturated sigmoids pass no gradient, so a collapsed encoder never recovers. Written as
        # "not >=" because NaN is a collapse too.
        if not min(part.std(axis=0).max() for part in shape.learned(embeddings)) >= _COLLAPSED:
            raise RecipeError(
                "the encoder collapsed: every record has the same embedding; are the fields scaled "
                "wrongly (kind, unit), or is the learning rate too high?"
            )
        # Dev rows are measured and decide nothing.
        macro_f1 = None
        if dev is not None:
            centroids = centroids_of(embeddings, train.labels, classes)
            nearest = distances_between(embed(encoder, dev.matrix), centroids).argmin(axis=1)
            macro_f1 = float(f1_score(dev.labels, nearest, average="macro", zero_division=0))
        mean_loss = excess = float(processes.all_reduce(torch.tensor(np.mean(losses))))
        if isinstance(criterion, BatchLoss):
            excess = criterion.excess(mean_loss, classes, shape.dimensions)
        history.append(Epoch(number, mean_loss, excess, macro_f1))
        report(history[-1], encoder)
    return encoder.cpu().eval(), history


def backward(
    encoder: Encoder, criterion: nn.Module, records: Tensor, labels: Tensor, batch: Labels
) -> float:
    """Set the gradients of the loss of a batch, and return this process's part of the loss.

    Args:
        encoder: in training mode, without gradients.
        criterion: the loss of points and labels.
        records: float32 [n, fields], NaN where missing.
        labels: int64 [n].
        batch: int [B], row numbers, the same in all processes.
    """
    share, classes = processes.share_of(len(batch)), labels[batch]
    points = encoder.learned(records[batch[share]])
    points = processes.all_gather(points, share, len(batch))
    part = {} if processes.count() == 1 else {"anchors": share}
    # Each member has its own loss. One loss of the joined points would let a member rest
    # on the others, and averaging members only helps as far as they err differently.
    losses = [criterion(member, classes, **part) for member in points.unbind(dim=1)]
    value = torch.stack(losses).mean()
    value.backward()  # type: ignore[no-untyped-call]
    processes.add_up_gradients([*encoder.parameters(), *criterion.parameters()])
    return float(value.item())


def balanced_batches(
    labels: Labels,
    batch: int,
    count: int,
    random: np.random.Generator,
    *,
    oversample: bool = True,
) -> Iterator[Labels]:
    """Draw `count` batches with the same number of records of each class.

    P x K comes as near to `batch` as it can, with K >= 2.

    Args:
        labels: of all records.
        batch: records of a batch.
        count: of batches.
        random: draws.
        oversample: draw a class with fewer than K records with replacement; else it is in the batch
            with each of its records once.

    Yields:
        int [P * K], or fewer without oversampling, row numbers.
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    classes = min(len(rows), _MAX_CLASSES)
    size = max(batch // classes, 2)

    def draw(records: Labels) -> Labels:
        number = size if oversample else min(size, len(records))
        return random.choice(records, number, replace=len(records) < number)

    for _ in range(count):
        chosen = random.permutation(len(rows))[:classes]
        yield np.concatenate([draw(rows[c]) for c in chosen])


def _warm_up(steps: int) -> float:
    """Return the share of steps in which the learning rate rises."""
    # With 10 steps or fewer and a share of 0.1, OneCycleLR divides by 0.1 * 10 - 1 = 0.
    return 0.1 if steps > 10 else 0.3


@torch.inference_mode()
def embed(encoder: Encoder, matrix: Matrix) -> Matrix:
    """Embed without gradients: float32 [n, fields] to float32 [n, N]."""
    encoder.eval()
    device = next(encoder.parameters()).device
    blocks = [encoder(block.to(device)).cpu() for block in in_blocks(matrix)]
    embeddings: Matrix = torch.cat(blocks).numpy()
    return embeddings


def embed_together(encoder: Encoder, matrix: Matrix) -> Matrix:
    """Embed as `embed` does, each process its share; all of them get all embeddings."""
    share = processes.share_of(len(matrix))
    points = torch.from_numpy(embed(encoder, matrix[share]))
    return processes.all_gather(points, share, len(matrix)).numpy()


def centroids_of(embeddings: Matrix, labels: Labels, classes: int) -> Matrix:
    """Average each class's embeddings: float32 [n, N] and int [n] to float32 [classes, N]."""
    return np.stack([embeddings[labels == c].mean(axis=0) for c in range(classes)])
