"""What a change of the classes would do, told before it is made."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from models import UNKNOWN, Decisions, Model
from models.decision import distances_between
from models.schema import Matrix
from service.classes.enrolment import Enrolment

__all__ = ["Preview", "preview"]

_SWALLOWED, _SWALLOWED_GOOD = 0.5, 0.1
"""Share of the records that a class answers from which on another one that takes them over is said
to swallow it: of good traffic it is less, for these would be false alarms."""


@dataclass(frozen=True, slots=True)
class Preview:
    """What becomes of a class that is enrolled, or known from more records, and of the others.

    Attributes:
        name: of the class.
        records: how many it is known from.
        radius: how far it would reach, 0..1.
        spread: mean distance of its records from the mean of the others; None of a single one.
        distances: from its centroid to that of every other class, 0..1, the nearest first.
        calibration: what becomes of the bundle's calibration records; None when it has none.
        recent: what becomes of the most recent traffic.
        swallowed: share of what a class answers now that the class would take over, of those
            that lose half of it or more, or are good traffic and lose a tenth.
    """

    name: str
    records: int
    radius: float
    spread: float | None
    distances: dict[str, float]
    calibration: dict[str, Any] | None
    recent: dict[str, Any]
    swallowed: dict[str, float]

    @property
    def nearest(self) -> tuple[str, float]:
        """The other class that is nearest, and how far it is."""
        return next(iter(self.distances.items()))

    @property
    def contradicts(self) -> bool:
        """Whether its records lie farther from each other than from another class."""
        return self.spread is not None and self.spread > self.nearest[1]

    def as_json(self) -> dict[str, Any]:
        """The report that is sent."""
        name, distance = self.nearest
        return {
            "name": self.name,
            "records": self.records,
            "radius": _rounded(self.radius),
            "spread": None if self.spread is None else _rounded(self.spread),
            "nearest": {"name": name, "distance": _rounded(distance)},
            "distances": {other: _rounded(each) for other, each in self.distances.items()},
            "calibration": self.calibration,
            "recent": self.recent,
            "swallowed": {other: _rounded(share) for other, share in self.swallowed.items()},
        }


def preview(before: Enrolment, after: Enrolment, name: str, recent: Matrix) -> Preview:
    """Compare what decides now with what would decide.

    Args:
        before: what decides now.
        after: what would decide; the class is one of it.
        name: of the class.
        recent: float32 [n, fields], records that were answered lately.
    """
    model, points = after.model, after.enrolled[name].points
    place = model.names.index(name)
    distances = distances_between(model.rule.centroids[[place]], model.rule.centroids)[0]
    order = [other for other in np.argsort(distances, kind="stable").tolist() if other != place]
    calibration = None
    found: list[_Change] = []
    if reference := after.base.reference:
        found.append(_Change.of(before.model, model, after.base.encoder.embed(reference.records)))
        calibration = found[0].as_json(name)
    support = [each.points for other, each in before.enrolled.items() if other != name]
    if support:
        found.append(_Change.of(before.model, model, np.concatenate(support)))
    lately = _Change.of(before.model, model, after.base.encoder.embed(recent))
    return Preview(
        name=name,
        records=len(points),
        radius=float(model.rule.radii[place]),
        spread=_spread(points),
        distances={model.names[other]: float(distances[other]) for other in order},
        calibration=calibration,
        recent=lately.as_json(name),
        swallowed=_swallowed(found, name, before.model),
    )


@dataclass(frozen=True, slots=True)
class _Change:
    """What labels records have, and would have."""

    before: Sequence[str]
    after: Sequence[str]

    @classmethod
    def of(cls, before: Model, after: Model, points: Matrix) -> _Change:
        return cls(_labels(before, points), _labels(after, points))

    def taken(self, name: str) -> Counter[str]:
        """How many records the class would take over, by their label of now."""
        pairs = zip(self.before, self.after, strict=True)
        return Counter(old for old, new in pairs if new == name != old)

    def as_json(self, name: str) -> dict[str, Any]:
        pairs = zip(self.before, self.after, strict=True)
        return {
            "records": len(self.before),
            "changed": sum(old != new for old, new in pairs),
            "taken": dict(self.taken(name)),
        }


def _labels(model: Model, points: Matrix) -> list[str]:
    decisions: Decisions = model.rule.decide(points)
    pairs = zip(decisions.nearest.tolist(), decisions.accepted.tolist(), strict=True)
    return [model.names[place] if accepted else UNKNOWN for place, accepted in pairs]


def _swallowed(found: Sequence[_Change], name: str, before: Model) -> dict[str, float]:
    good = dict(zip(before.names, before.good, strict=True))
    shares: dict[str, float] = {}
    for change in found:
        answered = Counter(change.before)
        for label, number in change.taken(name).items():
            share = number / answered[label]
            most = _SWALLOWED_GOOD if good.get(label) else _SWALLOWED
            if label != UNKNOWN and share >= most:
                shares[label] = max(share, shares.get(label, 0))
    return shares


def _spread(points: Matrix) -> float | None:
    if len(points) < 2:
        return None
    distances = distances_between(points, points.mean(axis=0, keepdims=True))
    # A record pulls the mean towards itself: of n, it is n / (n - 1) times as far from the others'.
    return float(distances.mean() * (len(points) / (len(points) - 1)) ** 2)


def _rounded(value: float) -> float:
    return round(value, 6)
