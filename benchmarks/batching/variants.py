"""A service whose scheduler puts requests together in another way: `use` it before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from service.scoring.scheduler import Inference, Scheduler

__all__ = ["VARIANTS", "use"]

_Batch = list[tuple[Inference, "asyncio.Future[Any]"]]
_RUN = "_run_batch"
_run_batch: Callable[[Scheduler], None] = getattr(Scheduler, _RUN)


def use(name: str) -> None:
    """Let the schedulers of this process work as a variant does."""
    VARIANTS[name]()


def _each_alone() -> None:
    def run_batch(self: Scheduler) -> None:
        batch, self._batch = self._batch, _Batch()
        for inference, future in batch:
            self._run_together(inference.run, [(inference, future)])

    setattr(Scheduler, _RUN, run_batch)


def _as_shipped() -> None:
    pass


def _after_rounds(rounds: int) -> Callable[[], None]:
    """Wait for so many more rounds of the event loop, in which further requests arrive."""

    def run_later(self: Scheduler, left: int = rounds) -> None:
        if left:
            asyncio.get_running_loop().call_soon(run_later, self, left - 1)
        else:
            _run_batch(self)

    def change() -> None:
        setattr(Scheduler, _RUN, run_later)

    return change


def _after_a_millisecond() -> None:
    """Wait for as long as uvloop's clock can: its timers have whole milliseconds."""

    def run_later(self: Scheduler) -> None:
        asyncio.get_running_loop().call_later(0.001, _run_batch, self)

    setattr(Scheduler, _RUN, run_later)


VARIANTS: Mapping[str, Callable[[], None]] = {
    "each alone": _each_alone,
    "as shipped": _as_shipped,
    "2 rounds later": _after_rounds(2),
    "8 rounds later": _after_rounds(8),
    "1 ms later": _after_a_millisecond,
}
