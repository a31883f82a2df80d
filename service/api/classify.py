"""`POST /classify`: a verdict for each record."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.responses import Response

from service.api.docs import exchange
from service.api.endpoint import JSON, Answer, Ask
from service.api.schemas import Classified
from service.formats import arrow_reader
from service.formats.chunk import Piece
from service.observability.metrics import Metrics
from service.scoring.explain import refusal
from service.scoring.scheduler import Steps, Work
from service.scoring.verdict_writer import ArrowVerdicts, JsonVerdicts, Verdicts
from service.web.problems import BODY_PROBLEMS, documented

__all__ = ["router", "steps"]

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/classify",
    summary="Classify records",
    response_model=Classified,
    response_description=Classified.__doc__ or "",
    responses=documented(*BODY_PROBLEMS),
    openapi_extra=exchange(distances=True),
)
async def classify() -> Response:  # pragma: no cover - `steps` answers; this is what FastAPI shows
    """Give each record its verdict: good traffic, a kind of fault, or `unknown`.

    A record is `unknown` when it is too far from every class; `nearest` then names the closest.
    Send fields in the units of the schema; leave out, or send `null` for, what was not measured.
    """
    raise NotImplementedError


def steps(ask: Ask, metrics: Metrics) -> Steps[Answer]:
    """The steps from records to verdicts."""
    serving = ask.serving
    distances, explain = ask.distances, ask.explain
    if ask.media == JSON:
        body = serving.classify.read(ask.body, report=ask.report)
        distances = distances or body.options["distances"]
        explain = explain or body.options["explain"]
        pieces = body.pieces
    else:
        pieces = arrow_reader.read(ask.body, serving.model.schema, serving.most, report=ask.report)
    if explain:
        return (yield from _explained(ask, pieces, metrics, distances=distances))
    verdicts: Verdicts
    if ask.wanted == JSON:
        verdicts = JsonVerdicts(serving, distances=distances)
    else:
        verdicts = ArrowVerdicts(serving, distances=distances, report=ask.report)
    records = 0
    for piece in pieces:
        serving.sample(piece.matrix)
        decisions = yield Work(serving.model.decide, piece.matrix)
        labels = verdicts.add(piece, decisions)
        metrics.count_verdicts(decisions, labels)
        serving.compare(piece.matrix, labels, decisions)
        records += len(piece.matrix)
    return Answer.of(verdicts.written(), records, ask.wanted)


def _explained(
    ask: Ask, pieces: Iterator[Piece], metrics: Metrics, *, distances: bool
) -> Steps[Answer]:
    """The same with what drove each verdict; only the records themselves are counted."""
    serving = ask.serving
    if ask.wanted != JSON:
        raise refusal("a JSON answer", "an Arrow stream that is asked for")
    explainer = serving.explainer
    if explainer is None:
        raise refusal("a bundle with calibration records", "a bundle without them")
    verdicts = JsonVerdicts(serving, distances=distances)
    records = 0
    for piece in explainer.pieces(pieces):
        serving.sample(piece.matrix)
        variants = explainer.vary(piece.matrix)
        every = yield Work(serving.model.decide, variants.matrix)
        decisions = every[: len(variants)]
        explanations = explainer.explain(variants, every.distances)
        metrics.count_verdicts(decisions, verdicts.add(piece, decisions, explanations))
        records += len(variants)
    return Answer.of(verdicts.written(), records, JSON)
