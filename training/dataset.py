"""From a table to matrices: the same encoding that a record gets in the service."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.bundle import LONGEST_NAME, UNKNOWN
from models.schema import UNSEEN, Field, Matrix, Schema
from training.fields import infer_fields
from training.recipe import Recipe, RecipeError, Split
from training.table import Part, labelled_rows

__all__ = ["Dataset", "Labels", "Rows", "class_names", "load_dataset"]

_RANDOM = (
    "rows were split at random: neighbours in time are nearly equal, so the test results flatter; "
    "split by time, group or a given column to know the truth"
)
_RANDOM_DEV = (
    "dev rows were drawn at random: neighbours in time are nearly equal, so radii may be tighter "
    "than new traffic needs; split by time, group or a given column"
)

Labels = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Rows:
    """One part of a table.

    Attributes:
        matrix: float32 [n, fields], raw values, NaN where missing.
        labels: int64 [n], index of the class.
        table: the rows as they were read; empty when they came without one.
    """

    matrix: Matrix
    labels: Labels
    table: pl.DataFrame = dataclasses.field(default_factory=pl.DataFrame)


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table ready for training.

    Attributes:
        schema: the fields, inferred from the training rows.
        classes: labels in a fixed order, good traffic first.
        train, dev, test: the three parts.
        dropped: for every column that is no field, why.
        notes: what else the user should know.
    """

    schema: Schema
    classes: tuple[str, ...]
    train: Rows
    dev: Rows
    test: Rows
    dropped: Mapping[str, str]
    notes: tuple[str, ...]


def load_dataset(
    recipe: Recipe, split: Split | None = None, held_out: Collection[str] = ()
) -> Dataset:
    """Read, cut and encode the recipe's table.

    Args:
        recipe: what the columns mean.
        split: another split than the recipe's own.
        held_out: classes whose rows say nothing of the fields, as if they were not known yet.

    Raises:
        RecipeError: the table cannot be trained on; says why and what to do.
    """
    split = split or recipe.split
    parts = labelled_rows(recipe, split)
    classes = class_names(parts["train"][recipe.label], recipe)
    inference = infer_fields(parts["train"].filter(~pl.col(recipe.label).is_in(held_out)), recipe)
    schema = Schema(inference.fields)
    notes = [_RANDOM_DEV if recipe.test_table else _RANDOM] if split.by == "random" else []
    rows = {}
    for part, table in parts.items():
        if gone := sorted(set(table[recipe.label]) - set(classes)):
            raise RecipeError(
                f"{part} rows are of class {gone[0]!r}, training rows are not: split otherwise, or "
                f"leave it out with --drop-label {gone[0]!r}"
            )
        rows[part] = _encode(table, schema, classes, recipe.label, notes, part)
    return Dataset(
        schema, classes, rows["train"], rows["dev"], rows["test"], inference.dropped, tuple(notes)
    )


def class_names(labels: pl.Series, recipe: Recipe) -> tuple[str, ...]:
    """The classes of the training rows, good traffic first.

    Raises:
        RecipeError: they cannot be told apart, or one cannot be served.
    """
    counts: dict[str, int] = dict(labels.value_counts().iter_rows())
    if recipe.good not in counts:
        raise RecipeError(
            f"no training row has the good label {recipe.good!r}; the labels are "
            + ", ".join(sorted(counts))
        )
    if len(counts) < 2:
        raise RecipeError(f"every training row is {recipe.good!r}; a second class is needed")
    if UNKNOWN in counts:
        raise RecipeError(f"a class cannot be named {UNKNOWN!r}, the verdict on what fits no class")
    if single := sorted(label for label, count in counts.items() if count == 1):
        raise RecipeError(
            f"class {single[0]!r} has a single training row; add more or leave it out with "
            f"--drop-label {single[0]!r}"
        )
    if long := [label for label in counts if len(label) > LONGEST_NAME]:
        raise RecipeError(
            f"a label has {len(long[0])} characters, at most {LONGEST_NAME} are taken"
        )
    return recipe.good, *sorted(counts.keys() - {recipe.good})


def _encode(
    table: pl.DataFrame,
    schema: Schema,
    classes: tuple[str, ...],
    label: str,
    notes: list[str],
    part: Part,
) -> Rows:
    columns = []
    for field in schema.fields:
        if field.name not in table.columns:
            raise RecipeError(f"the {part} rows have no column {field.name!r}; it is a field")
        columns.append(_encode_column(table[field.name], field))
    matrix = np.stack(columns, axis=1)
    if bad := int(np.isinf(matrix).sum()):
        notes.append(f"{bad} infinite values of the {part} rows are taken as missing")
        matrix[np.isinf(matrix)] = np.nan
    index = {name: i for i, name in enumerate(classes)}
    labels = table[label].replace_strict(index, return_dtype=pl.Int64).to_numpy(writable=True)
    return Rows(matrix, labels, table)


def _encode_column(column: pl.Series, field: Field) -> Matrix:
    """As `Field.encode`, but a value that the service would refuse is taken as missing."""
    try:
        if field.kind == "category":
            codes = {category: float(i) for i, category in enumerate(field.categories)}
            text = column.cast(pl.String).replace("", None)
            other = UNSEEN if field.open else None
            column = text.replace_strict(codes, default=other, return_dtype=pl.Float64)
            column = column.set(text.is_null(), None)
        values = column.cast(pl.Float64).to_numpy()
    except pl.exceptions.PolarsError as error:
        raise RecipeError(f"column {field.name!r} is not a {field.kind} in every row") from error
    with np.errstate(over="ignore"):
        matrix: Matrix = values.astype(np.float32)
    return matrix
