"""Schema, classes and rows from the arrays that a caller has, instead of from a table."""

import math
from collections.abc import Sequence
from numbers import Integral, Real
from typing import Any

import numpy as np
import numpy.typing as npt
import pydantic

from models.schema import Field, Matrix, Schema
from training.dataset.dataset import Labels, Rows
from training.recipe import RecipeError

Array = npt.NDArray[Any]


class FitError(RecipeError, ValueError):
    """The fit is impossible: a ValueError to scikit-learn, a RecipeError to the command line."""


def fit_error(error: pydantic.ValidationError, **names: str) -> FitError:
    """Return the first fault as one line; `names` maps fields to the caller's names for them."""
    first = error.errors()[0]
    field, *rest = map(str, first["loc"])
    return FitError(".".join([names.get(field, field), *rest]) + f": {first['msg']}")


def schema_of(schema: Schema | None, width: int, names: Sequence[str] | None) -> Schema:
    """Return the schema of `width` columns: the given one, or numbers that may be missing.

    `names` are the columns' names, x0, x1, ... if None.

    Raises:
        FitError: the columns do not fit, or a name is empty or too long.
    """
    if schema is None:
        columns = [f"x{i}" for i in range(width)] if names is None else names
        try:
            return Schema([Field(name=name, kind="gauge", required=False) for name in columns])
        except pydantic.ValidationError as error:
            raise fit_error(error, name="name of a column") from error
    if len(schema) != width:
        raise FitError(
            f"X has {width} columns, the schema {len(schema)} fields; give a column for each field"
        )
    if names is not None and tuple(names) != schema.names:
        raise FitError("columns of X are not the schema's fields in their order; select those")
    return schema


def classes_of(y: Array) -> tuple[Array, Labels]:
    """Return the sorted classes and the index of each record's class, or raise FitError."""
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise FitError(f"every record has the class {classes[0]!s}; a second class is needed")
    if (counts == 1).any():
        single = classes[counts == 1][0]
        raise FitError(f"class {single!s} has a single record; add more or leave it out")
    return classes, labels


def check_columns(schema: Schema, matrix: Matrix) -> None:
    """Reject a column of numbers that are all missing: it has no typical value and no spread."""
    for field, column in zip(schema.fields, matrix.T, strict=True):
        if not field.categories and np.isnan(column).all():
            raise FitError(f"{field.name!r} is missing in every training record; leave it out")


def hold_out(rows: Rows, share: float, random: np.random.Generator) -> tuple[Rows, Rows]:
    """Draw a share of each class's rows, at least one, but leave at least two.

    Returns the rows that are left, and those drawn. Raises FitError if no class has a row to spare.
    """
    drawn = np.zeros(len(rows.labels), dtype=bool)
    for c, count in enumerate(np.bincount(rows.labels)):
        number = min(max(round(count * share), 1), count - 2)
        drawn[random.choice(np.flatnonzero(rows.labels == c), number, replace=False)] = True
    if not drawn.any():
        raise FitError("no class has a third record to be set aside; add more or give dev=(X, y)")
    return rows.select(~drawn), rows.select(drawn)


def labelled(matrix: Matrix, y: Array, classes: Array) -> Rows:
    """Return rows whose labels are indices of `classes`, or raise FitError."""
    index = {label: c for c, label in enumerate(classes.tolist())}
    if unknown := set(y.tolist()) - index.keys():
        raise FitError(f"dev has the class {unknown.pop()!s}, which no training record has")
    return Rows(matrix, np.array([index[label] for label in y.tolist()], dtype=np.int64))


def is_text(classes: Array) -> bool:
    """Return whether labels are text; scikit-learn takes text or numbers, never both."""
    return isinstance(classes[0], str)


def checked_label(label: Any, classes: Array) -> str | float:
    """Return the label in the kind of the classes, or raise ValueError."""
    text, whole = is_text(classes), classes.dtype.kind != "f"
    match label:
        case str() if text:
            return label
        case Integral() | np.bool_() if not text:
            return int(label)
        case Real() if not text and math.isfinite(label):
            if not whole:
                return float(label)
            if float(label).is_integer():
                return int(float(label))
    kind = "text" if text else "whole numbers" if whole else "numbers"
    raise ValueError(f"{label!r} cannot be enrolled: labels of this model are {kind}")
