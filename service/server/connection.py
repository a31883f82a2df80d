"""HTTP on one connection: uvicorn's, with an end to everything that a client can leave open.

Uvicorn waits for ever for a client that does not finish its headers, that does not take its answer,
or that never says anything. Here every connection is looked at once a second. What it waits for is
compared with what it waited for the last time, so a request that moves costs nothing.
"""

from __future__ import annotations

import asyncio
import math
import secrets
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar, cast

import httptools
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol
from uvicorn.server import ServerState

from service.settings import Settings
from service.web.middleware import RequestInfo
from service.web.problems import (
    BODY_TOO_LARGE,
    HEADERS_TOO_LARGE,
    MALFORMED_REQUEST,
    OVERLOADED,
    REQUEST_TIMEOUT,
    Problem,
    not_ready,
)

__all__ = ["Connection", "Refused"]

T = TypeVar("T")
Refused = Callable[[Scope, Problem], None]
"""Told of a request that was refused before the application saw it."""

_HEAD_BYTES = 1 << 16
"""Of a request's line and headers, at most; also of what frames a body."""
_PIPELINED = 100
"""Requests that may be sent ahead of their answers."""
_BODY_MARGIN = 5.0
"""Seconds by which the application is ahead, where it waits for a body itself."""
_LINGER_SECONDS = 1.0
"""For a client that still sends: it reads its refusal only if it is not cut off at once."""
_FAREWELL_SECONDS = 1.0
"""At the end, for requests that are on their way on connections that seem idle."""
_READINESS = frozenset({"/readyz", "/v2/health/ready"})


class Connection(HttpToolsProtocol):
    """One connection.

    Args:
        config: uvicorn's.
        server_state: uvicorn's, with all the connections.
        app_state: what the application's lifespan yielded.
        settings: the limits.
        most: connections at a time.
        refused: told of what is refused here.
        leaving: whether the service ends, and this is one of the last.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        *,
        settings: Settings,
        most: int,
        refused: Refused,
        leaving: bool = False,
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.settings, self.most, self.refused, self.leaving = settings, most, refused, leaving
        self.pipeline = _Pipeline()
        self.deaf = False
        self._counted: object = None
        self._bytes = self._pauses = 0
        self._waited: tuple[object, ...] = ()
        self._since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start, unless there are too many."""
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _Corked(transport))
        if len(self.connections) > self.most:
            self._refuse(Problem(OVERLOADED))
            transport.close()
        elif self.leaving:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Read on; what cannot be read is refused in a form that all our errors have."""
        if self.deaf:
            return
        if len(data) > _HEAD_BYTES and not self._in_body():
            self.data_received(data[:_HEAD_BYTES])
            self.data_received(data[_HEAD_BYTES:])
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._stay_with_http(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._stumble(error)
            return
        cycle = self.cycle
        if cycle is None or cycle.more_body or cycle.scope is not self.scope:
            self._count(len(data))
        if self.leaving and cycle is not None:
            cycle.keep_alive = False

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Let a client that has sent all it wants to send have its answer."""
        # Over TLS there is no half of a connection.
        if self._answered() or self.cycle.more_body or self.scheme == "https":
            return None
        self.cycle.keep_alive = False
        return True

    def on_response_complete(self) -> None:
        """Go on with the next request; here no timer is set for it, see `look`."""
        self.server_state.total_requests += 1
        cast("_Corked", self.transport).flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def pause_writing(self) -> None:
        """Stop the application until the client has taken most of what it was given."""
        self._pauses += 1
        super().pause_writing()

    def look(self, now: float) -> None:
        """End what has waited too long.

        Args:
            now: the event loop's time.
        """
        waits, seconds, end = self._waits()
        if waits != self._waited:
            self._waited, self._since = waits, now
        elif now - self._since >= seconds:
            end()

    def shutdown(self) -> None:
        """Answer what is under way or on its way, and nothing more."""
        self.leaving = True
        self.app = _leaving(self.app)
        if self._answered():
            self.loop.call_later(_FAREWELL_SECONDS, self._leave)
        else:
            self.cycle.keep_alive = False

    def _waits(self) -> tuple[tuple[object, ...], float, Callable[[], None]]:
        """What the client is waited for, how long, and what happens then."""
        settings, transport, cycle = self.settings, self.transport, self.cycle
        if self.flow.write_paused or transport.is_closing():
            return ("reading", cycle, self._pauses), settings.body_seconds / 2, transport.abort
        if self.deaf and (self._answered() or cycle.disconnected):
            return ("parting",), _LINGER_SECONDS, transport.close
        if self.deaf:
            return ("answer", cycle), math.inf, transport.close
        if self._begun is None:
            return ("beginning",), settings.header_seconds, transport.close
        if cycle is None or cycle.scope is not self.scope:
            return ("head", cycle), settings.header_seconds, self._give_up_head
        if cycle.more_body:
            return ("body", cycle), settings.body_seconds + _BODY_MARGIN, self._give_up_body
        if cycle.response_complete:
            return ("next", cycle), settings.idle_seconds, transport.close
        return ("answer", cycle), math.inf, transport.close

    def _give_up_head(self) -> None:
        seconds = self.settings.header_seconds
        self._refuse(
            Problem(REQUEST_TIMEOUT, f"The headers did not arrive within {seconds:g} seconds.")
        )

    def _give_up_body(self) -> None:
        seconds = self.settings.body_seconds
        self._refuse(
            Problem(REQUEST_TIMEOUT, f"The body did not arrive within {seconds:g} seconds.")
        )

    def _leave(self) -> None:
        if self._answered():
            self.transport.close()

    @property
    def _begun(self) -> dict[str, Any] | None:
        """The request that is being received, or that was received last."""
        return cast("dict[str, Any] | None", self.scope)

    def _answered(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _in_body(self) -> bool:
        return self.cycle is not None and self.cycle.more_body

    def _count(self, size: int) -> None:
        """Bound what is held of a request that is not complete."""
        if self._counted is not self.scope:
            self._counted, self._bytes = self.scope, 0
        self._bytes += size
        if not self._in_body():
            if self._bytes >= _HEAD_BYTES:
                self._refuse(
                    Problem(HEADERS_TOO_LARGE, f"The headers are longer than {_HEAD_BYTES} bytes.")
                )
        elif self._bytes > 2 * self.settings.max_body_bytes + _HEAD_BYTES:
            self._refuse(
                Problem(
                    BODY_TOO_LARGE,
                    "The body, and what frames it, is longer than any that is taken.",
                )
            )

    def _stay_with_http(self, rest: bytes) -> None:
        """Read a request again as if it had not asked for another protocol (RFC 9110, 7.8)."""
        if self.scope["method"] == "CONNECT":
            self._refuse(Problem(MALFORMED_REQUEST, "This is no proxy."))
            return
        method, version = (self.scope[name].encode("ascii") for name in ("method", "http_version"))
        head = [b"%b %b HTTP/%b\r\n" % (method, self.url, version)]
        head += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _should_upgrade(self) -> bool:
        """Leave what asks for another protocol to `_stay_with_http`."""
        return True

    def _stumble(self, error: httptools.HttpParserError) -> None:
        if isinstance(error.__context__, _TooManyError):
            self.transport.abort()
        elif isinstance(error, httptools.HttpParserCallbackError):
            self._refuse(
                Problem(
                    MALFORMED_REQUEST, "This is no HTTP request: its target cannot be understood."
                )
            )
        else:
            self._refuse(Problem(MALFORMED_REQUEST, f"This is no HTTP request: {error}."))

    def _refuse(self, problem: Problem) -> None:
        """Refuse what is being received, after the answers that are due, and listen no more."""
        self.deaf = True
        cycle = self.cycle
        in_head = cycle is None or cycle.scope is not self.scope
        if self._answered():
            if in_head or not cycle.more_body:
                self._say(problem)
            else:  # the rest of a body whose answer has been given
                self.transport.close()
        elif self.pipeline or not cycle.more_body:
            cycle.keep_alive = False
        elif cycle.response_started:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._say(problem)

    def _say(self, problem: Problem) -> None:
        response = _response(problem)
        known = {"method": "-", "path": "-", "client": self.client} | (self._begun or {})
        RequestInfo({}, response.headers["x-request-id"]).attach(known)
        self.refused(known, problem)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


class _Corked:
    """A transport that sends the head of an answer with what follows, in one packet.

    Uvicorn writes them one by one, and a system call takes longer than most of what we do.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head = transport, b""

    def write(self, data: bytes) -> None:
        """Send, or keep for the next time."""
        if self._head:
            self._head, data = b"", self._head + data
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        """Send what was kept: nothing follows."""
        if self._head:
            self.write(b"")

    def write_eof(self) -> None:
        """Send all, and say that it is all."""
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        """Send all, and close."""
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


class _TooManyError(Exception):
    """More requests were sent ahead than are kept."""


class _Pipeline(deque[T]):
    """Requests that wait for the answers to those before them, a bounded number."""

    def appendleft(self, request: T) -> None:
        if len(self) >= _PIPELINED:
            raise _TooManyError
        super().appendleft(request)


def _response(problem: Problem) -> Response:
    """A last answer, with the headers that all answers have."""
    name = secrets.token_hex(6)
    response = problem.response(name)
    last = {"Connection": "close", "X-Request-ID": name, "X-Content-Type-Options": "nosniff"}
    response.headers.update(last)
    return response


def _leaving(app: ASGIApp) -> ASGIApp:
    """The application, but not ready for more."""

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _READINESS:
            problem = not_ready("The service is about to end.", retry_seconds=1)
            await _response(problem)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return answer
