"""Verdicts and embeddings as Arrow record batches, each row with a result or an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models import UNKNOWN, Decisions, FieldError, Model
from models.schema import Matrix
from service.formats.errors import entry_of

__all__ = ["embedding_batch", "to_stream", "verdict_batch"]


def verdict_batch(
    decisions: Decisions,
    model: Model,
    *,
    distances: bool = False,
    faults: Sequence[FieldError] | None = None,
) -> pa.RecordBatch:
    """Turn decisions into a record batch.

    Args:
        decisions: of the records that fit.
        model: that decided.
        distances: whether to list the distance to every class.
        faults: of the records that do not fit, with their row among all; None for no such column.

    Returns:
        The columns label, good, distance, confidence and nearest (null unless the label is
        "unknown"); distances if wanted, whose metadata names the classes; error if faults are
        given.
    """
    rows = _Rows(len(decisions.nearest), faults)
    names, nearest, accepted = model.names, decisions.nearest, decisions.accepted
    columns = {
        "label": rows.words(np.where(accepted, nearest, len(names)), [*names, UNKNOWN]),
        "good": rows.numbers(model.are_good(decisions)),
        "distance": rows.numbers(decisions.distance),
        "confidence": rows.numbers(decisions.confidence),
        "nearest": rows.words(nearest, names, accepted),
    }
    if distances:
        columns["distances"] = rows.lists(decisions.distances)
    return rows.batch(columns, model, {"distances": {"classes": json.dumps(names)}})


def embedding_batch(
    embeddings: Matrix, model: Model, *, faults: Sequence[FieldError] | None = None
) -> pa.RecordBatch:
    """Turn embeddings, float32 [n, N], into a record batch with the column embedding.

    Faults are those of `verdict_batch`.
    """
    rows = _Rows(len(embeddings), faults)
    return rows.batch({"embedding": rows.lists(embeddings)}, model, {})


def to_stream(rows: pa.RecordBatch | pa.Table) -> bytes:
    """Write rows as an Arrow stream, with their metadata."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, rows.schema) as writer:
        writer.write(rows)
    content: bytes = sink.getvalue().to_pybytes()
    return content


class _Rows:
    """The rows of a batch: some have a result, the others an error.

    Args:
        results: how many rows have a result.
        faults: of the other rows.
    """

    def __init__(self, results: int, faults: Sequence[FieldError] | None) -> None:
        self._faults = faults
        self._is_fault = np.zeros(results + len(faults or ()), np.bool_)
        self._is_fault[[fault.record or 0 for fault in faults or ()]] = True

    def numbers(
        self, values: npt.NDArray[Any], is_null: npt.NDArray[np.bool_] | None = None
    ) -> pa.Array:
        """Return a column of numbers, null where there is no result."""
        mask = self._is_fault
        if is_null is not None:
            mask = self._spread(is_null) | mask
        return pa.array(self._spread(values), mask=mask if mask.any() else None)

    def words(
        self,
        indices: npt.NDArray[np.integer[Any]],
        words: Sequence[str],
        is_null: npt.NDArray[np.bool_] | None = None,
    ) -> pa.Array:
        """Return a dictionary-encoded column of words."""
        width = np.int8 if len(words) < 128 else np.int32
        return pa.DictionaryArray.from_arrays(
            self.numbers(indices.astype(width), is_null), pa.array(words, pa.string())
        )

    def lists(self, values: Matrix) -> pa.Array:
        """Return a column of lists of one length."""
        mask = pa.array(self._is_fault) if self._is_fault.any() else None
        flat = self._spread(values).ravel()
        return pa.FixedSizeListArray.from_arrays(flat, values.shape[1], mask=mask)

    def batch(
        self, columns: dict[str, pa.Array], model: Model, metadata: dict[str, dict[str, str]]
    ) -> pa.RecordBatch:
        """Return the columns as a batch, with errors if they are wanted."""
        if self._faults is not None:
            columns["error"] = self._errors(self._faults)
        manifest = model.manifest
        fields = [
            pa.field(name, column.type, metadata=metadata.get(name))
            for name, column in columns.items()
        ]
        bundle = {"bundle_name": manifest.name, "bundle_version": manifest.version}
        return pa.record_batch([*columns.values()], pa.schema(fields, bundle))

    def _errors(self, faults: Sequence[FieldError]) -> pa.Array:
        texts: dict[tuple[str | None, str], str] = {}  # many rows have the same fault
        by_row = {}
        for fault in faults:
            key = fault.field, fault.got
            by_row[fault.record] = texts.get(key) or texts.setdefault(key, _text(fault))
        return pa.array([by_row.get(row) for row in range(len(self._is_fault))], pa.string())

    def _spread(self, values: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return values with a gap in every row that has none."""
        if not self._faults:
            return values
        spread = np.zeros((len(self._is_fault), *values.shape[1:]), values.dtype)
        spread[~self._is_fault] = values
        return spread


def _text(fault: FieldError) -> str:
    entry = entry_of(fault)
    prefix = f"field {entry['field']!r}: " if "field" in entry else ""
    return f"{prefix}expected {entry['expected']}, got {entry['got']}"
