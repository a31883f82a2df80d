"""The application: routes, middleware and errors put together."""

from __future__ import annotations

import threading
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from http import HTTPStatus
from importlib.metadata import version
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

from models import Model
from service import about, classify, docs, embed
from service.logs import log_request
from service.metrics import Metrics
from service.problems import Problem, problem_of
from service.settings import Settings
from service.state import State, state_of
from service.watch import Watch

__all__ = ["create_app"]

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
    state = State(settings, Metrics(), loader)
    app = _Application(
        title="Faultcube",
        version=version("faultcube"),
        description=_DESCRIPTION,
        lifespan=_lifespan,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        exception_handlers={Problem: _answer, HTTPException: _answer, Exception: _answer},
    )
    app.state.faultcube = state
    for module in (classify, embed, about, docs):
        app.include_router(module.router)
    watchers = [state.metrics.count_request]
    if settings.log_requests:
        watchers.append(log_request)
    app.add_middleware(Watch, watchers=watchers, clock=clock)
    return app


class _Application(FastAPI):
    def openapi(self) -> dict[str, Any]:
        """Describe the routes and the fields of the bundle that is loaded now."""
        state: State = self.state.faultcube
        self.openapi_schema = None
        return docs.complete(super().openapi(), state.loaded, most=state.settings.max_records)


@asynccontextmanager
async def _lifespan(app: FastAPI) -> AsyncIterator[None]:
    # A daemon: a load that hangs must not keep the process from ending.
    threading.Thread(target=app.state.faultcube.load, name="load", daemon=True).start()
    yield


async def _answer(request: Request, error: Exception) -> Response:
    problem = problem_of(error)
    if problem.status < HTTPStatus.INTERNAL_SERVER_ERROR:
        state_of(request).metrics.count_rejected(problem)
    return problem.response()
