"""Explain a verdict: the fields that keep a record away from good traffic.

Each field of a record is replaced, one at a time, by its typical value in good traffic, and all
variants are embedded together with the record. A field counts by how much nearer its variant comes
to the centroid of good traffic; its share is its part of the sum over all fields.

This measures what one field alone would change. Where two fields each suffice to make a record bad,
neither brings it nearer, and neither is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import msgspec
import numpy as np
import numpy.typing as npt
from pydantic import Field

from models import Field as SchemaField
from models import Model, RecordError
from models.schema import Matrix, Value
from service.formats.chunk import Chunk
from service.web.response_model import Omittable, Share

__all__ = ["MAX_EXPLAINED", "Driver", "Explainer", "Variants"]

MAX_EXPLAINED = 100
"""Maximum records of an explained request: each costs as many inferences as it has fields."""
_MAX_ROWS = 1000
"""Records and variants, about, that go through the model together."""
_MAX_DRIVERS = 10
_MIN_SHARE = 0.001
_MIN_GAIN = 1e-6
"""Of distance; anything less is float32 rounding."""

Indices = npt.NDArray[np.intp]


class Driver(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One field that holds a record away from good traffic."""

    field: Annotated[str, Field(description="Its name.")]
    value: Annotated[
        Value,
        Field(
            description="As the model reads it; null where it is missing, or a category that is "
            "not known."
        ),
    ]
    typical: Annotated[
        Value,
        Field(description="What it typically is in good traffic; null where it is missing there."),
    ]
    unit: Annotated[
        Omittable[str], Field(description="Of both; absent when the field has none.")
    ] = None
    share: Annotated[
        Share,
        Field(
            description="How much nearer to good traffic the record is with the typical value, of "
            "all fields' sum."
        ),
    ]


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """Records followed by all of their variants.

    Attributes:
        matrix: float32 [n + v, fields].
        records: int [v], the record of each variant.
        fields: int [v], the field that is replaced.
    """

    matrix: Matrix
    records: Indices
    fields: Indices

    def __len__(self) -> int:
        return len(self.matrix) - len(self.records)


class Explainer:
    """Finds the fields that drove a verdict.

    Args:
        fields: of the schema.
        good: float32 [m, fields], records of good traffic, NaN where missing; at least one.
        column: of the distance to good traffic among those to all classes.

    Attributes:
        typical: float32 [fields]; median of numbers, most frequent of other values, without the
            missing ones; NaN where all are missing.
    """

    def __init__(self, fields: Sequence[SchemaField], good: Matrix, column: int) -> None:
        self._fields, self._column = fields, column
        values = [_typical(field, column) for field, column in zip(fields, good.T, strict=True)]
        self.typical = np.array(values, np.float32)
        self._shown = [f.value_of(value) for f, value in zip(fields, self.typical, strict=True)]
        self._units = [None if field.unit == "1" else field.unit for field in fields]
        self._max_records = max(_MAX_ROWS // (len(fields) + 1), 1)

    @classmethod
    def of(cls, model: Model, names: Sequence[str]) -> Explainer | None:
        """Return an explainer for a model; None where its bundle holds no good traffic.

        Args:
            model: with its reference records, if it has any.
            names: of the classes whose distances are measured.
        """
        reference = model.reference
        classes = model.manifest.classes
        label = [known.good for known in classes].index(True)
        name = classes[label].name
        if reference is None or name not in names:
            return None
        good = reference.records[reference.labels == label]
        if not len(good):
            return None
        return cls(model.schema.fields, good, names.index(name))

    def split(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Split chunks into smaller ones, whose variants take no longer than usual.

        Raises:
            RecordError: more records than are explained, those that do not fit included.
        """
        total = 0
        for chunk in chunks:
            total += len(chunk)
            if total > MAX_EXPLAINED:
                expected = f"at most {MAX_EXPLAINED} records"
                raise RecordError.of_request("explain", expected, "more of them")
            yield from chunk.split(self._max_records)

    def vary(self, matrix: Matrix) -> Variants:
        """Append the variants to records; a field with its typical value needs none."""
        typical = self.typical
        is_typical = (matrix == typical) | (np.isnan(matrix) & np.isnan(typical))
        records, fields = np.nonzero(~is_typical)
        varied = matrix[records]
        varied[np.arange(len(records)), fields] = typical[fields]
        return Variants(np.concatenate([matrix, varied]), records, fields)

    def explain(self, variants: Variants, distances: Matrix) -> list[list[Driver]]:
        """Return what drove each record's verdict, the strongest first.

        Args:
            variants: of the records.
            distances: float32 [n + v, classes], to the centroids.
        """
        number, to_good = len(variants), distances[:, self._column].astype(np.float64)
        gains = np.zeros((number, len(self._fields)))
        gain = to_good[variants.records] - to_good[number:]
        gains[variants.records, variants.fields] = np.where(gain < _MIN_GAIN, 0, gain)
        shares = gains / np.maximum(gains.sum(axis=1, keepdims=True), _MIN_GAIN)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :_MAX_DRIVERS]
        return [
            [self._driver(i, row[i], share[i]) for i in order if share[i] >= _MIN_SHARE]
            for row, share, order in zip(
                variants.matrix[:number], shares, best.tolist(), strict=True
            )
        ]

    def _driver(self, index: int, value: np.float32, share: float) -> Driver:
        field = self._fields[index]
        return Driver(
            field=field.name,
            value=field.value_of(value),
            typical=self._shown[index],
            unit=self._units[index],
            share=round(float(share), 4),
        )


def _typical(field: SchemaField, column: Matrix) -> float:
    present = column[~np.isnan(column)]
    if not len(present):
        return float("nan")
    if field.is_coded:
        values, counts = np.unique(present, return_counts=True)
        return float(values[counts.argmax()])
    return float(np.median(present.astype(np.float64)))
