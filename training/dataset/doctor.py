"""Examine a table before it is trained on: every column, every class, and what is odd."""

import contextlib
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.schema import Field
from training.dataset.cells import CleanTable
from training.dataset.dataset import Dataset, load_dataset, naming
from training.dataset.families import find_families
from training.dataset.labels import class_names, counted, describe, spellings
from training.dataset.schema_inference import Inference, infer_fields
from training.dataset.splits import Part, need_column
from training.dataset.tables import (
    added_tables,
    clean_table,
    labels_of,
    odd_cells,
    read_labelled,
)
from training.recipe import Recipe, RecipeError, Split

_NONE, _FIELD = "__none__", "__field__"
NO_SPLIT = Split(by="column", column=_NONE)  # Of a recipe that does not say how to split
NO_LABEL = ""  # Label column and good label of one that names none
_UPTIME = re.compile(r"uptime|alive|elapsed|since|(^|[^a-z])age($|[^a-z])")
_NUMBER = r"^\s*[-+]?\d[\d.,]*\s*$"
_SHOWN = 3
_FEW = 20  # Text of so few values is a category, whatever it looks like

Say = Callable[[str], object]


@dataclass(frozen=True, slots=True)
class Column:
    """What becomes of a column."""

    name: str
    field: Field | None  # None if it is none
    missing: float  # share of the table's rows, 0..1
    reason: str  # why it is no field, or how its cells were read


@dataclass(frozen=True, slots=True)
class Examination:
    """What a table holds, and what training would make of it."""

    table: Path
    rows: int
    columns: tuple[Column, ...]
    classes: Mapping[str, Mapping[str, int]]  # by label, the rows of each part
    notes: tuple[str, ...]  # what may spoil a model
    stops: tuple[str, ...]  # what keeps the table from being trained on

    @property
    def fields(self) -> int:
        """The number of columns that are fields."""
        return sum(column.field is not None for column in self.columns)


def examine(recipe: Recipe, say: Say = lambda _: None) -> Examination:
    """Examine a recipe's table, and go on after what would stop training.

    The recipe may have `NO_LABEL` and `NO_SPLIT`; then only columns, or columns and classes, are
    examined. `say` is called with what is being done.

    Raises:
        RecipeError: there is no such table, or it has no column that the recipe names.
        TableError: it cannot be read.
    """
    say(f"reading {recipe.table}")
    table, cleaned = clean_table(recipe.table, recipe)
    _check_columns(recipe, cleaned.rows)
    say(f"looking at {cleaned.rows.width} columns of {len(cleaned.rows)} rows")
    odd = odd_cells(recipe, table, cleaned)
    twice = _spellings(recipe, cleaned.rows)
    stops = [*odd.values(), *map(describe, twice)]
    # Go on as if these were mended.
    recipe = recipe.model_copy(
        update={
            "ignore": (*recipe.ignore, *odd),
            "merge_labels": recipe.merge_labels or bool(twice),
        }
    )
    say("choosing fields")
    dataset = inference = None
    try:
        if recipe.good == NO_LABEL:
            inference = _without_labels(recipe, cleaned.rows)
        elif recipe.split == NO_SPLIT:
            inference = _of_all_rows(recipe)
        else:
            dataset = load_dataset(recipe)
    except RecipeError as error:
        stops.append(str(error))
        with contextlib.suppress(RecipeError):  # the same again
            inference = _without_labels(recipe, cleaned.rows)
    if dataset:
        stops += _backtests(recipe)
    fields = dataset.schema.fields if dataset else inference.fields if inference else ()
    dropped = dataset.dropped if dataset else inference.dropped if inference else {}
    columns = _columns(recipe, cleaned, fields, {**dropped, **dict.fromkeys(odd, "odd cells")})
    notes = [*(dataset.notes if dataset else table.notes), *_fields_to_doubt(columns)]
    notes += _families(columns)
    if dataset:
        notes += _shared_groups(recipe, {part: rows.table for part, rows in dataset.parts.items()})
    notes += _nearly_numbers(columns, cleaned.rows)
    classes = _classes(recipe, dataset, cleaned.rows)
    return Examination(
        recipe.table, len(table.rows), columns, classes, tuple(notes), tuple(dict.fromkeys(stops))
    )


def _backtests(recipe: Recipe) -> Iterator[str]:
    """Yield what keeps a backtest from being made where the model itself can be."""
    for backtest in recipe.backtests:
        try:
            with naming(backtest):
                load_dataset(recipe, backtest.split)
        except RecipeError as error:
            yield str(error)


def _check_columns(recipe: Recipe, rows: pl.DataFrame) -> None:
    for name in (*recipe.ignore, *recipe.keep, *recipe.context):
        if name in recipe.context or name not in rows.columns:
            need_column(rows, name, "column", recipe.table)
    split = recipe.split
    if split.column and split != NO_SPLIT and not split.table:
        role = "split column" if split.by == "column" else f"{split.by} column"
        need_column(rows, split.column, role, recipe.table)
    if split.within:
        need_column(rows, split.within, "column to split within", recipe.table)


def _spellings(recipe: Recipe, rows: pl.DataFrame) -> list[dict[str, int]]:
    if recipe.label == NO_LABEL or recipe.merge_labels:
        return []
    labels = labels_of(rows, recipe)
    return spellings(labels.filter(~labels.is_in(recipe.drop_labels)))


def _of_all_rows(recipe: Recipe) -> Inference:
    added = frozenset().union(*(table.labels for table in added_tables(recipe)))
    read = read_labelled(recipe, None, added)
    class_names(read.parts["train"][recipe.label], recipe)
    return infer_fields(read.parts["train"], read.recipe, read.is_sample)


def _without_labels(recipe: Recipe, rows: pl.DataFrame) -> Inference:
    """Infer fields as if every row were good, even if there is none."""
    label = {recipe.label} if recipe.label in rows.columns else set()
    # A number that never changes is a field.
    rows = rows.drop(label).with_columns(pl.lit("good").alias(_NONE), pl.lit(0.0).alias(_FIELD))
    inference = infer_fields(rows, recipe.model_copy(update={"label": _NONE, "good": "good"}))
    fields = tuple(field for field in inference.fields if field.name != _FIELD)
    return Inference(fields, inference.dropped)


def _columns(
    recipe: Recipe, cleaned: CleanTable, fields: Sequence[Field], dropped: Mapping[str, str]
) -> tuple[Column, ...]:
    by_name = {field.name: field for field in fields}
    columns = []
    for column in cleaned.rows:
        name, floats = column.name, column.dtype.is_float()
        missing = column.null_count() + (int(column.is_nan().sum()) if floats else 0)
        read = "numbers in text" if name in cleaned.remarks else ""
        reasons = [read, cleaned.remarks.get(name, "")]
        if name == recipe.label:
            reasons = ["the label"]
        elif name not in by_name:
            reasons = [dropped.get(name, "")]
        reason = "; ".join(filter(None, reasons))
        columns.append(Column(name, by_name.get(name), missing / len(column), reason))
    return tuple(columns)


def _classes(
    recipe: Recipe, dataset: Dataset | None, rows: pl.DataFrame
) -> dict[str, dict[str, int]]:
    if dataset:
        return {
            name: {part: int((each.labels == c).sum()) for part, each in dataset.parts.items()}
            for c, name in enumerate(dataset.classes)
        }
    if recipe.label == NO_LABEL:
        return {}
    counts = counted(labels_of(rows, recipe))
    return {label: {"rows": count} for label, count in counts.items()}


def _fields_to_doubt(columns: Sequence[Column]) -> Iterator[str]:
    fields = [column.field for column in columns if column.field]
    counters = [field.name for field in fields if field.kind == "counter"]
    uptimes = [field.name for field in fields if _UPTIME.search(field.name.lower())]
    for names, what in ((counters, "counters"), (uptimes, "times since a start")):
        if names:
            yield (
                f"{_listed(names)} are {what}: they tell when a record was made; "
                "give the increase per second instead, or --ignore them"
            )


def _families(columns: Sequence[Column]) -> Iterator[str]:
    numbers = [c.name for c in columns if c.field and c.field.kind != "category"]
    for family in find_families(numbers):
        yield (
            f"one metric at {len(family)} places: {family[0]!r} and others; training pools them if "
            "that helps on groups left out (pool in the recipe)"
        )


def _nearly_numbers(columns: Sequence[Column], rows: pl.DataFrame) -> Iterator[str]:
    """Name text columns of many values although most of their cells are numbers."""
    for column in columns:
        cells = rows[column.name].drop_nulls()
        if cells.dtype != pl.String or column.reason == "odd cells" or cells.n_unique() <= _FEW:
            continue
        is_number = cells.str.contains(_NUMBER)
        numbers = int(is_number.sum())
        if len(cells) > numbers >= len(cells) / 2:
            other = cells.filter(~is_number)[0]
            yield (
                f"{numbers / len(cells):.0%} of the cells of {column.name!r} are numbers, not all: "
                f"{other!r}; --missing {other!r} takes those as missing"
            )


def _shared_groups(recipe: Recipe, parts: Mapping[Part, pl.DataFrame]) -> Iterator[str]:
    """Name events, and series that are split at random, that have faulty rows in two parts.

    What was learned of an event is then tested. A series may go on from one part to the next.
    """
    kinds = {"event": recipe.event, "series": recipe.series if recipe.split.by == "random" else ()}
    is_fault = pl.col(recipe.label) != recipe.good
    for what, names in kinds.items():
        if not names:
            continue
        groups = pl.concat(
            rows.filter(is_fault)
            .select(pl.concat_str(names, separator=", ").alias("group"))
            .unique()
            .with_columns(part=pl.lit(part))
            for part, rows in parts.items()
            if {*names} <= {*rows.columns}  # a second table may lack them
        ).drop_nulls()
        counts = groups.group_by("group").agg("part").sort("group")
        shared = counts.filter(pl.col("part").list.len() > 1)
        if len(shared):
            group, where = shared.row(0)
            yield (
                f"{len(shared)} of {len(counts)} values of {what} ({', '.join(names)}) have "
                f"faulty rows in two parts, such as {group!r} in {', '.join(where)}: test results "
                f"flatter; --split-group {names[0]} keeps them whole"
            )


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(map(repr, names[:_SHOWN])) + more
