"""What is served and how it fares: `/model`, `/livez`, `/readyz` and `/metrics`."""

from __future__ import annotations

import prometheus_client
from anyio import to_thread
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api.docs import answers
from service.api.schemas import About, Alive, BundleName, Ready
from service.runtime.state import state_of
from service.web.problems import NOT_READY, documented

__all__ = ["router"]

router = APIRouter(tags=["Operations"])


@router.get("/model", summary="The model", **answers(About, NOT_READY))
async def model(request: Request) -> Response:
    """Name, version, record schema, classes, calibration and measured quality of the model."""
    manifest = state_of(request).served.model.manifest
    return About.model_validate(manifest, from_attributes=True).response()


@router.head("/livez", include_in_schema=False)
@router.get("/livez", summary="Liveness probe", **answers(Alive))
async def livez() -> Response:
    """Answer as long as the process does; restart it when this fails."""
    return Alive(status="alive").response()


@router.head("/readyz", include_in_schema=False)
@router.get("/readyz", summary="Readiness probe", **answers(Ready, NOT_READY))
async def readyz(request: Request) -> Response:
    """Name the bundle once it is verified and has answered its own examples; 503 until then.

    While the database of classes is away, those last known decide; while it cannot be written, no
    change is taken; while an object store of bundles is away, none is changed: the status is
    `degraded`.
    """
    state = state_of(request)
    served, fault = state.served, state.fault
    return Ready(
        status="degraded" if fault else "ready",
        bundle=BundleName(**served.bundle),
        revision=served.revision,
        detail=fault,
    ).response()


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
