"""Read tables, and split their rows into train, dev and test."""

from collections.abc import Callable, Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from training.recipe import Recipe, RecipeError, Split

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, Part, Part] = ("train", "dev", "test")

_PART = "__part__"
_LABEL = "label"  # Label column of an added table that lacks the recipe's label column


@dataclass(frozen=True, slots=True)
class Added:
    """Rows to be added to the train rows."""

    name: str  # name of the file
    rows: pl.DataFrame  # its labelled rows, with all of its columns
    labels: frozenset[str]  # all of its labels, including those that the recipe leaves out


def read_table(path: Path) -> pl.DataFrame:
    """Read CSV, TSV (plain or .gz) or Parquet, or raise RecipeError."""
    try:
        if path.suffix == ".parquet":
            table = pl.read_parquet(path, glob=False)
        else:
            tab = "\t" if ".tsv" in path.suffixes else ","
            table = pl.read_csv(path, separator=tab, infer_schema_length=None, glob=False)
    except FileNotFoundError as error:
        raise RecipeError(f"there is no table {path}") from error
    except (OSError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().splitlines()[0]
        raise RecipeError(f"the table {path} cannot be read as CSV or Parquet: {reason}") from error
    if table.is_empty():
        raise RecipeError(f"the table {path} holds no rows")
    return table


def labelled_rows(
    recipe: Recipe,
    split: Split | None,
    more: Collection[str] = (),
    prepare: Callable[[pl.DataFrame], pl.DataFrame] = lambda table: table,
) -> dict[Part, pl.DataFrame]:
    """Read and split the recipe's tables, without rows that lack a label or a part.

    Without a split every row is a training row. `more` are labels of rows that will be added.
    `prepare` changes a table while it has all of its rows.

    Raises:
        RecipeError: a column that the recipe names is not there, or a part stays empty.
    """
    table = prepare(read_table(recipe.table))
    _need(table, recipe.label, "label column", recipe.table)
    labels = {*table[recipe.label].cast(pl.String).str.strip_chars(), *more}
    for name in (*recipe.drop_labels, *recipe.severity):
        if name not in labels:
            raise RecipeError(f"no row has the label {name!r} to leave out or to give a severity")
    if split is None:
        return {"train": _with_labels(table, recipe)}
    table = _with_labels(assign_parts(table, split, recipe.fit.seed, recipe.label), recipe)
    parts = {part: table.filter(pl.col(_PART) == part).drop(_PART) for part in PARTS}
    if recipe.test_table:
        test = prepare(read_table(recipe.test_table))
        _need(test, recipe.label, "label column", recipe.test_table)
        parts["test"] = _with_labels(test, recipe)
    for part, rows in parts.items():
        if rows.is_empty():
            raise RecipeError(f"the split leaves no {part} rows; choose another column or shares")
    return parts


def added_tables(recipe: Recipe) -> list[Added]:
    """Read the tables to add, without the rows that have no label or one to leave out."""
    added = []
    for path in recipe.add:
        table = read_table(path)
        if recipe.label not in table.columns and _LABEL in table.columns:
            table = table.rename({_LABEL: recipe.label})
        _need(table, recipe.label, "label column", path)
        labels = table[recipe.label].cast(pl.String).str.strip_chars().drop_nulls()
        added.append(Added(path.name, _with_labels(table, recipe), frozenset(labels)))
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


def _with_labels(table: pl.DataFrame, recipe: Recipe) -> pl.DataFrame:
    label = pl.col(recipe.label).cast(pl.String).str.strip_chars()
    kept = label.is_not_null() & (label != "") & ~label.is_in(list(recipe.drop_labels))
    return table.with_columns(label.alias(recipe.label)).filter(kept)


def assign_parts(table: pl.DataFrame, split: Split, seed: int, label: str) -> pl.DataFrame:
    """Add the column of parts: train, dev, test, or null for rows to leave out."""
    random, column = np.random.default_rng(seed), str(split.column)
    if split.by in ("time", "group"):
        _need(table, column, f"{split.by} column")
    if split.within:
        _need(table, split.within, "column to split within")
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
    """Return times that can be ordered; text must be ISO 8601."""
    if column.dtype == pl.String:
        iso = r"^\d{4}-\d\d-\d\d([ T]\d\d:\d\d(:\d\d(\.\d+)?)?)?$"
        if not column.drop_nulls().str.contains(iso).all():
            raise RecipeError(
                f"{column.name!r} holds text that is no time; write it as 2026-01-31 23:59:59, "
                "or as a number"
            )
        column = column.str.replace("T", " ")  # the text of such times is in their order
    if column.null_count():
        raise RecipeError(f"{column.null_count()} rows have no {column.name!r} to be split by")
    return column


def _need(table: pl.DataFrame, column: str, role: str, path: Path | None = None) -> None:
    if column not in table.columns:
        names = ", ".join(table.columns[:20]) + (", ..." if table.width > 20 else "")
        raise RecipeError(
            f"{path or 'the table'} has no {role} {column!r}; its columns are {names}"
        )


def _by_column(table: pl.DataFrame, split: Split) -> pl.Series:
    source = read_table(split.table) if split.table else table
    _need(source, str(split.column), "split column", split.table)
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
