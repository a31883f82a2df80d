"""The records of every request: real ones, spread over the whole table that ships."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

ROOT = Path(__file__).parents[2]
BUNDLE = ROOT / "models" / "iosxr"
"""The bundle that ships."""
_TABLE = ROOT / "training/data/cisco-iosxr/cisco_iosxr_features.csv.gz"


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The records of a request.

    Attributes:
        names: of the fields, in the order of the columns.
        values: float64 [n, fields] as in the table; NaN where missing.
        labels: the right answer for each record, where it is known.
    """

    names: tuple[str, ...]
    values: npt.NDArray[np.float64]
    labels: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.values)

    @property
    def matrix(self) -> npt.NDArray[np.float32]:
        """The encoder's input: float32 [n, fields]."""
        return self.values.astype(np.float32)

    def first(self, number: int) -> Batch:
        """Return a batch of the first records."""
        return replace(self, values=self.values[:number], labels=self.labels[:number])


@cache
def real_records(number: int) -> Batch:
    """Read records, without labels, spread evenly over the table of the shipped model."""
    manifest = json.loads((BUNDLE / "manifest.json").read_bytes())
    names = tuple(field["name"] for field in manifest["fields"])
    with gzip.open(_TABLE, "rt", encoding="utf-8", newline="") as file:
        rows = list(csv.DictReader(file))
    chosen = [rows[i * len(rows) // number] for i in range(number)]
    return Batch(names, np.array([[float(row[name] or "nan") for name in names] for row in chosen]))
