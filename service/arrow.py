"""Records and answers as an Arrow stream, `application/vnd.apache.arrow.stream`.

A stream is read batch by batch, checked and turned into numbers a column at a time. What is
announced is never believed before it is compared with what is there, and nothing is done that
could cost more than the bytes that were sent: buffers compressed inside the stream are refused
(the whole stream may be compressed by a content encoding), as are dictionaries that grow.

The format: https://arrow.apache.org/docs/format/Columnar.html#serialization-and-interprocess-communication-ipc
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from models import UNKNOWN, Fault, Field, Schema
from models.schema import LARGEST, UNSEEN, Matrix, describe
from service.piece import PIECE_RECORDS, Piece
from service.problems import Unfit, Unreadable, entry_of

__all__ = ["read", "write_embeddings", "write_verdicts"]

_TILE = 16 * PIECE_RECORDS
"""Records whose columns are made numbers of at a time."""
_MOST_FAULTS = 10
_MOST_SCHEMA = 1 << 20
"""Bytes of what describes the columns."""
_MOST_EMPTY = 100
"""Batches without a record: they are read over without a stop."""
_MOST_BUFFERS = 256
"""Buffers of a column, on average: views of strings may have many."""
_MOST_STRINGS = 1 << 16
"""Strings of a dictionary: a millisecond of work."""
_DICTIONARY: Final = 2
"""The kind of message that holds one."""
_V5: Final = 4
"""Since this version of the format, batches say themselves that they are compressed."""

_KINDS = {
    getattr(pa.lib, name): name.removeprefix("Type_").lower()
    for name in dir(pa.lib)
    if name.startswith("Type_")
}
_STRINGS = frozenset({pa.lib.Type_STRING, pa.lib.Type_LARGE_STRING, pa.lib.Type_STRING_VIEW})
_PLAIN = frozenset(
    kind
    for kind, name in _KINDS.items()
    if name.rstrip("0123456789") in {"int", "uint", "half_float", "float", "double"}
)
_DECIMALS = frozenset(kind for kind, name in _KINDS.items() if name.startswith("decimal"))
_REFUSALS = (pa.ArrowException, OSError, ValueError, MemoryError, StopIteration)

Numbers = npt.NDArray[Any]
"""A column as numbers of any kind [n]: NaN where missing, infinite where it does not fit."""


def read(
    body: bytes | bytearray, schema: Schema, most: int, *, report: bool = False
) -> Iterator[Piece]:
    """Read the records of a stream, piece by piece.

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
        Unreadable: it is not an Arrow stream, or one that is not taken.
        Unfit: its columns or records are not those of the schema.
    """
    with _reading():
        stream = _Stream(body)
        table = _Table(schema, stream.schema, report=report)
    records = empty = 0
    while (batch := stream.next()) is not None:
        empty += batch.num_rows == 0
        if empty > _MOST_EMPTY:
            raise Unreadable(f"The stream has more than {_MOST_EMPTY} batches without a record.")
        if records + batch.num_rows > most:
            raise _unfit("records", f"a list of 1 to {most} records", "more of them")
        for start in range(0, batch.num_rows, _TILE):
            yield from table.pieces(batch.slice(start, _TILE), records + start)
        records += batch.num_rows
    if not records:
        raise _unfit("records", f"a list of 1 to {most} records", "an empty stream")


class _Stream:
    """Batches of a stream, each looked at before it is built.

    Args:
        body: the stream.
    """

    def __init__(self, body: bytes | bytearray) -> None:
        self._source = pa.BufferReader(body)
        self._messages = pa.ipc.MessageReader.open_stream(self._source)
        first = self._messages.read_next_message()
        if first.type != "schema" or first.metadata.size > _MOST_SCHEMA:
            raise Unreadable("The stream does not begin with a schema, or with too large a one.")
        options = pa.ipc.IpcReadOptions(use_threads=False)
        self._reader = pa.ipc.open_stream(pa.py_buffer(body), options=options)
        self.schema = self._reader.schema

    def next(self) -> pa.RecordBatch | None:
        """The next batch, or None at the end.

        Raises:
            Unreadable: there is something else.
        """
        with _reading():
            for number, message in enumerate(self._messages):
                if number > len(self.schema):
                    raise Unreadable("The stream has more dictionaries than columns.")
                _check(message.metadata, most=_MOST_BUFFERS * (len(self.schema) + 1))
                if message.type == "record batch":
                    batch = self._reader.read_next_batch()
                    batch.validate()
                    if batch.num_rows < 0:
                        raise Unreadable("The stream has a batch of less than no records.")
                    return batch
            if self._source.tell() < self._source.size():
                raise Unreadable("Something follows the stream's end.")
            return None


class _Table:
    """Turns batches into pieces.

    Args:
        schema: what a record holds.
        columns: what the stream holds.
        report: whether faults are told of with the pieces, or end it all.

    Raises:
        Unfit: the columns are not those of the schema.
    """

    def __init__(self, schema: Schema, columns: pa.Schema, *, report: bool) -> None:
        _check_columns(schema, columns)
        self._fields, self._report = schema.fields, report
        self._required = np.array([field.required for field in schema.fields])
        places = {name: place for place, name in enumerate(columns.names)}
        self._found = [
            (at, places[field.name], _Codes(field) if field.kind == "category" else _numbers)
            for at, field in enumerate(schema.fields)
            if field.name in places
        ]

    def pieces(self, tile: pa.RecordBatch, first: int) -> Iterator[Piece]:
        """The pieces of some of a batch's records; `first` is the index of the first of them."""
        with _reading():
            arrays = tile.columns
            columns = {at: encode(arrays[place]) for at, place, encode in self._found}
        for start in range(0, tile.num_rows, PIECE_RECORDS):
            end = min(start + PIECE_RECORDS, tile.num_rows)
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
            yield Piece(matrix)

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
    ) -> Piece:
        """The records that fit, if they may be taken without the others."""
        if not self._report:
            raise Unfit.of([fault(row, at) for row, at in np.argwhere(bad)[:_MOST_FAULTS].tolist()])
        rows = np.flatnonzero(bad.any(axis=1)).tolist()
        columns = bad.argmax(axis=1).tolist()
        faults = {row: fault(row, columns[row]) for row in rows}
        return Piece(np.delete(matrix, rows, axis=0), faults)

    def _fault(
        self,
        tile: pa.RecordBatch,
        columns: dict[int, Numbers],
        first: int,
        start: int,
        row: int,
        at: int,
    ) -> Fault:
        """What is wrong with a field of a piece's record; no value is read from the tile again."""
        field, number = self._fields[at], columns[at][start + row]
        if field.kind in {"boolean", "category"}:
            got = "null" if np.isnan(number) else "a string"
        else:
            is_null = tile.column(field.name).slice(start + row, 1).null_count
            got = "null" if is_null else describe(float(number))
        return Fault(first + start + row, field.name, field.expected, got)


class _Codes:
    """Turns a column of strings into a category's codes.

    Args:
        field: a category.
    """

    def __init__(self, field: Field) -> None:
        self._name = field.name
        self._known = pa.array(field.categories, pa.string())
        self._longest = max(len(category.encode()) for category in field.categories)
        unknown = UNSEEN if field.open else np.inf
        self._codes = np.array([*range(len(field.categories)), unknown], np.float32)
        # Kept with its codes: as long as it is, nothing else has its address.
        self._dictionary = pa.nulls(0)
        self._dictionary_codes = np.array([np.nan], np.float32)

    def __call__(self, column: pa.Array) -> Numbers:
        """Encode a column: float32 [n]."""
        match column.type.id:
            case pa.lib.Type_NA:
                return np.full(len(column), np.nan, np.float32)
            case pa.lib.Type_DICTIONARY:
                return self._look_up(column)
        return self._encode(column)

    def _encode(self, strings: pa.Array) -> Matrix:
        nulls = strings.is_null().to_numpy(zero_copy_only=False)
        beyond = nulls
        if strings.type.id == pa.lib.Type_STRING_VIEW:
            strings, beyond = self._copied(strings, nulls)
        strings.validate(full=True)
        unknown = len(self._known)
        places = pc.index_in(strings, value_set=self._known).fill_null(unknown).to_numpy()
        codes: Matrix = self._codes[np.where(beyond, unknown, places)]
        codes[nulls] = np.nan
        return codes

    def _copied(
        self, views: pa.Array, nulls: npt.NDArray[np.bool_]
    ) -> tuple[pa.Array, npt.NDArray[np.bool_]]:
        """Views of strings as strings, and which of them are too long to be known.

        Many views may show the same long string, and so only short ones are followed.
        """
        _, words, *shown = views.buffers()
        headers = np.zeros((0, 4), np.int32)
        if len(views):
            held = np.frombuffer(words, np.int32, 4 * len(views), 16 * views.offset)
            headers = held.reshape(-1, 4).copy()
        long = headers[:, 0] > self._longest
        headers[long | nulls] = 0
        buffers = [None, pa.py_buffer(headers), *shown]
        short = pa.Array.from_buffers(pa.string_view(), len(views), buffers)
        short.validate(full=True)
        return short.cast(pa.string()), long

    def _look_up(self, column: pa.Array) -> Matrix:
        """Encode a column of places in a dictionary, each of whose strings is encoded once."""
        dictionary = column.dictionary
        if _address(dictionary) != _address(self._dictionary):
            if len(dictionary) > _MOST_STRINGS:
                wanted = f"a dictionary of at most {_MOST_STRINGS} strings"
                raise _unfit(self._name, wanted, f"{len(dictionary)} strings")
            self._dictionary_codes = np.append(self._encode(dictionary), np.float32(np.nan))
            self._dictionary = dictionary
        indices = column.indices
        nulls = indices.is_null().to_numpy(zero_copy_only=False)
        places = indices.fill_null(0).to_numpy().astype(np.int64)
        if np.any(((places < 0) | (places >= len(dictionary))) & ~nulls):
            raise Unreadable("The stream refers to strings that a dictionary does not have.")
        codes: Matrix = self._dictionary_codes[np.where(nulls, len(dictionary), places)]
        return codes


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
        self._missing[[fault.record for fault in faults or ()]] = True

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


@contextmanager
def _reading() -> Iterator[None]:
    """Whatever the library finds wrong with a stream, without its words: they may quote it."""
    try:
        yield
    except (*_REFUSALS, struct.error) as error:
        wrong = "The body is not an Arrow stream, or it is corrupt or breaks off."
        raise Unreadable(wrong) from error


def _unfit(field: str, expected: str, got: str) -> Unfit:
    return Unfit([(None, field, expected, got)])


def _check_columns(schema: Schema, columns: pa.Schema) -> None:
    names, types = columns.names, dict(zip(columns.names, columns.types, strict=True))
    faults = [
        (None, name, "only fields of the schema", "a column it does not have")
        for name in types.keys() - set(schema.names)
    ]
    for field in schema.fields:
        kind = types.get(field.name)
        if kind is None and field.required:
            faults.append((None, field.name, _wanted(field), "no such column"))
        elif kind is not None and not _fits(field, kind):
            got = f"a column of {_KINDS.get(kind.id, 'another type')}"
            faults.append((None, field.name, _wanted(field), got))
        elif len(types) < len(names) and names.count(field.name) > 1:
            faults.append((None, field.name, "one column", "several"))
    if faults:
        raise Unfit(faults)


def _wanted(field: Field) -> str:
    match field.kind:
        case "boolean":
            return "a column of bool"
        case "category":
            return "a column of strings, or of a dictionary of strings"
    return "a column of integers, floats or decimals"


def _fits(field: Field, kind: pa.DataType) -> bool:
    if kind.id == pa.lib.Type_NA:
        return True
    match field.kind:
        case "boolean":
            return bool(kind.id == pa.lib.Type_BOOL)
        case "category":
            held = kind.value_type if kind.id == pa.lib.Type_DICTIONARY else kind
            return held.id in _STRINGS
    return kind.id in _PLAIN or kind.id in _DECIMALS


def _numbers(column: pa.Array) -> Numbers:
    column.validate(full=True)
    if column.null_count or column.type.id not in _PLAIN:
        column = column.cast(pa.float64(), safe=False)
    numbers: Numbers = column.to_numpy(zero_copy_only=False)
    return numbers


def _address(array: pa.Array) -> tuple[object, ...]:
    buffers = [buffer and (buffer.address, buffer.size) for buffer in array.buffers()]
    return (len(array), array.offset, *buffers)


def _check(metadata: pa.Buffer, *, most: int) -> None:
    """Refuse what could cost more than it weighs.

    Args:
        metadata: of a message: a flatbuffer, which the library has verified.
        most: buffers that a batch may have.
    """
    data = memoryview(metadata)
    message = _inner(data, 0)
    version, header, custom = (_slot(data, message, number) for number in (0, 2, 4))
    if header is None:
        raise Unreadable("The stream has an empty message.")
    kind = _slot(data, message, 1)
    batch = _inner(data, header)
    if kind is not None and data[kind] == _DICTIONARY:
        grows, held = _slot(data, batch, 2), _slot(data, batch, 1)
        if grows is not None and data[grows]:
            raise Unreadable("The stream has a dictionary that grows; send it anew instead.")
        batch = batch if held is None else _inner(data, held)
    old = version is None or struct.unpack_from("<h", data, version)[0] < _V5
    if _slot(data, batch, 3) is not None or (old and custom is not None):
        raise Unreadable("The stream has compressed buffers; compress the whole of it instead.")
    buffers = _slot(data, batch, 2)
    if buffers is not None and struct.unpack_from("<I", data, _inner(data, buffers))[0] > most:
        raise Unreadable(f"The stream has a batch of more than {most} buffers.")


def _slot(data: memoryview, table: int, number: int) -> int | None:
    """Where a field of a flatbuffer's table is; None where it is left out."""
    layout = table - struct.unpack_from("<i", data, table)[0]
    place = 4 + 2 * number
    if place >= struct.unpack_from("<H", data, layout)[0]:
        return None
    offset: int = struct.unpack_from("<H", data, layout + place)[0]
    return table + offset if offset else None


def _inner(data: memoryview, place: int) -> int:
    """What a flatbuffer refers to here."""
    offset: int = struct.unpack_from("<I", data, place)[0]
    return place + offset
