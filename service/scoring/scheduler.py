"""Who works when: a bounded queue in front of the model, and turns for those that need many.

Everything runs in the event loop, because what costs time holds the interpreter's lock anyway.
Small requests that come in together go through the model together: it takes hardly longer for
eight records than for one. A large request takes a turn for every chunk of it, and so do the others
in between: nobody waits for more than a chunk of each of them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from models.schema import Matrix
from service.formats.chunk import CHUNK_RECORDS
from service.web.problems import OVERLOADED, Problem

__all__ = ["Scheduler", "Steps", "Work"]

T = TypeVar("T")


@dataclass(slots=True)
class Work:
    """Records for the model.

    Attributes:
        run: what the model does with them; what it gives can be sliced as they can.
        matrix: float32 [n, fields].
    """

    run: Callable[[Matrix], Any]
    matrix: Matrix


Steps = Generator[Work | None, Any, T]
"""What a request takes, step by step: a step may ask for work, and goes on with what came of it."""


class Scheduler:
    """Bounds what is under way, and shares the event loop fairly.

    Args:
        most: requests that may wait at a time, small ones and large ones each.
        most_bytes: of bodies that may be held at a time.
        timed: runs work, and takes its time.

    Attributes:
        waiting: how many large requests are under way or wait for their turn.
        held: how many bytes of bodies are held.
    """

    def __init__(
        self, most: int, most_bytes: int, timed: Callable[[Callable[[Matrix], Any], Matrix], Any]
    ) -> None:
        self.most, self.most_bytes, self.timed = most, most_bytes, timed
        self.waiting = self.held = 0
        self._together: list[tuple[Work, asyncio.Future[Any]]] = []
        self._lock = asyncio.Lock()

    def hold(self, size: int) -> None:
        """Hold so many more bytes of a body.

        Raises:
            Overloaded: there are too many already; nothing is added.
        """
        if self.held + size > self.most_bytes:
            raise Problem(OVERLOADED)
        self.held += size

    def release(self, size: int) -> None:
        """Let go of so many bytes."""
        self.held -= size

    async def join(self, steps: Steps[T]) -> T:
        """Do a small request's work, together with that of others which are ready now.

        Raises:
            Overloaded: too many are ready already.
        """
        try:
            work = next(steps)
            while True:
                work = steps.send(None if work is None else await self._joined(work))
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            steps.close()

    async def share(self, steps: Steps[T]) -> T:
        """Do a large request's work, in turn with the others.

        Raises:
            Overloaded: too many wait already.
        """
        if self.waiting >= self.most:
            raise Problem(OVERLOADED)
        self.waiting += 1
        found = None
        try:
            while True:
                async with self._lock:
                    work = steps.send(found)
                    found = None if work is None else self.timed(work.run, work.matrix)
                    # Still within the turn: of all of them, one chunk a round of the event loop.
                    await asyncio.sleep(0)
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            self.waiting -= 1
            steps.close()

    def _joined(self, work: Work) -> asyncio.Future[Any]:
        if len(self._together) >= self.most:
            raise Problem(OVERLOADED)
        loop = asyncio.get_running_loop()
        if not self._together:
            # Whoever is ready in this round of the event loop comes before this.
            loop.call_soon(self._work_together)
        future = loop.create_future()
        self._together.append((work, future))
        return future

    def _work_together(self) -> None:
        together, self._together = self._together, []
        while together:
            run, size, number = together[0][0].run, 0, 0
            for work, _ in together:
                size += len(work.matrix)
                if work.run != run or (number and size > CHUNK_RECORDS):
                    break
                number += 1
            self._run(run, together[:number])
            together = together[number:]

    def _run(
        self, run: Callable[[Matrix], Any], together: list[tuple[Work, asyncio.Future[Any]]]
    ) -> None:
        matrices = [work.matrix for work, _ in together]
        try:
            whole = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
            found = self.timed(run, whole)
        except Exception as error:
            for _, future in together:
                if not future.done():
                    future.set_exception(error)
            return
        start = 0
        for work, future in together:
            end = start + len(work.matrix)
            if not future.done():
                future.set_result(found if len(together) == 1 else found[start:end])
            start = end
