"""Verdicts on the wire: gathered piece by piece, then written as JSON or as an Arrow stream."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

import msgspec
import numpy as np

from models import Decisions, Fault
from service.formats import arrow_writer
from service.formats.chunk import Piece
from service.formats.errors import entry_of
from service.scoring.explain import Driver
from service.scoring.served_model import Serving

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

    def add(self, piece: Piece, decisions: Decisions) -> list[str]:
        """Add a piece; gives the labels of its records."""

    def written(self) -> bytes:
        """The whole answer."""


class JsonVerdicts:
    """An answer in JSON; each piece is written when it is added.

    Args:
        serving: the model that answers.
        distances: whether the distance to every class is wanted.
    """

    def __init__(self, serving: Serving, *, distances: bool) -> None:
        self._serving, self._distances = serving, distances
        self._parts: list[bytes] = []

    def add(
        self,
        piece: Piece,
        decisions: Decisions,
        explanations: Sequence[list[Driver]] | None = None,
    ) -> list[str]:
        """Add a piece, and what drove its verdicts if that is wanted; gives the labels."""
        verdicts = self._serving.model.verdicts(decisions, Verdict, distances=self._distances)
        if explanations is not None:
            for verdict, explanation in zip(verdicts, explanations, strict=True):
                verdict.explanation = explanation
        self._parts.append(in_place(verdicts, piece))
        return [verdict.label for verdict in verdicts]

    def written(self) -> bytes:
        """The whole answer."""
        return b'%b"results":[%b]}' % (self._serving.opening, b",".join(self._parts))


class ArrowVerdicts:
    """An answer as an Arrow stream.

    Args:
        serving: the model that answers.
        distances: whether the distance to every class is wanted.
        report: whether there is a column of errors.
    """

    def __init__(self, serving: Serving, *, distances: bool, report: bool) -> None:
        self._serving, self._distances = serving, distances
        self._decisions: list[Decisions] = []
        self._faults: list[Fault] | None = [] if report else None

    def add(self, piece: Piece, decisions: Decisions) -> list[str]:
        """Add a piece; gives the labels of its records."""
        self._decisions.append(decisions)
        if self._faults is not None:
            self._faults += piece.faults.values()
        return self._serving.labels(decisions)

    def written(self) -> bytes:
        """The whole answer."""
        manifest = self._serving.model.manifest
        return arrow_writer.write_verdicts(
            nearest=self._all("nearest"),
            accepted=self._all("accepted"),
            distance=self._all("distance"),
            confidence=self._all("confidence"),
            distances=self._all("distances") if self._distances else None,
            names=self._serving.names,
            good=self._serving.good,
            bundle=(manifest.name, manifest.version),
            faults=self._faults,
        )

    def _all(self, name: str) -> Any:
        return np.concatenate([getattr(each, name) for each in self._decisions])


def in_place(results: list[Any], piece: Piece) -> bytes:
    """A piece's results in JSON without brackets, an error in the place of each bad record."""
    if piece.faults:
        rest, faults = iter(results), piece.faults
        results = [
            {"error": entry_of(faults[place])} if place in faults else next(rest)
            for place in range(len(piece))
        ]
    return _encode(results)[1:-1]
