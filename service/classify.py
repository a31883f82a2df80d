"""`POST /classify`: a verdict for each record."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from models import Model, Verdict
from service import wire
from service.answers import Classified
from service.decode import Batch
from service.docs import request_body
from service.problems import BODY_PROBLEMS, documented
from service.state import state_of

__all__ = ["router"]

_OPTIONS = frozenset({"distances"})

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/classify",
    summary="Classify records",
    response_model=Classified,
    response_description=Classified.__doc__ or "",
    responses=documented(*BODY_PROBLEMS),
    openapi_extra=request_body(
        distances={
            "type": "boolean",
            "default": False,
            "description": "Whether verdicts list the distance to every class.",
        }
    ),
)
async def classify(request: Request) -> Response:
    """Give each record its verdict: good traffic, a kind of fault, or `unknown`.

    A record is `unknown` when it is too far from every class; `nearest` then names the closest.
    Send fields in the units of the schema; leave out, or send `null` for, what was not measured.
    """
    metrics = state_of(request).metrics

    def work(model: Model, batch: Batch) -> Any:
        decisions = model.decide(batch.matrix)
        verdicts = model.verdicts(decisions, distances=batch.options["distances"])
        metrics.count_verdicts(verdict.label for verdict in verdicts)
        results = [_result(verdict) for verdict in verdicts]
        return {"bundle": wire.bundle_of(model.manifest), "results": results}

    return await wire.answer(request, work, _OPTIONS)


def _result(verdict: Verdict) -> dict[str, Any]:
    result: dict[str, Any] = {
        "label": verdict.label,
        "good": verdict.good,
        "distance": verdict.distance,
        "confidence": verdict.confidence,
    }
    if verdict.nearest is not None:
        result["nearest"] = verdict.nearest
    if verdict.distances is not None:
        result["distances"] = verdict.distances
    return result
