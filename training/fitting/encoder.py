"""The Siamese encoder: raw records in, points of the open unit cube out.

Imputation and scaling are part of it, so that whoever runs the exported graph sends raw values.
"""

from __future__ import annotations

from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.schema import Matrix, Schema
from training.dataset.dataset import Labels
from training.recipe import EncoderRecipe, View

Numbers = npt.NDArray[np.float64]

__all__ = ["CUT", "FAR", "LINEAR_GAIN", "SATURATION", "Encoder", "Members", "Scaling", "Whitening"]

CUT = 10.0
"""Scaled values are cut here, in standard deviations: nothing a sender sends can overflow."""
_TINY, FAR = 1e-30, 1e30
"""A spread under the one is none, and a value off by more than the other is no farther off: float32
ends soon after."""
_LARGEST = float(np.finfo(np.float32).max)
SATURATION = 15.0
"""Pre-activations are cut here: the sigmoid in float32 is then below 1 and above 0."""
LINEAR_GAIN = 0.5
"""On whitened fields: what shifts from run to run weighs little beside the learned part."""
_SHRINKAGE = 0.01
"""Share of the mean variance that is added to the diagonal of a covariance."""


class Scaling(nn.Module):
    """Impute raw fields and show each number in three ways, for clusters of any shape.

    - standardised: tells small shares of a whole apart;
    - sign(u) ln(1 + |u|) with u = (v - median) / spread, standardised: linear near the typical
      value and logarithmic far from it, for heavy tails;
    - piecewise-linear in bins between quantiles, each 0 below, 1 above: thresholds, and nothing
      beyond what training saw (Gorishniy et al., "On embeddings for numerical features in tabular
      deep learning", NeurIPS 2022).

    A missing number becomes the typical one, and a field that may be missing gets a flag.
    Categories are one-hot; one that is missing or new is all zeros.

    Args:
        schema: the fields.
        matrix: float32 [n, fields], the training rows that all statistics are taken from.
        bins: most bins of a number.

    Attributes:
        plain: how many of the first columns have no bins: a record without what bins cut off.
        width: how many columns there are.
    """

    numbers: Tensor
    flags: Tensor
    median: Tensor
    spread: Tensor
    centre: Tensor
    scale: Tensor
    mean: Tensor
    deviation: Tensor
    binned: Tensor
    lower: Tensor
    step: Tensor

    def __init__(self, schema: Schema, matrix: Matrix, bins: int) -> None:
        super().__init__()
        self.categories = [
            (i, len(field.categories)) for i, field in enumerate(schema.fields) if field.categories
        ]
        categorical = {i for i, _ in self.categories}
        numbers = [i for i in range(len(schema)) if i not in categorical]
        flags = [i for i in numbers if not schema.fields[i].required]
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64))
        self.register_buffer("flags", torch.tensor(flags, dtype=torch.int64))
        raw = matrix[:, numbers].astype(np.float64)
        median = np.nanmedian(raw, axis=0) if numbers else np.zeros(0)
        values = np.where(np.isnan(raw), median, raw)
        self._keep(median=median, spread=_spread(values - median))
        deviation = values.std(axis=0)
        self._keep(centre=values.mean(axis=0), scale=np.where(deviation > _TINY, deviation, 1.0))
        self._keep(mean=np.zeros_like(median), deviation=np.ones_like(median))
        if numbers:
            squeezed = self._squeeze(self._impute(torch.from_numpy(matrix)))
            self.mean = squeezed.mean(dim=0)
            self.deviation = squeezed.std(dim=0, correction=0).clamp_min(1e-6)
        owner, lower, step = _bins(values, bins)
        self.register_buffer("binned", torch.tensor(owner, dtype=torch.int64))
        self._keep(lower=lower, step=step)
        self.plain = 2 * len(numbers) + len(flags) + sum(count for _, count in self.categories)
        self.width = self.plain + len(owner)

    def columns(self, views: Collection[View]) -> list[int]:
        """The columns of flags, categories and these views of numbers."""
        numbers, plain = len(self.numbers), self.plain
        of: dict[View, range] = {
            "standard": range(numbers),
            "log": range(plain - numbers, plain),
            "bins": range(plain, self.width),
        }
        others = range(numbers, plain - numbers)
        return sorted([*others, *(column for view in views for column in of[view])])

    def _keep(self, **buffers: Numbers) -> None:
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))

    def _impute(self, records: Tensor) -> Tensor:
        values = records[:, self.numbers]
        return torch.where(torch.isnan(values), self.median, values)

    def _squeeze(self, values: Tensor) -> Tensor:
        off = ((values - self.median) / self.spread).clamp(-FAR, FAR)
        return torch.sign(off) * torch.log1p(torch.abs(off))

    def forward(self, records: Tensor) -> Tensor:
        """Scale records: float32 [n, fields], NaN = missing, to float32 [n, width]."""
        values = self._impute(records)
        parts = [((values - self.centre) / self.scale).clamp(-CUT, CUT)]
        parts.append(torch.isnan(records[:, self.flags]).to(torch.float32))
        for column, count in self.categories:
            codes = torch.arange(count, dtype=torch.float32, device=records.device)
            parts.append((records[:, column : column + 1] == codes).to(torch.float32))
        squeezed = (self._squeeze(values) - self.mean) / self.deviation
        parts.append(squeezed.clamp(-CUT, CUT))
        parts.append(((values[:, self.binned] - self.lower) / self.step).clamp(0, 1))
        return torch.cat(parts, dim=1)


def _spread(off: Numbers) -> Numbers:
    """Median deviation of each column, or the mean one where most values are equal."""
    sizes = np.abs(off)
    typical = np.median(sizes, axis=0) if off.shape[1] else np.zeros(0)
    spread = np.where(typical > 0, typical, sizes.mean(axis=0))
    return np.where(spread > _TINY, spread, 1.0)


def _bins(values: Numbers, most: int) -> tuple[list[int], Numbers, Numbers]:
    """Bins between quantiles: the column each belongs to, its lower end and its width."""
    owner: list[int] = []
    edges = [np.zeros((0, 2))]
    for column in range(values.shape[1]):
        cuts = np.quantile(values[:, column], np.linspace(0, 1, most + 1)).astype(np.float32)
        cuts = np.unique(cuts)
        owner += [column] * (len(cuts) - 1)
        edges.append(np.stack([cuts[:-1], cuts[1:]], axis=1).astype(np.float64))
    lower, upper = np.concatenate(edges).T
    return owner, lower, (upper - lower).clip(_TINY, _LARGEST)


class Whitening(nn.Module):
    """Records as points in which every direction scatters alike within a class.

    The inverse root of the pooled within-class covariance, in full width: unlike discriminant
    analysis it keeps the directions that no known class needs, in which classes not yet seen may
    lie.

    Args:
        scaled: float32 [n, width], training records.
        labels: int [n].
    """

    mean: Tensor
    root: Tensor

    def __init__(self, scaled: Tensor, labels: Labels) -> None:
        super().__init__()
        points = scaled.numpy().astype(np.float64)
        within = points.copy()
        for label in np.unique(labels):
            within[labels == label] -= points[labels == label].mean(axis=0)
        covariance = within.T @ within / len(within)
        size = max(np.trace(covariance) / max(len(covariance), 1), 1e-6)
        covariance = (1 - _SHRINKAGE) * covariance + _SHRINKAGE * size * np.eye(len(covariance))
        variances, axes = np.linalg.eigh(covariance)
        root = (axes / np.sqrt(variances)) @ axes.T
        self.register_buffer("mean", torch.tensor(points.mean(axis=0), dtype=torch.float32))
        self.register_buffer("root", torch.tensor(root, dtype=torch.float32))

    def forward(self, scaled: Tensor) -> Tensor:
        """Whiten: float32 [n, width] to float32 [n, width]."""
        return (scaled - self.mean) @ self.root


class Members(nn.Module):
    """A linear layer of its own for every member: float32 [n, members * in] to [n, members * out].

    Of TabM's kinds of ensembles the one that shares nothing (Gorishniy et al., "TabM", ICLR 2025).
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))

    def forward(self, points: Tensor) -> Tensor:
        """Each member's answers in a row."""
        members, inputs, _ = self.weight.shape
        each = points.reshape(-1, members, inputs).transpose(0, 1)
        return torch.bmm(each, self.weight).transpose(0, 1).flatten(1)


class Encoder(nn.Module):
    """Scaling, perceptrons side by side, and a head that keeps the sigmoid's gradient alive.

    Every member is a perceptron with a cube of its own, fitted as if it were alone; their points
    in a row are the learned part of the embedding, so that a distance is the sum of theirs. The
    head is Linear, BatchNorm without affine terms, a gain, sigmoid: the pre-activation is
    normalised, so that no dimension starts saturated, and the gain sets how near to the cube's
    corners clusters are drawn. The linear part, which is not learned by gradient, follows.

    Args:
        schema: the fields.
        matrix: float32 [n, fields], the training rows that scaling is fitted to.
        labels: int [n], their classes, which whitening is fitted to.
        recipe: widths, gain and dropout.

    Attributes:
        dimensions: N, the width of the embedding.
    """

    columns: Tensor

    def __init__(
        self, schema: Schema, matrix: Matrix, labels: Labels, recipe: EncoderRecipe
    ) -> None:
        super().__init__()
        self.scaling = Scaling(schema, matrix, recipe.bins)
        columns = self.scaling.columns(recipe.views)
        self.register_buffer("columns", torch.tensor(columns, dtype=torch.int64))
        members, width = recipe.members, len(columns)
        layers: list[nn.Module] = []
        for depth, hidden in enumerate(recipe.hidden):
            layers += [
                Members(members, width, hidden)
                if depth
                else nn.Linear(width, members * hidden, bias=False),
                nn.BatchNorm1d(members * hidden),
                nn.ReLU(),
                nn.Dropout(recipe.dropout),
            ]
            width = hidden
        self.body = nn.Sequential(*layers)
        outputs = members * recipe.dimensions
        self.head = nn.Sequential(
            Members(members, width, recipe.dimensions)
            if layers
            else nn.Linear(width, outputs, bias=False),
            nn.BatchNorm1d(outputs, affine=False),
        )
        self.gain = recipe.gain
        self.members, self.dimensions = members, outputs
        self.whitening: Whitening | None = None
        if recipe.linear:
            with torch.inference_mode():
                plain = self.scaling(torch.from_numpy(matrix))[:, : self.scaling.plain]
            self.whitening = Whitening(plain, labels)
            self.dimensions += self.scaling.plain

    def learned(self, records: Tensor) -> Tensor:
        """The members' points: float32 [n, fields] to float32 [n, members, dimensions]."""
        points = self._learned(self.scaling(records))
        return points.reshape(len(records), self.members, -1)

    def forward(self, records: Tensor) -> Tensor:
        """Embed records: float32 [n, fields], NaN = missing, to float32 [n, N] in (0, 1)."""
        scaled = self.scaling(records)
        learned = self._learned(scaled)
        if self.whitening is None:
            return learned
        linear = LINEAR_GAIN * self.whitening(scaled[:, : self.scaling.plain])
        return torch.cat([learned, _inside(linear)], dim=1)

    def _learned(self, scaled: Tensor) -> Tensor:
        return _inside(self.gain * self.head(self.body(scaled[:, self.columns])))


def _inside(logits: Tensor) -> Tensor:
    """A point strictly inside the cube, whatever the logits."""
    return torch.sigmoid(logits.clamp(-SATURATION, SATURATION))
