"""Verdicts on the wire: gathered chunk by chunk, then written as JSON or as an Arrow stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from models import Decisions, Fault
from service.formats import arrow_writer
from service.formats.chunk import Chunk
from service.formats.errors import entry_of
from service.scoring.explain import Driver
from service.scoring.served_model import ServedModel

__all__ = ["ArrowVerdicts", "JsonVerdicts", "Verdicts", "in_place"]

_encode = msgspec.json.Encoder().encode


class Verdict(msgspec.Struct, omit_defaults=True, gc=False):
    """As `models.Verdict`, with what drove it; what is None is left out of the JSON."""

    label: str
    good: bool
    distance: float
    confidence: float
    nearest: str | None = None
    distances: dict[str, float] | None = None
    explanation: list[Driver] | None = None


class Verdicts(Protocol):
    """An answer in the making."""

    def add(self, chunk: Chunk, decisions: Decisions) -> list[str]:
        """Add a chunk; gives the labels of its records."""

    def written(self) -> bytes:
        """The whole answer."""


class JsonVerdicts:
    """An answer in JSON; each chunk is written when it is added.

    Args:
        served: the model that answers.
        distances: whether the distance to every class is wanted.
    """

    def __init__(self, served: ServedModel, *, distances: bool) -> None:
        self._served, self._distances = served, distances
        self._parts: list[bytes] = []

    def add(
        self,
        chunk: Chunk,
        decisions: Decisions,
        explanations: Sequence[list[Driver]] | None = None,
    ) -> list[str]:
        """Add a chunk, and what drove its verdicts if that is wanted; gives the labels."""
        verdicts = self._served.model.verdicts(decisions, Verdict, distances=self._distances)
        if explanations is not None:
            for verdict, explanation in zip(verdicts, explanations, strict=True):
                verdict.explanation = explanation
        self._parts.append(in_place(verdicts, chunk))
        return [verdict.label for verdict in verdicts]

    def written(self) -> bytes:
        """The whole answer."""
        return b'%b"results":[%b]}' % (self._served.opening, b",".join(self._parts))


class ArrowVerdicts:
    """An answer as an Arrow stream.

    Args:
        served: the model that answers.
        distances: whether the distance to every class is wanted.
        report: whether there is a column of errors.
    """

    def __init__(self, served: ServedModel, *, distances: bool, report: bool) -> None:
        self._served, self._distances = served, distances
        self._decisions: list[Decisions] = []
        self._faults: list[Fault] | None = [] if report else None

    def add(self, chunk: Chunk, decisions: Decisions) -> list[str]:
        """Add a chunk; gives the labels of its records."""
        self._decisions.append(decisions)
        if self._faults is not None:
            self._faults += chunk.faults.values()
        return self._served.labels(decisions)

    def written(self) -> bytes:
        """The whole answer."""
        manifest = self._served.model.manifest
        return arrow_writer.write_verdicts(
            nearest=self._all("nearest"),
            accepted=self._all("accepted"),
            distance=self._all("distance"),
            confidence=self._all("confidence"),
            distances=self._all("distances") if self._distances else None,
            names=self._served.names,
            good=self._served.good,
            bundle=(manifest.name, manifest.version),
            faults=self._faults,
        )

    def _all(self, name: str) -> Any:
        return np.concatenate([getattr(each, name) for each in self._decisions])


def in_place(results: list[Any], chunk: Chunk) -> bytes:
    """A chunk's results in JSON without brackets, an error in the place of each bad record."""
    if chunk.faults:
        rest, faults = iter(results), chunk.faults
        results = [
            {"error": entry_of(faults[place])} if place in faults else next(rest)
            for place in range(len(chunk))
        ]
    return _encode(results)[1:-1]
