"""Scoring pipeline: chunks are scored, written into the response, and shown to observers.

Every route that carries records goes through it; a route chooses a reader, a scorer and a writer.
Observers (metrics, recent traffic, drift, the shadow) are put together in `service.runtime.state`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Protocol

from models import Decisions
from models.schema import Matrix
from service.formats.chunk import Chunk
from service.scoring.scheduler import Inference, Steps
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel

__all__ = ["Scorer", "Writer", "classify", "classify_and_embed", "explain", "score"]


Scorer = Callable[[ServedModel, Chunk], Steps[Scored]]


class Writer(Protocol):
    """A response in the making."""

    def add(self, scored: Scored) -> None:
        """Add a chunk."""


def score(
    served: ServedModel, chunks: Iterable[Chunk], scorer: Scorer, writer: Writer
) -> Steps[int]:
    """Score chunks one by one.

    Returns:
        How many records were scored.
    """
    records = 0
    for chunk in chunks:
        if not len(chunk.matrix) and not chunk.faults:  # the reader worked for it; let others run
            yield None
            continue
        scored = yield from scorer(served, chunk)
        writer.add(scored)
        for observe in served.observers:
            observe(scored)
        records += len(scored.labels)
        yield None
    return records


def classify(served: ServedModel, chunk: Chunk) -> Steps[Scored]:
    """Decide on records."""
    model, matrix = served.model, chunk.matrix
    decisions: Decisions = yield Inference(model.decide, matrix)
    return Scored(chunk, matrix, decisions, model.labels(decisions))


def classify_and_embed(served: ServedModel, chunk: Chunk) -> Steps[Scored]:
    """Decide on records, and keep their embeddings."""
    model, matrix = served.model, chunk.matrix
    embeddings: Matrix = yield Inference(model.encoder.embed, matrix)
    decisions = model.rule.decide(embeddings)
    return Scored(chunk, matrix, decisions, model.labels(decisions), embeddings)


def explain(served: ServedModel, chunk: Chunk) -> Steps[Scored]:
    """Decide on records, and say which fields drove each verdict."""
    model, matrix, explainer = served.model, chunk.matrix, served.explainer
    assert explainer is not None  # noqa: S101 - the route has refused the request otherwise
    variants = explainer.vary(matrix)
    all_decisions: Decisions = yield Inference(model.decide, variants.matrix)
    explanations = explainer.explain(variants, all_decisions.distances)
    decisions = all_decisions[: len(variants)]
    return Scored(chunk, matrix, decisions, model.labels(decisions), explanations=explanations)
