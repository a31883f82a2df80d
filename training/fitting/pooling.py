"""Pooling: one metric at many places becomes a few numbers that do not know which place is which.

Faults at another place than in training then look alike, and a class known from one record at one
place is found at all others.
"""

import warnings
from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from models.schema import Field, Matrix, Schema
from training.recipe import RecipeError

LOWEST, HIGHEST = -2.0, 5.0
"""Deviations from the typical value are cut here, in typical values: a place that is down is -1."""
_TINY = 1e-30
STATISTICS = ("lowest", "highest", "mean", "deviation")


class Pooling(nn.Module):
    """Replace the fields of each family by statistics over its places.

    Each field is taken relative to its typical value, (v - typical) / |typical|, the median of the
    training records, or relative to its mean deviation where the typical value is 0. The lowest,
    the highest, the mean and the deviation over the places that are not missing follow the other
    fields; they are missing if all places are.

    Args:
        schema: the fields of a record.
        matrix: float32 [n, fields], the training records.
        families: the names of the fields of each family; a field is in one at most.

    Raises:
        RecipeError: a name is no field that is a number.

    Attributes:
        schema: the fields that it returns.
    """

    def __init__(self, schema: Schema, matrix: Matrix, families: Sequence[Sequence[str]]) -> None:
        super().__init__()
        numbers = {field.name for field in schema.fields if field.kind != "category"}
        if other := sorted({name for family in families for name in family} - numbers):
            raise RecipeError(f"families: {other[0]!r} is no field that is a number")
        index = {name: i for i, name in enumerate(schema.names)}
        pooled = {name for family in families for name in family}
        others = [i for i, name in enumerate(schema.names) if name not in pooled]
        width = max(map(len, families))
        # A family with fewer places has its first one again, which does not count.
        places = [[index[n] for n in (*f, *[f[0]] * (width - len(f)))] for f in families]
        counts = [[1.0] * len(f) + [0.0] * (width - len(f)) for f in families]
        values = matrix.astype(np.float64)[:, np.array(places)]
        with warnings.catch_warnings():  # a fold may have no value of a place
            warnings.filterwarnings("ignore", "All-NaN slice|Mean of empty slice", RuntimeWarning)
            typical = np.nan_to_num(np.nanmedian(values, axis=0))
            off = np.nanmean(np.abs(values - typical), axis=0)
        size = np.where(np.abs(typical) > _TINY, np.abs(typical), off)
        size = np.where(size > _TINY, size, 1.0)
        self.others = nn.Buffer(torch.tensor(others, dtype=torch.int64))
        self.places = nn.Buffer(torch.tensor(places, dtype=torch.int64))
        self.counts = nn.Buffer(torch.tensor(counts, dtype=torch.float32))
        self.typical = nn.Buffer(torch.tensor(typical, dtype=torch.float32))
        self.size = nn.Buffer(torch.tensor(size, dtype=torch.float32))
        self.schema = Schema(
            [
                *(schema.fields[i] for i in others),
                *(_statistic(schema, family, name) for name in STATISTICS for family in families),
            ]
        )

    def forward(self, records: Tensor) -> Tensor:
        """Pool records: float32 [n, fields], NaN = missing, to float32 [n, fields of `schema`]."""
        values = records[:, self.places]  # [n, families, places]
        missing = torch.isnan(values)
        off = ((values - self.typical) / self.size).clamp(LOWEST, HIGHEST)
        present = (~missing).to(off.dtype) * self.counts
        off = torch.where(missing, torch.zeros_like(off), off)
        count = present.sum(dim=2)  # 0 / 0 is NaN: a family of which every place is missing
        mean = (off * present).sum(dim=2) / count
        squares = (off - mean[:, :, None]).square() * present
        deviation = (squares.sum(dim=2) / count).sqrt()
        nothing = mean - mean
        lowest = torch.where(missing, HIGHEST, off).amin(dim=2) + nothing
        highest = torch.where(missing, LOWEST, off).amax(dim=2) + nothing
        return torch.cat([records[:, self.others], lowest, highest, mean, deviation], dim=1)

    @torch.inference_mode()
    def pool(self, matrix: Matrix) -> Matrix:
        """Pool records without gradients: the same of an array."""
        pooled: Matrix = self(torch.from_numpy(matrix)).numpy()
        return pooled


def _statistic(schema: Schema, family: Sequence[str], statistic: str) -> Field:
    required = any(schema[name].required for name in family)
    return Field(name=f"{statistic} of {family[0]} ..."[:200], kind="gauge", required=required)
