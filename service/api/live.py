"""`/live`: what the live page shows, and the events that keep it up to date."""

from __future__ import annotations

import asyncio
import gzip
from typing import Annotated, Any, Final

import msgspec
from fastapi import APIRouter, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.docs import answers
from service.api.live_schemas import (
    DeviceDetail,
    Devices,
    DriftHistory,
    Health,
    LiveRecordDetail,
    LiveRecords,
    SceneShown,
)
from service.live.hub import FullError, Viewer
from service.live.live import Live
from service.runtime.state import State, state_of
from service.web import problems
from service.web.middleware import RequestInfo
from service.web.problems import Problem

__all__ = ["EventStream", "router"]

router = APIRouter(prefix="/live", tags=["Live page"])

_MAX_RECORDS: Final = 20_000
_LEAST_COMPRESSED: Final = 2000
_STREAM_SECONDS: Final = 3600.0
"""After which a stream ends: its viewer comes back, and its key is checked again."""
_STREAM_HEADERS: Final = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"x-accel-buffering", b"no"),  # nginx would keep events back
]
_encode = msgspec.json.Encoder().encode


@router.get("/scene", summary="The cube", **answers(SceneShown, problems.NOT_READY))
def scene(request: Request) -> Response:
    """Axes, classes and fields of the model that is served."""
    state = state_of(request)
    state.served  # noqa: B018 - raises why there is none
    return _sent(request, _live(request).scene())


@router.get("/devices", summary="All devices", **answers(Devices))
def devices(request: Request) -> Response:
    """The latest verdict on each device that sends metric points."""
    return _sent(request, _live(request).devices())


@router.get(
    "/devices/{key:path}",
    summary="A device",
    **answers(DeviceDetail, problems.NOT_KEPT, problems.INVALID_RECORDS),
)
def device(request: Request, key: str) -> Response:
    """Its last hour, and the fields that drove its faults."""
    found = _live(request).device(key)
    if found is None:
        raise Problem(problems.NOT_KEPT, "There is no such device here.")
    return _sent(request, found)


@router.get(
    "/records",
    summary="The latest records",
    **answers(LiveRecords, problems.INVALID_RECORDS),
)
def records(
    request: Request,
    limit: Annotated[int, Query(ge=1, le=_MAX_RECORDS, description="How many, at most.")] = 5000,
) -> Response:
    """The latest records with a verdict, on the axes of the scene; of many, the good ones at steps.

    Those of devices are kept always; those of requests are a sample, while somebody looks.
    """
    return _sent(request, _live(request).records(limit))


@router.get(
    "/records/{n}",
    summary="A record",
    **answers(LiveRecordDetail, problems.NOT_KEPT, problems.INVALID_RECORDS),
)
def record(
    request: Request, n: Annotated[int, InPath(ge=0, lt=1 << 62, description="Its number.")]
) -> Response:
    """Its fields, its distances to all classes, and what drove its verdict."""
    found = _live(request).record(n)
    if found is None:
        raise Problem(problems.NOT_KEPT, "This record is not kept any more.")
    return _sent(request, found)


@router.get("/health", summary="How the service fares", **answers(Health))
def health(request: Request) -> Response:
    """Rates, queues and times of this process, now and in the last 15 minutes."""
    return _sent(request, _live(request).health())


@router.get("/drift", summary="Drift over time", **answers(DriftHistory))
def drift(request: Request) -> Response:
    """How far traffic was from the calibration records, of all workers, in the last 24 hours."""
    return _sent(request, _live(request).drift())


@router.get(
    "/events",
    summary="What changes",
    response_class=Response,
    responses=problems.documented(problems.OVERLOADED)
    | {200: {"description": "Server-sent events", "content": {"text/event-stream": {}}}},
)
async def events() -> None:  # for the OpenAPI document alone: `EventStream` answers
    """Server-sent events `records`, `devices`, `incident`, `model` and `health`.

    With `Last-Event-ID`, those since then come first, or `reset` where they are not kept. A client
    that does not take its events is let go.
    """


class EventStream:
    """The ASGI application of `/live/events`.

    Args:
        state: of the application.
        live: what there is to tell.
    """

    def __init__(self, state: State, live: Live) -> None:
        self.state, self.hub = state, live.hub

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, for as long as its client stays."""
        info = RequestInfo.of(scope)
        info.route, info.is_stream = "/live/events", True
        try:
            _check_method(scope["method"])
            viewer = self._joined(info.headers.get(b"last-event-id", b"").decode("latin-1"))
        except Problem as problem:
            self.state.metrics.count_rejected(problem)
            await problem.response(info.request_id)(scope, receive, send)
            return
        if scope["method"] == "HEAD":
            viewer.end()
        watching = asyncio.ensure_future(_watch(receive, viewer))
        try:
            await _send_all(viewer, send)
        finally:
            watching.cancel()
            self.hub.leave(viewer)

    def _joined(self, last: str) -> Viewer:
        try:
            return self.hub.join(last)
        except FullError as error:
            why = "As many live pages are open as FAULTCUBE_LIVE_VIEWERS allows; close some."
            raise Problem(problems.OVERLOADED, why, headers={"Retry-After": "10"}) from error


def _check_method(method: str) -> None:
    if method not in ("GET", "HEAD"):
        allowed = {"Allow": "GET"}
        raise Problem(problems.METHOD_NOT_ALLOWED, "This path takes GET.", headers=allowed)


async def _send_all(viewer: Viewer, send: Send) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": _STREAM_HEADERS})
    while (part := await viewer.next()) is not None:
        await send({"type": "http.response.body", "body": part, "more_body": True})
    await send({"type": "http.response.body", "body": b""})


async def _watch(receive: Receive, viewer: Viewer) -> None:
    """End a viewer when its client leaves, or after an hour."""
    try:
        async with asyncio.timeout(_STREAM_SECONDS):
            while (await receive())["type"] != "http.disconnect":
                pass
    except TimeoutError:
        pass
    finally:
        viewer.end()


def _live(request: Request) -> Live:
    live = state_of(request).live
    assert live is not None  # noqa: S101 - else there is no such route
    return live


def _sent(request: Request, shown: Any) -> Response:
    """Return a response, compressed where that is worth it."""
    content, headers = _encode(shown), {"Cache-Control": "no-store", "Vary": "Accept-Encoding"}
    if len(content) > _LEAST_COMPRESSED and "gzip" in request.headers.get("accept-encoding", ""):
        content, headers["Content-Encoding"] = gzip.compress(content, 1), "gzip"
    return Response(content, headers=headers, media_type="application/json")
