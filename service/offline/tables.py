"""Tables on disk, read a part at a time: CSV, Parquet or Arrow, of any length.

A table's columns are a schema's fields by name, in any order, among others that are passed over. It
is read more kindly than a request is: numbers and booleans may be written as text, booleans as 0
and 1, and an empty cell is a missing value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet

from models import Fault, Field, Schema
from models.schema import LARGEST, Matrix, describe
from service.formats.arrow_columns import Codes, Numbers
from service.formats.errors import printable

__all__ = ["Part", "Table", "TableError"]

_ROWS = 1 << 14
"""Rows of a part, at most, where the format leaves it open."""
_BLOCK = 1 << 20
"""Bytes of CSV that are parsed at a time; a line may not be longer."""
_ARROW_FILE = b"ARROW1"
_TEXT = frozenset({pa.string(), pa.large_string(), pa.string_view()})

_Batches = Iterator[tuple[pa.RecordBatch, float]]
"""Batches, each with how much of the table has been read by then, 0..1."""


class TableError(Exception):
    """The table cannot be used; one line that says why."""


@dataclass(frozen=True, slots=True)
class Part:
    """Some rows of a table, in order.

    Attributes:
        matrix: float32 [n, fields] of those that fit the schema, NaN where missing.
        faults: what is wrong with each of the others, by its place in the part.
        kept: columns that were asked for, of all rows.
        read: how much of the table has been read, 0..1.
    """

    matrix: Matrix
    faults: Mapping[int, Fault]
    kept: Mapping[str, pa.Array]
    read: float

    def __len__(self) -> int:
        return len(self.matrix) + len(self.faults)


class Table:
    """A table of records.

    Args:
        path: its ending says what it is: .csv or .tsv (.gz and the like after it), .parquet,
            .arrow, .arrows or .feather.
        schema: what a record holds.
        keep: columns to carry along.

    Raises:
        TableError: it cannot be read, or lacks a column.

    Attributes:
        ignored: its columns that nothing is made of.
        absent: fields that it has no column of; they are missing values.
    """

    def __init__(self, path: Path, schema: Schema, keep: Sequence[str] = ()) -> None:
        self._path, self._schema, self._keep = path, schema, tuple(dict.fromkeys(keep))
        self._read = _reader(path)
        with self._reading(), ExitStack() as stack:
            columns, _ = self._read(path, stack, None)
        names = columns.names
        self._fields = [field for field in schema.fields if field.name in names]
        wanted = {field.name for field in self._fields} | set(self._keep)
        self._columns = [name for name in names if name in wanted]
        self.ignored = [name for name in names if name not in wanted]
        self.absent = [field.name for field in schema.fields if field.name not in names]
        self._check(columns)
        self._required = np.array([field.required for field in schema.fields])
        self._codes = {
            field.name: Codes(field) for field in self._fields if field.kind == "category"
        }

    def parts(self, *, report: bool = False) -> Iterator[Part]:
        """Read the rows; there is one part at least, which may be empty.

        Args:
            report: whether a row that does not fit is told of in its place.

        Raises:
            TableError: the table breaks off or, unless `report`, a row does not fit.
        """
        first, part = 0, None
        with self._reading(), ExitStack() as stack:
            columns, batches = self._read(self._path, stack, self._columns)
            for batch, read in batches:
                for start in range(0, batch.num_rows, _ROWS):
                    part = self._part(batch.slice(start, _ROWS), read)
                    if part.faults and not report:
                        row, fault = next(iter(part.faults.items()))
                        raise TableError(
                            f"{self._path}: row {first + row} (from 0), column {fault.field!r}: "
                            f"expected {printable(fault.expected, 200)}, got {fault.got}"
                        )
                    yield part
                    first += len(part)
            if part is None:
                none = {name: pa.nulls(0, columns.field(name).type) for name in self._columns}
                yield self._part(pa.record_batch(none), 1.0)

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeError, EOFError) as error:
            why = printable((str(error).splitlines() or [type(error).__name__])[0], 300)
            raise TableError(f"{self._path} cannot be read: {why}") from error

    def _check(self, columns: pa.Schema) -> None:
        names = columns.names
        if lost := [name for name in self.absent if self._schema[name].required]:
            listed = ", ".join(map(repr, lost[:20])) + (", ..." if len(lost) > 20 else "")
            raise TableError(f"{self._path} lacks {len(lost)} required columns: {listed}")
        if lost := [name for name in self._keep if name not in names]:
            raise TableError(f"{self._path} has no column {lost[0]!r} to keep")
        if twice := [name for name in self._columns if names.count(name) > 1]:
            raise TableError(f"{self._path} has several columns {twice[0]!r}")
        for field in self._fields:
            kind = columns.field(field.name).type
            try:
                pa.nulls(0, kind).cast(pa.string() if field.kind == "category" else pa.float64())
            except pa.ArrowException as error:
                raise TableError(
                    f"{self._path}: column {field.name!r}: expected {field.expected}, got {kind}"
                ) from error

    def _part(self, batch: pa.RecordBatch, read: float) -> Part:
        arrays = dict(zip(batch.schema.names, batch.columns, strict=True))
        numbers = np.full((batch.num_rows, len(self._schema)), np.nan)
        for at, field in enumerate(self._schema.fields):
            if field.name in arrays:
                numbers[:, at] = self._numbers(field, arrays[field.name])
        bad = (np.abs(numbers) > LARGEST) | (np.isnan(numbers) & self._required)
        kept = {name: arrays[name] for name in self._keep}
        if not bad.any():
            return Part(numbers.astype(np.float32), {}, kept, read)
        rows = np.flatnonzero(bad.any(axis=1))
        faults = {}
        for row, at in zip(rows.tolist(), bad[rows].argmax(axis=1).tolist(), strict=True):
            field = self._schema.fields[at]
            cell = arrays[field.name][row].as_py() if field.name in arrays else None
            faults[row] = Fault(row, field.name, field.expected, _told(cell))
        return Part(np.delete(numbers, rows, axis=0).astype(np.float32), faults, kept, read)

    def _numbers(self, field: Field, column: pa.Array) -> Numbers:
        """A column as numbers: NaN where missing, infinite where it does not fit."""
        if field.kind == "category":
            return self._codes[field.name](_without_blanks(column.cast(pa.string())))
        boolean = field.kind == "boolean"
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.type not in _TEXT:
            numbers = _plain(column)
            if boolean:
                numbers[(numbers != 0) & (numbers != 1) & ~np.isnan(numbers)] = np.inf
            return numbers
        try:
            return _plain(column.cast(pa.bool_()) if boolean else column)
        except pa.ArrowInvalid:
            return _parsed(column, _boolean if boolean else _number)


def _plain(column: pa.Array) -> npt.NDArray[np.float64]:
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False, writable=True)
    return cast("npt.NDArray[np.float64]", numbers)


def _without_blanks(text: pa.Array) -> pa.Array:
    empty = pc.equal(text, "")
    return pc.if_else(empty, None, text) if pc.any(empty).as_py() else text


def _parsed(text: pa.Array, number: Callable[[str], float]) -> Numbers:
    """Text of which some is no number, each distinct one looked at once."""
    encoded = text.cast(pa.string()).dictionary_encode()
    known = [number(each) for each in encoded.dictionary.to_pylist()]
    places = encoded.indices.fill_null(len(known)).to_numpy()
    numbers: Numbers = np.array([*known, np.nan])[places]
    return numbers


def _number(text: str) -> float:
    trimmed = text.strip()
    try:
        return float(pa.scalar(trimmed).cast(pa.float64()).as_py()) if trimmed else np.nan
    except pa.ArrowInvalid:
        return np.inf


def _boolean(text: str) -> float:
    try:
        return float(pa.scalar(text.strip()).cast(pa.bool_()).as_py())
    except pa.ArrowInvalid:
        number = _number(text)
        return number if number in {0, 1} or np.isnan(number) else np.inf


def _told(cell: object) -> str:
    """What a cell is, without its content; text that is a number is told of as one."""
    if isinstance(cell, str):
        try:
            return describe(pa.scalar(cell.strip()).cast(pa.float64()).as_py())
        except pa.ArrowInvalid:
            return "null" if not cell.strip() else "a string"
    return describe(cell)


_Reader = Callable[[Path, ExitStack, Sequence[str] | None], tuple[pa.Schema, _Batches]]
"""Opens a table, and reads all of its columns or some."""


def _reader(path: Path) -> _Reader:
    if not path.is_file():
        raise TableError(f"there is no table {path}")
    match [ending.lower() for ending in path.suffixes[-2:]]:
        case [*_, ".parquet"]:
            return _read_parquet
        case [*_, ".arrow" | ".arrows" | ".feather"]:
            return _read_arrow
        case [*_, ".csv" | ".tsv"] | [".csv" | ".tsv", ".gz" | ".bz2" | ".zst"]:
            return _read_csv
    raise TableError(f"{path} ends in none of .csv, .csv.gz, .tsv, .tsv.gz, .parquet, .arrow")


def _read_csv(
    path: Path, stack: ExitStack, columns: Sequence[str] | None
) -> tuple[pa.Schema, _Batches]:
    # Every cell is text at first: what does not fit is then told of by row and column.
    converting = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(columns or (), pa.string()),
        include_columns=None if columns is None else list(dict.fromkeys(columns)),
        null_values=[""],
        strings_can_be_null=True,
    )
    raw = stack.enter_context(pa.OSFile(str(path)))
    size = max(raw.size(), 1)
    file = stack.enter_context(_inflated(raw, path.suffix.lower()))
    reader = stack.enter_context(
        pa.csv.open_csv(
            file,
            # One thread gives lines their numbers; the other works on what was read.
            pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            pa.csv.ParseOptions(
                delimiter="\t" if ".tsv" in path.name.lower() else ",", newlines_in_values=True
            ),
            converting,
        )
    )
    return reader.schema, ((batch, raw.tell() / size) for batch in reader)


def _inflated(raw: pa.NativeFile, ending: str) -> pa.NativeFile:
    names = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
    return pa.CompressedInputStream(raw, names[ending]) if ending in names else raw


def _read_parquet(
    path: Path, stack: ExitStack, columns: Sequence[str] | None
) -> tuple[pa.Schema, _Batches]:
    file = stack.enter_context(pa.parquet.ParquetFile(path))
    rows = max(file.metadata.num_rows, 1)

    def batches() -> _Batches:
        done = 0
        for batch in file.iter_batches(_ROWS, columns=columns, use_threads=False):
            done += batch.num_rows
            yield batch, done / rows

    return file.schema_arrow, batches()


def _read_arrow(
    path: Path, stack: ExitStack, columns: Sequence[str] | None
) -> tuple[pa.Schema, _Batches]:
    raw = stack.enter_context(pa.OSFile(str(path)))
    size = max(raw.size(), 1)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if raw.read(len(_ARROW_FILE)) == _ARROW_FILE:
        file = stack.enter_context(pa.ipc.open_file(raw, options=options))
        found: Iterator[pa.RecordBatch] = map(file.get_batch, range(file.num_record_batches))
    else:
        raw.seek(0)
        file = stack.enter_context(pa.ipc.open_stream(raw, options=options))
        found = iter(file)
    schema = file.schema
    return schema, ((batch.select(list(columns or ())), raw.tell() / size) for batch in found)
