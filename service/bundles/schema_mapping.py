"""Convert records from the schema of one bundle to that of another."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.schema import UNSEEN, Field, Matrix

__all__ = ["SchemaMapping", "SchemaMismatchError"]

Flags = npt.NDArray[np.bool_]


class SchemaMismatchError(ValueError):
    """One schema cannot be served from the other; the message says why."""


class SchemaMapping:
    """Converts records by the names of their fields.

    Args:
        source: fields of the records.
        target: fields to convert to.

    Raises:
        SchemaMismatchError: a required field is not in the source, or is of another type there.
    """

    def __init__(self, source: tuple[Field, ...], target: tuple[Field, ...]) -> None:
        self.is_same = source == target
        self.columns: list[tuple[int, int]] = []
        self.codes: dict[int, Matrix] = {}
        self.required = np.array([field.required for field in target])
        positions = {field.name: position for position, field in enumerate(source)}
        for column, field in enumerate(target):
            if field.name not in positions:
                if field.required:
                    raise SchemaMismatchError(
                        f"it needs the field {field.name!r}, which the bundle that answers has not"
                    )
                continue
            position = positions[field.name]
            there = source[position]
            if _type(there) != _type(field):
                raise SchemaMismatchError(
                    f"the field {field.name!r} is a {field.kind} to it, and a {there.kind} to "
                    "the bundle that answers"
                )
            self.columns.append((column, position))
            if field.kind == "category":
                self.codes[column] = _codes(there, field)

    def convert(self, matrix: Matrix) -> tuple[Matrix, Flags]:
        """Return the records in the target schema, float32 [n, fields], and which of them fit."""
        if self.is_same:
            return matrix, np.ones(len(matrix), np.bool_)
        converted = np.full((len(matrix), len(self.required)), np.nan, np.float32)
        fits = np.ones(len(matrix), np.bool_)
        for column, position in self.columns:
            values = matrix[:, position]
            missing = np.isnan(values)
            if (codes := self.codes.get(column)) is not None:
                # The last code is that of what the source has not seen, -1.
                values = codes[np.where(missing, UNSEEN, values).astype(np.intp)]
                fits &= missing | ~np.isnan(values)
            converted[:, column] = np.where(missing, np.nan, values)
        fits &= ~(np.isnan(converted) & self.required).any(axis=1)
        return converted, fits


def _type(field: Field) -> str:
    return field.kind if field.is_coded else "number"


def _codes(source: Field, target: Field) -> Matrix:
    """Return the code of each category of one field in the other, NaN where it has none."""
    codes, other = target.codes(), UNSEEN if target.open else np.nan
    return np.array([*(codes.get(name, other) for name in source.categories), other], np.float32)
