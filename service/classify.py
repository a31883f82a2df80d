"""`POST /classify`: a verdict for each record."""

from __future__ import annotations

from fastapi import APIRouter
from starlette.responses import Response

from service import arrow
from service.answers import Classified
from service.docs import exchange
from service.metrics import Metrics
from service.problems import BODY_PROBLEMS, documented
from service.turns import Steps, Work
from service.verdicts import ArrowVerdicts, JsonVerdicts, Verdicts
from service.wire import JSON, Answer, Ask

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
    distances = ask.distances
    if ask.media == JSON:
        body = serving.classify.read(ask.body, report=ask.report)
        distances = distances or body.options["distances"]
        pieces = body.pieces
    else:
        pieces = arrow.read(ask.body, serving.model.schema, serving.most, report=ask.report)
    verdicts: Verdicts
    if ask.wanted == JSON:
        verdicts = JsonVerdicts(serving, distances=distances)
    else:
        verdicts = ArrowVerdicts(serving, distances=distances, report=ask.report)
    records = 0
    for piece in pieces:
        serving.sample(piece.matrix)
        decisions = yield Work(serving.model.decide, piece.matrix)
        metrics.count_verdicts(decisions, verdicts.add(piece, decisions))
        records += len(piece.matrix)
    return Answer.of(verdicts.written(), records, ask.wanted)
