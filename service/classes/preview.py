"""Preview of a change: what it would do to the verdicts of other classes."""

from __future__ import annotations

from collections import Counter
from typing import Annotated

import numpy as np
from pydantic import Field

from models import UNKNOWN, Model
from models.decision import distances_between
from models.schema import Matrix
from service.classes.enrolment import Enrolment
from service.web.response_model import ResponseModel, Rounded

__all__ = ["Relabelled", "Report", "preview"]

_SWALLOWED, _SWALLOWED_GOOD = 0.5, 0.1
"""A class swallows another one if it takes over this share of its records; the threshold is lower
for good traffic, where every record taken over is a false alarm."""

RoundedShare = Annotated[Rounded, Field(ge=0, le=1)]
_Labels = list[tuple[str, str]]
"""Label of each record before and after the change."""


class Neighbour(ResponseModel):
    """Another class, and how far it is."""

    name: str
    distance: RoundedShare


class Relabelled(ResponseModel):
    """What becomes of some records."""

    records: int
    """How many were looked at."""
    changed: int
    """How many get another label."""
    taken: dict[str, int]
    """How many the class takes over, by the label they have now."""


class Report(ResponseModel):
    """What a class does, or would do, to the others."""

    name: str
    records: int
    """How many it is known from."""
    radius: RoundedShare
    """How far it reaches."""
    spread: Rounded | None
    """Mean distance of its records from the mean of the others; null of a single one."""
    nearest: Neighbour
    distances: dict[str, RoundedShare]
    """To every other class, the nearest first."""
    calibration: Relabelled | None
    """Of the bundle's calibration records; null when it has none."""
    recent: Relabelled
    """Of the most recent traffic."""
    swallowed: dict[str, RoundedShare]
    """Share of what others answer that it takes over, where that is half or more, or a tenth of
    good traffic."""


def preview(before: Enrolment, after: Enrolment, name: str, recent: Matrix) -> Report:
    """Compare the verdicts before and after a change.

    Args:
        before: classes that decide now.
        after: classes that would decide.
        name: of a class of `after`, enrolled or amended by the change.
        recent: float32 [n, fields], records of the most recent traffic.
    """
    model, points = after.model, after.enrolled[name].points
    index = model.names.index(name)
    distances = distances_between(model.rule.centroids[[index]], model.rule.centroids)[0]
    order = [other for other in np.argsort(distances, kind="stable").tolist() if other != index]
    sorted_distances = {model.names[other]: float(distances[other]) for other in order}
    nearest = next(iter(sorted_distances))
    changes: list[_Labels] = []
    reference = after.base.reference
    if reference is not None:
        embedded = after.base.encoder.embed(reference.records)
        changes.append(_labels(before.model, model, embedded))
    calibration = _summary(changes[0], name) if changes else None
    support = [entry.points for other, entry in before.enrolled.items() if other != name]
    if support:
        changes.append(_labels(before.model, model, np.concatenate(support)))
    return Report(
        name=name,
        records=len(points),
        radius=float(model.rule.radii[index]),
        spread=_spread(points),
        nearest=Neighbour(name=nearest, distance=sorted_distances[nearest]),
        distances=sorted_distances,
        calibration=calibration,
        recent=_summary(_labels(before.model, model, after.base.encoder.embed(recent)), name),
        swallowed=_swallowed(changes, name, before.model),
    )


def _labels(before: Model, after: Model, points: Matrix) -> _Labels:
    return list(zip(_decided(before, points), _decided(after, points), strict=True))


def _decided(model: Model, points: Matrix) -> list[str]:
    decisions = model.rule.decide(points)
    pairs = zip(decisions.nearest.tolist(), decisions.accepted.tolist(), strict=True)
    return [model.names[index] if accepted else UNKNOWN for index, accepted in pairs]


def _taken(labels: _Labels, name: str) -> Counter[str]:
    """Count the records that a class takes over, by their label before."""
    return Counter(old for old, new in labels if new == name != old)


def _summary(labels: _Labels, name: str) -> Relabelled:
    changed = sum(old != new for old, new in labels)
    return Relabelled(records=len(labels), changed=changed, taken=_taken(labels, name))


def _swallowed(changes: list[_Labels], name: str, before: Model) -> dict[str, float]:
    good = dict(zip(before.names, before.good, strict=True))
    shares: dict[str, float] = {}
    for labels in changes:
        totals = Counter(old for old, _ in labels)
        for label, number in _taken(labels, name).items():
            share = number / totals[label]
            threshold = _SWALLOWED_GOOD if good.get(label) else _SWALLOWED
            if label != UNKNOWN and share >= threshold:
                shares[label] = max(share, shares.get(label, 0))
    return shares


def _spread(points: Matrix) -> float | None:
    n = len(points)
    if n < 2:
        return None
    distances = distances_between(points, points.mean(axis=0, keepdims=True))
    # A record pulls the mean towards itself: of n, it is n / (n - 1) times as far from the others'.
    return float(distances.mean() * (n / (n - 1)) ** 2)
