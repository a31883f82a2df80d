"""Text tables: from bytes in any usual encoding and dialect to a frame."""

import bz2
import csv
import gzip
import io
import lzma
import re
import sys
import zlib
from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl
import polars.selectors as cs

from training.dataset.cells import Decimal, decimal_mark
from training.recipe import Reading, TableError

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PACKED = (".gz", ".bz2", ".xz", ".zst")
_SAMPLE = 1 << 18  # Bytes from the start that show the dialect
_LINES = 200
_ROWS = 10_000
_SEPARATORS = "\t;|,"  # Of equally good ones the first: a comma may be a decimal mark instead
_BLANK = " \r\n"  # What a blank line has; a tab may separate empty cells
_QUOTED = '"[^"]*"'
_CONTROL = re.compile(rb"[\x00-\x08\x0e-\x1f]")

_DECOMPRESS: dict[bytes, Callable[[bytes], bytes]] = {
    b"\x1f\x8b": gzip.decompress,
    b"BZh": bz2.decompress,
    b"\xfd7zXZ\0": lzma.decompress,
    b"\x28\xb5\x2f\xfd": zstd.decompress,
}


class TextTable(NamedTuple):
    """A text table as it was read."""

    rows: pl.DataFrame
    decimal: Decimal  # the mark that its numbers have, as far as the first lines show
    notes: tuple[str, ...]  # what was guessed or skipped


def read_text(path: Path, reading: Reading, as_text: Collection[str] = ()) -> TextTable:
    """Read a table of text; what `reading` does not give is detected.

    Args:
        path: of the table.
        reading: how.
        as_text: columns, or patterns of them, that are no numbers whatever they look like: 1.10 is
            another version than 1.1.

    Raises:
        TableError: it is no text, or a row has not as many cells as the header.
        PolarsError: it cannot be parsed for another reason.
    """
    text, notes = _text(path, reading.encoding)
    lines = _Lines.of(text, reading.separator)
    if lines.table.is_empty():
        raise TableError(f"the table {path} cannot be read: it has nothing but comments")
    if lines.may_be_ragged:
        _refuse_ragged(path, text, lines.separator)
    if lines.comments:
        notes.append(f"{lines.comments} lines of {path.name} that begin with # were skipped")
    decimal = reading.decimal or lines.decimal
    try:
        rows = _parsed(
            lines.join() if lines.skipped else text,
            separator=lines.separator,
            decimal_comma=decimal == "," != lines.separator,
            as_text=as_text,
        )
    except pl.exceptions.PolarsError:
        _refuse_ragged(path, text, lines.separator, failed=True)
        raise
    return TextTable(rows, decimal, tuple(notes))


def _parsed(text: bytes, as_text: Collection[str], **dialect: Any) -> pl.DataFrame:
    """Parse a text, each column in the type that all of its cells have."""
    if as_text:
        names = pl.read_csv(io.BytesIO(text), n_rows=0, **dialect).columns
        kept = [n for n in names if any(n == p or fnmatchcase(n, p) for p in as_text)]
        dialect["schema_overrides"] = dict.fromkeys(kept, pl.String)
    try:
        # Types that the first rows have nearly always hold, and looking at all takes a minute.
        rows = pl.read_csv(io.BytesIO(text), infer_schema_length=_ROWS, **dialect)
    except pl.exceptions.ComputeError:
        return pl.read_csv(io.BytesIO(text), infer_schema_length=None, **dialect)
    # What begins with nothing was taken for text.
    if any(column.head(_ROWS).is_null().all() for column in rows.select(cs.string())):
        return pl.read_csv(io.BytesIO(text), infer_schema_length=None, **dialect)
    return rows


def line_numbers(path: Path, reading: Reading, rows: Collection[int]) -> list[int]:
    """Return the line that each of these rows begins in, as an editor counts."""
    text, _ = _text(path, reading.encoding)
    lines = [line for line, _ in _records(text, _Lines.of(text, reading.separator).separator)]
    return [lines[row + 1] for row in rows]  # after the header


@dataclass(frozen=True, slots=True)
class _Lines:
    """The lines of a text, without comments and blank ones."""

    table: pl.DataFrame  # `line`; `bare`: the same without what is in quotes; `inside` quotes
    separator: str
    skipped: int  # comments and blank lines
    comments: int

    @classmethod
    def of(cls, text: bytes, separator: str | None) -> "_Lines":
        """Take a text apart; None to detect the separator."""
        line, quotes, inside = pl.col("line"), pl.lit(0), pl.lit(value=False)
        if b'"' in text:
            hash_ = line.str.starts_with("#")
            quotes = pl.when(~hash_).then(line.str.count_matches('"', literal=True)).otherwise(0)
            inside = (quotes.cum_sum() - quotes) % 2 == 1
        whole = pl.read_lines(io.BytesIO(text)).with_columns(inside=inside)
        table = whole.filter(~line.str.starts_with("#") | pl.col("inside"))
        comments = len(whole) - len(table)
        bare = line.str.replace_all(_QUOTED, "") if b'"' in text else line
        filled = (line.str.strip_chars(_BLANK) != "") | pl.col("inside")
        table = table.with_columns(bare=bare, filled=filled)
        sample = table.filter("filled")["bare"].head(_LINES).to_list()
        separator = separator or _separator(sample)
        if sample and separator not in sample[0]:
            # In a table of one column a blank line is a missing value.
            table = table[table["filled"].arg_max() or 0 :]
        else:
            table = table.filter("filled")
        return cls(table, separator, len(whole) - len(table), comments)

    @property
    def decimal(self) -> Decimal:
        """The decimal mark that most cells of the first lines show."""
        sample = csv.reader(self.table["line"][1:_LINES].to_list(), delimiter=self.separator)
        cells = [cell.strip() for row in sample for cell in row]
        return decimal_mark(cells) or ("," if self.separator == ";" else ".")

    @property
    def may_be_ragged(self) -> bool:
        """Whether lines may differ in their number of cells."""
        cells = self.table["bare"].str.count_matches(self.separator, literal=True)
        return cells.n_unique() > 1 or bool(self.table["bare"].str.contains('"').any())

    def join(self) -> bytes:
        """Return the lines as a text again."""
        text: str = self.table["line"].str.join("\n").item()
        return text.encode() + b"\n"


def _text(path: Path, encoding: str | None) -> tuple[bytes, list[str]]:
    """Return the text in UTF-8, and a note if its encoding was guessed."""
    raw = unpacked(path)
    if not raw.strip():
        raise TableError(f"the table {path} cannot be read: it is empty")
    notes: list[str] = []
    if encoding is None:
        encoding = _encoding(raw)
        if encoding == "cp1252":
            notes.append(f"{path.name} is not in UTF-8 and was read as Windows-1252 (--encoding)")
    try:
        text = raw.removeprefix(b"\xef\xbb\xbf") if encoding == "utf-8" else _recoded(raw, encoding)
    except UnicodeError as error:
        raise TableError(f"the table {path} cannot be read as {encoding}: {error}") from error
    if _CONTROL.search(text, 0, _SAMPLE):
        raise TableError(f"the table {path} cannot be read: it is neither text nor a known format")
    return text, notes


def _recoded(raw: bytes, encoding: str) -> bytes:
    # Windows-1252 leaves five bytes open, which mean nothing in a table.
    errors = "replace" if encoding == "cp1252" else "strict"
    return raw.decode(encoding, errors).removeprefix("\ufeff").encode()


def _encoding(raw: bytes) -> str:
    if raw.startswith((b"\xff\xfe", b"\xfe\xff")):
        return "utf-16"
    start = raw[:_SAMPLE]
    for zeros, encoding in ((start[1::2], "utf-16-le"), (start[::2], "utf-16-be")):
        if zeros.count(0) > len(zeros) // 2:
            return encoding
    try:
        raw.decode()
    except UnicodeError:
        return "cp1252"
    return "utf-8"


def unpacked(path: Path) -> bytes:
    """Return a file's bytes, decompressed if need be; raises TableError if they are damaged."""
    raw = path.read_bytes()
    try:
        for magic, decompress in _DECOMPRESS.items():
            if raw.startswith(magic):
                return decompress(raw)
    except (OSError, EOFError, zlib.error, lzma.LZMAError, zstd.ZstdError) as error:
        raise TableError(f"the table {path} cannot be read: {error}") from error
    return raw


def _separator(lines: list[str]) -> str:
    """Return the separator that stands in most lines as often as in the header."""

    def fitness(separator: str) -> tuple[float, int]:
        header = lines[0].count(separator)
        same = sum(line.count(separator) == header for line in lines)
        return (same / len(lines), header) if header else (0.0, 0)

    best = max(_SEPARATORS, key=fitness) if lines else ","
    return best if lines and best in lines[0] else ","


def _records(text: bytes, separator: str) -> Iterator[tuple[int, list[str]]]:
    """Yield the cells of header and rows, each with the line that it begins in."""
    lines = io.TextIOWrapper(io.BytesIO(text), encoding="utf-8", newline="")
    bare = ("\n" if line[0] == "#" or not line.strip(_BLANK) else line for line in lines)
    reader, width, end = csv.reader(bare, delimiter=separator), 0, 0
    try:
        for cells in reader:
            if cells or width == 1:
                width = width or len(cells)
                yield end + 1, cells or [""]
            end = reader.line_num
    except csv.Error:  # a cell of more than 128 KiB
        yield end + 1, ["\n"]


def _refuse_ragged(path: Path, text: bytes, separator: str, *, failed: bool = False) -> None:
    """Raise TableError for the first row that has not as many cells as the header.

    If parsing has failed, a last row that goes over several lines is one, too.
    """
    width, last = 0, (0, list[str]())
    for last in _records(text, separator):
        width = width or len(last[1])
        if len(last[1]) != width:
            break
    line, cells = last
    goes_on = any("\n" in cell for cell in cells)
    if goes_on and (failed or len(cells) != width):
        raise TableError(
            f"{path}, line {line}: a quote opens here that is not closed in this line; close it or "
            "remove it"
        )
    if len(cells) != width:
        name = "tab" if separator == "\t" else repr(separator)
        raise TableError(
            f"{path}, line {line}: {len(cells)} cells, where the header has {width}; mend or "
            f"remove the line, or give --separator if {name} is not what separates cells"
        )
