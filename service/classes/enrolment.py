"""Enrolled classes in the space of a model: support records become centroids.

What is stored are records, so that every model makes its own centroids of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from models import Enrolled, Model, RecordError
from models.schema import Matrix
from service.classes.entities import Snapshot

__all__ = ["Enrolment"]


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The classes of a store and of a bundle, as they decide together.

    Attributes:
        snapshot: what the store holds.
        base: the bundle's model, as it was trained.
        model: the same with the classes of the store.
        enrolled: each class of the store that decides, by name.
        parked: why an enrolled class does not decide, by name; it is kept.
    """

    snapshot: Snapshot
    base: Model
    model: Model
    enrolled: Mapping[str, Enrolled]
    parked: Mapping[str, str]

    @classmethod
    def of(cls, base: Model, snapshot: Snapshot, before: Enrolment | None = None) -> Enrolment:
        """Embed the support records.

        Args:
            base: the bundle's model.
            snapshot: what the store holds.
            before: of the same model, perhaps; what has not changed since is not embedded again.
        """
        known = before if before and before.base is base else None
        enrolled: dict[str, Enrolled] = {}
        matrices: dict[str, Matrix] = {}
        parked: dict[str, str] = {}
        for name, stored in snapshot.classes.items():
            if stored.hidden or not stored.records:
                continue
            if name in base.names:
                parked[name] = "the bundle has a class of this name itself"
            elif known and name in known.enrolled and known.snapshot.classes[name] == stored:
                enrolled[name] = known.enrolled[name]
            else:
                try:
                    matrices[name] = base.schema.encode([each.record for each in stored.records])
                except RecordError as error:
                    parked[name] = f"its records do not fit this bundle: {error}"
        for name, points in _embedded(base, matrices).items():
            enrolled[name] = base.enrol(name, points, good=snapshot.classes[name].good)
        enrolled = {name: enrolled[name] for name in snapshot.classes if name in enrolled}
        hidden = [name for name, stored in snapshot.classes.items() if stored.hidden]
        changed = bool(enrolled) or not set(hidden).isdisjoint(base.names)
        model = base.with_classes([*enrolled.values()], without=hidden) if changed else base
        return cls(snapshot, base, model, enrolled, parked)


def _embedded(base: Model, matrices: Mapping[str, Matrix]) -> dict[str, Matrix]:
    """All of them at once, and each apart again."""
    if not matrices:
        return {}
    ends = np.cumsum([len(matrix) for matrix in matrices.values()])[:-1]
    points = base.encoder.embed(np.concatenate(list(matrices.values())))
    return dict(zip(matrices, np.split(points, ends), strict=True))
