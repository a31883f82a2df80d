"""From the arrays that a caller has to rows and a schema, as a table gives them elsewhere.

FitError    what a fit cannot do: a ValueError to scikit-learn, a RecipeError to the command line
"""

from __future__ import annotations

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

__all__ = [
    "FitError",
    "check_columns",
    "checked_label",
    "classes_of",
    "is_text",
    "known_rows",
    "refusal",
    "schema_of",
    "set_aside",
]

Array = npt.NDArray[Any]


class FitError(RecipeError, ValueError):
    """What a fit cannot do; one line that says why and what to do."""


def refusal(error: pydantic.ValidationError, **names: str) -> FitError:
    """The first fault as one line; `names` are what a caller calls the fields."""
    first = error.errors()[0]
    place, *rest = map(str, first["loc"])
    return FitError(".".join([names.get(place, place), *rest]) + f": {first['msg']}")


def schema_of(given: Schema | None, width: int, names: Sequence[str] | None) -> Schema:
    """The schema of a matrix: the one given, or numbers of any unit that may all be missing.

    Args:
        given: a schema that the matrix has to fit.
        width: columns of the matrix.
        names: their names; None for x0, x1, ...

    Raises:
        FitError: the matrix does not fit, or a name is empty or too long.
    """
    if given is None:
        known = [f"x{i}" for i in range(width)] if names is None else names
        try:
            return Schema([Field(name=name, kind="gauge", required=False) for name in known])
        except pydantic.ValidationError as error:
            raise refusal(error, name="name of a column") from error
    if len(given) != width:
        raise FitError(
            f"X has {width} columns, the schema {len(given)} fields; give a column for each field"
        )
    if names is not None and tuple(names) != given.names:
        raise FitError("columns of X are not the schema's fields in their order; select those")
    return given


def classes_of(y: Array) -> tuple[Array, Labels]:
    """The classes, sorted, and the index of each record's class.

    Raises:
        FitError: there is one class, or one has a single record: it has no pair to learn from.
    """
    classes, labels, counts = np.unique(y, return_inverse=True, return_counts=True)
    if len(classes) < 2:
        raise FitError(f"every record has the class {classes[0]!s}; a second class is needed")
    if (counts == 1).any():
        single = classes[counts == 1][0]
        raise FitError(f"class {single!s} has a single record; add more or leave it out")
    return classes, labels


def check_columns(schema: Schema, matrix: Matrix) -> None:
    """Refuse a column of numbers without a number: it has no typical value and no spread."""
    for field, column in zip(schema.fields, matrix.T, strict=True):
        if not field.categories and np.isnan(column).all():
            raise FitError(f"{field.name!r} is missing in every training record; leave it out")


def set_aside(rows: Rows, share: float, random: np.random.Generator) -> tuple[Rows, Rows]:
    """Draw a share of each class's rows, one at least, and leave two at least.

    Returns:
        The rows that are left, and those that were drawn.

    Raises:
        FitError: no class has a row to spare.
    """
    drawn = np.zeros(len(rows.labels), dtype=bool)
    for c, count in enumerate(np.bincount(rows.labels)):
        number = min(max(round(count * share), 1), count - 2)
        drawn[random.choice(np.flatnonzero(rows.labels == c), number, replace=False)] = True
    if not drawn.any():
        raise FitError("no class has a third record to be set aside; add more or give dev=(X, y)")
    left = ~drawn
    return Rows(rows.matrix[left], rows.labels[left]), Rows(rows.matrix[drawn], rows.labels[drawn])


def known_rows(matrix: Matrix, y: Array, classes: Array) -> Rows:
    """Rows whose labels are indices of `classes`.

    Raises:
        FitError: a label is none of them.
    """
    index = {label: c for c, label in enumerate(classes.tolist())}
    if alien := set(y.tolist()) - index.keys():
        raise FitError(f"dev has the class {alien.pop()!s}, which no training record has")
    return Rows(matrix, np.array([index[label] for label in y.tolist()], dtype=np.int64))


def is_text(classes: Array) -> bool:
    """Whether labels are text; scikit-learn takes text or numbers, never both."""
    return isinstance(classes[0], str)


def checked_label(label: Any, classes: Array) -> str | float:
    """The label in the kind of the classes.

    Raises:
        ValueError: it is NaN, nothing, or of another kind.
    """
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
