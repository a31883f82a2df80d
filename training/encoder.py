"""The Siamese encoder: raw records in, points of the open unit cube out.

Imputation and scaling are part of it, so that whoever runs the exported graph sends raw values.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from models.schema import Matrix, Schema
from training.recipe import EncoderRecipe

__all__ = ["Encoder", "Scaling"]

_CLIP = 10.0
"""Scaled values are cut here, in standard deviations: nothing a sender sends can overflow."""
_TINY, _FAR = 1e-30, 1e30
"""A spread under the one is none, and a value off by more than the other is no farther off: float32
ends soon after."""
_SATURATION = 15.0
"""Pre-activations are cut here: the sigmoid in float32 is then below 1 and above 0."""


class Scaling(nn.Module):
    """Impute and scale raw fields; one column for each number, flag and category.

    A number v becomes sign(u) ln(1 + |u|) with u = (v - median) / spread, linear near the typical
    value and logarithmic far from it, and is then standardised. A missing one becomes the typical
    value, and a field that may be missing gets a flag. Categories are one-hot; one that is
    missing or new is all zeros.

    Args:
        schema: the fields.
        matrix: float32 [n, fields], the training rows that medians and spreads are taken from.
    """

    numbers: Tensor
    flags: Tensor
    median: Tensor
    spread: Tensor
    mean: Tensor
    deviation: Tensor

    def __init__(self, schema: Schema, matrix: Matrix) -> None:
        super().__init__()
        self.categories = [
            (i, len(field.categories)) for i, field in enumerate(schema.fields) if field.categories
        ]
        categorical = {i for i, _ in self.categories}
        numbers = [i for i in range(len(schema)) if i not in categorical]
        flags = [i for i in numbers if not schema.fields[i].required]
        raw = matrix[:, numbers].astype(np.float64)
        median = np.nanmedian(raw, axis=0) if numbers else np.zeros(0)
        off = np.abs(raw - median)
        with np.errstate(invalid="ignore"):
            typical_off = np.nanmedian(off, axis=0) if numbers else median
            mean_off = np.nanmean(off, axis=0) if numbers else median
        spread = np.where(typical_off > 0, typical_off, mean_off)
        spread = np.where(spread > _TINY, spread, 1.0)
        buffers = {
            "median": median,
            "spread": spread,
            "mean": np.zeros_like(median),
            "deviation": np.ones_like(median),
        }
        self.register_buffer("numbers", torch.tensor(numbers, dtype=torch.int64))
        self.register_buffer("flags", torch.tensor(flags, dtype=torch.int64))
        for name, values in buffers.items():
            self.register_buffer(name, torch.tensor(values, dtype=torch.float32))
        if numbers:
            squeezed = self._squeeze(torch.from_numpy(matrix))
            self.mean = squeezed.mean(dim=0)
            self.deviation = squeezed.std(dim=0, correction=0).clamp_min(1e-6)
        self.width = len(numbers) + len(flags) + sum(count for _, count in self.categories)

    def _squeeze(self, records: Tensor) -> Tensor:
        values = records[:, self.numbers]
        values = torch.where(torch.isnan(values), self.median, values)
        off = ((values - self.median) / self.spread).clamp(-_FAR, _FAR)
        return torch.sign(off) * torch.log1p(torch.abs(off))

    def forward(self, records: Tensor) -> Tensor:
        """Scale records: float32 [n, fields], NaN = missing, to float32 [n, width]."""
        parts = []
        if len(self.numbers):
            scaled = (self._squeeze(records) - self.mean) / self.deviation
            parts.append(scaled.clamp(-_CLIP, _CLIP))
        if len(self.flags):
            parts.append(torch.isnan(records[:, self.flags]).to(torch.float32))
        for column, count in self.categories:
            codes = torch.arange(count, dtype=torch.float32, device=records.device)
            parts.append((records[:, column : column + 1] == codes).to(torch.float32))
        return torch.cat(parts, dim=1)


class Encoder(nn.Module):
    """Scaling, a perceptron, and a head that keeps the sigmoid's gradient alive.

    The head is Linear, BatchNorm without affine terms, a gain, sigmoid: the pre-activation is
    normalised, so that no dimension starts saturated, and the gain sets how near to the cube's
    corners clusters are drawn.

    Args:
        schema: the fields.
        matrix: float32 [n, fields], the training rows that scaling is fitted to.
        recipe: widths, gain and dropout.
    """

    def __init__(self, schema: Schema, matrix: Matrix, recipe: EncoderRecipe) -> None:
        super().__init__()
        self.scaling = Scaling(schema, matrix)
        layers: list[nn.Module] = []
        width = self.scaling.width
        for hidden in recipe.hidden:
            layers += [
                nn.Linear(width, hidden),
                nn.BatchNorm1d(hidden),
                nn.ReLU(),
                nn.Dropout(recipe.dropout),
            ]
            width = hidden
        self.body = nn.Sequential(*layers)
        self.head = nn.Sequential(
            nn.Linear(width, recipe.dimensions, bias=False),
            nn.BatchNorm1d(recipe.dimensions, affine=False),
        )
        self.gain = recipe.gain

    def forward(self, records: Tensor) -> Tensor:
        """Embed records: float32 [n, fields], NaN = missing, to float32 [n, N] in (0, 1)."""
        logits = self.gain * self.head(self.body(self.scaling(records)))
        return torch.sigmoid(logits.clamp(-_SATURATION, _SATURATION))
