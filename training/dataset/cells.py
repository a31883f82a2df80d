"""Cells: columns of text that hold numbers, with units, digit groups and marks for missing ones."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import polars as pl

from training.recipe import Reading

Decimal = Literal[".", ","]

MISSING = frozenset(
    {
        "",
        "-",
        "--",
        "---",
        "\u2013",
        "\u2014",
        "?",
        ".",
        "n/a",
        "#n/a",
        "na",
        "n.a.",
        "null",
        "none",
        "nil",
    }
    | {"nan", "missing"}
)  # in lower case
_MOST = 0.9  # A column with this share of numbers was meant to be one of numbers
_SAMPLE = 1000
_SUFFIXES = 50  # A column with more kinds of text after its numbers has no unit

_SPACES = " \u00a0\u2009\u202f"
_UNIT = rf"[{_SPACES}]*(%|‰|°?[\p{{L}}µΩ]+(?:/[\p{{L}}]+)?)?"
_CELL = rf"^([-+]?[\d.,][\d.,'\u2019{_SPACES}]*?(?:[eE][-+]?\d+)?){_UNIT}$"
_UNITS = {
    "": "1",
    "B": "bytes",
    "bytes": "bytes",
    "Bytes": "bytes",
    "b": "bit",
    "bit": "bit",
    "bps": "bit/s",
    "b/s": "bit/s",
    "bit/s": "bit/s",
    "Bps": "bytes/s",
    "B/s": "bytes/s",
    "pps": "packets/s",
    "packets/s": "packets/s",
    "s": "s",
    "sec": "s",
    "Hz": "Hz",
    "W": "W",
    "V": "V",
    "A": "A",
}
_PREFIXES = {"n": 1e-9, "µ": 1e-6, "μ": 1e-6, "u": 1e-6, "m": 1e-3} | {
    prefix: 10.0 ** (3 * power)
    for power, prefixes in enumerate(("kK", "M", "G", "T", "P"), 1)
    for prefix in prefixes
}
_BINARY = {f"{prefix}i": 1024.0**power for power, prefix in enumerate("KMGTP", 1)}


@dataclass(frozen=True, slots=True)
class CleanTable:
    """A table whose columns of numbers are such, however they were written."""

    rows: pl.DataFrame
    units: Mapping[str, str]  # by column, where the cells have one
    remarks: Mapping[str, str]  # by column, how its cells were read
    odd: Mapping[str, tuple[int, ...]]  # rows of cells that are no numbers, in columns left as text


@dataclass(frozen=True, slots=True)
class Numbers:
    """What the cells of a text column say as numbers."""

    values: pl.Series  # int64, float64 or bool, null where missing or odd
    unit: str | None  # of all values, if it stands in the cells
    remark: str  # how the cells were read
    odd: tuple[int, ...]  # rows of the cells that are no numbers, or have another unit


def clean(
    rows: pl.DataFrame,
    text: Collection[str],
    usual: Decimal = ".",
    reading: Reading | None = None,
    names: Collection[str] = (),
) -> CleanTable:
    """Read columns as numbers or booleans where they are such, but for those that stay `text`.

    Columns in `names` stay text, too, and lack only the marks for missing values among numbers.
    """
    reading = reading or Reading()
    columns: dict[str, pl.Series] = {}
    units: dict[str, str] = {}
    remarks: dict[str, str] = {}
    odd: dict[str, tuple[int, ...]] = {}
    for column in rows:
        name = column.name
        if name in text:
            continue
        if column.dtype.is_numeric():
            columns[name] = _without(column, reading.missing)
        if column.dtype != pl.String:
            continue
        cells = column.set(column.is_in(reading.missing), None) if reading.missing else column
        numbers = read_numbers(cells, reading.decimal, usual, reading.missing)
        if name in names:
            columns[name] = cells
            if numbers is not None and not numbers.odd:
                columns[name] = cells.set(numbers.values.is_null(), None)
        elif numbers is None:
            columns[name] = cells if (flags := read_booleans(cells)) is None else flags
        elif numbers.odd:
            columns[name], odd[name] = cells, numbers.odd
        else:
            columns[name], remarks[name] = numbers.values, numbers.remark
            if numbers.unit:
                units[name] = numbers.unit
    return CleanTable(rows.with_columns(columns.values()), units, remarks, odd)


def _without(column: pl.Series, missing: Collection[str]) -> pl.Series:
    """Return a column of numbers with null for those that stand for missing values: -999."""
    marks = pl.Series(list(missing), dtype=pl.String).cast(pl.Float64, strict=False).drop_nulls()
    if marks.is_empty():
        return column
    return column.set(column.cast(pl.Float64).is_in(marks.implode()), None)


def read_numbers(
    column: pl.Series,
    decimal: Decimal | None = None,
    usual: Decimal = ".",
    missing: Collection[str] = (),
) -> Numbers | None:
    """Read a column of text as numbers, or return None if most of its cells are none.

    A cell is a number with digits in groups (1,234.5 or 1 234,5), and with a unit behind it that
    all cells have, SI prefixes aside, or a mark for a missing value. Zero needs no unit.

    Args:
        column: text.
        decimal: the decimal mark; None to see from each column which it is.
        usual: the mark of numbers that do not show it, such as 1,234.
        missing: marks for missing values beside `MISSING`.
    """
    marks = [*MISSING, *(mark.strip().lower() for mark in missing)]
    if not _is_worth_it(column, marks):
        return None
    counts = column.drop_nulls().alias("cell").value_counts(name="rows")
    cells = counts.with_columns(text=pl.col("cell").str.strip_chars().str.replace("\u2212", "-"))
    cells = cells.with_columns(missing=pl.col("text").str.to_lowercase().is_in(marks))
    present = cells.filter(~pl.col("missing"))
    numbers = _scaled(_parsed(present, decimal, usual))
    if numbers is None:
        return None
    parsed, unit, remark = numbers
    readable = parsed.filter(pl.col("value").is_not_null())
    rows, total = int(readable["rows"].sum()), int(present["rows"].sum())
    similar = int(parsed.filter(pl.col("similar"))["rows"].sum())
    if rows < _MOST * total and (similar < _MOST * total or rows < total / 2):
        return None
    values = column.replace_strict(
        readable["cell"], _whole(readable), default=None, return_dtype=None
    ).alias(column.name)
    odd = parsed.filter(pl.col("value").is_null())["cell"]
    where = column.is_in(odd.implode()).fill_null(value=False).arg_true()
    remarks = [remark, _absent(cells.filter((pl.col("text") != "") & pl.col("missing")))]
    said = "; ".join(filter(None, remarks))
    return Numbers(values, unit, said, tuple(where))


def read_booleans(column: pl.Series) -> pl.Series | None:
    """Return a column of true, false and marks for missing values as booleans, or None."""
    text = column.str.strip_chars().str.to_lowercase()
    known = text.drop_nulls().unique()
    known = known.filter(~known.is_in([*MISSING]))
    if known.is_empty() or not known.is_in(["true", "false"]).all():
        return None
    return text.replace_strict(
        {"true": True, "false": False}, default=None, return_dtype=pl.Boolean
    )


def factor_between(unit: str, other: str) -> float | None:
    """Return what to multiply numbers of a unit by to have them in another, None if they differ."""
    (base, factor), (other_base, other_factor) = _base(unit), _base(other)
    if unit == other:
        return 1.0
    return factor / other_factor if base == other_base else None


def decimal_mark(cells: Sequence[str]) -> Decimal | None:
    """Return the decimal mark that most of the cells show, None if they show none."""
    text = pl.Series(cells, dtype=pl.String)
    dot, comma = (text.str.contains(_number(mark)) for mark in (".", ","))
    dots, commas = int((dot & ~comma).sum()), int((comma & ~dot).sum())
    if dots == commas:
        return None
    return "," if commas > dots else "."


def _number(decimal: str) -> str:
    """Return the pattern of a number with this decimal mark; digits may stand in groups of 3."""
    group = rf"[{_SPACES}'\u2019{re.escape('.' if decimal == ',' else ',')}]"
    mark = re.escape(decimal)
    whole = rf"(?:\d+|[1-9]\d{{0,2}}(?:{group}\d{{3}})+)"
    return rf"^[-+]?(?:{whole}(?:{mark}\d*)?|{mark}\d+)(?:[eE][-+]?\d+)?$"


def _is_worth_it(column: pl.Series, marks: list[str]) -> bool:
    """Return whether half of the cells of a sample begin with a digit, or all are missing."""
    sample = column.drop_nulls()
    sample = sample.gather_every(len(sample) // _SAMPLE + 1).str.strip_chars()
    present = sample.filter(~sample.str.to_lowercase().is_in(marks))
    return len(present) <= 2 * present.str.contains(r"^[-+\u2212]?[.,]?\d").sum()


def _parsed(cells: pl.DataFrame, decimal: Decimal | None, usual: Decimal) -> pl.DataFrame:
    """Add to each cell its number without its unit (null if it is none) and that unit."""
    groups = pl.col("text").str.extract_groups(_CELL)
    cells = cells.with_columns(
        body=groups.struct.field("1"), suffix=groups.struct.field("2").fill_null("")
    )
    dot, comma = (
        pl.when(pl.col("body").str.contains(_number(mark))).then(
            pl.col("body")
            .str.replace_all(rf"[{_SPACES}'\u2019{re.escape(group)}]", "")
            .str.replace(",", ".")
            .cast(pl.Float64, strict=False)
        )
        for mark, group in ((".", ","), (",", "."))
    )
    cells = cells.with_columns(dot=dot, comma=comma)
    doubtful = pl.col("dot") != pl.col("comma")
    only_dot = cells.select((pl.col("dot").is_not_null() & pl.col("comma").is_null()).any()).item()
    only_comma = cells.select(
        (pl.col("comma").is_not_null() & pl.col("dot").is_null()).any()
    ).item()
    if decimal is None and only_dot != only_comma:
        decimal = "," if only_comma else "."
    if decimal is None and not only_dot:
        decimal = usual
    match decimal:
        case ".":
            value = pl.col("dot")
        case ",":
            value = pl.col("comma")
        case _:  # both marks are decimal marks here, so that a cell like 1,234 may be either
            value = pl.when(~doubtful.fill_null(value=False)).then(pl.coalesce("dot", "comma"))
    return cells.with_columns(value=value)


def _scaled(cells: pl.DataFrame) -> tuple[pl.DataFrame, str | None, str] | None:
    """Bring numbers to one unit; those of another are null, and `similar` if their unit is known.

    Returns the cells, the unit, and a remark; None if what stands behind the numbers is no unit.
    """
    numbers = cells.filter(pl.col("value").is_not_null() & (pl.col("value") != 0))
    weights = dict(numbers.group_by("suffix").agg(pl.col("rows").sum()).sort("suffix").iter_rows())
    if len(weights) > _SUFFIXES:
        return None
    bases = {suffix: _base(suffix) for suffix in weights}
    totals: dict[str, int] = {}
    for suffix, (base, _) in bases.items():
        totals[base] = totals.get(base, 0) + weights[suffix]
    first = max(totals, key=lambda base: totals[base], default="1")
    family = [suffix for suffix, (base, _) in bases.items() if base == first]
    known = [suffix for suffix, (base, _) in bases.items() if base in _UNITS.values()]
    one = len(family) == 1
    factors = {suffix: 1.0 if one else bases[suffix][1] for suffix in family}
    factor = pl.col("suffix").replace_strict(factors, default=None, return_dtype=pl.Float64)
    is_zero = pl.col("value") == 0
    value = pl.when(is_zero).then(0.0).otherwise(pl.col("value") * factor)
    similar = pl.col("dot").is_not_null() | pl.col("comma").is_not_null()
    scaled = cells.with_columns(
        value=value, similar=similar & (is_zero | pl.col("suffix").is_in(known))
    )
    unit = family[0] if one and family else first
    if unit in ("", "1"):
        unit = ""
    listed = " and ".join(sorted(filter(None, family))[:3])
    remark = "" if one or not family else f"{listed} scaled to {unit or 'plain numbers'}"
    return scaled, unit or None, remark


def _base(suffix: str) -> tuple[str, float]:
    """Return the unit without its prefix, and the prefix's factor."""
    if suffix in _UNITS:
        return _UNITS[suffix], 1.0
    for prefix, factor in (_BINARY | _PREFIXES).items():
        symbol = suffix.removeprefix(prefix)
        # m and u alone are units of their own: metres, minutes
        if symbol != suffix and symbol in _UNITS and (symbol or factor >= 1e3):
            return _UNITS[symbol], factor
    return suffix, 1.0


def _whole(cells: pl.DataFrame) -> pl.Series:
    """Return the numbers, as integers if all cells are digits (in groups): 5, but not 5.0."""
    digits = pl.col("body").str.replace_all(r"\D", "").cast(pl.Int64, strict=False)
    is_whole = cells.select((digits == pl.col("value").abs()).fill_null(value=False).all()).item()
    return cells["value"].cast(pl.Int64) if is_whole else cells["value"]


def _absent(cells: pl.DataFrame) -> str:
    if cells.is_empty():
        return ""
    text = cells.sort("rows", "text", descending=[True, False])["text"][0]
    return f"{cells['rows'].sum()} cells such as {text!r} are missing"
