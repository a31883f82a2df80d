"""What is served and how it fares: `/model`, `/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

from typing import Any

import prometheus_client
from anyio import to_thread
from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from service.api.schemas import About, Alive, Ready
from service.runtime.state import state_of
from service.web.problems import NOT_READY, documented

__all__ = ["router"]

router = APIRouter(tags=["Operations"])


@router.get(
    "/model",
    summary="The model",
    response_model=About,
    response_description=About.__doc__ or "",
    responses=documented(NOT_READY),
)
async def model(request: Request) -> Response:
    """Name, version, record schema, classes, calibration and measured quality of the model."""
    return _json(
        state_of(request).served.model.manifest.model_dump(include=set(About.model_fields))
    )


@router.head("/livez", include_in_schema=False)
@router.get(
    "/livez",
    summary="Liveness probe",
    response_model=Alive,
    response_description=Alive.__doc__ or "",
    responses=documented(),
)
async def livez() -> Response:
    """Answer as long as the process does; restart it when this fails."""
    return _json({"status": "alive"})


@router.head("/readyz", include_in_schema=False)
@router.get(
    "/readyz",
    summary="Readiness probe",
    response_model=Ready,
    response_description=Ready.__doc__ or "",
    responses=documented(NOT_READY),
)
async def readyz(request: Request) -> Response:
    """Name the bundle once it is verified and has answered its own examples; 503 until then.

    While the database of classes is away, those last known decide: the status is `degraded`.
    """
    state = state_of(request)
    served, away = state.served, state.away
    content: dict[str, Any] = {
        "status": "degraded" if away else "ready",
        "bundle": served.bundle,
        "revision": served.revision,
    }
    if away:
        content["detail"] = f"The database of classes is away ({away})."
    return _json(content)


@router.get(
    "/metrics",
    summary="Metrics for Prometheus",
    response_class=Response,
    responses=documented()
    | {200: {"description": "Prometheus text format", "content": {"text/plain": {}}}},
)
async def metrics(request: Request) -> Response:
    """Counters and timings in the Prometheus text format."""
    content = await to_thread.run_sync(state_of(request).metrics.text)
    return Response(content, media_type=prometheus_client.CONTENT_TYPE_PLAIN_0_0_4)


def _json(content: Any) -> Response:
    return Response(to_json(content, inf_nan_mode="null"), media_type="application/json")
