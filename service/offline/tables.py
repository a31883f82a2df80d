"""Tables on disk, read a part at a time: CSV, Parquet or Arrow, of any length.

A table's columns are a schema's fields by name, in any order; other columns are ignored. Reading
is more tolerant than for a request: numbers and booleans may be written as text, booleans as 0 and
1, and an empty cell is a missing value.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePath
from typing import cast

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.fs
import pyarrow.parquet

from models import Field, FieldError, Schema
from models.schema import Numbers, describe
from service.formats.arrow_columns import CategoryEncoder
from service.formats.chunk import Chunk
from service.formats.errors import printable

__all__ = ["Part", "Table", "TableError"]

_ROWS = 1 << 14
"""Rows of a part, at most, where the format leaves it open."""
_NAMED = 5
"""Columns that a message names, at most."""
_BLOCK = 1 << 20
"""Bytes of CSV that are parsed at a time; a line may not be longer."""
_ARROW_FILE = b"ARROW1"
_LOCAL = pa.fs.LocalFileSystem()
_TEXT = frozenset({pa.string(), pa.large_string(), pa.string_view()})

_Batches = Iterator[tuple[pa.RecordBatch, float]]
"""Batches, each with how much of the table has been read by then, 0..1."""


class TableError(Exception):
    """The table cannot be used; one line that says why."""


@dataclass(slots=True, kw_only=True)
class Part(Chunk):
    """Some rows of a table, in order.

    Attributes:
        kept: columns to carry along, of all rows.
        read: how much of the table has been read, 0..1.
    """

    kept: Mapping[str, pa.Array]
    read: float


class Table:
    """A table of records.

    Args:
        path: its ending names the format: .csv or .tsv (.gz and the like after it), .parquet,
            .arrow, .arrows or .feather.
        schema: of a record.
        keep: columns to carry along.
        files: the file system that the path is of.
        groups: row groups to read of a Parquet file; None for all.

    Raises:
        TableError: it cannot be read, or lacks a column.

    Attributes:
        path: as given.
        is_text: whether its cells are text.
        kept: the types of the columns to carry along.
        ignored: its columns that are not used.
        absent: fields without a column; they are missing values.
        first: number of the first row that is read.
    """

    def __init__(
        self,
        path: PurePath,
        schema: Schema,
        keep: Sequence[str] = (),
        *,
        files: pa.fs.FileSystem = _LOCAL,
        groups: range | None = None,
    ) -> None:
        self.path, self._schema = path, schema
        self._source = _Source(path, files, groups)
        self._read = _reader(path)
        with self._reading(), ExitStack() as stack:
            columns, _ = self._read(self._source, stack, None)
            self.first = self._source.rows_before()
        names = columns.names
        self._fields = [field for field in schema.fields if field.name in names]
        used = {field.name for field in self._fields} | set(keep)
        self._columns = [name for name in names if name in used]
        self.ignored = [name for name in names if name not in used]
        self.absent = [field.name for field in schema.fields if field.name not in names]
        self._check(columns, keep)
        self.is_text = self._read is _read_csv
        # Cells of text are copied as they are, whatever they look like.
        self.kept = {
            name: pa.string() if self.is_text else _decodable(columns.field(name).type)
            for name in keep
        }
        self._encoders = {
            field.name: CategoryEncoder(field) for field in self._fields if field.categories
        }

    def parts(self, *, report: bool = False) -> Iterator[Part]:
        """Read the rows; there is at least one part, which may be empty.

        Args:
            report: whether to report rows that do not fit in place.

        Raises:
            TableError: the table breaks off or, unless `report`, a row does not fit.
        """
        first, part = self.first, None
        with self._reading(), ExitStack() as stack:
            columns, batches = self._read(self._source, stack, self._columns)
            for batch, read in batches:
                for start in range(0, batch.num_rows, _ROWS):
                    part = self._part(batch.slice(start, _ROWS), read)
                    if part.faults and not report:
                        row, fault = next(iter(part.faults.items()))
                        raise TableError(
                            f"{self.path}: {self._row(first + row)}, column {fault.field!r}: "
                            f"expected {printable(fault.expected, 200)}, got {fault.got}"
                        )
                    yield part
                    first += len(part)
            if part is None:
                none = {name: pa.nulls(0, columns.field(name).type) for name in self._columns}
                yield self._part(pa.record_batch(none), 1.0)

    def _row(self, index: int) -> str:
        """Return the number of a row; a cell with a newline makes it differ from the line's."""
        if self._read is _read_csv:
            return f"row {index + 2} (the header is row 1)"
        return f"row {index + 1} (from 1)"

    @contextmanager
    def _reading(self) -> Iterator[None]:
        try:
            yield
        except (pa.ArrowException, OSError, UnicodeError, EOFError) as error:
            why = printable((str(error).splitlines() or [type(error).__name__])[0], 300)
            raise TableError(f"{self.path} cannot be read: {why}") from error

    def _check(self, columns: pa.Schema, keep: Sequence[str]) -> None:
        names = columns.names
        if lost := [name for name in self.absent if self._schema[name].required]:
            listed = ", ".join(map(repr, lost[:_NAMED]))
            more = f" and {len(lost) - _NAMED} more" if len(lost) > _NAMED else ""
            why = f"{self.path} lacks {len(lost)} required columns: {listed}{more}"
            if self._read is _read_csv and len(names) == 1:
                between = "tabs" if _delimiter(self.path) == "\t" else "commas"
                why += f"; it has one column: are its cells separated by {between}?"
            raise TableError(why)
        if lost := [name for name in keep if name not in names]:
            raise TableError(f"{self.path} has no column {lost[0]!r} to keep")
        if twice := [name for name in self._columns if names.count(name) > 1]:
            raise TableError(f"{self.path} has several columns {twice[0]!r}")
        for field in self._fields:
            kind = columns.field(field.name).type
            try:
                pa.nulls(0, kind).cast(pa.string() if field.kind == "category" else pa.float64())
            except pa.ArrowException as error:
                raise TableError(
                    f"{self.path}: column {field.name!r}: expected {field.expected}, got {kind}"
                ) from error

    def _part(self, batch: pa.RecordBatch, read: float) -> Part:
        arrays = dict(zip(batch.schema.names, map(_without_views, batch.columns), strict=True))
        numbers = {
            at: self._numbers(field, arrays[field.name])
            for at, field in enumerate(self._schema.fields)
            if field.name in arrays
        }
        matrix, misfits = self._schema.matrix_of(numbers, 0, batch.num_rows)
        chunk = Chunk.checked(matrix, misfits, partial(self._fault, arrays), report=True)
        kept = {name: arrays[name] for name in self.kept}
        return Part(chunk.matrix, chunk.faults, kept=kept, read=read)

    def _fault(self, arrays: Mapping[str, pa.Array], row: int, at: int) -> FieldError:
        field = self._schema.fields[at]
        cell = arrays[field.name][row].as_py() if field.name in arrays else None
        return field.fault(row, _describe(cell))

    def _numbers(self, field: Field, column: pa.Array) -> Numbers:
        """Convert a column: NaN where missing, infinite where it does not fit."""
        if field.kind == "category":
            text = column.cast(pa.string())
            return self._encoders[field.name](pc.if_else(pc.equal(text, ""), None, text))
        boolean = field.kind == "boolean"
        if pa.types.is_dictionary(column.type):
            column = column.dictionary_decode()
        if column.type not in _TEXT:
            numbers = _cast(column)
            if boolean:
                numbers[(numbers != 0) & (numbers != 1) & ~np.isnan(numbers)] = np.inf
            return numbers
        try:
            return _cast(column.cast(pa.bool_()) if boolean else column)
        except pa.ArrowInvalid:
            return _parse(column, _boolean if boolean else _number)


def _decodable(kind: pa.DataType) -> pa.DataType:
    """Return the type without what the library cannot decode: polars' categories are views."""
    if pa.types.is_dictionary(kind) and kind.value_type == pa.string_view():
        return pa.dictionary(kind.index_type, pa.string())
    return kind


def _without_views(column: pa.Array) -> pa.Array:
    kind = _decodable(column.type)
    return column if kind == column.type else column.cast(kind)


def _cast(column: pa.Array) -> npt.NDArray[np.float64]:
    numbers = column.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False, writable=True)
    return cast("npt.NDArray[np.float64]", numbers)


def _parse(text: pa.Array, number_of: Callable[[str], float]) -> Numbers:
    """Parse text of which some is no number, each distinct one once."""
    encoded = text.cast(pa.string()).dictionary_encode()
    numbers = [number_of(value) for value in encoded.dictionary.to_pylist()]
    indices = encoded.indices.fill_null(len(numbers)).to_numpy()
    parsed: Numbers = np.array([*numbers, np.nan])[indices]
    return parsed


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


def _describe(cell: object) -> str:
    """Return the kind of thing that a cell is; text of a number counts as a number."""
    if isinstance(cell, str):
        try:
            return describe(pa.scalar(cell.strip()).cast(pa.float64()).as_py())
        except pa.ArrowInvalid:
            return "a string" if cell.strip() else "null"
    return describe(cell)


@dataclass(frozen=True, slots=True)
class _Source:
    path: PurePath
    files: pa.fs.FileSystem
    groups: range | None

    def open(self, stack: ExitStack) -> pa.NativeFile:
        return stack.enter_context(self.files.open_input_file(str(self.path)))

    def rows_before(self) -> int:
        if not self.groups:
            return 0
        with self.files.open_input_file(str(self.path)) as file:
            metadata = pa.parquet.read_metadata(file)
            return sum(metadata.row_group(group).num_rows for group in range(self.groups.start))


_Reader = Callable[[_Source, ExitStack, Sequence[str] | None], tuple[pa.Schema, _Batches]]
"""Opens a table, and reads some of its columns; None for all."""


def _reader(path: PurePath) -> _Reader:
    if isinstance(path, Path) and not path.is_file():
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
    source: _Source, stack: ExitStack, columns: Sequence[str] | None
) -> tuple[pa.Schema, _Batches]:
    # Every cell is text at first, so that an error can name its row and column.
    converting = pa.csv.ConvertOptions(
        column_types=dict.fromkeys(columns or (), pa.string()),
        include_columns=None if columns is None else list(dict.fromkeys(columns)),
        null_values=[""],
        strings_can_be_null=True,
    )
    path, raw = source.path, source.open(stack)
    size = max(raw.size(), 1)
    file = stack.enter_context(_inflated(raw, path.suffix.lower()))
    reader = stack.enter_context(
        pa.csv.open_csv(
            file,
            # With one thread, the library numbers the row of an error.
            pa.csv.ReadOptions(use_threads=False, block_size=_BLOCK),
            pa.csv.ParseOptions(delimiter=_delimiter(path), newlines_in_values=True),
            converting,
        )
    )
    return reader.schema, ((batch, raw.tell() / size) for batch in reader)


def _delimiter(path: PurePath) -> str:
    return "\t" if ".tsv" in path.name.lower() else ","


def _inflated(raw: pa.NativeFile, ending: str) -> pa.NativeFile:
    names = {".gz": "gzip", ".bz2": "bz2", ".zst": "zstd"}
    return pa.CompressedInputStream(raw, names[ending]) if ending in names else raw


def _read_parquet(
    source: _Source, stack: ExitStack, columns: Sequence[str] | None
) -> tuple[pa.Schema, _Batches]:
    file = stack.enter_context(pa.parquet.ParquetFile(source.open(stack)))
    groups = [*(source.groups or range(file.num_row_groups))]
    rows = max(sum(file.metadata.row_group(group).num_rows for group in groups), 1)

    def batches() -> _Batches:
        done = 0
        chosen = {"row_groups": groups, "columns": columns, "use_threads": False}
        for batch in file.iter_batches(_ROWS, **chosen):
            done += batch.num_rows
            yield batch, done / rows

    return file.schema_arrow, batches()


def _read_arrow(
    source: _Source, stack: ExitStack, columns: Sequence[str] | None
) -> tuple[pa.Schema, _Batches]:
    raw = source.open(stack)
    size = max(raw.size(), 1)
    options = pa.ipc.IpcReadOptions(use_threads=False)
    if raw.read(len(_ARROW_FILE)) == _ARROW_FILE:
        file = stack.enter_context(pa.ipc.open_file(raw, options=options))
        batches: Iterator[pa.RecordBatch] = map(file.get_batch, range(file.num_record_batches))
    else:
        raw.seek(0)
        file = stack.enter_context(pa.ipc.open_stream(raw, options=options))
        batches = iter(file)
    return file.schema, (
        (batch.select(list(columns or ())), raw.tell() / size) for batch in batches
    )
