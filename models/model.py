"""A model in use: a bundle's encoder and decision rule.

model = Model.load("models/iosxr")
verdicts = model.classify(records)
"""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from models.bundle import Bundle, BundleError, Class, Manifest, Trust
from models.decision import Decisions, NearestCentroid, log_prior_of
from models.encoder import Encoder, EncoderError
from models.names import UNKNOWN
from models.reference import REFERENCE, Reference
from models.schema import FieldError, Matrix, RecordError, Schema
from models.support import ROUNDING, support_radius
from models.telemetry import mapping as telemetry

__all__ = ["Enrolled", "Model", "Verdict"]

_Verdict = TypeVar("_Verdict")


@dataclass(frozen=True, slots=True)
class Enrolled:
    """A class that a model was not trained on.

    Attributes:
        name: the verdict's label; differs from all others.
        good: whether it is good traffic.
        points: float32 [n, N], the embedded support records, at least one.
        centroid: float32 [N], their mean.
        radius: largest distance (0..1) at which the class accepts a record.
    """

    name: str
    good: bool
    points: Matrix
    centroid: Matrix
    radius: float

    @property
    def support(self) -> float:
        """The number of support records."""
        return len(self.points)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The model's decision on one record.

    Attributes:
        label: name of the class that accepts the record, or "unknown".
        good: True only for good traffic.
        distance: to the nearest centroid, 0..1.
        confidence: calibrated probability that the nearest class is the right one.
        nearest: the nearest class; None unless the label is "unknown".
        distances: to every class by name, 0..1; None unless requested.
    """

    label: str
    good: bool
    distance: float
    confidence: float
    nearest: str | None = None
    distances: dict[str, float] | None = None


class Model:
    """An encoder and a decision rule that belong together; safe to share between threads.

    Args:
        bundle: a verified bundle, from `Bundle.read` or `Bundle.make`.
        threads: threads of one inference.

    Raises:
        EncoderError: the graph does not fit the manifest or fails on the bundle's own examples.
        RecordError: an example does not fit the schema.
        ValueError: the reference is malformed.
        MappingError: the mapping is, or does not fit the schema.

    Attributes:
        reference: calibration records, if the bundle holds any.
        mapping: how metric points become records, if the bundle says so.
        names: of the classes, in the order of the rule's centroids.
        good: whether each is good traffic.
    """

    def __init__(self, bundle: Bundle, *, threads: int = 1) -> None:
        self.manifest: Manifest = bundle.manifest
        self.schema = Schema(self.manifest.fields)
        self.examples = _records(bundle.files["examples.json"])
        self.encoder = Encoder(bundle.files["encoder.onnx"], threads=threads)
        classes = self.manifest.classes
        self.names = [class_.name for class_ in classes]
        self.good = [class_.good for class_ in classes]
        self.rule = NearestCentroid(
            centroids=np.array([class_.centroid for class_ in classes], dtype=np.float32),
            radii=np.array([class_.radius for class_ in classes], dtype=np.float32),
            temperature=self.manifest.calibration.temperature,
            support=_support(classes),
            scatter=self.manifest.calibration.scatter,
            log_prior=log_prior_of([class_.share for class_ in classes]),
        )
        self.reference = self._reference(bundle)
        self.mapping = self._mapping(bundle)
        self._smoke_test()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        threads: int = 1,
        version: str | None = None,
        trusted: Trust | None = None,
    ) -> Model:
        """Read, verify and smoke-test a bundle.

        Args:
            path: its folder.
            threads: threads of one inference.
            version: that it must have; any unless given.
            trusted: who must have signed it; anybody may have made it unless given.

        Raises:
            BundleError: the bundle is rejected; the message names it and says why.
        """
        bundle = Bundle.read(path, trusted=trusted)
        if version not in {None, bundle.manifest.version}:
            raise BundleError(Path(path), "it was exchanged while it was being loaded")
        try:
            return cls(bundle, threads=threads)
        except RecordError as error:
            raise BundleError(Path(path), f"an example does not fit the schema: {error}") from error
        except (ValueError, telemetry.MappingError) as error:
            raise BundleError(Path(path), str(error)) from error

    def enrol(self, name: str, points: Matrix, *, good: bool = False) -> Enrolled:
        """Make a class of a few records, for `with_classes`.

        Its radius comes from `models.support.support_radius`.

        Args:
            name: the verdict's label.
            points: float32 [n, N], the embedded records, at least one.
            good: whether it is good traffic.
        """
        fitted = [class_.radius for class_ in self.manifest.classes if not class_.enrolled]
        radii = np.array(fitted, np.float32)
        radius = support_radius(points, radii, self.manifest.calibration.unknown_rate)
        centroid = points.mean(axis=0, dtype=np.float64).astype(np.float32)
        return Enrolled(name, good, points, centroid, min(radius + float(ROUNDING), 1.0))

    def with_classes(self, enrolled: Sequence[Enrolled], *, without: Collection[str] = ()) -> Model:
        """Return a model with the same encoder, the bundle's classes and then enrolled ones.

        `NearestCentroid.expected` corrects distances to centroids of few records.

        Args:
            enrolled: classes to add.
            without: classes of the bundle to leave out.
        """
        kept = [class_ for class_ in self.manifest.classes if class_.name not in without]
        classes: list[Class | Enrolled] = [*kept, *enrolled]
        other = copy.copy(self)
        other.names = [class_.name for class_ in classes]
        other.good = [class_.good for class_ in classes]
        other.rule = replace(
            self.rule,
            centroids=np.stack([np.array(class_.centroid, np.float32) for class_ in classes]),
            radii=np.array([class_.radius for class_ in classes], np.float32),
            support=_support(classes),
            log_prior=log_prior_of([class_.share for class_ in kept] + [None] * len(enrolled)),
        )
        return other

    def embed(self, records: Sequence[Mapping[str, object]]) -> Matrix:
        """Embed records.

        Returns:
            float32 [n, N], each in (0, 1).

        Raises:
            RecordError: a record does not fit the schema.
        """
        return self.encoder.embed(self.schema.encode(records))

    def decide(self, matrix: Matrix) -> Decisions:
        """Decide on encoded records: float32 [n, fields], NaN = missing."""
        if self.rule.has_many:
            return self.rule.decide(self.encoder.embed(matrix))
        distances = self.encoder.measure(matrix, self.rule.centroids)
        return self.rule.decide_by_distances(distances)

    def classify(
        self, records: Sequence[Mapping[str, object]], *, distances: bool = False
    ) -> list[Verdict]:
        """Return the verdict on each record, in order.

        Args:
            records: mappings of field name to value.
            distances: whether verdicts list the distance to every class.

        Raises:
            RecordError: a record does not fit the schema.
        """
        decisions = self.decide(self.schema.encode(records))
        return self.verdicts(decisions, Verdict, distances=distances)

    def labels(self, decisions: Decisions) -> list[str]:
        """Return the label of each record: the name of its class, or "unknown"."""
        names = self.names
        indices, accepted = decisions.nearest.tolist(), decisions.accepted.tolist()
        return [names[k] if ok else UNKNOWN for k, ok in zip(indices, accepted, strict=True)]

    def are_good(self, decisions: Decisions) -> npt.NDArray[np.bool_]:
        """Return which records are good traffic: accepted by a class that is good; bool [n]."""
        return decisions.accepted & np.array(self.good, np.bool_)[decisions.nearest]

    def verdicts(
        self, decisions: Decisions, kind: Callable[..., _Verdict], *, distances: bool = False
    ) -> list[_Verdict]:
        """Make verdicts of decisions.

        Args:
            decisions: of the rule.
            kind: makes a verdict from the attributes of `Verdict`, in their order.
            distances: whether verdicts list the distance to every class.
        """
        names, good = self.names, self.good
        rows = decisions.distances.tolist() if distances else [None] * len(decisions.nearest)
        return [
            kind(
                names[k] if ok else UNKNOWN,
                ok and good[k],
                d,
                p,
                None if ok else names[k],
                None if row is None else dict(zip(names, row, strict=True)),
            )
            for k, ok, d, p, row in zip(
                decisions.nearest.tolist(),
                decisions.accepted.tolist(),
                decisions.distance.tolist(),
                decisions.confidence.tolist(),
                rows,
                strict=True,
            )
        ]

    def _reference(self, bundle: Bundle) -> Reference | None:
        data = bundle.files.get(REFERENCE)
        if data is None:
            return None
        classes = len(self.manifest.classes)
        return Reference.from_bytes(data, fields=len(self.schema), classes=classes)

    def _mapping(self, bundle: Bundle) -> telemetry.Mapping | None:
        data = bundle.files.get(telemetry.MAPPING)
        if data is None:
            return None
        mapping = telemetry.Mapping.parse(data.decode(), telemetry.MAPPING)
        # Training leaves fields out, such as those that never moved; points still come for them.
        mapping = mapping.without({*mapping.names} - {*self.schema.names})
        mapping.check(self.schema)
        return mapping

    def _smoke_test(self) -> None:
        shape = (self.encoder.fields, self.encoder.dimensions)
        if shape != (len(self.schema), self.manifest.dimensions):
            raise EncoderError("the graph's shape is not the manifest's fields and dimensions")
        embeddings = self.embed(self.examples)
        if not np.all((embeddings > 0) & (embeddings < 1)):
            raise EncoderError("the encoder's answer to the bundle's examples is outside (0, 1)")


def _support(classes: Sequence[Class | Enrolled]) -> npt.NDArray[np.float64] | None:
    """Return the records behind each centroid; None if all are exact."""
    support = np.array([class_.support for class_ in classes], np.float64)
    return support if np.isfinite(support).any() else None


def _records(examples: bytes) -> list[dict[str, Any]]:
    """Return the records of a bundle's example request; it must hold one at least."""
    try:
        records = json.loads(examples)["records"]
    except (ValueError, TypeError, KeyError, RecursionError):
        records = None
    if not isinstance(records, list) or not records:
        raise RecordError([FieldError(0, None, "an object of fields", "no such record")])
    return records
