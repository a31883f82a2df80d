"""Arrow streams that tests make, and what is read from them."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models import Field, RecordError, Schema
from models.schema import UNSEEN
from service.formats.arrow_reader import read
from service.formats.chunk import Chunk
from tests.support.problems import errors_of

__all__ = [
    "GOOD",
    "INF",
    "NAN",
    "ROW",
    "SCHEMA",
    "TYPES",
    "batch",
    "chunks",
    "errors",
    "matrix",
    "stream",
]

NAN, INF = float("nan"), float("inf")
SCHEMA = Schema(
    [
        Field(name="loss", kind="gauge", unit="%", required=False),
        Field(name="rx rate", kind="rate"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("fiber", "radio", "")),
        Field(name="vendor", kind="category", categories=("a", "b"), open=True, required=False),
    ]
)
GOOD: dict[str, Any] = {"loss": None, "rx rate": 2.5, "up": True, "link": "radio", "vendor": "c"}
TYPES = {
    "loss": pa.float64(),
    "rx rate": pa.float64(),
    "up": pa.bool_(),
    "link": pa.string(),
    "vendor": pa.string(),
}
ROW = [NAN, 2.5, 1, 1, UNSEEN]


def stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    written = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, batches[0].schema, options=written) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def batch(rows: int = 1, **columns: pa.Array | None) -> pa.RecordBatch:
    """A batch of good records, with other columns in place of some; None leaves one out."""
    arrays = {
        name: pa.array([value] * rows, TYPES[name]) for name, value in GOOD.items()
    } | {name.replace("_", " "): array for name, array in columns.items()}  # fmt: skip
    kept = {name: array for name, array in arrays.items() if array is not None}
    return pa.record_batch([*kept.values()], [*kept])


def chunks(
    body: bytes, most: int = 10_000, *, report: bool = False, ignore_extra: bool = False
) -> list[Chunk]:
    return list(read(body, SCHEMA, most, report=report, ignore_extra=ignore_extra))


def matrix(body: bytes, most: int = 10_000) -> Any:
    return np.concatenate([chunk.matrix for chunk in chunks(body, most)])


def errors(body: bytes, most: int = 10_000) -> list[dict[str, Any]]:
    with pytest.raises(RecordError) as refusal:
        chunks(body, most)
    return errors_of(refusal.value)
