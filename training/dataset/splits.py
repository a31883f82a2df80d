"""Split the rows of a table into train, dev and test."""

from collections import Counter
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

from training.dataset.reading import read_file
from training.dataset.sampling import Sample
from training.dataset.times import times_of
from training.recipe import RecipeError, Split

Part = Literal["train", "dev", "test"]
PARTS: tuple[Part, Part, Part] = ("train", "dev", "test")
PART = "__part__"  # Column of parts
_SHOWN = 3


def assign_parts(
    table: pl.DataFrame, split: Split, seed: int, label: str, sample: Sample | None = None
) -> pl.DataFrame:
    """Add the column of parts: train, dev, test, or null for rows to leave out.

    `sample` says which rows of their file these are, if not all of them.
    """
    random, column = np.random.default_rng(seed), str(split.column)
    if split.by in ("time", "group"):
        need_column(table, column, f"{split.by} column")
    if split.within:
        need_column(table, split.within, "column to split within")
    match split.by:
        case "column":
            parts = _by_column(table, split, sample)
        case "time":
            within = table[split.within] if split.within else pl.repeat(0, len(table), eager=True)
            rank = _times(table[column]).rank("ordinal").to_numpy()
            parts = pl.Series(_by_rank(rank, within, split))
        case "group":
            parts = pl.Series(_by_group(table[column], split, random))
        case "random":
            parts = pl.Series(_by_rank(random.permutation(len(table)), table[label], split))
    return table.with_columns(parts.cast(pl.String).alias(PART))


def _times(column: pl.Series) -> pl.Series:
    if column.null_count():
        raise RecipeError(f"{column.null_count()} rows have no {column.name!r} to be split by")
    return times_of(column)


def need_column(table: pl.DataFrame, column: str, role: str, path: Path | None = None) -> None:
    """Raise RecipeError if a table lacks a column, or if it holds lists or the like."""
    if column not in table.columns:
        listed = [name if name == name.strip() != "" else repr(name) for name in table.columns[:20]]
        names = ", ".join(listed) + (", ..." if table.width > 20 else "")
        raise RecipeError(
            f"{path or 'the table'} has no {role} {column!r}; its columns are {names}"
        )
    if table.schema[column].is_nested():
        raise RecipeError(f"the {role} {column!r} must hold text, numbers or times in each row")


def _by_column(table: pl.DataFrame, split: Split, sample: Sample | None) -> pl.Series:
    parts = _words(table, split, sample)
    return parts.set(~parts.is_in(PARTS).fill_null(value=False), None)


def rows_of_no_part(table: pl.DataFrame, split: Split, sample: Sample | None) -> list[str]:
    """Return a note on each word of a split column that names no part.

    Rows that have none at all are left out on purpose: between the parts, say.
    """
    if split.by != "column":
        return []
    words = _words(table, split, sample).drop_nulls()
    return [
        f"{rows} rows have {word!r} in {split.column!r}, which is no part, and are left out"
        for word, rows in Counter(words).most_common(_SHOWN + len(PARTS))
        if word not in PARTS
    ][:_SHOWN]


def _words(table: pl.DataFrame, split: Split, sample: Sample | None) -> pl.Series:
    """Return the split column of the table or of its own one as text, null where it is empty."""
    source = read_file(split.table).rows if split.table else table
    need_column(source, str(split.column), "split column", split.table)
    rows = sample.of if sample and split.table else len(table)
    if len(source) != rows:
        raise RecipeError(
            f"{split.table} has {len(source)} rows, the table {rows}; they must match"
        )
    if sample and split.table:
        source = source[sample.rows]
    return source[str(split.column)].cast(pl.String).replace("", None)


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
