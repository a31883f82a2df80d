"""Read tables, and split their rows into train, dev and test."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from training.dataset.cells import CleanTable, clean, factor_between
from training.dataset.labels import describe, merged, spellings
from training.dataset.reading import Table, read_file
from training.dataset.schema_inference import is_named_as_no_field, text_columns, with_units
from training.recipe import Reading, Recipe, RecipeError, Split, TableError

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, Part, Part] = ("train", "dev", "test")

_PART = "__part__"
_TIME = (
    r"^(?<day>\d{4}-\d\d-\d\d|\d\d?\.\d\d?\.\d{4})"
    r"(?:[T ] *(?<clock>\d\d?:\d\d(?::\d\d(?:[.,]\d{1,9})?)?) ?(?<zone>[zZ]|UTC|[+-]\d\d:?\d\d)?)?$"
)
_LABEL = "label"  # Label column of an added table that lacks the recipe's label column


@dataclass(frozen=True, slots=True)
class Added:
    """Rows to be added to the train rows."""

    name: str  # name of the file
    rows: pl.DataFrame  # its labelled rows, with all of its columns
    labels: frozenset[str]  # all of its labels, including those that the recipe leaves out


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """The rows that have a label and a part."""

    parts: dict[Part, pl.DataFrame]
    recipe: Recipe  # with the units that stand in cells, where it gives none itself
    notes: tuple[str, ...]  # what was guessed, left out or changed


def read_table(path: Path) -> pl.DataFrame:
    """Read a table of any format (`training.dataset.reading`) as it is, or raise RecipeError."""
    return read_file(path).rows


def clean_table(path: Path, recipe: Recipe) -> tuple[Table, CleanTable]:
    """Read a table that has the recipe's label column, if any, and the numbers in its text."""
    table = read_file(path, recipe.reading)
    if recipe.label:
        need_column(table.rows, recipe.label, "label column", path)
    return table, _clean(table, text_columns(table.rows.columns, recipe), recipe.reading)


@functools.lru_cache(maxsize=2)
def _clean(table: Table, text: frozenset[str], reading: Reading) -> CleanTable:
    return clean(table.rows, text, table.decimal, reading)


def odd_cells(recipe: Recipe, table: Table, cleaned: CleanTable) -> dict[str, str]:
    """Return for each column of numbers that has cells which are none a line that names them."""
    splits = [recipe.split, *(backtest.split for backtest in recipe.backtests)]
    split_by = {name for split in splits for name in (split.column, split.within)}
    known = {*recipe.ignore, *recipe.keep, *recipe.context, *split_by}
    return {
        name: _odd(name, rows, table, recipe.reading)
        for name, rows in cleaned.odd.items()
        if name not in known and not is_named_as_no_field(name)
    }


def _refuse_odd(recipe: Recipe, table: Table, cleaned: CleanTable) -> None:
    for why in odd_cells(recipe, table, cleaned).values():
        raise TableError(why)


def _odd(name: str, rows: Sequence[int], table: Table, reading: Reading) -> str:
    cells = [table.rows[name][row] for row in rows[:3]]
    places = table.places(rows[:3], reading)
    listed = ", ".join(f"{cell!r} in {place}" for place, cell in zip(places, cells, strict=True))
    more = f" and {len(rows) - 3} more" if len(rows) > 3 else ""
    return (
        f"{table.path}: column {name!r} holds numbers of one unit, but also {listed}{more}; "
        f"mend them, take them as missing with --missing {cells[0]!r}, or --ignore {name!r} "
        f"(--keep {name!r} keeps it as text)"
    )


def labelled_rows(
    recipe: Recipe, split: Split | None, more: Collection[str] = ()
) -> dict[Part, pl.DataFrame]:
    """Read and split the recipe's tables; see `read_labelled`."""
    return read_labelled(recipe, split, more).parts


def read_labelled(
    recipe: Recipe,
    split: Split | None,
    more: Collection[str] = (),
    prepare: Callable[[pl.DataFrame], pl.DataFrame] = lambda table: table,
) -> LabelledRows:
    """Read and split the recipe's tables, without rows that lack a label or a part.

    Without a split every row is a training row. `more` are labels of rows that will be added.
    `prepare` changes a table while it has all of its rows.

    Raises:
        RecipeError: a column that the recipe names is not there, or a part stays empty.
        TableError: cells or labels do not agree with each other.
    """
    tables = [clean_table(path, recipe) for path in (recipe.table, recipe.test_table) if path]
    for table, cleaned in tables:
        _refuse_odd(recipe, table, cleaned)
    frames = [
        prepare(_in_units(cleaned, tables[0][1].units, table.path)) for table, cleaned in tables
    ]
    labels = pl.concat([labels_of(frame, recipe) for frame in frames])
    known = {*labels, *more}
    for name in (*recipe.drop_labels, *recipe.severity):
        if name not in known:
            raise RecipeError(f"no row has the label {name!r} to leave out or to give a severity")
    frames = [_with_labels(frame, labels, recipe) for frame in frames]
    parts = _parts(frames, recipe, split)
    notes = [note for table, _ in tables for note in table.notes]
    if missing := labels.null_count():
        notes.append(f"{missing} of {len(labels)} rows have no label and are left out")
    recipe = with_units(recipe, tables[0][1].units)
    return LabelledRows(parts, recipe, tuple(dict.fromkeys(notes)))


def _parts(
    frames: Sequence[pl.DataFrame], recipe: Recipe, split: Split | None
) -> dict[Part, pl.DataFrame]:
    if split is None:
        return {"train": _kept(frames[0], recipe)}
    table = _kept(assign_parts(frames[0], split, recipe.fit.seed, recipe.label), recipe)
    parts = {part: table.filter(pl.col(_PART) == part).drop(_PART) for part in PARTS}
    if recipe.test_table:
        parts["test"] = _kept(frames[1], recipe)
    for part, rows in parts.items():
        if rows.is_empty():
            raise RecipeError(f"the split leaves no {part} rows; choose another column or shares")
    return parts


def added_tables(recipe: Recipe) -> list[Added]:
    """Read the tables to add, without the rows that have no label or one to leave out."""
    if not recipe.add:
        return []
    main, cleaned = clean_table(recipe.table, recipe)
    known, added = labels_of(main.rows, recipe), []
    # Separator and the like are those of the recipe's tables, and not of feedback.
    reading = Reading(missing=recipe.reading.missing)
    for path in recipe.add:
        table = read_file(path, reading)
        if recipe.label not in table.rows.columns and _LABEL in table.rows.columns:
            table = dataclasses.replace(table, rows=table.rows.rename({_LABEL: recipe.label}))
        need_column(table.rows, recipe.label, "label column", path)
        text = text_columns(table.rows.columns, recipe)
        new = clean(table.rows, text, table.decimal, reading)
        _refuse_odd(recipe, table, new)
        rows = _in_units(new, cleaned.units, path)
        labels = pl.concat([known, labels_of(rows, recipe)])
        rows = _with_labels(rows, labels, recipe)
        names = frozenset(rows[recipe.label].drop_nulls())
        added.append(Added(path.name, _kept(rows, recipe), names))
    return added


def aligned(added: Added, like: pl.DataFrame) -> pl.DataFrame:
    """Return the columns that both tables have, in the types of the table they are added to."""
    columns = []
    for name in like.columns:
        if name not in added.rows.columns:
            continue
        column, kind = added.rows[name], like.schema[name]
        try:
            if kind.is_numeric():  # not the table's own type: added rows may have 2.5 for 2
                column = column.cast(pl.Float64)
            elif kind == pl.Boolean and column.dtype != pl.Boolean:
                column = _booleans(column)
            else:
                column = column.cast(kind)
        except pl.exceptions.PolarsError as error:
            raise RecipeError(
                f"column {name!r} of {added.name} is not a column of {kind} in every row, as it is "
                "in the table it is added to"
            ) from error
        columns.append(column)
    return pl.DataFrame(columns)


def _booleans(column: pl.Series) -> pl.Series:
    if column.dtype == pl.String:
        lower = column.str.to_lowercase().replace("", None)
        column = lower.replace({"true": "1", "false": "0"})
    return column.cast(pl.Float64).cast(pl.String).replace_strict({"1.0": True, "0.0": False})


def _in_units(cleaned: CleanTable, units: Mapping[str, str], path: Path) -> pl.DataFrame:
    """Return a table with its columns in these units; plain numbers are taken to be in them."""
    columns = []
    for name, unit in cleaned.units.items():
        factor = factor_between(unit, units.get(name, ""))
        if factor is None:
            raise TableError(
                f"{path}: column {name!r} is in {unit}, and in {units.get(name) or 'no unit'} in "
                "the first table; write both alike"
            )
        columns.append(cleaned.rows[name] if factor == 1 else cleaned.rows[name] * factor)
    return cleaned.rows.with_columns(columns)


def labels_of(table: pl.DataFrame, recipe: Recipe) -> pl.Series:
    """Return the labels, trimmed, null where there is none."""
    return table[recipe.label].cast(pl.String).str.strip_chars().replace("", None)


def _with_labels(table: pl.DataFrame, known: pl.Series, recipe: Recipe) -> pl.DataFrame:
    """Return the table with trimmed labels, spelled as the known ones are most often."""
    labels = labels_of(table, recipe)
    if recipe.merge_labels:
        labels = merged(labels, known, (recipe.good, *recipe.severity, *recipe.drop_labels))
    else:
        for group in spellings(known.filter(~known.is_in(recipe.drop_labels))):
            raise TableError(describe(group))
    return table.with_columns(labels.alias(recipe.label))


def _kept(table: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Return the rows that have a label which is not to be left out."""
    label = pl.col(recipe.label)
    return table.filter(label.is_not_null() & ~label.is_in(list(recipe.drop_labels)))


def assign_parts(table: pl.DataFrame, split: Split, seed: int, label: str) -> pl.DataFrame:
    """Add the column of parts: train, dev, test, or null for rows to leave out."""
    random, column = np.random.default_rng(seed), str(split.column)
    if split.by in ("time", "group"):
        need_column(table, column, f"{split.by} column")
    if split.within:
        need_column(table, split.within, "column to split within")
    match split.by:
        case "column":
            parts = _by_column(table, split)
        case "time":
            within = table[split.within] if split.within else pl.repeat(0, len(table), eager=True)
            rank = _times(table[column]).rank("ordinal").to_numpy()
            parts = pl.Series(_by_rank(rank, within, split))
        case "group":
            parts = pl.Series(_by_group(table[column], split, random))
        case "random":
            parts = pl.Series(_by_rank(random.permutation(len(table)), table[label], split))
    return table.with_columns(parts.cast(pl.String).alias(_PART))


def _times(column: pl.Series) -> pl.Series:
    """Return times that can be ordered; text must be ISO 8601, RFC 3339 or day.month.year."""
    name = column.name
    if column.null_count():
        raise RecipeError(f"{column.null_count()} rows have no {name!r} to be split by")
    if column.dtype != pl.String:
        return column
    parts = pl.DataFrame({"text": column.str.strip_chars()}).select(
        pl.col("text").str.extract_groups(_TIME)
    )
    day, clock, zone = (pl.col("text").struct.field(key) for key in ("day", "clock", "zone"))
    day = day.str.replace(r"^(\d\d?)\.(\d\d?)\.(\d{4})$", "$3-$2-$1")
    clock = (
        clock.fill_null("00:00:00").str.replace(",", ".").str.replace(r"^(\d\d?:\d\d)$", "$1:00")
    )
    zone = zone.str.replace(r"^[zZ]$|^UTC$", "+00:00").str.replace(r"^(...)(\d\d)$", "$1:$2")
    zones = parts.select(zone.alias("zone"))["zone"]
    text = pl.concat_str(day, pl.lit(" "), clock, zone.fill_null("+00:00"))
    times = parts.select(
        text.str.to_datetime("%Y-%m-%d %H:%M:%S%.f%:z", strict=False, time_unit="ns")
    )
    odd = times.to_series().is_null()
    if odd.any():
        raise RecipeError(
            f"{name!r} holds text that is no time, such as {column.filter(odd)[0]!r}; write it as "
            "2026-01-31 23:59:59, 2026-01-31T23:59:59Z or 31.01.2026 23:59, or as a number"
        )
    if 0 < zones.null_count() < len(zones):
        raise RecipeError(f"some times of {name!r} have an offset and some have none; give all one")
    return times.to_series().alias(name)


def need_column(table: pl.DataFrame, column: str, role: str, path: Path | None = None) -> None:
    """Raise RecipeError if a table lacks a column."""
    if column not in table.columns:
        listed = [name if name == name.strip() != "" else repr(name) for name in table.columns[:20]]
        names = ", ".join(listed) + (", ..." if table.width > 20 else "")
        raise RecipeError(
            f"{path or 'the table'} has no {role} {column!r}; its columns are {names}"
        )


def _by_column(table: pl.DataFrame, split: Split) -> pl.Series:
    source = read_table(split.table) if split.table else table
    need_column(source, str(split.column), "split column", split.table)
    if len(source) != len(table):
        raise RecipeError(
            f"{split.table} has {len(source)} rows, the table {len(table)}; they must match"
        )
    parts = source[str(split.column)].cast(pl.String)
    return parts.set(~parts.is_in(PARTS).fill_null(value=False), None)


def _by_group(groups: pl.Series, split: Split, random: np.random.Generator) -> npt.NDArray[np.str_]:
    """Assign whole groups, in a random order, to the part that lacks most rows."""
    values, inverse, counts = np.unique(
        groups.cast(pl.String).fill_null("").to_numpy(), return_inverse=True, return_counts=True
    )
    if len(values) < len(PARTS):
        raise RecipeError(f"{groups.name!r} has {len(values)} groups; a split needs at least three")
    rows = dict.fromkeys((p for p, share in zip(PARTS, split.shares, strict=True) if share), 0)
    targets = dict(zip(PARTS, np.array(split.shares) * counts.sum(), strict=True))
    chosen = np.empty(len(values), dtype="U5")
    for group in random.permutation(len(values)):
        empty = [part for part, count in rows.items() if not count]
        part = empty[0] if empty else max(rows, key=lambda p: targets[p] - rows[p])
        chosen[group] = part
        rows[part] += counts[group]
    return chosen[inverse]


def _by_rank(
    rank: npt.NDArray[np.integer], within: pl.Series, split: Split
) -> npt.NDArray[np.str_]:
    """Split the rows of each value of `within` by rank: train first, test last."""
    parts = np.empty(len(rank), dtype="U5")
    for value in within.unique():
        rows = np.flatnonzero(within.eq_missing(value).to_numpy())
        position = rank[rows].argsort().argsort()
        borders = np.round(np.cumsum(split.shares[:2]) * len(rows))
        parts[rows] = np.array(PARTS)[np.searchsorted(borders, position, side="right")]
    return parts
