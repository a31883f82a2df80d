"""Writers: scored chunks become the content of a response, in JSON or as an Arrow stream."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Annotated, Any

import msgspec
import numpy as np
from pydantic import Field

from models import Decisions, FieldError
from models.schema import Matrix
from service.formats.arrow_writer import embedding_batch, to_stream, verdict_batch
from service.formats.chunk import Chunk
from service.formats.errors import entry_of
from service.scoring.explain import Driver
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.web.response_model import Omittable, Share

__all__ = ["ArrowEmbeddings", "ArrowVerdicts", "JsonEmbeddings", "JsonVerdicts", "Verdict"]

_encode = msgspec.json.Encoder().encode
_MAX_NUMBERS = 1 << 12
"""That are written in a millisecond or so."""


class Verdict(msgspec.Struct, omit_defaults=True, gc=False):
    """What the model says of one record."""

    label: Annotated[str, Field(description="The class that accepts the record, or `unknown`.")]
    good: Annotated[bool, Field(description="True only for good traffic.")]
    distance: Annotated[
        Share,
        Field(
            description="Squared distance to the nearest class, as a share of the largest there "
            "can be."
        ),
    ]
    confidence: Annotated[
        Share,
        Field(
            description="Calibrated probability that the nearest class is the right one of those "
            "known."
        ),
    ]
    nearest: Annotated[
        Omittable[str],
        Field(description="The nearest class; only when the label is `unknown`."),
    ] = None
    distances: Annotated[
        Omittable[dict[str, Share]],
        Field(description="The distance to every class; only when asked for."),
    ] = None
    explanation: list[Driver] | None = None


class _JsonWriter:
    """A JSON response; each chunk is encoded when it is added.

    Args:
        served: the model that answers.
    """

    key: bytes
    """Of the results."""

    def __init__(self, served: ServedModel) -> None:
        self._served = served
        self._parts = [b'%b"%b":[' % (served.json_prefix, self.key), b""]

    def finish(self) -> list[bytes]:
        """Return the parts of the content."""
        self._parts[-1] = b"]}"
        return self._parts

    def _add(self, results: list[Any], chunk: Chunk) -> None:
        """Encode results, with an error in the position of each bad record."""
        if chunk.faults:
            remaining, faults = iter(results), chunk.faults
            results = [
                {"error": entry_of(faults[index])} if index in faults else next(remaining)
                for index in range(len(chunk))
            ]
        self._parts += _encode(results)[1:-1], b","


class JsonVerdicts(_JsonWriter):
    """Verdicts in JSON.

    Args:
        served: the model that answers.
        distances: whether to list the distance to every class.
    """

    key = b"results"

    def __init__(self, served: ServedModel, *, distances: bool) -> None:
        super().__init__(served)
        self._distances = distances

    def add(self, scored: Scored) -> None:
        """Add a chunk."""
        model = self._served.model
        verdicts = model.verdicts(scored.decisions, Verdict, distances=self._distances)
        if scored.explanations is not None:
            for verdict, explanation in zip(verdicts, scored.explanations, strict=True):
                verdict.explanation = explanation
        self._add(verdicts, scored.chunk)


class JsonEmbeddings(_JsonWriter):
    """Embeddings in JSON."""

    key = b"embeddings"

    def split(self, chunks: Iterable[Chunk]) -> Iterator[Chunk]:
        """Split chunks into smaller ones, whose numbers are written in one time slice."""
        records = max(_MAX_NUMBERS // self._served.model.encoder.dimensions, 1)
        for chunk in chunks:
            yield from chunk.split(records)

    def add(self, scored: Scored) -> None:
        """Add a chunk."""
        self._add(_embeddings(scored).tolist(), scored.chunk)


class _ArrowWriter:
    """An Arrow stream of one batch, written at the end.

    Args:
        served: the model that answers.
        report: whether there is a column of errors.
    """

    def __init__(self, served: ServedModel, *, report: bool) -> None:
        self._model = served.model
        self._faults: list[FieldError] | None = [] if report else None

    def _add(self, scored: Scored) -> None:
        """Keep the faults of a chunk; its records are let go, which are most of its memory."""
        if self._faults is not None:
            self._faults += scored.chunk.faults.values()


class ArrowVerdicts(_ArrowWriter):
    """Verdicts as an Arrow stream.

    Args:
        served: the model that answers.
        report: whether there is a column of errors.
        distances: whether to list the distance to every class.
    """

    def __init__(self, served: ServedModel, *, report: bool, distances: bool) -> None:
        super().__init__(served, report=report)
        self._distances = distances
        self._decisions: list[Decisions] = []

    def add(self, scored: Scored) -> None:
        """Add a chunk."""
        self._add(scored)
        self._decisions.append(scored.decisions)

    def finish(self) -> list[bytes]:
        """Return the whole content."""
        decisions = Decisions.concatenate(self._decisions)
        batch = verdict_batch(
            decisions, self._model, distances=self._distances, faults=self._faults
        )
        return [to_stream(batch)]


class ArrowEmbeddings(_ArrowWriter):
    """Embeddings as an Arrow stream."""

    def __init__(self, served: ServedModel, *, report: bool) -> None:
        super().__init__(served, report=report)
        self._embeddings: list[Matrix] = []

    def add(self, scored: Scored) -> None:
        """Add a chunk."""
        self._add(scored)
        self._embeddings.append(_embeddings(scored))

    def finish(self) -> list[bytes]:
        """Return the whole content."""
        embeddings = np.concatenate(self._embeddings)
        return [to_stream(embedding_batch(embeddings, self._model, faults=self._faults))]


def _embeddings(scored: Scored) -> Matrix:
    assert scored.embeddings is not None  # noqa: S101 - the scorer was chosen for them
    return scored.embeddings
