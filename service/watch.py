"""Watching requests: one place that learns how each ended, for metrics and logs."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from starlette.types import ASGIApp, Message, Receive, Scope, Send

__all__ = ["Watch", "Watcher"]

Watcher = Callable[[Scope, int, float], None]
"""Told of a request's scope, its status and how many seconds it took."""


class Watch:
    """Middleware that tells its watchers of every request that has ended."""

    def __init__(
        self, app: ASGIApp, *, watchers: Sequence[Watcher], clock: Callable[[], float]
    ) -> None:
        self.app, self.watchers, self.clock = app, watchers, clock

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        status, start = 500, self.clock()

        async def note(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self.app(scope, receive, note)
        finally:
            seconds = self.clock() - start
            for watcher in self.watchers:
                watcher(scope, status, seconds)
