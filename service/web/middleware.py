"""Where every request comes in and goes out: its name, its time, and who is told of it."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Sequence
from itertools import count

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.web.request_info import RequestInfo

__all__ = ["RequestMiddleware", "RequestObserver"]

RequestObserver = Callable[[Scope, int, float], None]
"""Told of a request's scope, its status and how many seconds it took."""

_NAME = re.compile(rb"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}")
_TRACE = re.compile(rb"[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-[0-9a-f]{16}-[0-9a-f]{2}")
"""The header `traceparent` (W3C Trace Context, 3.2)."""


class RequestMiddleware:
    """Middleware that names every request, and tells its watchers how each ended.

    It puts into the request's state its headers as a mapping (of several of one name the last) and
    its id: that of `X-Request-ID`, else the trace id of `traceparent`, else a new one.
    """

    def __init__(
        self, app: ASGIApp, *, observers: Sequence[RequestObserver], clock: Callable[[], float]
    ) -> None:
        self.app, self.observers, self.clock = app, observers, clock
        self._prefix = secrets.token_hex(6)
        self._numbers = count(1)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 500, self.clock()
        headers = dict(scope["headers"])
        info = RequestInfo(headers, self._name(headers))
        info.attach(scope)
        extra = (b"x-request-id", info.request_id.encode()), (b"x-content-type-options", b"nosniff")

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], *extra]
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = self.clock() - start
            for observe in self.observers:
                observe(scope, status, seconds)

    def _name(self, headers: dict[bytes, bytes]) -> str:
        given = headers.get(b"x-request-id")
        if given is not None and _NAME.fullmatch(given):
            return given.decode("ascii")
        trace = headers.get(b"traceparent")
        if trace is not None and (found := _TRACE.fullmatch(trace)):
            return found.group(1).decode("ascii")
        return f"{self._prefix}-{next(self._numbers)}"
