"""A request's body, read no further than the limits."""

from __future__ import annotations

import asyncio

from starlette.types import Receive

from service.problems import Disconnected, Problem, TooLarge, TooSlow
from service.turns import Turns

__all__ = ["read"]

_LINGER_SECONDS = 1.0


async def read(
    receive: Receive, turns: Turns, *, announced: int, most: int, seconds: float
) -> bytes | bytearray:
    """Read a body; whoever asked for it lets go of its bytes (`turns.release`) in the end.

    Most clients read no answer while they still send. So what is too long, or too much beside what
    others have sent, is let in for a moment before it is refused, and not kept.

    Args:
        receive: ASGI's.
        turns: bounds how much is held of all bodies.
        announced: bytes that are said to come, 0 when nothing is said.
        most: bytes that are taken.
        seconds: within which the body has to arrive.

    Raises:
        Problem: it is too long or too slow, or the client went away; nothing is held then.
    """
    body = _Body(turns, most)
    if announced > most:
        body.refuse(_too_large(most))
    try:
        async with asyncio.timeout(_LINGER_SECONDS if body.trouble else seconds) as limit:
            while True:
                message = await receive()
                if message["type"] == "http.disconnect":
                    body.refuse(Disconnected())
                elif body.trouble is None and body.add(message.get("body", b"")) is not None:
                    limit.reschedule(asyncio.get_running_loop().time() + _LINGER_SECONDS)
                if not message.get("more_body"):
                    break
    except TimeoutError:
        if body.trouble is None:
            body.refuse(TooSlow(f"The body did not arrive within {seconds:g} seconds."))
    except BaseException:
        turns.release(len(body.content))
        raise
    if body.trouble is not None:
        raise body.trouble
    return body.content


class _Body:
    """What has arrived so far, or what is wrong with it."""

    def __init__(self, turns: Turns, most: int) -> None:
        self.turns, self.most = turns, most
        self.content: bytes | bytearray = b""
        self.trouble: Problem | None = None

    def add(self, chunk: bytes) -> Problem | None:
        """Keep a chunk, or nothing at all when there is something wrong."""
        if len(self.content) + len(chunk) > self.most:
            return self.refuse(_too_large(self.most))
        try:
            self.turns.hold(len(chunk))
        except Problem as problem:
            return self.refuse(problem)
        if not self.content:
            self.content = chunk  # most bodies are one chunk, and never copied
        elif isinstance(self.content, bytearray):
            self.content += chunk
        else:
            self.content = bytearray(self.content) + chunk
        return None

    def refuse(self, problem: Problem) -> Problem:
        """Let go of everything."""
        self.turns.release(len(self.content))
        self.content, self.trouble = b"", problem
        return problem


def _too_large(most: int) -> TooLarge:
    return TooLarge(f"The body is longer than {most} bytes, the most that is taken.")
