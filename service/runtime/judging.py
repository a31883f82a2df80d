"""Assembled records are judged by the model that is served: what incidents are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from models.schema import Matrix, Schema, Value
from models.telemetry.mapping import Mapping
from models.telemetry.records import Records
from service.formats.chunk import Chunk
from service.incidents.incident import Judged
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel

__all__ = ["Columns", "judge"]


@dataclass(frozen=True, slots=True)
class Columns:
    """Where the fields of a mapping stand in the records of a schema.

    Attributes:
        of: column of an assembled record, by index of its field in the schema.
    """

    of: dict[int, int]

    @classmethod
    def between(cls, mapping: Mapping, schema: Schema) -> Columns:
        """Return the columns of a mapping that fits a schema."""
        places = {name: column for column, name in enumerate(mapping.names)}
        pairs = ((at, places.get(field.name)) for at, field in enumerate(schema.fields))
        return cls({at: column for at, column in pairs if column is not None})

    def encode(self, records: Records, schema: Schema) -> tuple[Matrix, NDArray[np.bool_]]:
        """Encode records as those of a table are encoded.

        Returns:
            float32 [n, fields], NaN where missing, and which fit the schema: bool [n].
        """
        columns = {at: records.matrix[:, column] for at, column in self.of.items()}
        matrix, misfits = schema.matrix_of(columns, 0, len(records))
        fits = np.ones(len(records), np.bool_)
        if misfits is not None:
            fits[misfits.any(axis=1)] = False
        return matrix, fits


def judge(
    served: ServedModel, columns: Columns, records: Records, keys: Sequence[str]
) -> tuple[Scored, Judged]:
    """Judge records.

    Args:
        served: the model.
        columns: where its fields are in the records.
        records: assembled ones, at least one.
        keys: what each is of.

    Returns:
        The records that fit and have enough values, for the observers of all records; and all
        records for incidents, with those left out that say nothing.
    """
    model = served.model
    matrix, fits = columns.encode(records, model.schema)
    usable = records.sufficient & fits
    decisions = model.decide(matrix)
    labels = model.labels(decisions)
    good = {name for name, is_good in zip(model.names, model.good, strict=True) if is_good}
    embeddings = np.zeros((len(matrix), model.manifest.dimensions), np.float32)
    if bad := [row for row, label in enumerate(labels) if label not in good]:
        embeddings[bad] = model.encoder.embed(matrix[bad])
    judged = Judged(
        times=records.times,
        keys=list(keys),
        labels=labels,
        embeddings=embeddings,
        skipped=records.learning | ~usable,
        evidence=partial(_evidence, served, matrix),
        record=partial(_record, model.schema, matrix),
    )
    rows = np.flatnonzero(usable)
    kept = matrix[rows]
    scored = Scored(Chunk(kept), kept, decisions[rows], [labels[row] for row in rows])
    return scored, judged


def _evidence(served: ServedModel, matrix: Matrix, row: int) -> list[dict[str, object]]:
    """Return which fields drove a verdict, the strongest first."""
    explainer = served.explainer
    if explainer is None:
        return []
    variants = explainer.vary(matrix[row : row + 1])
    distances = served.model.decide(variants.matrix).distances
    [drivers] = explainer.explain(variants, distances)
    return [
        {"field": d.field, "value": d.value, "typical": d.typical, "unit": d.unit, "share": d.share}
        for d in drivers
    ]


def _record(schema: Schema, matrix: Matrix, row: int) -> dict[str, Value]:
    """Return a row as a record, without what is missing."""
    values = (
        (field.name, field.value_of(number))
        for field, number in zip(schema.fields, matrix[row], strict=True)
    )
    return {name: value for name, value in values if value is not None}
