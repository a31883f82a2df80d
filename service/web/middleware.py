"""The outermost middleware: it identifies and times every request, and informs observers."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web import problems
from service.web.cross_site import SAFE_METHODS, is_cross_site
from service.web.problems import Problem

__all__ = ["RequestInfo", "RequestMiddleware", "RequestObserver", "answer_head"]


RequestObserver = Callable[[Scope, int, float], None]
"""Called after each request with its scope, its status and its duration in seconds."""

_SCOPE_KEY = "faultcube.request"
_REQUEST_ID = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_TRACE_PARENT = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""The header `traceparent` (W3C Trace Context, 3.2)."""


@dataclass(slots=True)
class RequestInfo:
    """What the service knows of one request, beside ASGI's scope; routes complete it.

    Attributes:
        headers: by name in lower case; of repeated headers the last.
        request_id: `X-Request-ID`, else the trace id of `traceparent`, else made here.
        key: first eight hex digits of the key's SHA-256; None where no key was needed.
        route: what metrics and traces call the route, where FastAPI's router does not know it.
        bundle: name and version of the bundle that answered.
        records: how many records were answered; None on other routes.
        is_change: whether the route changes something, which the audit log keeps.
        is_stream: whether the response lasts as long as the client likes, which says nothing of how
            fast the service is.
    """

    headers: Mapping[bytes, bytes]
    request_id: str
    key: str | None = None
    route: str | None = None
    bundle: Mapping[str, str] | None = None
    records: int | None = None
    is_change: bool = False
    is_stream: bool = False

    @classmethod
    def of(cls, scope: Mapping[str, Any]) -> RequestInfo:
        """Return what is known of the request of an ASGI scope."""
        info: RequestInfo = scope[_SCOPE_KEY]
        return info

    def attach(self, scope: Scope) -> None:
        """Keep this in an ASGI scope."""
        scope[_SCOPE_KEY] = self


class RequestMiddleware:
    """Attaches a `RequestInfo` to every request, and calls observers when it has ended.

    What a browser sends for a page of another site is refused, unless it changes nothing.

    Args:
        app: the application inside.
        observers: called in order.
        clock: monotonic seconds.
        on_problem: called with every refusal.
    """

    def __init__(
        self,
        app: ASGIApp,
        *,
        observers: Sequence[RequestObserver],
        clock: Callable[[], float],
        on_problem: Callable[[Problem], None] = lambda _problem: None,
    ) -> None:
        self.app, self.observers, self.clock = app, observers, clock
        self._on_problem = on_problem
        self._prefix = secrets.token_hex(6)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle an HTTP request."""
        status, start = 500, self.clock()
        headers = dict(scope["headers"])
        request_id = self._request_id(headers)
        RequestInfo(headers, request_id).attach(scope)
        extra = (b"x-request-id", request_id.encode()), (b"x-content-type-options", b"nosniff")

        async def send_with_headers(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            app = self.app
            if _is_of_browser(headers) and _is_refused(scope["method"], headers):
                problem = Problem(problems.CROSS_SITE)
                self._on_problem(problem)
                app = problem.response(request_id)
            await app(scope, receive, send_with_headers)
        finally:
            seconds = self.clock() - start
            for observe in self.observers:
                observe(scope, status, seconds)

    def _request_id(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _REQUEST_ID.fullmatch(given):
            return given.decode("ascii")
        parent = headers.get(b"traceparent")
        if parent is not None and (match := _TRACE_PARENT.fullmatch(parent)):
            return match.group(1).decode("ascii")
        return f"{self._prefix}-{next(self._numbers)}"


async def answer_head(app: ASGIApp, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer HEAD as `app` answers GET, without the body (RFC 9110, 9.3.2)."""
    asked, has_ended = {**scope, "method": "GET"}, False

    async def send_head(message: Message) -> None:
        nonlocal has_ended
        if message["type"] == "http.response.start":
            await send(message)
        elif not has_ended:  # a stream may have no end
            has_ended = True
            await send({"type": "http.response.body"})

    try:
        await app(asked, receive, send_head)
    finally:
        scope["route"] = asked.get("route")


def _is_of_browser(headers: Mapping[bytes, bytes]) -> bool:
    """Return whether a request says what page sent it; other programs say nothing, and are many."""
    return b"sec-fetch-site" in headers or b"origin" in headers


def _is_refused(method: str, headers: Mapping[bytes, bytes]) -> bool:
    return method not in SAFE_METHODS and is_cross_site(headers)
