"""`POST /embed`: a point of the unit cube for each record."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from models import Model
from service import wire
from service.answers import Embedded
from service.decode import Batch
from service.docs import request_body
from service.problems import BODY_PROBLEMS, documented

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

    def work(model: Model, batch: Batch) -> Any:
        embeddings = model.encoder.embed(batch.matrix).tolist()
        return {"bundle": wire.bundle_of(model.manifest), "embeddings": embeddings}

    return await wire.answer(request, work)
