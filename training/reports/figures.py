"""Figures of the model card and of the loss comparison, as PNG."""

import io
from collections.abc import Mapping, Sequence
from itertools import cycle

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.decomposition import PCA

from models.decision import NearestCentroid
from models.names import UNKNOWN
from models.schema import Matrix
from training.dataset.dataset import Labels
from training.evaluation.evaluate import Evaluation
from training.evaluation.loss_comparison import LossTrial
from training.fitting.fit import Epoch
from training.fitting.losses import LOSSES

_GOOD = "#2e9e4f"
_FAULTS = ("#d62728", "#ff7f0e", "#8c1aff", "#1f77b4", "#c2187f", "#7f5539", "#d4b106", "#17becf")
_STYLES = (("#2e9e4f", "-"), ("#1f77b4", "-."), ("#d62728", "--"), ("#8c5a00", ":"))
_STYLE_OF = dict(zip(LOSSES, cycle(_STYLES), strict=False))  # Colour and line of each loss
_MAX_SIDE = 20.0  # Inches of a figure's side
_MAX_NAMES = 30  # Classes that a figure still names
_MAX_POINTS = 400  # Points of a class that are drawn
_NEGATIVE = 1.0  # Distance of the negative in the figure of loss curves; the hinge needs one
_LINEAR = 1e-3  # Losses below this are drawn on a linear axis down to 0


def _subplots(width: float, height: float, columns: int = 1) -> tuple[Figure, list[Axes]]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, [*figure.subplots(1, columns, squeeze=False)[0]]


def png(figure: Figure) -> bytes:
    """Return a figure as PNG."""
    file = io.BytesIO()
    # Without the library's version the same numbers give the same bytes.
    figure.savefig(file, format="png", dpi=100, metadata={"Software": None})
    return file.getvalue()


def plain(name: str) -> str:
    """Return a name from a table such that no part of it is drawn as a formula."""
    return name.replace("$", r"\$")


def colour_of(index: int) -> str:
    """Return the colour of a class by its index: 0 is good traffic."""
    return _FAULTS[(index - 1) % len(_FAULTS)] if index else _GOOD


def confusion_figure(evaluation: Evaluation, classes: tuple[str, ...]) -> bytes:
    """Draw shares of each true class by verdict, with counts."""
    counts = np.array(evaluation.confusion)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    size = min(3.2 + 0.62 * len(classes), _MAX_SIDE)
    readable = len(classes) <= _MAX_NAMES
    figure, [axes] = _subplots(size + 1.2, size)
    axes.imshow(shares, cmap="Greens", vmin=0, vmax=1, aspect="auto")
    for (row, column), count in np.ndenumerate(counts):
        if count and readable:
            colour = "white" if shares[row, column] > 0.6 else "black"
            text = f"{count}\n{shares[row, column]:.1%}"
            axes.text(column, row, text, ha="center", va="center", color=colour, fontsize=8)
    if readable:
        names = [plain(name) for name in classes]
        axes.set_xticks(range(len(classes) + 1), [*names, UNKNOWN], rotation=35, ha="right")
        axes.set_yticks(range(len(classes)), names)
    axes.set(xlabel="verdict", ylabel="true class", title="Verdicts on the test rows")
    return png(figure)


def embedding_figure(
    embeddings: Matrix, labels: Labels, rule: NearestCentroid, classes: tuple[str, ...]
) -> bytes:
    """Draw the test rows in the plane of the centroids' largest spread."""
    corners = rule.centroids
    if len(classes) == 2:  # a plane needs a third point
        corners = np.concatenate([corners, corners.mean(axis=0, keepdims=True) + 1e-6])
    plane = PCA(n_components=2, random_state=0).fit(corners)
    figure, [axes] = _subplots(8, 5)
    random = np.random.default_rng(0)
    for c, name in enumerate(classes):
        rows = np.flatnonzero(labels == c)
        shown = random.permutation(rows)[:_MAX_POINTS]
        if not len(shown):
            continue
        x, y = plane.transform(embeddings[shown]).T
        label = f"{plain(name)} ({len(shown)} of {len(rows)} rows)"
        axes.scatter(x, y, s=9, alpha=0.45, color=colour_of(c), linewidths=0, label=label)
    for c, (x, y) in enumerate(plane.transform(rule.centroids)):
        axes.plot(x, y, "X", ms=11, mfc=colour_of(c), mec="black")
    share = plane.explained_variance_ratio_
    axes.set(
        title=f"Test rows in the {embeddings.shape[1]}-dimensional cube",
        xlabel=f"first axis of the centroids ({share[0]:.0%} of their spread)",
        ylabel=f"second axis ({share[1]:.0%})",
    )
    axes.set_aspect("equal", adjustable="datalim")
    if len(classes) <= _MAX_NAMES:
        figure.legend(loc="outside right upper", frameon=False, fontsize=8, markerscale=2)
    axes.text(0.01, 0.01, "X: centroid", transform=axes.transAxes, fontsize=8)
    return png(figure)


def distances_figure(
    distances: Matrix, labels: Labels, rule: NearestCentroid, classes: tuple[str, ...]
) -> bytes:
    """Draw the distances of records to their own centroid, and the radius that accepts them."""
    figure, [axes] = _subplots(8, min(1.2 + 0.75 * len(classes), _MAX_SIDE))
    for c in range(len(classes)):
        of_class = np.maximum(distances[labels == c, c], 1e-6)
        if len(of_class):
            low, middle, high = np.quantile(of_class, [0.05, 0.5, 0.95])
            axes.plot([low, high], [c, c], lw=7, color=colour_of(c), alpha=0.35)
            axes.plot(middle, c, "o", color=colour_of(c))
        axes.plot(rule.radii[c], c, "|", ms=22, mew=2.5, color="black")
    axes.set_xscale("log")
    if len(classes) <= _MAX_NAMES:
        axes.set_yticks(range(len(classes)), map(plain, classes))
    axes.set_ylim(len(classes) - 0.4, -0.6)
    axes.set(
        title="Distance of test rows to their own centroid",
        xlabel="squared distance / N (bar: 5 to 95 %, dot: median, black line: radius)",
    )
    axes.grid(axis="x", alpha=0.3)
    return png(figure)


def history_figure(history: list[Epoch]) -> bytes:
    """Draw excess loss, and dev macro-F1 where dev rows are no training rows, by epoch."""
    figure, [axes] = _subplots(8, 3.4)
    numbers = [epoch.number for epoch in history]
    axes.plot(numbers, [epoch.excess_loss for epoch in history], ".-", color=_FAULTS[0])
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    axes.set(xlabel="epoch", title="The fit")
    axes.set_ylabel("excess loss of the training batches", color=_FAULTS[0])
    axes.set_ylim(bottom=0)
    scores = [epoch.dev_macro_f1 for epoch in history if epoch.dev_macro_f1 is not None]
    if scores:
        other = axes.twinx()
        other.plot(numbers, scores, ".-", color=_FAULTS[3])
        other.set_ylabel("dev macro-F1", color=_FAULTS[3])
    return png(figure)


def log_curve_figure() -> bytes:
    """Draw the positive part of the losses against the distance d, for N = 3.

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
    figure, [axes] = _subplots(7, 4.6)
    for name, (values, label) in curves.items():
        colour, line = _STYLE_OF[name]
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
    return png(figure)


def loss_by_epoch_figure(trials: Sequence[LossTrial], floors: Mapping[str, float]) -> bytes:
    """Draw loss and share of zero-loss triplets by epoch: mean of seeds as line, range as band."""
    figure, [left, right] = _subplots(10, 4.2, columns=2)
    epochs = range(1, len(trials[0].losses) + 1)
    for name in dict.fromkeys(trial.loss for trial in trials):
        of_loss = [trial for trial in trials if trial.loss == name]
        losses = np.array([trial.losses for trial in of_loss])
        shares = np.array([trial.zero_loss for trial in of_loss])
        colour, line = _STYLE_OF[name]
        for axes, values in ((left, losses), (right, shares)):
            axes.plot(epochs, values.mean(axis=0), line, color=colour, lw=2, label=name)
            low, high = values.min(axis=0), values.max(axis=0)
            axes.fill_between(epochs, low, high, color=colour, alpha=0.18, lw=0)
        if name in floors:
            label = f"floor of {name}, {floors[name]:.3f}"
            left.axhline(floors[name], color=colour, lw=1, alpha=0.7, ls=(0, (1, 2)), label=label)
    if min(min(trial.losses) for trial in trials) < _LINEAR:
        left.set_yscale("symlog", linthresh=_LINEAR)
        left.set_ylim(bottom=0)
    else:
        left.set_yscale("log")
    left.set(title="Loss after each epoch", ylabel="mean loss of training rows")
    right.set(
        title="Triplets that cost exactly 0 (contrastive: pairs)",
        ylabel="share of triplets of training rows",
        ylim=(-0.02, 1.02),
    )
    right.yaxis.set_major_formatter(PercentFormatter(1))
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.grid(alpha=0.3)
    handles, labels = left.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=5, frameon=False)
    return png(figure)
