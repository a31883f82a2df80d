"""Read a table from a file of any usual format."""

import dataclasses
import functools
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from training.dataset.cells import Decimal
from training.dataset.sampling import Plan, Sample, sample_frame, sample_parquet
from training.dataset.text import PACKED, line_numbers, read_text, unpacked
from training.recipe import Reading, RecipeError, TableError

_MAGIC = {
    b"PAR1": "Parquet",
    b"ARROW1": "Arrow",
    b"\xff\xff\xff\xff": "Arrow stream",
    b"PK\x03\x04": "Excel",
    b"\xd0\xcf\x11\xe0": "Excel",
}
_ENDINGS = {
    ".parquet": "Parquet",
    ".arrow": "Arrow",
    ".feather": "Arrow",
    ".ipc": "Arrow",
    ".arrows": "Arrow stream",
    ".xlsx": "Excel",
    ".xls": "Excel",
    ".ndjson": "NDJSON",
    ".jsonl": "NDJSON",
}


@dataclass(frozen=True, slots=True, eq=False)
class Table:
    """A table as its file has it."""

    path: Path
    rows: pl.DataFrame
    decimal: Decimal = "."  # the mark that numbers in text seem to have
    notes: tuple[str, ...] = ()  # what was guessed or left out
    sample: Sample | None = None  # which of its rows these are, if not all of them

    def places(self, rows: Collection[int], reading: Reading) -> list[str]:
        """Name rows as an editor of the file counts them."""
        if self.sample:
            rows = [int(self.sample.rows[row]) for row in rows]
        match _format(self.path):
            case "text":
                return [f"line {line}" for line in line_numbers(self.path, reading, rows)]
            case "NDJSON":
                return [f"line {row + 1}" for row in rows]
            case "Excel":
                return [f"row {row + 2}" for row in rows]
        return [f"row {row + 1} (from 1)" for row in rows]


def read_file(
    path: Path,
    reading: Reading | None = None,
    plan: Plan | None = None,
    as_text: frozenset[str] = frozenset(),
) -> Table:
    """Read text with separators, NDJSON, Parquet, Arrow or Excel, as the file's content tells.

    Columns without a name and without a value, which a separator at the end of lines makes, are
    left out. A plan takes some of the rows only; of a Parquet file no others are held in memory.
    Columns of a text in `as_text` stay text (see `read_text`).

    Raises:
        RecipeError: there is no such file, or it cannot be read.
        TableError: what it holds is no table, or has no rows.
    """
    if not path.exists():
        raise RecipeError(f"there is no table {path}")
    if path.is_dir():
        raise RecipeError(f"the table {path} cannot be read: it is a folder; give a file in it")
    stat = path.stat()
    state = stat.st_mtime_ns, stat.st_size
    return _read(path, reading or Reading(), plan, as_text, state)


@functools.lru_cache(maxsize=2)  # a table is read again for every split and its first page
def _read(
    path: Path,
    reading: Reading,
    plan: Plan | None,
    as_text: frozenset[str],
    state: tuple[int, int],
) -> Table:
    del state  # of the file: another one is another entry
    form = _format(path)
    try:
        table = _content(path, form, reading, plan, as_text)
    except ModuleNotFoundError as error:
        raise RecipeError(
            f"the table {path} cannot be read without fastexcel: pip install -c constraints.txt "
            "'.[excel]', or save the table as CSV"
        ) from error
    except (OSError, ValueError, pl.exceptions.PolarsError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise TableError(f"the table {path} cannot be read as {form}: {reason}") from error
    rows, notes = table.rows, table.notes
    nameless = [
        column.name
        for column in rows
        if not column.name.split("_duplicated_")[0].strip() and column.null_count() == len(rows)
    ]
    if nameless:
        notes = (*notes, f"{len(nameless)} columns without a name and a value were left out")
        rows = rows.drop(nameless)
    if rows.is_empty():
        raise TableError(f"the table {path} holds no rows below the names of its columns")
    if numbers := [name for name in rows.columns if re.fullmatch(r"[-+]?\d*[.,]?\d+", name)]:
        notes = (*notes, f"a column is called {numbers[0]!r}: has {path.name} a line of names?")
    return dataclasses.replace(table, rows=rows, notes=notes)


def _content(
    path: Path, form: str, reading: Reading, plan: Plan | None, as_text: frozenset[str]
) -> Table:
    if form == "text":
        table = Table(path, *read_text(path, reading, as_text))
    elif form == "Parquet" and plan and (sampled := sample_parquet(path, plan)):
        return _sampled(Table(path, pl.DataFrame()), *sampled)
    else:
        table = Table(path, _frame(path, form))
    if plan and (sampled := sample_frame(table.rows, plan)):
        return _sampled(table, *sampled)
    return table


def _sampled(table: Table, rows: pl.DataFrame, sample: Sample) -> Table:
    notes = (sample.note(table.path), *table.notes)
    return dataclasses.replace(table, rows=rows, notes=notes, sample=sample)


def _format(path: Path) -> str:
    """Return the format that the first bytes show or, if they show none, the file's ending."""
    with path.open("rb") as file:
        start = file.read(8)
    shown = (form for magic, form in _MAGIC.items() if start.startswith(magic))
    endings = path.suffixes[-2:] if path.suffix in PACKED else path.suffixes[-1:]
    named = (_ENDINGS[ending] for ending in map(str.lower, endings) if ending in _ENDINGS)
    return next(shown, None) or next(named, "text")


def _frame(path: Path, form: str) -> pl.DataFrame:
    match form:
        case "Parquet":
            return pl.read_parquet(path, glob=False)
        case "Arrow":
            return pl.read_ipc(path.read_bytes())
        case "Arrow stream":
            return pl.read_ipc_stream(path)
        case "NDJSON":
            return pl.read_ndjson(unpacked(path), infer_schema_length=None)
    try:
        return pl.read_excel(path, infer_schema_length=None)
    except ModuleNotFoundError:
        raise
    except Exception as error:  # of fastexcel, which is not always installed
        raise ValueError(str(error)) from error
