"""The three axes on which embeddings are drawn, and the classes on them.

With three dimensions these are the learned ones. Otherwise they are the leading directions of the
centroids, on which the classes are as far apart as three axes can show. Two or three classes need
fewer than three; what is left shows how records of one class differ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from models import UNKNOWN, Model
from models.schema import Matrix
from service.classes.enrolment import Enrolment
from service.live.responses import Axes, SceneClass, SceneField
from service.scoring.served_model import ServedModel

__all__ = ["Projection", "Scene"]

_AXES = 3
_LEAST_SPREAD = 1e-9
"""Of a direction, as a share of the largest."""
_MAX_REFERENCE = 500
"""Records that show how those of one class differ."""
_Numbers = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Projection:
    """From embeddings to positions.

    Attributes:
        centre: mean of the centroids: float64 [N].
        directions: of the axes, orthonormal: float64 [3, N].
        axes: what they are.
    """

    centre: _Numbers
    directions: _Numbers
    axes: Axes

    @classmethod
    def of(cls, model: Model) -> Projection:
        """Return that of a model with its enrolled classes."""
        centroids = model.rule.centroids.astype(np.float64)
        centre = centroids.mean(axis=0)
        dimensions = centroids.shape[1]
        if dimensions <= _AXES:
            return cls(centre, np.eye(_AXES, dimensions), Axes(kind="learned", share=1.0))
        _, spreads, directions = np.linalg.svd(centroids - centre, full_matrices=False)
        shown = int((spreads[:_AXES] > _LEAST_SPREAD * max(spreads[0], 1e-12)).sum())
        directions = directions[:shown]
        if shown < _AXES:
            directions = np.concatenate([directions, _within(model, directions)])[:_AXES]
        share = (spreads[:_AXES] ** 2).sum() / max((spreads**2).sum(), 1e-300)
        axes = Axes(kind="projection", share=round(float(share), 4) if shown else 1.0)
        return cls(centre, _turned(directions), axes)

    def positions(self, embeddings: Matrix) -> Matrix:
        """Return where embeddings, [n, N], are drawn: float32 [n, 3]."""
        positions: Matrix = ((embeddings - self.centre) @ self.directions.T).astype(np.float32)
        return positions


@dataclass(frozen=True, slots=True)
class Scene:
    """A served model as the page draws it.

    Attributes:
        served: the model.
        projection: its axes.
        classes: in the order of the rule's centroids.
        severities: of each label, None of good traffic.
    """

    served: ServedModel
    projection: Projection
    classes: list[SceneClass]
    severities: dict[str, str | None]

    @classmethod
    def of(cls, served: ServedModel, enrolment: Enrolment) -> Scene:
        """Return the scene of a model that is served."""
        model = served.model
        severities: dict[str, str | None] = {UNKNOWN: "indeterminate"}
        severities |= {known.name: known.severity for known in enrolment.base.manifest.classes}
        severities |= {
            name: stored.severity
            for name in enrolment.enrolled
            if (stored := enrolment.stored(name)) is not None
        }
        severities |= {n: None for n, good in zip(model.names, model.good, strict=True) if good}
        projection = Projection.of(model)
        positions = projection.positions(model.rule.centroids).astype(np.float64).round(4)
        radii = np.sqrt(model.rule.radii.astype(np.float64) * model.rule.centroids.shape[1])
        rows = zip(model.names, model.good, positions.tolist(), radii.tolist(), strict=True)
        classes = [
            SceneClass(
                name=name,
                good=good,
                enrolled=name in enrolment.enrolled,
                severity=severities[name],
                position=position,
                radius=round(radius, 4),
            )
            for name, good, position, radius in rows
        ]
        return cls(served, projection, classes, severities)

    def fields(self) -> list[SceneField]:
        """Return the fields of its records."""
        return [
            SceneField(
                name=field.name,
                unit=None if field.unit == "1" else field.unit,
                kind=field.kind if field.kind in ("boolean", "category") else "number",
            )
            for field in self.served.model.schema.fields
        ]

    def positions(self, matrix: Matrix) -> Matrix:
        """Return where records, float32 [n, fields], are drawn: float32 [n, 3]."""
        return self.projection.positions(self.served.model.encoder.embed(matrix))


def _within(model: Model, shown: _Numbers) -> _Numbers:
    """Return directions, [k, N], in which records of one class differ, at right angles to others.

    Without records of the bundle, they are any.
    """
    dimensions = model.rule.centroids.shape[1]
    offsets = np.eye(dimensions)
    if model.reference is not None and len(model.reference.records):
        step = -(-len(model.reference.records) // _MAX_REFERENCE)
        points = model.encoder.embed(model.reference.records[::step]).astype(np.float64)
        labels = model.reference.labels[::step]
        offsets = np.concatenate(
            [points[labels == k] - points[labels == k].mean(axis=0) for k in np.unique(labels)]
            + [1e-6 * offsets]
        )
    offsets = offsets - offsets @ shown.T @ shown
    directions: _Numbers = np.linalg.svd(offsets, full_matrices=False)[2]
    return directions


def _turned(directions: _Numbers) -> _Numbers:
    """Return directions, each turned so that its largest number is positive: the same each time."""
    largest = np.abs(directions).argmax(axis=1)
    signs = np.sign(directions[np.arange(len(directions)), largest])
    turned: _Numbers = directions * signs[:, None]
    return turned
