"""Request scheduler: a bounded queue, micro-batching of small requests, time slices for large ones.

Everything runs in the event loop, because the expensive work holds the interpreter's lock anyway.
Small requests that arrive together go through the model together: eight records take hardly longer
than one; of more than can be answered in time, some are refused before they are read. A large
request gets two time slices per chunk, to read it and to answer it, in turn with the others. After
each, small requests that have arrived are answered before the next one.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from models.schema import Matrix
from service.formats.chunk import CHUNK_RECORDS
from service.web.problems import OVERLOADED, Problem

__all__ = ["Inference", "Scheduler", "Steps"]

T = TypeVar("T")

_ROUNDS = 6
"""Of the event loop after each time slice: as many as answer a small request that has arrived, from
accepting its connection to its last byte. A round in which nothing happens takes microseconds."""

_ROUNDS_TO_JOIN = 2
"""Of the event loop in which more small requests may join a batch, while there are several at a
time: see `benchmarks.batching`. A lone client does not wait for anybody."""

_IN_TIME_SECONDS, _STALE_SECONDS = 0.25, 2.0
"""Small requests that arrive together are answered together: so long may it take to read them. What
began longer ago than a client waits says nothing of those that arrive now."""


@dataclass(slots=True)
class Inference:
    """A call of the model.

    Attributes:
        run: of a matrix; its result can be sliced by record.
        matrix: float32 [n, fields].
    """

    run: Callable[[Matrix], Any]
    matrix: Matrix


Steps = Generator[Inference | None, Any, T]
"""A request as a coroutine: it yields an inference and resumes with the result, or yields None
where others may be served first."""


class Scheduler:
    """Bounds the requests under way, and shares the event loop fairly.

    Args:
        limit: of small requests that are taken at a time however long it takes, and of large ones
            under way.
        timed: runs an inference and measures its duration.

    Attributes:
        waiting: large requests under way or waiting for their time slice.
    """

    def __init__(self, limit: int, timed: Callable[[Callable[[Matrix], Any], Matrix], Any]) -> None:
        self.limit, self.timed = limit, timed
        self.waiting = 0
        self._batch: list[tuple[Inference, asyncio.Future[Any]]] = []
        self._rounds = 0
        self._begun, self._since = 0, 0.0  # small requests that arrived together, and when
        self._lock = asyncio.Lock()

    async def run_batched(self, steps: Steps[T]) -> T:
        """Run a small request; its inferences share a batch with those that are ready now.

        Raises:
            Problem: `OVERLOADED`, too many arrived with it.
        """
        try:
            self._begin()
            inference = next(steps)
            while True:
                result = None if inference is None else await self._enqueue(inference)
                inference = steps.send(result)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            steps.close()

    async def run_sliced(self, steps: Steps[T]) -> T:
        """Run a large request, one step per time slice.

        Raises:
            Problem: `OVERLOADED`, too many wait already.
        """
        if self.waiting >= self.limit:
            raise Problem(OVERLOADED)
        self.waiting += 1
        inference: Inference | None = None
        try:
            while True:
                async with self._lock:
                    result = inference and self.timed(inference.run, inference.matrix)
                    inference = steps.send(result)
                    # Within the lock: of all large requests, one time slice in so many rounds.
                    for _ in range(_ROUNDS):
                        await asyncio.sleep(0)
        except StopIteration as end:
            value: T = end.value
            return value
        finally:
            self.waiting -= 1
            steps.close()

    def _enqueue(self, inference: Inference) -> asyncio.Future[Any]:
        loop = asyncio.get_running_loop()
        if len(self._batch) >= self.limit:
            self._run_batch()
        if not self._batch:
            # Requests that become ready in this round of the event loop join the batch anyway.
            loop.call_soon(self._run_later, self._rounds)
        future = loop.create_future()
        self._batch.append((inference, future))
        return future

    def _begin(self) -> None:
        """Count a small request among those that arrived with it, or raise `OVERLOADED`."""
        now = time.monotonic()
        if not self._begun or now - self._since > _STALE_SECONDS:
            self._begun, self._since = 0, now
            asyncio.get_running_loop().call_soon(self._forget)
        elif self._begun >= self.limit and now - self._since > _IN_TIME_SECONDS:
            raise Problem(OVERLOADED)
        self._begun += 1

    def _forget(self) -> None:
        """Begin to count anew, where no request that arrived waits for the model."""
        if not self._batch:
            self._begun = 0

    def _run_later(self, rounds: int) -> None:
        if rounds and self._begun < self.limit:
            asyncio.get_running_loop().call_soon(self._run_later, rounds - 1)
        else:
            self._begun = 0
            self._run_batch()

    def _run_batch(self) -> None:
        batch, self._batch = self._batch, []
        self._rounds = _ROUNDS_TO_JOIN if len(batch) > 1 else 0
        while batch:
            run, records, count = batch[0][0].run, 0, 0
            for inference, _ in batch:
                records += len(inference.matrix)
                if inference.run != run or (count and records > CHUNK_RECORDS):
                    break
                count += 1
            self._run_together(run, batch[:count])
            batch = batch[count:]

    def _run_together(
        self, run: Callable[[Matrix], Any], batch: list[tuple[Inference, asyncio.Future[Any]]]
    ) -> None:
        matrices = [inference.matrix for inference, _ in batch]
        try:
            matrix = matrices[0] if len(matrices) == 1 else np.concatenate(matrices)
            result = self.timed(run, matrix)
        except Exception as error:
            for _, future in batch:
                if not future.done():
                    future.set_exception(error)
            return
        start = 0
        for inference, future in batch:
            end = start + len(inference.matrix)
            if not future.done():
                future.set_result(result if len(batch) == 1 else result[start:end])
            start = end
