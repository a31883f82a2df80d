"""Judged records on the log: Arrow batches, in which each partition says how far it has come."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Final, Self

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models.schema import Matrix
from service.formats.arrow_writer import to_stream
from service.formats.errors import MalformedInputError
from service.incidents.incident import Judged

__all__ = ["ROWS", "Batch", "Place", "rows_of"]

ROWS: Final = pa.schema(
    [
        ("stamp", pa.float64()),
        ("time", pa.float64()),
        ("key", pa.string()),
        ("label", pa.string()),
        ("embedding", pa.binary()),
        ("record", pa.binary()),
    ]
)
"""`stamp` orders the records of all partitions; `embedding` and `record`, float32, are null where
the record is good."""
_MOST_ROWS: Final = 1000
_MOST_BYTES: Final = 500_000
"""Of the columns of a batch: brokers take messages of 1 MB."""
_META: Final = b"faultcube"

Place = tuple[int, int, int]
"""Offset of the message that completed the records; 0 if time did so before it and 1 if it did so
itself; number of the batch of both, counted on from one tick at the offset to the next."""


class _Meta(msgspec.Struct):
    source: str
    place: Place | None
    watermark: float
    bundle: str


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """Some judged records of a partition, in the order in which they were completed.

    Attributes:
        source: topic and number of the partition.
        place: where in it they were completed; None if there are no records.
        watermark: no record with an earlier stamp will come from this partition.
        bundle: version of the bundle that judged them.
        rows: as `ROWS` says.
    """

    source: str
    place: Place | None
    watermark: float
    bundle: str
    rows: pa.Table

    def to_bytes(self) -> bytes:
        """Return an Arrow stream."""
        meta = _Meta(self.source, self.place, self.watermark, self.bundle)
        return to_stream(self.rows.replace_schema_metadata({_META: msgspec.json.encode(meta)}))

    @classmethod
    def read(cls, data: bytes) -> Self:
        """Read what `to_bytes` returned.

        Raises:
            MalformedInputError: it is something else.
        """
        try:
            with pa.ipc.open_stream(data) as reader:
                rows = reader.read_all()
            meta = msgspec.json.decode((rows.schema.metadata or {}).get(_META, b""), type=_Meta)
        except (OSError, pa.ArrowException, msgspec.MsgspecError) as error:
            raise MalformedInputError(f"No batch of judged records: {error}") from error
        if not rows.schema.equals(ROWS):
            raise MalformedInputError("No batch of judged records: it has other columns")
        rows = rows.replace_schema_metadata(None)
        return cls(meta.source, meta.place, meta.watermark, meta.bundle, rows)

    @staticmethod
    def nothing() -> pa.Table:
        """Return a table without rows."""
        return ROWS.empty_table()

    def parts(self, before: float) -> Iterator[Batch]:
        """Yield it in parts that brokers take.

        Args:
            before: the watermark while more of its records are to come.
        """
        if self.place is None:
            yield self
            return
        offset, itself, first = self.place
        starts = [*_starts(self.rows), len(self.rows)]
        for number, (start, end) in enumerate(pairwise(starts), first):
            watermark = self.watermark if end == len(self.rows) else before
            rows = self.rows.slice(start, end - start)
            yield Batch(self.source, (offset, itself, number), watermark, self.bundle, rows)


def _starts(rows: pa.Table) -> list[int]:
    """Return where parts begin that have neither too many rows nor too many bytes."""
    starts, held = list[int](), 0
    texts = [rows[name] for name in ("key", "label", "embedding", "record")]
    sizes = np.sum([np.asarray(pc.binary_length(text).fill_null(0)) for text in texts], axis=0)
    for row, size in enumerate(sizes.tolist()):
        held += size
        if not starts or row - starts[-1] == _MOST_ROWS or held > _MOST_BYTES:
            starts.append(row)
            held = size
    return starts


def rows_of(judged: Judged, matrix: Matrix, bad: NDArray[np.bool_], floor: float) -> pa.Table:
    """Return judged records as rows, without those that say nothing of incidents.

    Args:
        judged: records.
        matrix: as the model read them: float32 [n, fields].
        bad: which are not good traffic: bool [n].
        floor: the least stamp that a record may have.
    """
    said = np.ones(len(judged), np.bool_) if judged.skipped is None else ~judged.skipped
    kept = np.flatnonzero(said)
    times, points = judged.times[kept], judged.embeddings
    columns = [
        np.maximum(times, floor),
        times,
        [judged.keys[row] for row in kept],
        [judged.labels[row] for row in kept],
        [points[row].tobytes() if bad[row] else None for row in kept],
        [matrix[row].tobytes() if bad[row] else None for row in kept],
    ]
    arrays = [pa.array(column, field.type) for column, field in zip(columns, ROWS, strict=True)]
    return pa.table(arrays, schema=ROWS)
