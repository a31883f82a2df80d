"""Figures of a comparison: the shape of the losses, and what became of them by epoch."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter

from training.evaluation.loss_comparison import Trial

__all__ = ["log_curve_figure", "loss_by_epoch_figure"]

_STYLES = {
    "lossless": ("#2e9e4f", "-"),
    "linear": ("#1f77b4", "-."),
    "triplet": ("#d62728", "--"),
    "contrastive": ("#8c5a00", ":"),
}
_NEGATIVE = 1.0
"""Where the figure of shapes puts the negative, for the hinge needs one."""
_LEAST = 1e-3
"""Under this loss, the axis goes to 0 in a straight line."""


def log_curve_figure() -> bytes:
    """The positive part of the losses against the distance d, for N = 3: PNG.

    M. Arsenault, "Lossless triplet loss", 2018, with beta = N and epsilon = 1e-8.
    """
    n, epsilon, alpha = 3, 1e-8, 0.2
    d = np.linspace(0, n, 3001)
    curves = {
        "lossless": (
            -np.log(1 - d / n + epsilon),
            r"lossless: $-\ln(1 - d/\beta + \varepsilon)$, $\beta = 3$, $\varepsilon = 10^{-8}$",
        ),
        "linear": (d, "linear: d"),
        "triplet": (
            np.maximum(d - _NEGATIVE + alpha, 0),
            f"FaceNet: $\\max(d - {_NEGATIVE:g} + {alpha:g}, 0)$, the negative at {_NEGATIVE:g}",
        ),
    }
    figure = Figure(figsize=(7, 4.6), layout="constrained")
    axes = figure.subplots()
    for name, (values, label) in curves.items():
        colour, line = _STYLES[name]
        axes.plot(d, values, line, color=colour, lw=2, label=label)
    axes.set(
        title="What a positive at distance d costs, in a cube of N = 3 dimensions",
        xlabel="d, squared distance of anchor and positive",
        ylabel="cost",
        xlim=(0, n * 1.01),
        ylim=(-0.1, 8),
    )
    axes.text(2.96, 7.7, f"{-np.log(epsilon):.1f} at d = 3", ha="right", va="top", fontsize=9)
    axes.grid(alpha=0.3)
    axes.legend(loc="upper left", frameon=False)
    return _png(figure)


def loss_by_epoch_figure(trials: Sequence[Trial], floors: Mapping[str, float]) -> bytes:
    """Loss, and share of triplets without any, by epoch; line: mean of seeds, band: range: PNG.

    Args:
        trials: all with the same number of epochs.
        floors: for some losses, what they cannot fall under.
    """
    figure = Figure(figsize=(10, 4.2), layout="constrained")
    left, right = figure.subplots(1, 2)
    epochs = range(1, len(trials[0].losses) + 1)
    for name in dict.fromkeys(trial.loss for trial in trials):
        mine = [trial for trial in trials if trial.loss == name]
        losses = np.array([trial.losses for trial in mine])
        shares = np.array([trial.zero_loss for trial in mine])
        colour, line = _STYLES[name]
        for axes, values in ((left, losses), (right, shares)):
            axes.plot(epochs, values.mean(axis=0), line, color=colour, lw=2, label=name)
            axes.fill_between(
                epochs, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.18, lw=0
            )
        if name in floors:
            label = f"floor of {name}, {floors[name]:.3f}"
            left.axhline(floors[name], color=colour, lw=1, alpha=0.7, ls=(0, (1, 2)), label=label)
    if min(min(trial.losses) for trial in trials) < _LEAST:
        left.set_yscale("symlog", linthresh=_LEAST)
        left.set_ylim(bottom=0)
    else:
        left.set_yscale("log")
    left.set(title="Loss after each epoch", xlabel="epoch", ylabel="mean loss of training rows")
    right.set_ylim(-0.02, 1.02)
    right.yaxis.set_major_formatter(PercentFormatter(1))
    right.set(
        title="Triplets that cost exactly 0 (contrastive: pairs)",
        xlabel="epoch",
        ylabel="share of triplets of training rows",
    )
    for axes in (left, right):
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    figure.legend(
        *left.get_legend_handles_labels(), loc="outside lower center", ncols=5, frameon=False
    )
    return _png(figure)


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()
