"""Figures of a model card, drawn from the test rows."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.decomposition import PCA

from models.bundle import UNKNOWN
from models.decision import NearestCentroid
from models.schema import Matrix
from training.dataset.dataset import Labels
from training.evaluation.evaluate import Evaluation
from training.fitting.fit import Epoch

__all__ = ["confusion_figure", "distances_figure", "embedding_figure", "history_figure"]

_GOOD = "#2e9e4f"
_FAULTS = ("#d62728", "#ff7f0e", "#8c1aff", "#1f77b4", "#c2187f", "#7f5539", "#d4b106", "#17becf")
_LARGEST = 20.0
"""Inches of a figure's side, at most."""
_MOST_NAMES = 30
"""Classes that a figure still names."""
_MOST_POINTS = 400
"""Points drawn of each class."""


def _colour(index: int) -> str:
    return _FAULTS[(index - 1) % len(_FAULTS)] if index else _GOOD


def _png(figure: Figure) -> bytes:
    file = io.BytesIO()
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()


def confusion_figure(evaluation: Evaluation, classes: tuple[str, ...]) -> bytes:
    """Shares of each true class by verdict, with counts: PNG."""
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(3.2 + 0.62 * len(classes), _LARGEST)
    readable = len(classes) <= _MOST_NAMES
    figure = Figure(figsize=(size + 1.2, size), layout="constrained")
    axes = figure.subplots()
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count and readable:
            colour = "white" if shares[row, column] > 0.6 else "black"
            text = f"{count}\n{shares[row, column]:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    if readable:
        axes.set_xticks(range(len(classes) + 1), [*classes, UNKNOWN], rotation=35, ha="right")
        axes.set_yticks(range(len(classes)), classes)
    axes.set(xlabel="verdict", ylabel="true class", title="Verdicts on the test rows")
    return _png(figure)


def embedding_figure(
    embeddings: Matrix, labels: Labels, rule: NearestCentroid, classes: tuple[str, ...]
) -> bytes:
    """The test rows in the plane of the centroids' largest spread: PNG."""
    plane = PCA(n_components=2, random_state=0).fit(
        np.concatenate([rule.centroids, rule.centroids.mean(axis=0, keepdims=True) + 1e-6])
        if len(classes) == 2
        else rule.centroids
    )
    figure = Figure(figsize=(8, 5), layout="constrained")
    axes = figure.subplots()
    random = np.random.default_rng(0)
    for c, name in enumerate(classes):
        rows = np.flatnonzero(labels == c)
        shown = random.permutation(rows)[:_MOST_POINTS]
        if not len(shown):
            continue
        x, y = plane.transform(embeddings[shown]).T
        label = f"{name} ({len(shown)} of {len(rows)} rows)"
        axes.scatter(x, y, s=9, alpha=0.45, color=_colour(c), linewidths=0, label=label)
    for c, (x, y) in enumerate(plane.transform(rule.centroids)):
        axes.plot(x, y, "X", ms=11, mfc=_colour(c), mec="black")
    share = plane.explained_variance_ratio_
    axes.set(
        title=f"Test rows in the {embeddings.shape[1]}-dimensional cube",
        xlabel=f"first axis of the centroids ({share[0]:.0%} of their spread)",
        ylabel=f"second axis ({share[1]:.0%})",
    )
    axes.set_aspect("equal", adjustable="datalim")
    if len(classes) <= _MOST_NAMES:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8, markerscale=2)
    axes.text(0.01, 0.01, "X: centroid", transform=axes.transAxes, fontsize=8)
    return _png(figure)


def distances_figure(
    distances: Matrix, labels: Labels, rule: NearestCentroid, classes: tuple[str, ...]
) -> bytes:
    """How far records lie from their own centroid, and the radius that still accepts them: PNG."""
    figure = Figure(figsize=(8, min(1.2 + 0.75 * len(classes), _LARGEST)), layout="constrained")
    axes = figure.subplots()
    for c in range(len(classes)):
        own = np.sort(np.maximum(distances[labels == c, c], 1e-6))
        if len(own):
            low, middle, high = np.quantile(own, [0.05, 0.5, 0.95])
            axes.plot([low, high], [c, c], lw=7, color=_colour(c), alpha=0.35)
            axes.plot(middle, c, "o", color=_colour(c))
        axes.plot(rule.radii[c], c, "|", ms=22, mew=2.5, color="black")
    axes.set_xscale("log")
    if len(classes) <= _MOST_NAMES:
        axes.set_yticks(range(len(classes)), classes)
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set(
        title="Distance of test rows to their own centroid",
        xlabel="squared distance / N (bar: 5 to 95 %, dot: median, black line: radius)",
    )
    axes.grid(axis="x", alpha=0.3)
    return _png(figure)


def history_figure(history: list[Epoch]) -> bytes:
    """Excess loss and dev macro-F1 by epoch: PNG."""
    figure = Figure(figsize=(8, 3.4), layout="constrained")
    axes = figure.subplots()
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.excess_loss for epoch in history], ".-", color=_FAULTS[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", title="The fit")
    axes.set_ylabel("excess loss of the training batches", color=_FAULTS[0])
    axes.set_ylim(bottom=0)
    other = axes.twinx()
    other.plot(numbers, [epoch.dev_macro_f1 for epoch in history], ".-", color=_FAULTS[3])
    other.set_ylabel("dev macro-F1", color=_FAULTS[3])
    return _png(figure)
