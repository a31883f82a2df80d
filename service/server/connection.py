"""HTTP/1.1 on one connection: uvicorn's protocol, with a limit on all that a client can leave open.

Uvicorn waits forever for a client that does not finish its headers, does not read its response or
never sends anything. Here the server calls `check_timeouts` once a second for every connection. It
compares what the connection waits for now and waited for then, so requests pay nothing for it.
"""

from __future__ import annotations

import asyncio
import math
import re
import secrets
from collections.abc import Callable
from functools import partial
from typing import Any, cast

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

__all__ = ["Connection", "Connections"]

_MAX_HEAD_BYTES = 1 << 16
"""Of the request line and headers; also of chunk headers and trailers."""
_MAX_PIPELINED = 100
_BODY_MARGIN = 5.0
"""Seconds by which the application's own timeout for a body comes first."""
_LINGER_SECONDS = 1.0
"""A client that is still sending reads its error only if the connection stays open for a while."""
_FAREWELL_SECONDS = 1.0
"""At shutdown, for requests that are on their way on idle connections."""
_HOST = re.compile(rb"[A-Za-z0-9._~!$&'()*+,;=%:\[\]-]*")
"""A host and a port (RFC 9110, 7.2), not taken apart."""
_READINESS = frozenset({"/readyz", "/v2/health/ready"})


class Connections(ServerState):
    """What all connections of a server share.

    Args:
        settings: with the time limits and the longest body.
        max_connections: open at the same time.
        on_refused: called for each request that is refused before the application sees it.
    """

    def __init__(
        self, settings: Settings, max_connections: int, on_refused: Callable[[Scope, Problem], None]
    ) -> None:
        super().__init__()
        self.settings, self.max_connections = settings, max_connections
        self.on_refused, self.shutting_down = on_refused, False


class Connection(HttpToolsProtocol):
    """One connection; takes uvicorn's arguments, with `Connections` as the server's state."""

    server_state: Connections

    def __init__(
        self, config: Config, server_state: Connections, app_state: dict[str, Any]
    ) -> None:
        super().__init__(config, server_state, app_state)
        self.settings = server_state.settings
        self.closing = False
        self._received_bytes = self._write_pauses = 0
        self._waiting_for: tuple[object, ...] = ()
        self._waiting_since = 0.0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start, unless too many connections are open."""
        super().connection_made(transport)
        self.transport = cast("asyncio.Transport", _HeadBuffer(transport))
        if len(self.connections) > self.server_state.max_connections:
            self._refuse(Problem(OVERLOADED))
            transport.close()
        elif self.server_state.shutting_down:
            self.shutdown()

    def data_received(self, data: bytes) -> None:
        """Parse; answer malformed input with a problem, as the application does."""
        if self.closing:
            return
        left = _MAX_HEAD_BYTES - (self._received_bytes if self._in_head() else 0)
        if len(data) > left and not self._in_body():  # however they come, no more are parsed
            self.data_received(data[:left])
            self.data_received(data[left:])
            return
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserUpgrade as upgrade:
            self._ignore_upgrade(data[upgrade.args[0] :])
            return
        except httptools.HttpParserError as error:
            self._on_parse_error(error)
            return
        if self._in_head() or self._in_body():
            self._limit_incomplete_request(len(data))
        if self.server_state.shutting_down and self.cycle is not None:
            self.cycle.keep_alive = False

    def eof_received(self) -> bool | None:  # type: ignore[override]
        """Keep a half-closed connection open until its response is sent."""
        # TLS has no half-closed connections.
        if self._is_idle() or self.cycle.more_body or self.scheme == "https":
            return None
        self.cycle.keep_alive = False
        return True

    def on_message_begin(self) -> None:
        """Start a request, unless too many wait for the responses before theirs."""
        if len(self.pipeline) >= _MAX_PIPELINED:
            self.transport.abort()
            raise ConnectionAbortedError
        self._received_bytes = 0
        super().on_message_begin()

    def on_headers_complete(self) -> None:
        """Begin the request, unless its headers leave open what it is meant for or where it ends.

        Raises:
            Problem: `MALFORMED_REQUEST`; the parser passes it on as its own error's context.
        """
        hosts = [value for name, value in self.headers if name == b"host"]
        if len(hosts) > 1 or not (hosts or self.parser.get_http_version() == "1.0"):
            raise Problem(MALFORMED_REQUEST, "HTTP/1.1 asks for one header Host.")
        if hosts and not _HOST.fullmatch(hosts[0]):
            raise Problem(MALFORMED_REQUEST, "The header Host is neither a name nor an address.")
        # The parser looks at the last coding alone: the others would be left undone.
        codings = [value for name, value in self.headers if name == b"transfer-encoding"]
        if codings and b",".join(codings).strip().lower() != b"chunked":
            why = "The only Transfer-Encoding is chunked; Content-Encoding may be gzip or zstd."
            raise Problem(MALFORMED_REQUEST, why)
        super().on_headers_complete()

    def on_response_complete(self) -> None:
        """Start the next request; unlike uvicorn, set no timer (see `check_timeouts`)."""
        self.server_state.total_requests += 1
        cast("_HeadBuffer", self.transport).flush()
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            self._start_asgi_task(*self.pipeline.pop())

    def pause_writing(self) -> None:
        """Stop the application until the client has read most of what was sent."""
        self._write_pauses += 1
        super().pause_writing()

    def check_timeouts(self, now: float) -> None:
        """End the connection if it waits for its client too long; `now` is the loop's time."""
        waiting_for, seconds, on_timeout = self._timeout()
        if waiting_for != self._waiting_for:
            self._waiting_for, self._waiting_since = waiting_for, now
        elif now - self._waiting_since >= seconds:
            on_timeout()

    def shutdown(self) -> None:
        """Answer requests that are under way or on their way, then close."""
        self.app = _not_ready(self.app)
        if self._is_idle():
            self.loop.call_later(_FAREWELL_SECONDS, self._close_if_idle)
        else:
            self.cycle.keep_alive = False

    def _close_if_idle(self) -> None:
        if self._is_idle():
            self.transport.close()

    def _timeout(self) -> tuple[tuple[object, ...], float, Callable[[], None]]:
        """Return what the connection waits for, for how many seconds, and what happens then."""
        settings, cycle, close = self.settings, self.cycle, self.transport.close
        if self.flow.write_paused or self.transport.is_closing():
            key = "reader", cycle, self._write_pauses
            return key, settings.body_seconds / 2, self.transport.abort
        if self.closing:
            responding = not (self._is_idle() or cycle.disconnected)
            return ("close", responding), math.inf if responding else _LINGER_SECONDS, close
        if cast("Scope | None", self.scope) is None:
            return ("first byte",), settings.header_seconds, close
        if self._in_head():
            seconds = settings.header_seconds
            return ("headers", cycle), seconds, partial(self._time_out, "headers", seconds)
        if cycle.more_body:
            seconds = settings.body_seconds
            on_timeout = partial(self._time_out, "body", seconds)
            return ("body", cycle), seconds + _BODY_MARGIN, on_timeout
        seconds = settings.idle_seconds if cycle.response_complete else math.inf
        return ("next request", cycle, seconds), seconds, close

    def _time_out(self, what: str, seconds: float) -> None:
        self._refuse(
            Problem(REQUEST_TIMEOUT, f"The {what} did not arrive within {seconds:g} seconds.")
        )

    def _is_idle(self) -> bool:
        return self.cycle is None or self.cycle.response_complete

    def _in_head(self) -> bool:
        return self.cycle is None or self.cycle.scope is not self.scope

    def _in_body(self) -> bool:
        return self.cycle is not None and self.cycle.more_body

    def _limit_incomplete_request(self, size: int) -> None:
        """Refuse headers, chunk headers and trailers that never end."""
        self._received_bytes += size
        if not self._in_body():
            if self._received_bytes >= _MAX_HEAD_BYTES:
                self._refuse(
                    Problem(
                        HEADERS_TOO_LARGE, f"The headers are longer than {_MAX_HEAD_BYTES} bytes."
                    )
                )
        elif self._received_bytes > 2 * self.settings.max_body_bytes + _MAX_HEAD_BYTES:
            self._refuse(
                Problem(
                    BODY_TOO_LARGE,
                    "The body, and what frames it, is longer than any that is taken.",
                )
            )

    def _should_upgrade(self) -> bool:
        return True  # so that uvicorn leaves every upgrade to `_ignore_upgrade`

    def _ignore_upgrade(self, rest: bytes) -> None:
        """Parse the request again without its `Upgrade` header (RFC 9110, 7.8)."""
        if self.scope["method"] == "CONNECT":
            self._refuse(Problem(MALFORMED_REQUEST, "This is no proxy."))
            return
        method, version = (self.scope[name].encode("ascii") for name in ("method", "http_version"))
        head = [b"%b %b HTTP/%b\r\n" % (method, self.url, version)]
        head += [b"%b: %b\r\n" % header for header in self.headers if header[0] != b"upgrade"]
        self.parser = httptools.HttpRequestParser(self)
        self.parser.set_dangerous_leniencies(lenient_data_after_close=True)
        self.data_received(b"".join([*head, b"\r\n", rest]))

    def _on_parse_error(self, error: httptools.HttpParserError) -> None:
        if self.transport.is_closing():  # too many pipelined requests
            return
        if isinstance(error.__context__, Problem):
            self._refuse(error.__context__)
            return
        reason = str(error)
        if isinstance(error, httptools.HttpParserCallbackError):
            reason = "its target cannot be understood"
        self._refuse(Problem(MALFORMED_REQUEST, f"This is no HTTP request: {reason}."))

    def _refuse(self, problem: Problem) -> None:
        """Send a problem after the responses that are due, and ignore all further input."""
        self.closing = True
        cycle = self.cycle
        if self._is_idle():
            if self._in_head() or not cycle.more_body:
                self._send_error(problem)
            else:  # the rest of a body whose response was sent early
                self.transport.close()
        elif self.pipeline or not cycle.more_body:
            cycle.keep_alive = False
        elif cycle.response_started:
            self.transport.close()
        else:
            cycle.disconnected = True
            cycle.message_event.set()
            self._send_error(problem)

    def _send_error(self, problem: Problem) -> None:
        response = _response(problem)
        begun = cast("dict[str, Any] | None", self.scope) or {}
        known = {"method": "-", "path": "-", "client": self.client} | begun
        RequestInfo({}, response.headers["x-request-id"]).attach(known)
        self.server_state.on_refused(known, problem)
        headers = [*self.server_state.default_headers, *response.raw_headers]
        head = b"".join(b"%b: %b\r\n" % header for header in headers)
        self.transport.write(STATUS_LINE[problem.status] + head + b"\r\n" + bytes(response.body))
        if self.transport.can_write_eof():
            self.transport.write_eof()
        else:
            self.transport.close()


class _HeadBuffer:
    """A transport that sends a response's head with the first part of its body.

    Uvicorn writes them one by one, uvloop makes a system call of each: 4 % of a small request.
    """

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport, self._head = transport, b""

    def write(self, data: bytes) -> None:
        if self._head:
            self._head, data = b"", self._head + data
        elif data.startswith(b"HTTP/1.1 ") and not data.startswith(b"HTTP/1.1 100"):
            self._head = data
            return
        self._transport.write(data)

    def flush(self) -> None:
        if self._head:
            self.write(b"")

    def write_eof(self) -> None:
        self.flush()
        self._transport.write_eof()

    def close(self) -> None:
        self.flush()
        self._transport.close()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._transport, name)


def _response(problem: Problem) -> Response:
    """Return the last response of a connection, with the headers that all responses have."""
    name = secrets.token_hex(6)
    response = problem.response(name)
    last = {"Connection": "close", "X-Request-ID": name, "X-Content-Type-Options": "nosniff"}
    response.headers.update(last)
    return response


def _not_ready(app: ASGIApp) -> ASGIApp:
    """Wrap an application so that it reports not to be ready."""

    async def respond(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["path"] in _READINESS:
            problem = not_ready("The service is about to end.", retry_seconds=1)
            await _response(problem)(scope, receive, send)
        else:
            await app(scope, receive, send)

    return respond
