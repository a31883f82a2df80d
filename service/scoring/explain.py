"""What drove a verdict: the fields that hold a record away from good traffic.

Every field of a record is replaced, one at a time, by what it typically is in good traffic, and all
of these variants are embedded together with the record. A field counts by how much nearer its
variant comes to the centroid of good traffic; its share is that of all fields together.

This asks what one field alone would change. Where two fields each suffice to make a record bad,
neither of them brings it nearer, and neither is listed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
import numpy.typing as npt

from models import Field, Model, RecordError
from models.schema import Matrix, Value
from service.formats.chunk import Chunk

__all__ = ["MOST_EXPLAINED", "Driver", "Explainer", "Variants", "refusal"]

MOST_EXPLAINED = 100
"""Records of a request that is explained: each costs as much as it has fields, and one more."""
_MOST_ROWS = 1000
"""Records and variants of a chunk, about, which go through the model together."""
_MOST_DRIVERS = 10
_LEAST_SHARE = 0.001
_LEAST_GAIN = 1e-6
"""Of distance; anything less is the rounding of float32, and shares of it would mean nothing."""

Places = npt.NDArray[np.intp]


class Driver(msgspec.Struct, omit_defaults=True, kw_only=True, gc=False):
    """One field that drove a verdict.

    Attributes:
        field: its name.
        value: as the model reads it, None where it is missing or a category that is not known.
        typical: of good traffic, None where it is missing there.
        unit: None where there is none.
        share: of all that single fields bring nearer to good traffic, 0..1.
    """

    field: str
    value: Value
    typical: Value
    unit: str | None = None
    share: float


@dataclass(frozen=True, slots=True, eq=False)
class Variants:
    """Records, and behind them all of their variants.

    Attributes:
        matrix: float32 [n + v, fields].
        records: int [v], of which record each variant is.
        fields: int [v], which field it has from good traffic.
    """

    matrix: Matrix
    records: Places
    fields: Places

    def __len__(self) -> int:
        return len(self.matrix) - len(self.records)


class Explainer:
    """Says which fields drove a verdict.

    Args:
        fields: of the schema.
        good: float32 [m, fields], records of good traffic, NaN where missing; at least one.
        column: where the distance to good traffic is, among those to all classes.

    Attributes:
        typical: float32 [fields]; the median of numbers and the most frequent of other values,
            those that are missing left out, and NaN where all are.
    """

    def __init__(self, fields: Sequence[Field], good: Matrix, column: int) -> None:
        self._fields, self._column = fields, column
        values = [_typical(*each) for each in zip(fields, good.T, strict=True)]
        self.typical = np.array(values, np.float32)
        self._shown = [f.value_of(value) for f, value in zip(fields, self.typical, strict=True)]
        self._units = [None if field.unit == "1" else field.unit for field in fields]
        self._most = max(_MOST_ROWS // (len(fields) + 1), 1)

    @classmethod
    def of(cls, model: Model, names: Sequence[str]) -> Explainer | None:
        """What explains the verdicts of a model; None where nothing says what good traffic is like.

        Args:
            model: with its reference, if it has one.
            names: of the classes that it measures the distances to.
        """
        reference = model.reference
        classes = [known.name for known in model.manifest.classes]
        label = [known.good for known in model.manifest.classes].index(True)
        if reference is None or classes[label] not in names:
            return None
        good = reference.records[reference.labels == label]
        if not len(good):
            return None
        return cls(model.schema.fields, good, names.index(classes[label]))

    def chunks(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Cut chunks into smaller ones, so that nobody waits longer for them.

        Raises:
            RecordError: there are more records than are explained, those that do not fit included.
        """
        total = 0
        for chunk in chunks:
            total += len(chunk)
            if total > MOST_EXPLAINED:
                raise refusal(f"at most {MOST_EXPLAINED} records", "more of them")
            done = 0
            for start in range(0, len(chunk), self._most):
                places = range(start, min(start + self._most, len(chunk)))
                faults = {at - start: chunk.faults[at] for at in places if at in chunk.faults}
                end = done + len(places) - len(faults)
                yield Chunk(chunk.matrix[done:end], faults)
                done = end

    def vary(self, matrix: Matrix) -> Variants:
        """Put the variants behind records; a field that is as it typically is needs none."""
        typical = self.typical
        alike = (matrix == typical) | (np.isnan(matrix) & np.isnan(typical))
        records, fields = np.nonzero(~alike)
        varied = matrix[records]
        varied[np.arange(len(records)), fields] = typical[fields]
        return Variants(np.concatenate([matrix, varied]), records, fields)

    def explain(self, variants: Variants, distances: Matrix) -> list[list[Driver]]:
        """Say what drove each record's verdict, the strongest first.

        Args:
            variants: of the records.
            distances: float32 [n + v, classes], of all of them.
        """
        number, to_good = len(variants), distances[:, self._column].astype(np.float64)
        gains = np.zeros((number, len(self._fields)))
        found = to_good[variants.records] - to_good[number:]
        gains[variants.records, variants.fields] = np.where(found < _LEAST_GAIN, 0, found)
        shares = gains / np.maximum(gains.sum(axis=1, keepdims=True), _LEAST_GAIN)
        best = np.argsort(-shares, axis=1, kind="stable")[:, :_MOST_DRIVERS]
        return [
            [self._driver(at, row[at], own[at]) for at in places if own[at] >= _LEAST_SHARE]
            for row, own, places in zip(
                variants.matrix[:number], shares, best.tolist(), strict=True
            )
        ]

    def _driver(self, at: int, value: np.float32, share: float) -> Driver:
        field = self._fields[at]
        return Driver(
            field=field.name,
            value=field.value_of(value),
            typical=self._shown[at],
            unit=self._units[at],
            share=round(float(share), 4),
        )


def refusal(expected: str, got: str) -> RecordError:
    """What is answered where an explanation is asked for that cannot be given."""
    return RecordError.of_request("explain", expected, got)


def _typical(field: Field, column: Matrix) -> float:
    present = column[~np.isnan(column)]
    if not len(present):
        return float("nan")
    if field.is_coded:
        values, counts = np.unique(present, return_counts=True)
        return float(values[counts.argmax()])
    return float(np.median(present.astype(np.float64)))
