"""Profiles of sites on disk: learn one from a table, compare it with the training, open it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from models import Schema
from models.profile import Adaptation, Profile, ProfileError
from models.schema import Matrix
from service.offline.tables import Table, TableError

__all__ = ["Comparison", "compare", "first_records", "open_profile"]


@dataclass(frozen=True, slots=True)
class Comparison:
    """A field at a site, beside the training network.

    Attributes:
        field: its name.
        typical: value at the site.
        training: typical value in training.
        spread: at the site.
        ratio: what differences from the typical value are multiplied with.
    """

    field: str
    typical: float
    training: float
    spread: float
    ratio: float


def first_records(table: Table, records: int) -> Matrix:
    """Return the first rows of a table that fit its schema: float32 [up to records, fields].

    Raises:
        TableError: the table cannot be read.
    """
    matrices, rows = [], 0
    for part in table.parts(report=True):
        matrices.append(part.matrix)
        rows += len(part.matrix)
        if rows >= records:
            break
    return np.concatenate(matrices)[:records]


def compare(profile: Profile, schema: Schema) -> list[Comparison]:
    """Return the fields that a profile changes, in the order of the schema."""
    scale = Adaptation.of(profile, schema).scale
    return [
        Comparison(
            field.name,
            (level := profile.levels[field.name]).typical,
            cast("float", field.typical),
            level.spread,
            float(ratio),
        )
        for field, ratio in zip(schema.fields, scale, strict=True)
        if profile.adapts(field)
    ]


def open_profile(path: Path, schema: Schema) -> Adaptation:
    """Read a profile for records of a schema.

    Raises:
        TableError: it cannot be read, or changes no field of the schema.
    """
    try:
        profile = Profile.read(path)
    except ProfileError as error:
        raise TableError(str(error)) from error
    if not any(map(profile.adapts, schema.fields)):
        raise TableError(f"{path} changes no field of this bundle: learn a profile for it")
    return Adaptation.of(profile, schema)
