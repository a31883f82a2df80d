"""Enrolled classes in the space of a model: support records become centroids.

The database keeps records, so that every model computes its own centroids from them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models import Enrolled, Model, RecordError
from models.schema import Matrix
from service.classes.entities import Snapshot, StoredClass

__all__ = ["Enrolment"]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The classes of a bundle and of the database, as they decide together.

    Attributes:
        snapshot: classes of the database.
        base: the bundle's model, as it was trained.
        model: the same with the classes of the database.
        enrolled: each class of the database that decides, by name.
        parked: why an enrolled class does not decide, by name; it is kept.
    """

    snapshot: Snapshot
    base: Model
    model: Model
    enrolled: Mapping[str, Enrolled]
    parked: Mapping[str, str]

    @property
    def names(self) -> list[str]:
        """Names of all classes, hidden and parked ones included: the bundle's first."""
        return list(dict.fromkeys([*self.base.names, *filter(self.stored, self.snapshot.classes)]))

    def stored(self, name: str) -> StoredClass | None:
        """Return an enrolled class, or None; a hidden class of a bundle is not enrolled."""
        stored = self.snapshot.classes.get(name)
        return stored if stored and stored.records else None

    @classmethod
    def of(cls, base: Model, snapshot: Snapshot, before: Enrolment | None = None) -> Enrolment:
        """Embed the support records.

        Args:
            base: the bundle's model.
            snapshot: classes of the database.
            before: an earlier enrolment; of the same model, unchanged classes are taken from it.
        """
        if before and before.base is not base:
            before = None
        enrolled: dict[str, Enrolled] = {}
        matrices: dict[str, Matrix] = {}
        parked: dict[str, str] = {}
        for name, stored in snapshot.classes.items():
            if stored.hidden or not stored.records:
                continue
            if name in base.names:
                parked[name] = "the bundle has a class of this name itself"
            elif before and name in before.enrolled and before.snapshot.classes[name] == stored:
                enrolled[name] = before.enrolled[name]
            else:
                try:
                    matrices[name] = base.schema.encode(
                        [support.record for support in stored.records]
                    )
                except RecordError as error:
                    parked[name] = f"its records do not fit this bundle: {error}"
        for name, points in _embedded(base, matrices).items():
            enrolled[name] = base.enrol(name, points, good=snapshot.classes[name].good)
        enrolled = {name: enrolled[name] for name in snapshot.classes if name in enrolled}
        # Of the bundle's classes; an enrolled one that has the name of one of them hides nothing.
        classes = snapshot.classes.items()
        hidden = [name for name, stored in classes if stored.hidden and not stored.records]
        changed = bool(enrolled) or not set(hidden).isdisjoint(base.names)
        model = base.with_classes([*enrolled.values()], without=hidden) if changed else base
        return cls(snapshot, base, model, enrolled, parked)


def _embedded(base: Model, matrices: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """Embed all matrices in one call."""
    if not matrices:
        return {}
    ends = np.cumsum([len(matrix) for matrix in matrices.values()])[:-1]
    points = base.encoder.embed(np.concatenate(list(matrices.values())))
    return dict(zip(matrices, np.split(points, ends), strict=True))
