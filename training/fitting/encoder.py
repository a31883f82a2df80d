"""The Siamese encoder: raw records in, points of the open unit cube out.

It imputes and scales too, so that the exported graph takes raw values.
"""

import warnings
from collections.abc import Collection

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from models.schema import LARGEST, Matrix, Schema
from training.dataset.dataset import Labels
from training.fitting.forest import Forest
from training.fitting.pooling import Pooling
from training.fitting.processes import BatchNorm
from training.recipe import EncoderRecipe, Growth, View

Numbers = npt.NDArray[np.float64]

_BLOCK, _CELLS = 16384, 1 << 23
"""Records that are worked on at a time, and values of them: a million would take gigabytes."""
CUT = 10.0
"""Scaled values are cut here, in standard deviations: no input can overflow."""
_TINY, FAR = 1e-30, 1e30
"""Smaller spreads count as 0, and larger distances as this one: float32 ends soon after."""
SATURATION = 15.0
"""Pre-activations are cut here: the sigmoid in float32 is then below 1 and above 0."""
_TAIL = 0.005
"""Share of a class's rows at either end of a number's range that perceptrons see as that end."""
LINEAR_GAIN = 0.5
"""Weight of whitened fields: their shifts from run to run must not outweigh the learned part."""
COARSE = 8
"""Bins of a number at most, unless a recipe says otherwise or finer ones are found to help."""
_NARROW = 1e-3
"""Of the distance between quartiles, the least width of a bin: a narrower one would show rounding
as a step."""
_SHRINKAGE = 0.01  # Share of the mean variance in the diagonal of a covariance


def in_blocks(matrix: Matrix) -> tuple[Tensor, ...]:
    """Split float32 [n, fields] into blocks of records that are worked on at a time."""
    records = max(1, min(_BLOCK, _CELLS // matrix.shape[1]))
    return torch.split(torch.from_numpy(matrix), records)


class Scaling(nn.Module):
    """Impute raw fields, and give each number in three views, for clusters of any shape.

    - standardised: separates small shares of a whole;
    - sign(u) ln(1 + |u|) with u = (v - median) / spread, standardised: linear near the typical
      value and logarithmic far from it, for heavy tails;
    - piecewise-linear in bins between quantiles, each 0 below, 1 above: thresholds, and nothing
      beyond what training saw (Gorishniy et al., "On embeddings for numerical features in tabular
      deep learning", NeurIPS 2022).

    A missing number becomes the median, and a field that may be missing gets a flag. Categories are
    one-hot; a missing or new one is all zeros.

    Args:
        schema: the fields.
        matrix: float32 [n, fields], the training rows that all statistics are taken from.
        bins: maximum bins of a number.

    Attributes:
        plain: number of columns without bins; they come first.
        width: number of columns.
    """

    def __init__(self, schema: Schema, matrix: Matrix, bins: int) -> None:
        super().__init__()
        self.categories = [
            (i, len(field.categories)) for i, field in enumerate(schema.fields) if field.categories
        ]
        categorical = {i for i, _ in self.categories}
        numbers = [i for i in range(len(schema)) if i not in categorical]
        flags = [i for i in numbers if not schema.fields[i].required]
        self.numbers, self.flags = _indices(numbers), _indices(flags)
        raw = matrix[:, numbers].astype(np.float64)
        median = _median(raw) if numbers else np.zeros(0)
        values = np.where(np.isnan(raw), median, raw)
        self.median, self.spread = _statistic(median), _statistic(_spread(values - median))
        deviation = values.std(axis=0)
        self.centre = _statistic(values.mean(axis=0))
        self.scale = _statistic(np.where(deviation > _TINY, deviation, 1.0))
        squeezed = self._squeeze(self._impute(torch.from_numpy(matrix)))
        self.mean = nn.Buffer(squeezed.mean(dim=0))
        # Without numbers std() would warn.
        spread = squeezed.std(dim=0, correction=0) if numbers else torch.ones(0)
        self.deviation = nn.Buffer(spread.clamp_min(1e-6))
        binned, lower, step = _bins(values, bins)
        self.binned, self.lower, self.step = _indices(binned), _statistic(lower), _statistic(step)
        self.plain = 2 * len(numbers) + len(flags) + sum(count for _, count in self.categories)
        self.width = self.plain + len(binned)

    def columns_of(self, view: View) -> range:
        """Return the columns of a view of numbers."""
        numbers, plain = len(self.numbers), self.plain
        of: dict[View, range] = {
            "standard": range(numbers),
            "log": range(plain - numbers, plain),
            "bins": range(plain, self.width),
        }
        return of[view]

    def columns(self, views: Collection[View]) -> list[int]:
        """Return the columns of flags, categories and these views of numbers."""
        others = range(len(self.numbers), self.plain - len(self.numbers))
        return sorted([*others, *(column for view in views for column in self.columns_of(view))])

    def ranges(self, scaled: Tensor, labels: Labels) -> tuple[Numbers, Numbers]:
        """Return the least and the largest value of each column in any class, [width] each.

        Args:
            scaled: float32 [n, plain], records without bins, whose ends are known.
            labels: int64 [n].
        """
        low, high = np.zeros(self.width), np.ones(self.width)  # of all but numbers
        for columns in (self.columns_of("standard"), self.columns_of("log")):
            values = scaled[:, columns].numpy()
            of_class = [values[labels == label] for label in np.unique(labels)]
            low[columns] = np.min([np.quantile(v, _TAIL, axis=0) for v in of_class], axis=0)
            high[columns] = np.max([np.quantile(v, 1 - _TAIL, axis=0) for v in of_class], axis=0)
        return low, high

    def _impute(self, records: Tensor) -> Tensor:
        values = records[:, self.numbers]
        return torch.where(torch.isnan(values), self.median, values)

    def _squeeze(self, values: Tensor) -> Tensor:
        off = ((values - self.median) / self.spread).clamp(-FAR, FAR)
        return torch.sign(off) * torch.log1p(torch.abs(off))

    def unscaled(self, records: Tensor) -> Tensor:
        """Return numbers as they are but for the missing ones, then flags and categories."""
        return torch.cat([self._impute(records), *self._marks(records)], dim=1)

    def _marks(self, records: Tensor) -> list[Tensor]:
        """Return the flags of missing numbers, and each category's one-hot columns."""
        parts = [torch.isnan(records[:, self.flags]).to(torch.float32)]
        for column, count in self.categories:
            codes = torch.arange(count, dtype=torch.float32, device=records.device)
            parts.append((records[:, column : column + 1] == codes).to(torch.float32))
        return parts

    def forward(self, records: Tensor) -> Tensor:
        """Scale records: float32 [n, fields], NaN = missing, to float32 [n, width]."""
        values = self._impute(records)
        parts = [((values - self.centre) / self.scale).clamp(-CUT, CUT), *self._marks(records)]
        squeezed = (self._squeeze(values) - self.mean) / self.deviation
        parts.append(squeezed.clamp(-CUT, CUT))
        parts.append(((values[:, self.binned] - self.lower) / self.step).clamp(0, 1))
        return torch.cat(parts, dim=1)


def _indices(values: list[int]) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.int64))


def _statistic(values: Numbers) -> nn.Buffer:
    return nn.Buffer(torch.tensor(values, dtype=torch.float32))


def _median(raw: Numbers) -> Numbers:
    """Return the median of each column, 0 of one without a value, as a fold may have."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "All-NaN slice encountered", RuntimeWarning)
        return np.nan_to_num(np.nanmedian(raw, axis=0))


def _spread(off: Numbers) -> Numbers:
    """Return the median deviation of each column, or the mean one if most values are equal."""
    sizes = np.abs(off)
    typical = np.median(sizes, axis=0) if off.shape[1] else np.zeros(0)
    spread = np.where(typical > 0, typical, sizes.mean(axis=0))
    return np.where(spread > _TINY, spread, 1.0)


def _bins(values: Numbers, count: int) -> tuple[list[int], Numbers, Numbers]:
    """Return each bin's column, lower end and width; bins lie between quantiles.

    Args:
        values: [n, numbers], none is missing.
        count: maximum bins of a number.
    """
    columns: list[int] = []
    edges = [np.zeros((0, 2))]
    for column in range(values.shape[1]):
        cuts = np.quantile(values[:, column], np.linspace(0, 1, count + 1))
        cuts = np.unique(cuts.astype(np.float32)).astype(np.float64)
        # Half of the records lie in the middle: a single glitch cannot widen all bins.
        low, high = np.quantile(values[:, column], [0.25, 0.75])
        cuts = _apart(cuts, max(_NARROW * (high - low), _TINY))
        columns += [column] * (len(cuts) - 1)
        edges.append(np.stack([cuts[:-1], cuts[1:]], axis=1))
    lower, upper = np.concatenate(edges).T
    return columns, lower, (upper - lower).clip(_TINY, LARGEST)


def _apart(cuts: Numbers, least: float) -> Numbers:
    """Return the cuts, [k] and rising, that are farther than that from the one kept before."""
    kept = cuts[:1].tolist()
    for cut in cuts[1:].tolist():
        if cut - kept[-1] > least:
            kept.append(cut)
    return np.array(kept)


class Whitening(nn.Module):
    """Transform records so that every direction scatters alike within a class.

    By the inverse root of the pooled within-class covariance of the training records, in full
    width: unlike discriminant analysis, this keeps directions that no known class needs, where
    unseen classes may lie.
    """

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
        self.mean, self.root = _statistic(points.mean(axis=0)), _statistic(root)

    def forward(self, scaled: Tensor) -> Tensor:
        """Whiten: float32 [n, width] to float32 [n, width]."""
        return (scaled - self.mean) @ self.root


class Members(nn.Module):
    """A linear layer of its own for every member: float32 [n, members * in] to [n, members * out].

    The ensemble of TabM that shares nothing (Gorishniy et al., "TabM", ICLR 2025).
    """

    def __init__(self, members: int, inputs: int, outputs: int) -> None:
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(members, inputs, outputs).uniform_(-bound, bound))

    def forward(self, points: Tensor) -> Tensor:
        """Apply each member's layer to its own points."""
        members, inputs, _ = self.weight.shape
        points = points.reshape(-1, members, inputs).transpose(0, 1)
        return torch.bmm(points, self.weight).transpose(0, 1).flatten(1)


class Encoder(nn.Module):
    """Scaling, perceptrons side by side, and a head that keeps the sigmoid's gradient alive.

    Every member is a perceptron with a cube of its own, fitted as if it were alone; their points in
    a row are the learned part of the embedding, so that a distance is the sum of theirs. They see
    numbers cut to the range of the classes they know: what a perceptron answers beyond it was never
    fitted, and another device's levels would send its good traffic anywhere. The whitened fields
    see the whole, so that what is new lies far from all classes. The head
    is Linear, BatchNorm without affine terms, a gain, sigmoid: normalising keeps dimensions from
    starting saturated, and the gain sets how near to the cube's corners clusters come. The linear
    part follows, which is not learned by gradient, and trees, if they are grown. Scaling and
    whitening are fitted to the training rows.

    `dimensions` is N, the width of the embedding.
    """

    def __init__(
        self, schema: Schema, matrix: Matrix, labels: Labels, recipe: EncoderRecipe
    ) -> None:
        super().__init__()
        self.pooling: Pooling | None = None
        if recipe.families:
            self.pooling = Pooling(schema, matrix, recipe.families)
            matrix = self.pooling.pool(matrix)
            schema = self.pooling.schema
        bins = COARSE if recipe.bins == "auto" else recipe.bins
        self.scaling = Scaling(schema, matrix, bins)
        columns = self.scaling.columns(recipe.views)
        self.columns = _indices(columns)
        with torch.inference_mode():  # in blocks, since bins take most of the memory
            blocks = in_blocks(matrix)
            # A copy: a slice would keep the bins of its block.
            plain = [self.scaling(block)[:, : self.scaling.plain].clone() for block in blocks]
            scaled = torch.cat(plain)
        low, high = self.scaling.ranges(scaled, labels)
        self.low, self.high = _statistic(low[columns]), _statistic(high[columns])
        members, width = recipe.members, len(columns)

        def linear(width: int, outputs: int, first: bool) -> nn.Module:
            # All members see the same columns, so their first layers are one matrix.
            if first:
                return nn.Linear(width, members * outputs, bias=False)
            return Members(members, width, outputs)

        layers: list[nn.Module] = []
        for hidden in recipe.hidden:
            layers += [
                linear(width, hidden, not layers),
                BatchNorm(members * hidden),
                nn.ReLU(),
                nn.Dropout(recipe.dropout),
            ]
            width = hidden
        self.body = nn.Sequential(*layers)
        outputs = members * recipe.dimensions
        self.head = nn.Sequential(
            linear(width, recipe.dimensions, not layers), BatchNorm(outputs, affine=False)
        )
        self.gain = recipe.gain
        self.members, self.dimensions = members, outputs
        self.forest: Forest | None = None
        self.whitening: Whitening | None = None
        if recipe.linear:
            self.whitening = Whitening(scaled, labels)
            self.dimensions += self.scaling.plain

    def grow(self, matrix: Matrix, labels: Labels, growth: Growth, seed: int) -> None:
        """Add trees that are fitted to records.

        Args:
            matrix: float32 [n, fields], raw values, NaN where missing.
            labels: int64 [n], 0..K-1.
            growth: random or boosted trees.
            seed: of the trees.
        """
        blocks = in_blocks(matrix)
        with torch.inference_mode():
            values = torch.cat([self.scaling.unscaled(self._pooled(block)) for block in blocks])
        self.forest = Forest.grow(values.numpy(), labels, growth, seed)
        self.dimensions += self.forest.dimensions

    def learned(self, records: Tensor) -> Tensor:
        """Return the members' points: float32 [n, fields] to float32 [n, members, dimensions]."""
        points = self._learned(self.scaling(self._pooled(records)))
        return points.reshape(len(records), self.members, -1)

    def forward(self, records: Tensor) -> Tensor:
        """Embed records: float32 [n, fields], NaN = missing, to float32 [n, N] in (0, 1)."""
        records = self._pooled(records)
        scaled = self.scaling(records)
        parts = [self._learned(scaled)]
        if self.whitening is not None:
            linear = LINEAR_GAIN * self.whitening(scaled[:, : self.scaling.plain])
            parts.append(_inside(linear))
        if self.forest is not None:
            parts.append(self.forest(self.scaling.unscaled(records)))
        return torch.cat(parts, dim=1)

    def _pooled(self, records: Tensor) -> Tensor:
        return records if self.pooling is None else self.pooling(records)

    def _learned(self, scaled: Tensor) -> Tensor:
        seen = torch.clamp(scaled[:, self.columns], self.low, self.high)
        return _inside(self.gain * self.head(self.body(seen)))


def _inside(logits: Tensor) -> Tensor:
    """Return a point strictly inside the cube, for any logits."""
    return torch.sigmoid(logits.clamp(-SATURATION, SATURATION))
