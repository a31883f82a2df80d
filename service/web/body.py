"""Request bodies: read no further than the limits, and bounded in bytes all together."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Generator, Mapping
from types import coroutine
from typing import Any

from starlette.types import Message, Receive

from service.web.problems import (
    BODY_TOO_LARGE,
    CLIENT_DISCONNECTED,
    OVERLOADED,
    REQUEST_TIMEOUT,
    Problem,
)

__all__ = ["ByteBudget", "content_length", "read"]

_LINGER_SECONDS = 1.0


class ByteBudget:
    """Bytes of bodies that all requests together may hold.

    Args:
        limit: in bytes.

    Attributes:
        held: bytes held now.
    """

    __slots__ = ("held", "limit")

    def __init__(self, limit: int) -> None:
        self.limit, self.held = limit, 0

    def hold(self, size: int) -> None:
        """Hold more bytes.

        Raises:
            Problem: `OVERLOADED`; nothing is added.
        """
        if self.held + size > self.limit:
            raise Problem(OVERLOADED)
        self.held += size

    def release(self, size: int) -> None:
        """Release bytes."""
        self.held -= size


async def read(
    receive: Receive,
    headers: Mapping[bytes, bytes],
    budget: ByteBudget,
    *,
    limit: int,
    seconds: float,
) -> bytes | bytearray:
    """Read a body; the caller releases its bytes from the budget in the end.

    Most clients read no response while they still send. So a body that is too long, or too much
    beside those of others, is read on for a moment before it is refused, and not kept.

    Args:
        receive: ASGI's.
        headers: of the request.
        budget: of all bodies together.
        limit: of this body in bytes.
        seconds: within which the body has to arrive.

    Raises:
        Problem: too long, too slow, or the client went away; nothing is held then.
    """
    body = _Body(budget, limit)
    if content_length(headers) > limit:
        body.refuse(_too_large(limit))
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
    """Continue a coroutine that was started and waits."""
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
    """Return the declared Content-Length, or 0 if absent."""
    length = headers.get(b"content-length", b"")
    return int(length[:18]) if length.isdigit() else 0


class _Body:
    """What has arrived of a body, or the problem with it."""

    def __init__(self, budget: ByteBudget, limit: int) -> None:
        self.budget, self.limit = budget, limit
        self.content: bytes | bytearray = b""
        self.problem: Problem | None = None

    def whole(self) -> bytes | bytearray:
        """Return the content.

        Raises:
            Problem: with the body.
        """
        if self.problem is not None:
            raise self.problem
        return self.content

    async def add_rest(
        self, receive: Receive, seconds: float, first: Awaitable[Message] | None = None
    ) -> None:
        """Receive the rest within a time limit."""
        try:
            async with asyncio.timeout(_LINGER_SECONDS if self.problem else seconds) as timer:
                message: Message = {"more_body": True}
                while message.get("more_body"):
                    was_fine = self.problem is None
                    message = self.add(await (first or receive()))
                    first = None
                    if was_fine and self.problem:
                        timer.reschedule(asyncio.get_running_loop().time() + _LINGER_SECONDS)
        except TimeoutError:
            if self.problem is None:
                late = f"The body did not arrive within {seconds:g} seconds."
                self.refuse(Problem(REQUEST_TIMEOUT, late))
        except BaseException:
            self.budget.release(len(self.content))
            raise

    def add(self, message: Message) -> Message:
        """Keep the content of a message, unless there is a problem."""
        content: bytes = message.get("body", b"")
        if message["type"] == "http.disconnect":
            self.refuse(Problem(CLIENT_DISCONNECTED))
        elif self.problem is None and len(self.content) + len(content) > self.limit:
            self.refuse(_too_large(self.limit))
        elif self.problem is None:
            self._keep(content)
        return message

    def _keep(self, content: bytes) -> None:
        try:
            self.budget.hold(len(content))
        except Problem as problem:
            self.refuse(problem)
            return
        if not self.content:
            self.content = content  # most bodies are one message, and never copied
        elif isinstance(self.content, bytearray):
            self.content += content
        else:
            self.content = bytearray(self.content) + content

    def refuse(self, problem: Problem) -> None:
        """Drop the content and note the problem."""
        self.budget.release(len(self.content))
        self.content, self.problem = b"", problem


def _too_large(limit: int) -> Problem:
    return Problem(
        BODY_TOO_LARGE, f"The body is longer than {limit} bytes, the most that is taken."
    )
