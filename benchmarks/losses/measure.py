"""Time, memory and exactness of the lossless loss, beside pytorch-metric-learning's losses.

Processes that are started here import this module by its name, so it is not the one that runs.
"""

from __future__ import annotations

import importlib
import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks.harness.process import peak, rss
from training.fitting.losses import LosslessTripletLoss, TripletMarginLoss

Loss = Callable[[Tensor, Tensor], Tensor]

SIZES = (64, 128, 256, 512, 1024, 2048, 4096)
DIMENSIONS, CLASSES, SEED, EPSILON = 16, 8, 0, 1e-4
ROUNDS, MIN_ROUNDS, SECONDS = 41, 3, 12.0
"""Rounds of a size: at most, at least, and the seconds after which no other is begun."""
MAX_BYTES = 8 * 2**30
ENUMERATED = 1024
"""The largest batch whose triplets are enumerated to check the value and the gradient."""
OURS, TRIPLETS, PAIRS = "ours", "all triplets", "pairs"


def loss_of(name: str) -> Loss:
    """Return the loss of a column; the peers have their defaults."""
    if name == OURS:
        return LosslessTripletLoss(epsilon=EPSILON)
    theirs: Any = importlib.import_module("pytorch_metric_learning.losses")
    loss: Loss = theirs.TripletMarginLoss() if name == TRIPLETS else theirs.ContrastiveLoss()
    return loss


GROWTH = {OURS: 4, TRIPLETS: 8, PAIRS: 4}
"""How many times the memory of half the batch a loss needs."""


def batch(size: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor]:
    """Return points anywhere in the cube and balanced labels: float [size, 16] and int [size]."""
    random = torch.Generator().manual_seed(SEED)
    points = torch.rand(size, DIMENSIONS, generator=random, dtype=torch.float32).to(dtype)
    return points.requires_grad_(), torch.arange(size) % CLASSES


def seconds(loss: Loss, size: int) -> float:
    """Time one forward and backward."""
    points, labels = batch(size)
    begin = time.perf_counter()
    loss(points, labels).backward()  # type: ignore[no-untyped-call]
    return time.perf_counter() - begin


def interleaved(name: str, size: int) -> list[tuple[float, float]]:
    """Time ours and another in turn, so that a busy moment strikes both; return the seconds."""
    ours, other = loss_of(OURS), loss_of(name)
    for loss in (ours, other):
        seconds(loss, min(size, 256))
        seconds(loss, size)
    times: list[tuple[float, float]] = []
    begin = time.perf_counter()
    while len(times) < ROUNDS:
        if len(times) >= MIN_ROUNDS and time.perf_counter() - begin > SECONDS:
            break
        times.append((seconds(ours, size), seconds(other, size)))
    return times


def against(times: list[tuple[float, float]]) -> str:
    """Return median, quartiles and number of the ratios to ours of each round."""
    ratios = [theirs / ours for ours, theirs in times]
    low, middle, high = statistics.quantiles(ratios, n=4, method="inclusive")
    return f"{middle:.3g} ({low:.3g} to {high:.3g}; {len(ratios)})"


def in_mib(name: str, taken: float, fitting: list[str]) -> str:
    """Return the memory in words, or why it was not measured."""
    if name in fitting:
        return f"{taken / 2**20:.3g}"
    return f"skipped: about {taken / 2**30:.0f} GiB"


def extra_bytes(name: str, size: int) -> float:
    """Return the median peak of three fresh processes, or of one when that is large."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "pytorch_metric_learning.losses"])
    taken: list[float] = []
    while len(taken) < 3 and (not taken or taken[0] < 2**29):
        receiver, sender = context.Pipe(duplex=False)
        process = context.Process(target=_measure, args=(name, size, sender))
        process.start()
        sender.close()  # or nothing would be told of a process that is killed
        taken.append(receiver.recv())
        process.join()
    return statistics.median(taken)


def _measure(name: str, size: int, sender: Any) -> None:
    torch.set_num_threads(1)
    loss = loss_of(name)
    seconds(loss, 16)
    points, labels = batch(size)
    before = rss(os.getpid())
    loss(points, labels).backward()  # type: ignore[no-untyped-call]
    sender.send(max(peak(os.getpid()) - before, 0))


def enumerated(points: Tensor, labels: Tensor) -> Tensor:
    """Compute the same formula with every triplet, by anchor; leave the gradient in `points`."""
    distances = torch.cdist(points, points, compute_mode="donot_use_mm_for_euclid_dist").square()
    leaf = distances.detach().requires_grad_()
    total, number = torch.zeros((), dtype=points.dtype), 0
    for anchor, row in enumerate(leaf):
        same = labels == labels[anchor]
        other = torch.arange(len(labels)) != anchor
        pull = -torch.log(1 - row[same & other] / DIMENSIONS + EPSILON)
        push = -torch.log(1 - (DIMENSIONS - row[~same]) / DIMENSIONS + EPSILON)
        values = pull[:, None] + push[None, :]
        values.sum().backward(retain_graph=True)  # type: ignore[no-untyped-call]
        total, number = total + values.detach().sum(), number + values.numel()
    distances.backward(leaf.grad / number)  # type: ignore[no-untyped-call, operator]
    return total / number


def differences(size: int) -> tuple[float, float]:
    """Compare float32 with enumeration in float64: shares of value and of the largest gradient."""
    points, labels = batch(size)
    value = LosslessTripletLoss(epsilon=EPSILON)(points, labels)
    value.backward()
    exact, _ = batch(size, torch.float64)
    expected = enumerated(exact, labels)
    assert points.grad is not None  # noqa: S101
    assert exact.grad is not None  # noqa: S101
    off = (points.grad - exact.grad).abs().max() / exact.grad.abs().max()
    return abs(value.item() / expected.item() - 1), off.item()


def margin_differences(size: int) -> list[float]:
    """Compare value and gradient in float64, theirs set to squared distances and the mean."""
    package = "pytorch_metric_learning"
    distances: Any = importlib.import_module(f"{package}.distances")
    reducers: Any = importlib.import_module(f"{package}.reducers")
    theirs: Any = importlib.import_module(f"{package}.losses").TripletMarginLoss(
        margin=0.2,
        distance=distances.LpDistance(normalize_embeddings=False, power=2),
        reducer=reducers.MeanReducer(),
    )
    results = []
    for loss in (TripletMarginLoss(alpha=0.2), theirs):
        points, labels = batch(size, torch.float64)
        value = loss(points, labels)
        value.backward()
        results.append((value.detach(), points.grad))
    ours, other = results
    return [float((a - b).abs().max() / b.abs().max()) for a, b in zip(ours, other, strict=True)]
