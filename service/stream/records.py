"""Messages of records that somebody made already: an Arrow stream with their keys and times."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from models import RecordError
from models.schema import Matrix
from models.telemetry.mapping import Mapping
from service.formats.arrow_ipc import reading
from service.formats.arrow_reader import read
from service.formats.errors import MalformedInputError
from service.runtime.judging import key_of
from service.scoring.served_model import ServedModel

__all__ = ["RECORDS", "Made", "read_records"]

RECORDS = "records"
"""The format of such messages."""
_TIME = "time"


@dataclass(frozen=True, slots=True, eq=False)
class Made:
    """Records of a message.

    Attributes:
        keys: what each is of.
        times: of each, seconds since the Unix epoch: float64 [n].
        matrix: float32 [n, fields], NaN where missing.
    """

    keys: list[str]
    times: NDArray[np.float64]
    matrix: Matrix


def read_records(body: bytes, served: ServedModel, mapping: Mapping, arrived: float) -> Made:
    """Read a stream with the columns of the mapping's key, `time`, and fields of the model.

    Raises:
        MalformedInputError: it is something else, a record does not fit the schema, or a time is
            farther ahead of the arrival (seconds since the Unix epoch) than points may be.
    """
    schema = served.model.schema
    try:
        chunks = [*read(body, schema, served.max_records, ignore_extra=True)]
    except RecordError as error:
        raise MalformedInputError(f"Records do not fit: {error}") from error
    with reading(), pa.ipc.open_stream(body) as stream:
        table = stream.read_all()
        missing = {*mapping.key, _TIME} - {*table.column_names}
        if missing:
            raise MalformedInputError(f"The stream has no column {min(missing)!r}.")
        parts = [table[name].cast(pa.string()).to_pylist() for name in mapping.key]
        times = _seconds(table[_TIME])
    if any(None in part for part in parts) or not np.isfinite(times).all():
        raise MalformedInputError("Every record needs a key and a time.")
    if times.max() > arrived + mapping.ahead:
        raise MalformedInputError("The time of a record is far ahead of the message's.")
    keys = [key_of(key) for key in zip(*parts, strict=True)]
    return Made(keys, times, np.concatenate([chunk.matrix for chunk in chunks]))


def _seconds(column: pa.ChunkedArray) -> NDArray[np.float64]:
    """Return times as seconds; NaN where there is none."""
    factor = 1.0
    if pa.types.is_timestamp(column.type):
        column, factor = column.cast(pa.timestamp("ns")).cast(pa.int64()), 1e9
    seconds: NDArray[np.float64] = column.cast(pa.float64(), safe=False).to_numpy() / factor
    return seconds
