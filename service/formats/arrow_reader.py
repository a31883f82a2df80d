"""Records as an Arrow stream, `application/vnd.apache.arrow.stream`.

A stream is read batch by batch, checked, and converted to numbers column by column.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import pyarrow as pa

from models import FieldError, Schema
from models.schema import Numbers, describe
from service.formats.arrow_columns import CategoryEncoder, check_columns, numbers_of
from service.formats.arrow_ipc import Stream, reading
from service.formats.chunk import CHUNK_RECORDS, Chunk
from service.formats.errors import MalformedInputError, count_error

__all__ = ["read"]

_TILE = 16 * CHUNK_RECORDS
"""Records whose columns are converted to numbers at a time."""
_MAX_EMPTY = 100
"""Batches without a record: they are skipped without yielding to other requests."""


def read(
    body: bytes | bytearray,
    schema: Schema,
    max_records: int,
    *,
    report: bool = False,
    ignore_extra: bool = False,
    on_batch: Callable[[pa.RecordBatch], None] = lambda _: None,
) -> Iterator[Chunk]:
    """Read the records of a stream, chunk by chunk.

    Columns have the fields' names, in any order. A number may be of any width, and NaN is missing
    like null; a category is a string, which may be dictionary-encoded. A column of a field that is
    not required may be absent.

    Args:
        body: the stream.
        schema: of a record.
        max_records: records that a stream may hold.
        report: whether to report records that do not fit in place, and take the others.
        ignore_extra: whether to skip columns that the schema does not have.
        on_batch: called with each batch, whose other columns nobody has validated.

    Raises:
        MalformedInputError: it is not an Arrow stream, or uses a feature that is not supported.
        RecordError: its columns or records are not those of the schema.
    """
    with reading():
        stream = Stream(body)
        check_columns(schema, stream.schema, ignore_extra=ignore_extra)
        columns = _Columns(schema, stream.schema, report=report)
    records = empty = 0
    while (batch := stream.next()) is not None:
        empty += batch.num_rows == 0
        if empty > _MAX_EMPTY:
            raise MalformedInputError(
                f"The stream has more than {_MAX_EMPTY} batches without a record."
            )
        if records + batch.num_rows > max_records:
            raise count_error(max_records, "more of them")
        on_batch(batch)
        for start in range(0, batch.num_rows, _TILE):
            yield from columns.chunks(batch.slice(start, _TILE), records + start)
        records += batch.num_rows
    if not records:
        raise count_error(max_records, "an empty stream")


class _Columns:
    """Converts the columns of batches into chunks."""

    def __init__(self, schema: Schema, columns: pa.Schema, *, report: bool) -> None:
        self._schema, self._report = schema, report
        indices = {name: index for index, name in enumerate(columns.names)}
        self._encoders = [
            (at, indices[field.name], CategoryEncoder(field) if field.categories else numbers_of)
            for at, field in enumerate(schema.fields)
            if field.name in indices
        ]

    def chunks(self, tile: pa.RecordBatch, first: int) -> Iterator[Chunk]:
        """Yield the chunks of a part of a batch; `first` is the index of its first record."""
        with reading():
            arrays = tile.columns
            columns = {at: encode(arrays[index]) for at, index, encode in self._encoders}
        for start in range(0, tile.num_rows, CHUNK_RECORDS):
            end = min(start + CHUNK_RECORDS, tile.num_rows)
            matrix, misfits = self._schema.matrix_of(columns, start, end)
            fault_of = partial(self._fault, tile, columns, first, start)
            yield Chunk.checked(matrix, misfits, fault_of, report=self._report)

    def _fault(
        self,
        tile: pa.RecordBatch,
        columns: dict[int, Numbers],
        first: int,
        start: int,
        row: int,
        at: int,
    ) -> FieldError:
        field, number = self._schema.fields[at], columns[at][start + row]
        if field.is_coded:
            got = "null" if np.isnan(number) else "a string"
        elif tile.column(field.name).slice(start + row, 1).null_count:
            got = "null"
        else:
            got = describe(float(number))
        return field.fault(first + start + row, got)
