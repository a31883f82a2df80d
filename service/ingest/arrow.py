"""Long tables as an Arrow stream: one row a point, the columns metric, value and time, and tags.

The format: https://arrow.apache.org/docs/format/Columnar.html#ipc-streaming-format
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models.telemetry.points import Points, SeriesTable
from service.formats.arrow_columns import numbers_of
from service.formats.arrow_ipc import Stream, reading
from service.formats.errors import MalformedInputError
from service.ingest.arrow_series import RowSeries
from service.ingest.decoded import BAD_TIME, LARGEST_TIME, Decoded
from service.ingest.naming import MAX_TAGS

__all__ = ["decode"]

_METRIC, _VALUE, _TIME = "metric", "value", "time"
_MAX_BATCHES = 1000
"""Of a stream: a batch costs as much as hundreds of rows."""
_TILE = 1 << 14
"""Rows that are taken at a time."""
_FACTORS = {"s": 10**9, "ms": 10**6, "us": 1000, "ns": 1}

_Integers = NDArray[np.int64]


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode the rows of a stream.

    A series is called by its metric, with all other columns, which hold texts, as tags; a null is
    no tag. A time is a timestamp or an integer since the Unix epoch whose magnitude tells its
    unit; without one, a point is of now. A null in the column value is NaN.

    Raises:
        MalformedInputError: it is no such stream.
    """
    with reading():
        stream = Stream(body)
        _check(stream.schema)
    parts: list[Points] = []
    reasons: Counter[str] = Counter()
    tags = sorted({*stream.schema.names} - {_METRIC, _VALUE, _TIME})
    identify = RowSeries(_METRIC, tags, table, reasons)
    for tile in _tiles(stream):
        with reading():
            parts.append(_points(tile, identify, now, reasons))
    empty = Points(np.zeros(0, np.int32), np.zeros(0, np.int64), np.zeros(0))
    columns = [empty, *parts]
    points = Points(
        np.concatenate([part.series for part in columns]),
        np.concatenate([part.times for part in columns]),
        np.concatenate([part.values for part in columns]),
    )
    return Decoded(points, reasons)


def _tiles(stream: Stream) -> Iterator[pa.RecordBatch]:
    batches = 0
    while (batch := stream.next()) is not None:
        batches += 1
        if batches > _MAX_BATCHES:
            message = f"The stream has more than {_MAX_BATCHES} batches; make them larger."
            raise MalformedInputError(message)
        for start in range(0, batch.num_rows, _TILE):
            yield batch.slice(start, _TILE)


def _check(schema: pa.Schema) -> None:
    types = dict(zip(schema.names, schema.types, strict=True))
    if len(types) < len(schema.names):
        raise MalformedInputError("The stream has two columns of one name.")
    if not {_METRIC, _VALUE} <= types.keys():
        raise MalformedInputError('The stream needs the columns "metric" and "value".')
    if len(types) > MAX_TAGS + 3:
        raise MalformedInputError(f"The stream has more than {MAX_TAGS} columns of tags.")
    value, time = types.pop(_VALUE), types.pop(_TIME, pa.int64())
    if not _is_number(value):
        raise MalformedInputError('The column "value" needs numbers.')
    if not (pa.types.is_timestamp(time) or pa.types.is_integer(time)):
        raise MalformedInputError('The column "time" needs timestamps or integers.')
    for kind in types.values():
        texts = kind.value_type if pa.types.is_dictionary(kind) else kind
        if texts not in {pa.string(), pa.large_string(), pa.string_view()}:
            raise MalformedInputError("The columns of the metric and its tags need texts.")


def _is_number(kind: pa.DataType) -> bool:
    tests = pa.types.is_integer, pa.types.is_floating, pa.types.is_boolean, pa.types.is_decimal
    return any(test(kind) for test in tests)


def _points(tile: pa.RecordBatch, identify: RowSeries, now: int, reasons: Counter[str]) -> Points:
    values = numbers_of(tile.column(_VALUE)).astype(np.float64)
    times, timely = _times(tile, now)
    series, named = identify(tile)
    if not timely.all():
        reasons[BAD_TIME] += int((named & ~timely).sum())
    kept = named & timely
    return Points(series[kept], times[kept], values[kept])


def _times(tile: pa.RecordBatch, now: int) -> tuple[_Integers, NDArray[np.bool_]]:
    """Return nanoseconds, and which of them are int64."""
    if _TIME not in tile.schema.names:
        return np.full(tile.num_rows, now), np.ones(tile.num_rows, np.bool_)
    column = tile.column(_TIME)
    column.validate(full=True)
    absent = column.is_null().to_numpy(zero_copy_only=False)
    timestamps = pa.types.is_timestamp(column.type)
    plain = (column.cast(pa.int64()) if timestamps else column).fill_null(0).to_numpy()
    sizes = np.abs(plain.astype(np.float64))
    if timestamps:
        factors = np.array(_FACTORS[column.type.unit])
    else:
        factors = np.select([sizes < 1e11, sizes < 1e14, sizes < 1e17], [10**9, 10**6, 1000], 1)
    fits = sizes < LARGEST_TIME // factors
    times = np.where(fits, plain, 0).astype(np.int64) * factors
    times[absent] = now
    return times, fits
