"""A service whose scheduler puts requests together in another way: `use` it before it starts."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from service.scoring import scheduler
from service.scoring.scheduler import Inference, Scheduler

__all__ = ["VARIANTS", "use"]

_Batch = list[tuple[Inference, "asyncio.Future[Any]"]]


def use(name: str) -> None:
    """Let the schedulers of this process work as a variant does."""
    VARIANTS[name]()


def _each_alone() -> None:
    def run_batch(self: Scheduler) -> None:
        batch, self._batch = self._batch, _Batch()
        for inference, future in batch:
            self._run_together(inference.run, [(inference, future)])

    Scheduler._run_batch = run_batch  # type: ignore[method-assign] # noqa: SLF001


def _rounds(rounds: int) -> Callable[[], None]:
    """Wait for so many more rounds of the event loop where several requests come at a time."""

    def change() -> None:
        scheduler._ROUNDS_TO_JOIN = rounds  # noqa: SLF001 - that is what is compared

    return change


def _as_shipped() -> None:
    pass


def _after_a_millisecond() -> None:
    """Wait for as long as uvloop's clock can: its timers have whole milliseconds."""

    def run_later(self: Scheduler, _: int) -> None:
        asyncio.get_running_loop().call_later(0.001, self._run_batch)

    Scheduler._run_later = run_later  # type: ignore[method-assign,assignment] # noqa: SLF001


VARIANTS: Mapping[str, Callable[[], None]] = {
    "each alone": _each_alone,
    "in one round": _rounds(0),
    "2 rounds more, as shipped": _as_shipped,
    "8 rounds more": _rounds(8),
    "1 ms later": _after_a_millisecond,
}
