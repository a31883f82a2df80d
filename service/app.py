"""The composition root: settings, state, routes and middleware become one application."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from types import ModuleType
from typing import Any

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Match, Route, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from models import Model
from service.api import (
    bundles,
    classes,
    classify,
    docs,
    embed,
    feedback,
    incidents,
    ingest,
    live,
    openinference,
    operations,
    page,
    profiles,
    session,
)
from service.api.endpoint import RecordEndpoint
from service.observability.counters import ProcessStatus
from service.observability.logs import RequestLog
from service.observability.metrics import Metrics
from service.runtime.class_changes import ClassEditor
from service.runtime.profile_changes import ProfileLearner
from service.runtime.state import State, state_of
from service.settings import Settings
from service.web.auth import AuthMiddleware
from service.web.middleware import (
    RequestInfo,
    RequestMiddleware,
    RequestObserver,
    answer_head,
)
from service.web.problems import INPUT_ERRORS, Problem, problem_of

__all__ = ["create_app"]

_MODULES = (
    classify,
    embed,
    classes,
    profiles,
    feedback,
    ingest,
    incidents,
    operations,
    bundles,
    openinference,
    docs,
)
_PAGE_MODULES = (live, session, page)
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
    """Create the application; it loads its bundle when it starts.

    Args:
        settings: how to run.
        load: returns the verified model of a folder, or raises `models.BundleError`; by default
            each bundle is tried in a process of its own first.
        clock: monotonic seconds, for durations.
    """

    def status() -> ProcessStatus:
        store_up = None if state.store is None else state.away is None
        writable = state.classes.unwritable is None if store_up else None
        return ProcessStatus(
            state.scheduler.waiting,
            state.budget.held,
            store=store_up,
            writable=writable,
            incidents=state.incidents.open_incidents,
            alerts=state.incidents.waiting,
            points=state.ingestion.queued,
            source=None if state.mirror is None else state.mirror.found().fault is None,
        )

    state = State(settings, Metrics(status), load, clock)
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
    app.state.faultcube, app.state.class_editor = state, ClassEditor(state)
    for module in _modules(state):
        # Not with include_router, which builds each route anew, at the first request of every app.
        app.router.routes.extend(module.router.routes)
    observers: list[RequestObserver] = [
        state.metrics.count_request,
        RequestLog(settings.log_requests, clock),
    ]
    app.state.observers = observers
    front: ASGIApp = Router(_record_routes(state), redirect_slashes=False, default=app.answer_rest)
    if state.keys.read:
        front = AuthMiddleware(front, state.keys, state.metrics.count_rejected)
    refused = state.metrics.count_rejected
    app.front = RequestMiddleware(front, observers=observers, clock=clock, on_problem=refused)
    return app


def _modules(state: State) -> tuple[ModuleType, ...]:
    """The modules of the routes that there are."""
    return _MODULES if state.live is None else _MODULES + _PAGE_MODULES


def _record_routes(state: State) -> list[Route]:
    """The routes that carry records or events; they go past FastAPI, which only documents them."""
    infer = openinference.InferenceEndpoint(state)
    events = []
    if state.live is not None:
        events = [Route("/live/events", live.EventStream(state, state.live))]
    return [
        Route("/classify", RecordEndpoint(state, classify.handle, "/classify")),
        Route("/embed", RecordEndpoint(state, embed.handle, "/embed")),
        Route("/v2/models/{name}/infer", infer),
        Route("/v2/models/{name}/versions/{version}/infer", infer),
        *(Route(path, ingest.IngestEndpoint(state, path)) for path in ingest.PATHS),
        *events,
    ]


class _Application(FastAPI):
    """FastAPI behind our own middleware and the routes that carry records."""

    front: ASGIApp

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        app = self.front if scope["type"] == "http" else self.answer_rest
        await app(scope, receive, send)

    async def answer_rest(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer as FastAPI does, also HEAD."""
        answer = super().__call__
        if scope["type"] == "http" and scope["method"] == "HEAD":
            await answer_head(answer, scope, receive, send)
        else:
            await answer(scope, receive, send)

    def openapi(self) -> dict[str, Any]:
        """Describe the routes, and the fields of the bundle that is loaded now."""
        state: State = self.state.faultcube
        self.openapi_schema = None
        return docs.complete(super().openapi(), state.loaded, state.settings.max_records)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    state: State = app.state.faultcube
    with state.metrics.shared(), ExitStack() as stack:
        if state.settings.otlp_endpoint:
            from service.observability.tracing import tracing  # noqa: PLC0415 - needs the extra

            stack.enter_context(tracing(state.settings, app.state.observers))
        learner = ProfileLearner(state, app.state.class_editor)
        stop = state.follow(profiles=learner.run)
        yield
        if state.live is not None:
            state.live.hub.close()
        stop()


async def _answer(request: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException) and error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        error = HTTPException(error.status_code, headers={"Allow": _allowed(request)})
    problem = problem_of(error)
    if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        state_of(request).metrics.count_rejected(problem)
    name = RequestInfo.of(request.scope).request_id
    if request.url.path.startswith("/v2"):
        return openinference.error_response(problem, name)
    return problem.response(name)


def _allowed(request: Request) -> str:
    """Return all methods of a path; each of its routes knows only its own."""
    methods: set[str] = set()
    for module in _modules(state_of(request)):
        for route in module.router.routes:
            if isinstance(route, Route) and route.matches(request.scope)[0] is Match.PARTIAL:
                methods |= route.methods or set()
    if "GET" in methods:
        methods.add("HEAD")
    return ", ".join(sorted(methods))
