"""Records of keys are judged by the model that is served: what incidents are made of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import msgspec
import numpy as np
from numpy.typing import NDArray

from models import Decisions, Model
from models.schema import Matrix, Schema, Value
from models.telemetry.mapping import Mapping, MappingError
from models.telemetry.records import Records
from service.formats.chunk import Chunk
from service.incidents.incident import Judged
from service.live.kept import Taken
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel

__all__ = [
    "Columns",
    "evidence_of",
    "judge",
    "judge_assembled",
    "key_of",
    "mapping_of",
    "record_of",
]


def key_of(parts: Sequence[str]) -> str:
    """Return a key as people read it, from the values of its tags."""
    return " / ".join(parts)


def mapping_of(model: Model, own: Mapping | None) -> Mapping:
    """Return the mapping that makes records for a model.

    Args:
        model: of the bundle, which may hold one.
        own: that of the operator, if there is one.

    Raises:
        MappingError: there is none, or it cannot make such records.
    """
    mapping = own or model.mapping
    if mapping is None:
        raise MappingError(
            "the bundle has no mapping, which says what points make its records: give one with "
            "FAULTCUBE_MAPPING"
        )
    if model.manifest.adapted:
        raise MappingError(
            "the bundle needs a profile of every site, and assembled records have none: train "
            "one whose mapping relates fields to the baseline of their key"
        )
    mapping.check(model.schema)
    return mapping


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

    def are_good(self, records: Records, model: Model) -> NDArray[np.bool_]:
        """Return which records a model calls good, so that baselines may follow them: bool [n]."""
        matrix, fits = self.encode(records, model.schema)
        return fits & model.are_good(model.decide(matrix))


def judge_assembled(
    served: ServedModel, columns: Columns, records: Records, keys: Sequence[str]
) -> tuple[Scored, Judged, Taken]:
    """Judge assembled records.

    Args:
        served: the model.
        columns: where its fields are in the records.
        records: at least one.
        keys: what each is of.

    Returns:
        The records that fit and have enough values, for the observers of all records; all records
        for incidents, with those left out that say nothing; and all for the live page.
    """
    matrix, fits = columns.encode(records, served.model.schema)
    usable = records.sufficient & fits
    decisions, judged = judge(served, records.times, keys, matrix, records.learning | ~usable)
    rows = np.flatnonzero(usable)
    kept = matrix[rows]
    labels = [judged.labels[row] for row in rows]
    scored = Scored(Chunk(kept), kept, decisions[rows], labels, assembled=True)
    taken = Taken(served.model, keys, records.times, matrix, decisions, records.learning, usable)
    return scored, judged, taken


def judge(
    served: ServedModel,
    times: NDArray[np.float64],
    keys: Sequence[str],
    matrix: Matrix,
    skipped: NDArray[np.bool_] | None = None,
) -> tuple[Decisions, Judged]:
    """Judge encoded records.

    Args:
        served: the model.
        times: of the records, seconds since the epoch: float64 [n].
        keys: what each is of.
        matrix: float32 [n, fields], NaN = missing.
        skipped: bool [n], records that are not to count.
    """
    model = served.model
    decisions = model.decide(matrix)
    labels = model.labels(decisions)
    bad = np.flatnonzero(~model.are_good(decisions))
    embeddings = np.zeros((len(matrix), model.manifest.dimensions), np.float32)
    if len(bad):
        embeddings[bad] = model.encoder.embed(matrix[bad])

    def evidence(row: int) -> list[dict[str, object]]:
        return evidence_of(served, matrix[[row]])

    def record(row: int) -> dict[str, Value]:
        return record_of(model.schema, matrix[row])

    return decisions, Judged(times, list(keys), labels, embeddings, skipped, evidence, record)


def evidence_of(served: ServedModel, matrix: Matrix) -> list[dict[str, object]]:
    """Return what `explain` says of a record: float32 [1, fields]."""
    if served.explainer is None:
        return []
    variants = served.explainer.vary(matrix)
    [drivers] = served.explainer.explain(variants, served.model.decide(variants.matrix).distances)
    return [msgspec.to_builtins(driver) for driver in drivers]


def record_of(schema: Schema, numbers: Matrix) -> dict[str, Value]:
    """Return an encoded record, float32 [fields], as values of its fields."""
    fields = zip(schema.fields, numbers, strict=True)
    return {field.name: field.value_of(number) for field, number in fields}
