"""Who works when: a bounded queue in front of the model, and turns for those that need many.

Everything runs in the event loop, because what costs time holds the interpreter's lock anyway. A
small request is answered at once. A large one takes a turn for every piece of it, and so do the
others in between: nobody waits for more than a piece of each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Generator
from typing import TypeVar

from service.problems import Overloaded

__all__ = ["Steps", "Turns", "finish"]

T = TypeVar("T")
Steps = Generator[None, None, T]
"""Work that stops now and then, so that others get their turn, and ends with a result."""


class Turns:
    """Bounds what is under way, and shares the event loop fairly.

    Args:
        most: requests that may wait at a time; of small ones, that may have come in together.
        most_bytes: of bodies that may be held at a time.

    Attributes:
        waiting: how many large requests are under way or wait for their turn.
        held: how many bytes of bodies are held.
    """

    def __init__(self, most: int, most_bytes: int) -> None:
        self.most, self.most_bytes = most, most_bytes
        self.waiting = self.held = 0
        self._together = 0
        self._lock = asyncio.Lock()

    def hold(self, size: int) -> None:
        """Hold so many more bytes of a body.

        Raises:
            Overloaded: there are too many already; nothing is added.
        """
        if self.held + size > self.most_bytes:
            raise Overloaded
        self.held += size

    def release(self, size: int) -> None:
        """Let go of so many bytes."""
        self.held -= size

    def take(self) -> None:
        """Take one's turn at once, for a small request.

        Those that are ready in one round of the event loop came in together, and wait for each
        other.

        Raises:
            Overloaded: too many came in together.
        """
        if not self._together:
            asyncio.get_running_loop().call_soon(self._next_round)
        self._together += 1
        if self._together > self.most:
            raise Overloaded

    async def share(self, steps: Steps[T]) -> T:
        """Do a large request's work, in turn with the others.

        Raises:
            Overloaded: too many wait already.
        """
        if self.waiting >= self.most:
            raise Overloaded
        self.waiting += 1
        try:
            while True:
                async with self._lock:
                    try:
                        next(steps)
                    except StopIteration as end:
                        result: T = end.value
                        return result
                await asyncio.sleep(0)
        finally:
            self.waiting -= 1
            steps.close()

    def _next_round(self) -> None:
        self._together = 0


def finish(steps: Steps[T]) -> T:
    """Do work without a stop."""
    while True:
        try:
            next(steps)
        except StopIteration as end:
            result: T = end.value
            return result
