"""Time steps of a fit in the processes that torchrun started.

The first prints rows a second, and rows a second of its own processor time.
"""

from __future__ import annotations

import sys
import time

import numpy as np
import torch

from models.schema import Field, Schema
from training.fitting import processes
from training.fitting.encoder import Encoder
from training.fitting.fit import backward, balanced_batches
from training.fitting.losses import make_loss
from training.recipe import EncoderRecipe, FitRecipe

ROWS, FIELDS, CLASSES, SEED = 20_000, 46, 8, 0


def rows_per_second(batch: int, steps: int) -> tuple[float, float]:
    """Time forward, backward, sums and optimizer of some steps, after two that are not timed."""
    torch.set_num_threads(1)
    random = np.random.default_rng(SEED)
    labels = random.integers(0, CLASSES, ROWS)
    matrix = random.normal(labels[:, None], 2, (ROWS, FIELDS)).astype(np.float32)
    schema = Schema([Field(name=f"x{i}", kind="gauge") for i in range(FIELDS)])
    torch.manual_seed(SEED)
    encoder = Encoder(schema, matrix, labels, EncoderRecipe()).train()
    criterion = make_loss(FitRecipe())
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-3)
    records, classes = torch.from_numpy(matrix), torch.from_numpy(labels)
    taken, begin, busy = 0, 0.0, 0.0
    for number, rows in enumerate(balanced_batches(labels, batch, steps + 2, random)):
        if number == 2:
            processes.all_reduce(torch.zeros(1))  # all begin together
            taken, begin, busy = 0, time.perf_counter(), time.process_time()
        optimizer.zero_grad()
        backward(encoder, criterion, records, classes, rows)
        optimizer.step()
        taken += len(rows)
    return taken / (time.perf_counter() - begin), taken / (time.process_time() - busy)


if __name__ == "__main__":
    with processes.joined(torch.device("cpu")):
        speeds = rows_per_second(*map(int, sys.argv[1:]))
        if processes.rank() == 0:
            sys.stdout.write("{} {}\n".format(*speeds))
