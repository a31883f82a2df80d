"""Records as an Arrow stream, `application/vnd.apache.arrow.stream`.

A stream is read batch by batch, checked and turned into numbers a column at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from models import Fault, RecordError, Schema
from models.schema import LARGEST, Matrix, describe
from service.formats.arrow_columns import Codes, Numbers, check_columns, numbers_of
from service.formats.arrow_ipc import Stream, reading
from service.formats.chunk import CHUNK_RECORDS, Chunk
from service.formats.errors import MalformedInputError

__all__ = ["read"]

_TILE = 16 * CHUNK_RECORDS
"""Records whose columns are made numbers of at a time."""
_MOST_FAULTS = 10
_MOST_EMPTY = 100
"""Batches without a record: they are read over without a stop."""


def read(
    body: bytes | bytearray, schema: Schema, most: int, *, report: bool = False
) -> Iterator[Chunk]:
    """Read the records of a stream, chunk by chunk.

    Columns have the fields' names, in any order. A number may be of any width, and NaN is missing
    like null; a category is a string, which may be dictionary-encoded. A column of a field that is
    not required may be absent.

    Args:
        body: the stream.
        schema: what a record holds.
        most: how many records a stream may hold.
        report: whether a record that does not fit is told of in its place, and the others are
            taken.

    Raises:
        MalformedInputError: it is not an Arrow stream, or one that is not taken.
        RecordError: its columns or records are not those of the schema.
    """
    with reading():
        stream = Stream(body)
        table = _Table(schema, stream.schema, report=report)
    records = empty = 0
    while (batch := stream.next()) is not None:
        empty += batch.num_rows == 0
        if empty > _MOST_EMPTY:
            raise MalformedInputError(
                f"The stream has more than {_MOST_EMPTY} batches without a record."
            )
        if records + batch.num_rows > most:
            raise RecordError(
                [Fault(None, "records", f"a list of 1 to {most} records", "more of them")]
            )
        for start in range(0, batch.num_rows, _TILE):
            yield from table.chunks(batch.slice(start, _TILE), records + start)
        records += batch.num_rows
    if not records:
        raise RecordError(
            [Fault(None, "records", f"a list of 1 to {most} records", "an empty stream")]
        )


class _Table:
    """Turns batches into chunks.

    Args:
        schema: what a record holds.
        columns: what the stream holds.
        report: whether faults are told of with the chunks, or end it all.

    Raises:
        RecordError: the columns are not those of the schema.
    """

    def __init__(self, schema: Schema, columns: pa.Schema, *, report: bool) -> None:
        check_columns(schema, columns)
        self._fields, self._report = schema.fields, report
        self._required = np.array([field.required for field in schema.fields])
        places = {name: place for place, name in enumerate(columns.names)}
        self._found = [
            (at, places[field.name], Codes(field) if field.kind == "category" else numbers_of)
            for at, field in enumerate(schema.fields)
            if field.name in places
        ]

    def chunks(self, tile: pa.RecordBatch, first: int) -> Iterator[Chunk]:
        """The chunks of some of a batch's records; `first` is the index of the first of them."""
        with reading():
            arrays = tile.columns
            columns = {at: encode(arrays[place]) for at, place, encode in self._found}
        for start in range(0, tile.num_rows, CHUNK_RECORDS):
            end = min(start + CHUNK_RECORDS, tile.num_rows)
            matrix = np.full((end - start, len(self._fields)), np.nan, np.float32)
            with np.errstate(over="ignore"):
                for at, numbers in columns.items():
                    matrix[:, at] = numbers[start:end]
            fits = np.abs(matrix) < LARGEST
            if np.count_nonzero(fits) < fits.size:
                bad = self._misfits(matrix, {at: each[start:end] for at, each in columns.items()})
                if bad.any():
                    fault = partial(self._fault, tile, columns, first, start)
                    yield self._judge(matrix, bad, fault)
                    continue
            yield Chunk(matrix)

    def _misfits(self, matrix: Matrix, columns: dict[int, Numbers]) -> npt.NDArray[np.bool_]:
        bad = np.abs(matrix) >= LARGEST
        if bad.any():
            # A number that is a little beyond is rounded to the largest there is.
            for at, numbers in columns.items():
                bad[:, at] = np.abs(numbers.astype(np.float64)) > LARGEST
        bad |= np.isnan(matrix) & self._required
        return bad

    def _judge(
        self, matrix: Matrix, bad: npt.NDArray[np.bool_], fault: Callable[[int, int], Fault]
    ) -> Chunk:
        """The records that fit, if they may be taken without the others."""
        if not self._report:
            raise RecordError(
                [fault(row, at) for row, at in np.argwhere(bad)[:_MOST_FAULTS].tolist()]
            )
        rows = np.flatnonzero(bad.any(axis=1)).tolist()
        columns = bad.argmax(axis=1).tolist()
        faults = {row: fault(row, columns[row]) for row in rows}
        return Chunk(np.delete(matrix, rows, axis=0), faults)

    def _fault(
        self,
        tile: pa.RecordBatch,
        columns: dict[int, Numbers],
        first: int,
        start: int,
        row: int,
        at: int,
    ) -> Fault:
        """What is wrong with a field of a chunk's record; no value is read from the tile again."""
        field, number = self._fields[at], columns[at][start + row]
        if field.kind in {"boolean", "category"}:
            got = "null" if np.isnan(number) else "a string"
        else:
            is_null = tile.column(field.name).slice(start + row, 1).null_count
            got = "null" if is_null else describe(float(number))
        return Fault(first + start + row, field.name, field.expected, got)
