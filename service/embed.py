"""`POST /embed`: a point of the unit cube for each record."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from models import Model
from service import wire
from service.answers import Embedded
from service.docs import request_body
from service.problems import BODY_PROBLEMS, documented
from service.state import state_of

__all__ = ["router"]

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/embed",
    summary="Embed records",
    response_model=Embedded,
    response_description=Embedded.__doc__ or "",
    responses=documented(*BODY_PROBLEMS),
    openapi_extra=request_body(),
)
async def embed(request: Request) -> Response:
    """Turn each record into a point of the unit cube, for plots and searches of your own."""
    most = state_of(request).settings.max_records

    def work(model: Model, body: bytearray) -> tuple[Any, int]:
        matrix = wire.encode(model, wire.parse(body, most=most))
        embeddings = model.encoder.embed(matrix).tolist()
        return {"bundle": wire.bundle_of(model.manifest), "embeddings": embeddings}, len(embeddings)

    return await wire.answer(request, work)
