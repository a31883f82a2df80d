"""Messages of records that somebody made already, with their keys and times: JSON or Arrow.

JSON is an object, and no Arrow stream begins as one.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from typing import Annotated, Any, Final

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from models import RecordError
from models.schema import Matrix
from models.telemetry.mapping import Mapping
from service.formats.arrow_columns import numbers_of
from service.formats.arrow_ipc import reading
from service.formats.arrow_reader import read
from service.formats.chunk import Chunk
from service.formats.errors import MalformedInputError, printable
from service.formats.json_diagnosis import DECODE_ERRORS
from service.formats.json_text import without_bom
from service.ingest.arrow_series import MAX_TEXT, check_texts
from service.runtime.judging import key_of
from service.scoring.served_model import ServedModel

__all__ = ["RECORDS", "Made", "read_records"]

RECORDS = "records"
"""The format of such messages."""
_TIME: Final = "time"
_LONGEST_REASON: Final = 300
_INCOMPLETE: Final = "Every record needs a key and a time"

_Times = NDArray[np.float64]
_Text = Annotated[str, msgspec.Meta(max_length=MAX_TEXT)]
_Integer = Annotated[int, msgspec.Meta(ge=-(1 << 63), le=(1 << 63) - 1)]
_Moment = Annotated[datetime, msgspec.Meta(tz=True)]


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
    """Read records with the fields of the model, the mapping's key, and `time`.

    Args:
        body: `{"records": [...]}`, or an Arrow stream.
        served: the model, and how many records a message may hold.
        mapping: names what makes a key.
        arrived: time stamp of the message, seconds since the Unix epoch.

    Raises:
        MalformedInputError: it is something else, a record does not fit the schema, or a time is
            farther ahead of the arrival than points may be.
    """
    is_json = without_bom(body)[:64].lstrip()[:1] in (b"{", b"[")
    try:
        chunks, parts, times = (_of_json if is_json else _of_arrow)(body, served, mapping.key)
    except RecordError as error:
        reason = printable(str(error), _LONGEST_REASON)
        raise MalformedInputError(f"Records do not fit: {reason}") from error
    if any(None in part for part in parts) or not np.isfinite(times).all():
        raise MalformedInputError(f"{_INCOMPLETE}.")
    if times.max() > arrived + mapping.ahead:
        raise MalformedInputError("The time of a record is far ahead of the message's.")
    keys = [key_of([*map(str, key)]) for key in zip(*parts, strict=True)]
    return Made(keys, times, np.concatenate([chunk.matrix for chunk in chunks]))


_Read = tuple[list[Chunk], Sequence[Sequence[str | int | None]], _Times]
"""Records, the values of each tag of their keys, and their times, NaN where there is none."""


def _of_json(body: bytes, served: ServedModel, key: tuple[str, ...]) -> _Read:
    chunks = [*served.classify_decoder.read(body, ignore_extra=True).chunks]
    try:
        heads = _heads(key).decode(without_bom(body)).records
    except DECODE_ERRORS as error:
        raise MalformedInputError(f"{_INCOMPLETE}: {error}.") from error
    *parts, times = zip(*map(msgspec.structs.astuple, heads), strict=True)
    seconds = [time.timestamp() if isinstance(time, datetime) else time for time in times]
    return chunks, parts, np.array(seconds, np.float64)


@cache
def _heads(key: tuple[str, ...]) -> msgspec.json.Decoder[Any]:
    """Return a decoder of what records have beside the fields of the model."""
    names = {f"key_{at}": name for at, name in enumerate(key)} | {"time": _TIME}
    fields: list[tuple[str, Any, None]] = [(name, _Text | _Integer | None, None) for name in names]
    fields[-1] = ("time", float | _Moment | None, None)
    head = msgspec.defstruct("Head", fields, rename=names, gc=False)
    return msgspec.json.Decoder(msgspec.defstruct("Heads", [("records", list[head])]))  # type: ignore[valid-type]


def _of_arrow(body: bytes, served: ServedModel, key: tuple[str, ...]) -> _Read:
    batches: list[pa.RecordBatch] = []
    schema, most = served.model.schema, served.max_records
    chunks = [*read(body, schema, most, ignore_extra=True, on_batch=batches.append)]
    columns = batches[0].schema
    for name in (*key, _TIME):
        if columns.names.count(name) != 1:
            raise MalformedInputError(f"The stream has no column {name!r}, or several.")
    for name in key:
        if not _is_text(columns.field(name).type):
            raise MalformedInputError(f"The column {name!r} needs texts.")
    if not _is_time(columns.field(_TIME).type):
        raise MalformedInputError(f"The column {_TIME!r} needs timestamps or seconds.")
    with reading():
        parts = [[text for batch in batches for text in _texts(batch[name])] for name in key]
        return chunks, parts, np.concatenate([_seconds(batch[_TIME]) for batch in batches])


def _is_text(kind: pa.DataType) -> bool:
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    return kind in {pa.string(), pa.large_string(), pa.string_view()} or pa.types.is_integer(kind)


def _is_time(kind: pa.DataType) -> bool:
    tests = pa.types.is_timestamp, pa.types.is_integer, pa.types.is_floating, pa.types.is_decimal
    return any(test(kind) for test in tests)


def _texts(column: pa.Array) -> list[str | None]:
    """Return texts; many rows may refer to one of a dictionary, so none of it may be long."""
    column.validate(full=True)
    is_dictionary = pa.types.is_dictionary(column.type)
    texts = column.dictionary if is_dictionary else column
    check_texts(texts)
    texts = texts.cast(pa.string())
    if (pc.max(pc.utf8_length(texts)).as_py() or 0) > MAX_TEXT:
        raise MalformedInputError(f"A key is longer than {MAX_TEXT} characters.")
    taken: list[str | None] = (texts.take(column.indices) if is_dictionary else texts).to_pylist()
    return taken


def _seconds(column: pa.Array) -> _Times:
    """Return times as seconds, NaN where there is none; timestamps to the microsecond, as JSON."""
    factor = 1.0
    if pa.types.is_timestamp(column.type):
        options = pc.CastOptions(pa.timestamp("us"), allow_time_truncate=True)
        column, factor = pc.cast(column, options=options).cast(pa.int64()), 1e6
    return numbers_of(column).astype(np.float64) / factor
