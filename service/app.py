"""The application: routes, middleware and errors put together."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp, Receive, Scope, Send

from models import Model
from service.api import bundles, classes, classify, docs, embed, feedback, openinference, operations
from service.api.endpoint import RecordEndpoint
from service.observability.logs import RequestLog
from service.observability.metrics import Metrics
from service.observability.tracing import tracing
from service.runtime.state import State, state_of
from service.settings import Settings
from service.web.auth import AuthMiddleware
from service.web.middleware import RequestMiddleware, RequestObserver
from service.web.problems import INPUT_ERRORS, Problem, problem_of
from service.web.request_info import RequestInfo

__all__ = ["create_app"]

_MODULES = (classify, embed, classes, feedback, operations, bundles, openinference, docs)
_DESCRIPTION = """\
Tells good network traffic from each kind of fault, and says so when it knows neither.

Send network-status records as JSON to `/classify`; each comes back with a label, its distance to
the nearest class and a calibrated confidence. Errors are `application/problem+json` (RFC 9457).
"""


def create_app(
    settings: Settings,
    *,
    load: Callable[[Path], Model] | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> FastAPI:
    """Put the service together; it loads its bundle when it starts.

    Args:
        settings: how to run.
        load: gives the verified model of a folder, or raises `models.BundleError`.
        clock: seconds that only go forward, for durations.
    """
    loader = load or (lambda folder: Model.load(folder, threads=settings.threads))
    state = State(settings, Metrics(), loader, clock)
    app = _Application(
        title="Faultcube",
        version=version("faultcube"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers=dict.fromkeys(
            (Problem, *INPUT_ERRORS, HTTPException, RequestValidationError, Exception), _answer
        ),
    )
    app.state.faultcube = state
    state.metrics.queue, state.metrics.held = (
        lambda: state.scheduler.waiting,
        lambda: state.scheduler.held,
    )
    state.metrics.store = lambda: None if state.store is None else state.away is None
    for module in _MODULES:
        app.include_router(module.router)
    exchanges = {
        "/classify": RecordEndpoint(state, lambda ask: classify.steps(ask, state.metrics)),
        "/embed": RecordEndpoint(state, embed.steps),
    }
    fastapi = super(_Application, app).__call__
    shortcut = _Shortcut(fastapi, exchanges, openinference.Inference(state))
    guard = AuthMiddleware(shortcut, state.keys, state.metrics.count_rejected)
    watchers: list[RequestObserver] = [state.metrics.count_request]
    watchers.append(RequestLog(settings.log_requests, clock))
    app.state.watchers = watchers
    app.front = RequestMiddleware(guard, watchers=watchers, clock=clock)
    return app


class _Application(FastAPI):
    """FastAPI, but what carries records goes by it.

    Its router, its middleware and the validation of what they are told cost more than a record
    does; it keeps the documentation, and everything that is not asked a thousand times a second.
    """

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self.front(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Describe the routes and the fields of the bundle that is loaded now."""
        state: State = self.state.faultcube
        self.openapi_schema = None
        return docs.complete(super().openapi(), state.loaded, state.settings.max_records)


class _Shortcut:
    """Answers what carries records, and passes everything else on.

    Args:
        app: what answers everything else.
        exchanges: by path.
        inference: of a model by its name.
    """

    def __init__(
        self, app: ASGIApp, exchanges: Mapping[str, RecordEndpoint], inference: RecordEndpoint
    ) -> None:
        self.app, self.exchanges, self.inference = app, exchanges, inference

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        exchange = self.exchanges.get(path)
        if exchange is None and path.startswith("/v2/models/") and path.endswith("/infer"):
            exchange = self.inference
        if exchange is None or scope["method"] != "POST":
            await self.app(scope, receive, send)
        else:
            await exchange(scope, receive, send)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: State = app.state.faultcube
    with state.metrics.shared(), tracing(state.settings, app.state.watchers):
        stop = state.follow()
        yield
        stop()


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = HTTPException(error.status_code, headers={"Allow": _allowed(request)})
    problem = problem_of(error)
    if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        state_of(request).metrics.count_rejected(problem)
    name = RequestInfo.of(request.scope).request_id
    if request.url.path.startswith("/v2"):
        return openinference.refusal(problem, name)
    return problem.response(name)


def _allowed(request: Request) -> str:
    """The methods that a path takes: its routes know of their own only."""
    found: set[str] = set()
    for module in _MODULES:
        for route in module.router.routes:
            if isinstance(route, Route) and route.matches(request.scope)[0] is Match.PARTIAL:
                found |= route.methods or set()
    return ", ".join(sorted(found))
