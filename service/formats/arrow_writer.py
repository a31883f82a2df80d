"""The rows of an answer as an Arrow stream, each with a result or an error."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models import UNKNOWN, Fault
from models.schema import Matrix, Numbers
from service.formats.errors import entry_of

__all__ = ["write_embeddings", "write_verdicts"]


def write_verdicts(
    *,
    nearest: npt.NDArray[np.intp],
    accepted: npt.NDArray[np.bool_],
    distance: Matrix,
    confidence: Matrix,
    distances: Matrix | None = None,
    names: Sequence[str],
    good: Sequence[bool],
    bundle: tuple[str, str],
    faults: Sequence[Fault] | None = None,
) -> bytes:
    """Write verdicts as a stream.

    Args:
        nearest: [n], index of the class that fits best.
        accepted: [n], whether it accepts the record.
        distance: float32 [n], to that class.
        confidence: float32 [n], that it is that class.
        distances: float32 [n, k], to every class; None when they are not wanted.
        names: [k], of the classes.
        good: [k], which of them are good traffic.
        bundle: name and version of the bundle.
        faults: what is wrong with the records that have no verdict, each in its place among the
            others; None when that is not to be told.

    Returns:
        A stream with the columns label, good, distance, confidence and nearest (null where the
        label is not "unknown"), distances if given, whose metadata names the classes, and error if
        faults are told of.
    """
    rows = _Rows(len(nearest), faults)
    columns = {
        "label": rows.words(np.where(accepted, nearest, len(names)), [*names, UNKNOWN]),
        "good": rows.numbers(accepted & np.array(good)[nearest]),
        "distance": rows.numbers(distance),
        "confidence": rows.numbers(confidence),
        "nearest": rows.words(nearest, names, accepted),
    }
    if distances is not None:
        columns["distances"] = rows.lists(distances)
    classes = {"distances": {"classes": json.dumps(list(names))}}
    return rows.write(columns, bundle, classes)


def write_embeddings(
    embeddings: Matrix, *, bundle: tuple[str, str], faults: Sequence[Fault] | None = None
) -> bytes:
    """Write embeddings as a stream.

    Args:
        embeddings: float32 [n, N].
        bundle: name and version of the bundle.
        faults: as for verdicts.

    Returns:
        A stream with the column embedding, and error if faults are told of.
    """
    rows = _Rows(len(embeddings), faults)
    return rows.write({"embedding": rows.lists(embeddings)}, bundle, {})


class _Rows:
    """The rows of an answer: some have a result, the others an error.

    Args:
        results: how many have one.
        faults: of the others.
    """

    def __init__(self, results: int, faults: Sequence[Fault] | None) -> None:
        self._faults = faults
        self._missing = np.zeros(results + len(faults or ()), np.bool_)
        self._missing[[fault.record or 0 for fault in faults or ()]] = True

    def numbers(self, values: Numbers, absent: npt.NDArray[np.bool_] | None = None) -> pa.Array:
        """A column of numbers, null where there is no result."""
        missing = self._missing
        if absent is not None:
            missing = self._spread(absent) | missing
        return pa.array(self._spread(values), mask=missing if missing.any() else None)

    def words(
        self,
        places: npt.NDArray[np.integer[Any]],
        words: Sequence[str],
        absent: npt.NDArray[np.bool_] | None = None,
    ) -> pa.Array:
        """A column of a few words."""
        width = np.int8 if len(words) < 128 else np.int32
        indices = self.numbers(places.astype(width), absent)
        return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))

    def lists(self, values: Matrix) -> pa.Array:
        """A column of lists of one length."""
        flat, mask = self._spread(values), None
        if self._missing.any():
            mask = pa.array(self._missing)
        return pa.FixedSizeListArray.from_arrays(flat.ravel(), values.shape[1], mask=mask)

    def write(
        self,
        columns: dict[str, pa.Array],
        bundle: tuple[str, str],
        metadata: dict[str, dict[str, str]],
    ) -> bytes:
        """Write columns as a stream of one batch."""
        if self._faults is not None:
            texts: dict[tuple[str | None, str], str] = {}
            told = {}
            for fault in self._faults:
                key = fault.field, fault.got
                told[fault.record] = texts.get(key) or texts.setdefault(key, _told(fault))
            errors = [told.get(row) for row in range(len(self._missing))]
            columns["error"] = pa.array(errors, pa.string())
        fields = [
            pa.field(name, c.type, metadata=metadata.get(name)) for name, c in columns.items()
        ]
        which = dict(zip(("bundle_name", "bundle_version"), bundle, strict=True))
        batch = pa.record_batch([*columns.values()], pa.schema(fields, which))
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, batch.schema) as writer:
            writer.write_batch(batch)
        written: bytes = sink.getvalue().to_pybytes()
        return written

    def _spread(self, values: Numbers) -> Numbers:
        if not self._faults:
            return values
        spread = np.zeros((len(self._missing), *values.shape[1:]), values.dtype)
        spread[~self._missing] = values
        return spread


def _told(fault: Fault) -> str:
    entry = entry_of(fault)
    place = f"field {entry['field']!r}: " if "field" in entry else ""
    return f"{place}expected {entry['expected']}, got {entry['got']}"
