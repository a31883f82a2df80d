"""The tables of a recipe: their labelled rows by part, numbers as numbers, and rows to add."""

import dataclasses
import functools
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import get_args

import polars as pl

from training.dataset.cells import CleanTable, clean, factor_between
from training.dataset.clocks import Clock, with_rates
from training.dataset.labels import describe, merged, spellings, trimmed
from training.dataset.reading import Table, read_file
from training.dataset.sampling import Plan, Sample
from training.dataset.schema_inference import (
    is_named_as_no_field,
    kept_as_text,
    text_columns,
    with_units,
)
from training.dataset.splits import PART, PARTS, Part, assign_parts, need_column, rows_of_no_part
from training.recipe import Reading, Recipe, RecipeError, Severity, Split, TableError

_LABEL = "label"  # Label column of an added table that lacks the recipe's label column
_SEVERITY = "label_severity"  # Column of an added table, by `faultcube export-feedback`


@dataclass(frozen=True, slots=True)
class Added:
    """Rows to be added to the train rows."""

    name: str  # name of the file
    rows: pl.DataFrame  # its labelled rows, with all of its columns
    labels: frozenset[str]  # all of its labels, including those that the recipe leaves out
    severity: Mapping[str, Severity] = field(default_factory=dict)  # of fault classes, as enrolled


@dataclass(frozen=True, slots=True)
class LabelledRows:
    """The rows that have a label and a part."""

    parts: dict[Part, pl.DataFrame]
    recipe: Recipe  # with the units that stand in cells, where it gives none itself
    notes: tuple[str, ...]  # what was guessed, left out or changed
    sample: Sample | None = None  # of the first table
    is_sample: bool = False  # whether any table lacks rows that its file has


def read_table(path: Path) -> pl.DataFrame:
    """Read a table of any format (`training.dataset.reading`) as it is, or raise RecipeError."""
    return read_file(path).rows


def clean_table(path: Path, recipe: Recipe) -> tuple[Table, CleanTable]:
    """Read a table that has the recipe's label column, if any, and the numbers in its text."""
    table = read_file(path, recipe.reading, Plan.of(recipe), kept_as_text(recipe))
    if recipe.label:
        need_column(table.rows, recipe.label, "label column", path)
    text = text_columns(table.rows.columns, recipe)
    return table, _clean(table, text, recipe.reading, kept_as_text(recipe))


@functools.lru_cache(maxsize=2)
def _clean(
    table: Table, text: frozenset[str], reading: Reading, names: frozenset[str]
) -> CleanTable:
    return clean(table.rows, text, table.decimal, reading, names)


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
    causes = (role.echo_of for role in recipe.roles.values() if role.echo_of)
    for name in (*recipe.drop_labels, *recipe.severity, *recipe.roles, *causes):
        if name not in known:
            raise RecipeError(
                f"no row has the label {name!r} to leave out, or to give a severity or a role"
            )
    frames = [_with_labels(frame, labels, recipe) for frame in frames]
    parts = _parts(frames, recipe, split, tables[0][0].sample)
    notes = [note for table, _ in tables for note in table.notes]
    if split is not None:
        notes += rows_of_no_part(frames[0], split, tables[0][0].sample)
    if missing := labels.null_count():
        notes.append(f"{missing} of {len(labels)} rows have no label and are left out")
    recipe = with_units(recipe, tables[0][1].units)
    samples = [table.sample for table, _ in tables]
    is_sample = any(sample is not None for sample in samples)
    return LabelledRows(parts, recipe, tuple(dict.fromkeys(notes)), samples[0], is_sample)


def _parts(
    frames: Sequence[pl.DataFrame], recipe: Recipe, split: Split | None, sample: Sample | None
) -> dict[Part, pl.DataFrame]:
    if split is None:
        return {"train": _kept(frames[0], recipe)}
    if recipe.test_table and split.by != "column":  # which has all test rows
        train, dev, _ = split.shares
        split = split.model_copy(
            update={"shares": (train / (train + dev), dev / (train + dev), 0.0)}
        )
    table = assign_parts(frames[0], split, recipe.fit.seed, recipe.label, sample)
    table = _kept(table, recipe)
    parts = {part: table.filter(pl.col(PART) == part).drop(PART) for part in PARTS}
    if recipe.test_table:
        parts["test"] = _kept(frames[1], recipe)
    for part, rows in parts.items():
        if rows.is_empty():
            raise RecipeError(f"the split leaves no {part} rows; choose another column or shares")
    return parts


def added_tables(recipe: Recipe, clocks: Sequence[Clock] = ()) -> list[Added]:
    """Read the tables to add, without the rows that have no label or one to leave out.

    Those that lack the rate of one of these clocks, but have the clock, get it.
    """
    if not recipe.add:
        return []
    tables = [clean_table(path, recipe) for path in (recipe.table, recipe.test_table) if path]
    known = pl.concat([labels_of(table.rows, recipe) for table, _ in tables])
    units, frames = tables[0][1].units, []
    # Separator and the like are those of the recipe's tables, and not of feedback.
    reading, names = Reading(missing=recipe.reading.missing), kept_as_text(recipe)
    for path in recipe.add:
        table = read_file(path, reading, None, names | {_LABEL})
        if recipe.label not in table.rows.columns and _LABEL in table.rows.columns:
            table = dataclasses.replace(table, rows=table.rows.rename({_LABEL: recipe.label}))
        need_column(table.rows, recipe.label, "label column", path)
        text = text_columns(table.rows.columns, recipe)
        new = clean(table.rows, text, table.decimal, reading, names)
        _refuse_odd(recipe, table, new)
        frames.append(_in_units(new, units, path))
    # All together: two added tables may spell a new label differently.
    spelled = pl.concat([known, *(labels_of(rows, recipe) for rows in frames)])
    added = []
    for path, frame in zip(recipe.add, frames, strict=True):
        # Rates need the records between, those without a label too.
        rated = _with_lacking_rates(frame, clocks, recipe)
        spelt = _with_labels(rated, spelled, recipe, known)
        labels = frozenset(spelt[recipe.label].drop_nulls())
        rows = _kept(spelt, recipe)
        added.append(Added(path.name, rows, labels, _severities(rows, recipe, path)))
    return added


def _with_lacking_rates(
    rows: pl.DataFrame, clocks: Sequence[Clock], recipe: Recipe
) -> pl.DataFrame:
    """Return the rows with the rates that they lack: records of a service have them already."""
    lacking = [
        clock
        for clock in clocks
        if clock.rate not in rows.columns
        and clock.name in rows.columns
        and rows.schema[clock.name].is_numeric()
    ]
    return with_rates(rows, lacking, recipe.series, recipe.time)


def _severities(rows: pl.DataFrame, recipe: Recipe, path: Path) -> dict[str, Severity]:
    """Return the severity of each label that has one; of several, the last."""
    if _SEVERITY not in rows.columns:
        return {}
    column = rows[_SEVERITY].cast(pl.String).replace("", None)
    known = get_args(Severity)
    if odd := sorted({*column.drop_nulls()} - {*known, "none"}):
        raise TableError(
            f"{path}: column {_SEVERITY!r} holds {odd[0]!r}; expected one of {', '.join(known)}"
        )
    return {
        label: severity
        for label, severity in zip(rows[recipe.label], column, strict=True)
        if severity in known and label != recipe.good
    }


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
            elif kind == pl.String and column.dtype.is_float():  # codes, some of them missing
                column = (column.cast(pl.Int64) if is_whole(column) else column).cast(pl.String)
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


def is_whole(column: pl.Series) -> bool:
    """Return whether all numbers are integers."""
    return bool((column.drop_nulls() % 1 == 0).all())


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
    """Return the labels, trimmed and in Unicode NFC, null where there is none."""
    return trimmed(table[recipe.label])


def _with_labels(
    table: pl.DataFrame, known: pl.Series, recipe: Recipe, first: pl.Series | None = None
) -> pl.DataFrame:
    """Return the table with trimmed labels, spelled as the known ones are most often.

    The spelling of the `first` ones, of tables that these rows are added to, goes before.
    """
    labels = labels_of(table, recipe)
    if recipe.merge_labels:
        named = (recipe.good, *recipe.severity, *recipe.roles, *recipe.drop_labels)
        if first is not None:
            named = (*named, *merged(first, first, named).drop_nulls().unique())
        labels = merged(labels, known, named)
    else:
        for group in spellings(known.filter(~known.is_in(recipe.drop_labels))):
            raise TableError(describe(group))
    return table.with_columns(labels.alias(recipe.label))


def _kept(table: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    """Return the rows that have a label which is not to be left out."""
    label = pl.col(recipe.label)
    return table.filter(label.is_not_null() & ~label.is_in(list(recipe.drop_labels)))
