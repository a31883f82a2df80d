"""The records of every request: real ones, spread over the whole table that ships."""

from __future__ import annotations

import csv
import gzip
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.serving.peers.predictor import Matrix, Predictor

TABLE = Path(__file__).parents[2] / "training/data/cisco-iosxr/cisco_iosxr_features.csv.gz"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The records of a request.

    Attributes:
        names: of the fields, in the order of the columns.
        values: float64 [n, fields], as the table has them; NaN where missing.
        labels: the right answer for each record.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    labels: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.values)

    @property
    def matrix(self) -> Matrix:
        """The encoder's input: float32 [n, fields]."""
        return self.values.astype(np.float32)


def batches(sizes: Sequence[int], table: Path = TABLE) -> dict[int, Batch]:
    """A batch of each size; smaller ones are the beginning of the largest.

    Args:
        sizes: in records.
        table: CSV with a column for each field of the shipped model.
    """
    predictor = Predictor()
    with gzip.open(table, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    most = max(sizes)
    chosen = [rows[i * len(rows) // most] for i in range(most)]
    values = np.array([[float(row[n] or "nan") for n in predictor.names] for row in chosen])
    labels = predictor.names_of(predictor.columns(values.astype(np.float32))["label"])
    names = tuple(predictor.names)
    return {n: Batch(names, values[:n], tuple(labels[:n])) for n in sizes}
