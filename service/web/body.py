"""A request's body, read no further than the limits."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping
from types import coroutine
from typing import Any

from starlette.types import Message, Receive

from service.scoring.scheduler import Scheduler
from service.web.problems import BODY_TOO_LARGE, CLIENT_DISCONNECTED, REQUEST_TIMEOUT, Problem

__all__ = ["content_length", "read"]

_LINGER_SECONDS = 1.0


async def read(
    receive: Receive, turns: Scheduler, *, content_length: int, most: int, seconds: float
) -> bytes | bytearray:
    """Read a body; whoever asked for it lets go of its bytes (`turns.release`) in the end.

    Most clients read no answer while they still send. So what is too long, or too much beside what
    others have sent, is let in for a moment before it is refused, and not kept.

    Args:
        receive: ASGI's.
        scheduler: bounds how much is held of all bodies.
        content_length: bytes that are said to come, 0 when nothing is said.
        most: bytes that are taken.
        seconds: within which the body has to arrive.

    Raises:
        Problem: it is too long or too slow, or the client went away; nothing is held then.
    """
    body = _Body(turns, most)
    if content_length > most:
        body.refuse(_too_large(most))
    started = receive()
    try:
        waiting = started.send(None)  # type: ignore[attr-defined]  # a coroutine, as servers have it
    except StopIteration as end:
        # Most bodies are there already: they need no timer, which would cost more than they do.
        if not body.add(end.value).get("more_body"):
            return body.whole()
        await body.add_rest(receive, seconds)
    else:
        await body.add_rest(receive, seconds, _resumed(started, waiting))
    return body.whole()


@coroutine
def _resumed(started: Any, waiting: Any) -> Generator[Any, Any, Message]:
    """Go on with a coroutine that has been started, and waits for something."""
    while True:
        try:
            value = yield waiting
        except BaseException as error:
            step, value = started.throw, error
        else:
            step = started.send
        try:
            waiting = step(value)
        except StopIteration as end:
            message: Message = end.value
            return message


def content_length(headers: Mapping[bytes, bytes]) -> int:
    """How many bytes are said to come; 0 when nothing is said."""
    length = headers.get(b"content-length", b"")
    return int(length[:18]) if length.isdigit() else 0


class _Body:
    """What has arrived so far, or what is wrong with it."""

    def __init__(self, turns: Scheduler, most: int) -> None:
        self.scheduler, self.most = turns, most
        self.content: bytes | bytearray = b""
        self.trouble: Problem | None = None

    def whole(self) -> bytes | bytearray:
        """All of it.

        Raises:
            Problem: what is wrong.
        """
        if self.trouble is not None:
            raise self.trouble
        return self.content

    async def add_rest(
        self, receive: Receive, seconds: float, first: Awaitable[Message] | None = None
    ) -> None:
        """Keep what is still to come, as long as it comes in time."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS if self.trouble else seconds) as limit:
                message: Message = {"more_body": True}
                while message.get("more_body"):
                    was_fine = self.trouble is None
                    message = self.add(await (first or receive()))
                    first = None
                    if was_fine and self.trouble:
                        limit.reschedule(asyncio.get_running_loop().time() + _LINGER_SECONDS)
        except TimeoutError:
            if self.trouble is None:
                self.refuse(
                    Problem(REQUEST_TIMEOUT, f"The body did not arrive within {seconds:g} seconds.")
                )
        except BaseException:
            self.scheduler.release(len(self.content))
            raise

    def add(self, message: Message) -> Message:
        """Keep what a message brings, or nothing at all when there is something wrong."""
        chunk: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            self.refuse(Problem(CLIENT_DISCONNECTED))
        elif self.trouble is None and len(self.content) + len(chunk) > self.most:
            self.refuse(_too_large(self.most))
        elif self.trouble is None:
            self._keep(chunk)
        return message

    def _keep(self, chunk: bytes) -> None:
        try:
            self.scheduler.hold(len(chunk))
        except Problem as problem:
            self.refuse(problem)
            return
        if not self.content:
            self.content = chunk  # most bodies are one chunk, and never copied
        elif isinstance(self.content, bytearray):
            self.content += chunk
        else:
            self.content = bytearray(self.content) + chunk

    def refuse(self, problem: Problem) -> None:
        """Let go of everything."""
        self.scheduler.release(len(self.content))
        self.content, self.trouble = b"", problem


def _too_large(most: int) -> Problem:
    return Problem(BODY_TOO_LARGE, f"The body is longer than {most} bytes, the most that is taken.")
