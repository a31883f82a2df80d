"""From a table to matrices: the same encoding that a record gets in the service."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl

from models.bundle import LONGEST_NAME, UNKNOWN
from models.schema import UNSEEN, Field, Matrix, Schema
from training.dataset.schema_inference import Inference, infer_fields
from training.dataset.tables import Added, Part, added_tables, aligned, labelled_rows
from training.recipe import Recipe, RecipeError, Split

__all__ = ["Addition", "Dataset", "Labels", "Rows", "class_names", "encode_rows", "load_dataset"]

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
class Addition:
    """What became of a table that was added.

    Attributes:
        table: the file's name.
        rows: how many train rows it gave.
        left_out: how many equal a dev or test row in every field, and were left out.
    """

    table: str
    rows: int
    left_out: int


@dataclass(frozen=True, slots=True)
class Dataset:
    """A table ready for training.

    Attributes:
        schema: the fields, inferred from the training rows.
        classes: labels in a fixed order, good traffic first.
        train, dev, test: the three parts.
        dropped: for every column that is no field, why.
        notes: what else the user should know.
        added: tables whose rows are among the train rows.
    """

    schema: Schema
    classes: tuple[str, ...]
    train: Rows
    dev: Rows
    test: Rows
    dropped: Mapping[str, str]
    notes: tuple[str, ...]
    added: tuple[Addition, ...] = ()


def load_dataset(
    recipe: Recipe,
    split: Split | None = None,
    held_out: Collection[str] = (),
    added: Sequence[Added] | None = None,
) -> Dataset:
    """Read, cut and encode the recipe's table.

    Args:
        recipe: what the columns mean.
        split: another split than the recipe's own.
        held_out: classes whose rows say nothing of the fields, as if they were not known yet.
        added: other rows to add than those of the tables that the recipe names.

    Raises:
        RecipeError: the table cannot be trained on; says why and what to do.
    """
    split = split or recipe.split
    added = added_tables(recipe) if added is None else added
    parts = labelled_rows(recipe, split, frozenset().union(*(each.labels for each in added)))
    labels = [each.rows[recipe.label] for each in added]
    classes = class_names(pl.concat([parts["train"][recipe.label], *labels]), recipe)
    inference = infer_fields(parts["train"].filter(~pl.col(recipe.label).is_in(held_out)), recipe)
    additions: tuple[Addition, ...] = ()
    if added:
        fresh, additions = _unseen(recipe, parts, added, inference)
        inference = _widened(recipe, parts["train"], fresh, inference, held_out)
        parts["train"] = pl.concat([parts["train"], *fresh], how="diagonal_relaxed")
        classes = class_names(parts["train"][recipe.label], recipe)
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
    for each in additions:
        note = f"{each.rows} rows of {each.table} were added to the train rows"
        if each.left_out:
            note += f"; {each.left_out} more equal dev or test rows and were left out"
        notes.append(note)
    return Dataset(
        schema,
        classes,
        rows["train"],
        rows["dev"],
        rows["test"],
        inference.dropped,
        tuple(notes),
        additions,
    )


def _unseen(
    recipe: Recipe,
    parts: Mapping[Part, pl.DataFrame],
    added: Sequence[Added],
    inference: Inference,
) -> tuple[list[pl.DataFrame], tuple[Addition, ...]]:
    """The rows to add, without those that dev or test rows equal: they would flatter."""
    names = [*(field.name for field in inference.fields), recipe.label]
    raw = [aligned(each, parts["train"].select(names)) for each in added]
    schema = Schema(_widened(recipe, parts["train"], raw, inference).fields)
    held = {row for part in ("dev", "test") for row in _keys(parts[part], schema)}
    fresh, additions = [], []
    for each, rows in zip(added, raw, strict=True):
        new = np.array([key not in held for key in _keys(rows, schema)], dtype=np.bool_)
        fresh.append(rows.filter(new))
        additions.append(Addition(each.name, int(new.sum()), int((~new).sum())))
    return fresh, tuple(additions)


def _keys(table: pl.DataFrame, schema: Schema) -> list[bytes]:
    """Equal for rows that are equal in every field."""
    matrix = _matrix(_completed(table, schema), schema) + np.float32(0)  # -0.0 is 0.0
    matrix[np.isnan(matrix)] = np.nan
    return [row.tobytes() for row in matrix]


def _completed(table: pl.DataFrame, schema: Schema) -> pl.DataFrame:
    """The table with a column for every field; one that it lacks is missing in every row."""
    lacking = [field.name for field in schema.fields if field.name not in table.columns]
    return table.with_columns(pl.lit(None).alias(name) for name in lacking)


def _widened(
    recipe: Recipe,
    train: pl.DataFrame,
    added: Sequence[pl.DataFrame],
    inference: Inference,
    held_out: Collection[str] = (),
) -> Inference:
    """The same fields, as all rows show them: a field never comes or goes with added rows."""
    table = pl.concat([train, *added], how="diagonal_relaxed")
    names = [field.name for field in inference.fields]
    others = [name for name in train.columns if name not in {*names, recipe.label}]
    same = recipe.model_copy(update={"keep": tuple(names), "ignore": tuple(others)})
    again = infer_fields(table.filter(~pl.col(recipe.label).is_in(held_out)), same)
    return dataclasses.replace(again, dropped=inference.dropped)


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


def encode_rows(table: pl.DataFrame, schema: Schema) -> Matrix:
    """Rows as a schema has them, whatever it was inferred from: float32 [n, fields].

    What a row lacks, or the service would refuse, is missing.

    Raises:
        RecipeError: a column holds something else than its field.
    """
    matrix = _matrix(_completed(table, schema), schema)
    matrix[np.isinf(matrix)] = np.nan
    return matrix


def _matrix(table: pl.DataFrame, schema: Schema) -> Matrix:
    return np.stack([_encode_column(table[field.name], field) for field in schema.fields], axis=1)


def _encode(
    table: pl.DataFrame,
    schema: Schema,
    classes: tuple[str, ...],
    label: str,
    notes: list[str],
    part: Part,
) -> Rows:
    for field in schema.fields:
        if field.name not in table.columns:
            raise RecipeError(f"the {part} rows have no column {field.name!r}; it is a field")
    matrix = _matrix(table, schema)
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
