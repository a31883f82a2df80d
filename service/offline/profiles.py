"""Profiles of sites on disk: the records to learn one from, and the file that it becomes."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from models import Model
from models.profile import Adaptation, Profile, ProfileError
from models.schema import Matrix
from service.offline.tables import Table, TableError

__all__ = ["first_records", "open_profile"]


def first_records(table: Table, records: int) -> tuple[Matrix, int]:
    """Read the first rows of a table that fit its schema.

    Returns:
        float32 [up to records, fields], and how many rows among them did not fit.

    Raises:
        TableError: the table cannot be read.
    """
    matrices, rows, faulty = [], 0, 0
    for part in table.parts(report=True):
        matrices.append(part.matrix)
        rows, faulty = rows + len(part.matrix), faulty + len(part.faults)
        if rows >= records:
            break
    return np.concatenate(matrices)[:records], faulty


def open_profile(path: Path | None, model: Model) -> Adaptation | None:
    """Read the profile that a model is to use; None for no profile.

    Raises:
        TableError: it cannot be read, or changes no field; or the model needs one.
    """
    if path is None:
        if model.manifest.adapted:
            raise TableError(
                "this bundle needs a profile of the site that the records are from: make one with "
                "`faultcube adapt`, and give it with --profile"
            )
        return None
    schema = model.schema
    try:
        profile = Profile.read(path)
    except ProfileError as error:
        raise TableError(str(error)) from error
    if not any(map(profile.adapts, schema.fields)):
        raise TableError(f"{path} changes no field of this bundle: learn a profile for it")
    return Adaptation.of(profile, schema)
