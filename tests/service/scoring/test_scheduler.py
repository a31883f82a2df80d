from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.schema import Matrix
from service.scoring.scheduler import Inference, Scheduler, Steps
from service.web.problems import OVERLOADED


def timed(run: Callable[[Matrix], Any], matrix: Matrix) -> Any:
    return run(matrix)


def doubled(matrix: Matrix) -> Matrix:
    return 2 * matrix


def steps(rows: int, first: float, run: Callable[[Matrix], Any] = doubled) -> Steps[list[float]]:
    """Work on rows that are numbered; gives what came of them."""
    matrix = np.arange(first, first + rows, dtype=np.float32)[:, None]
    found = yield Inference(run, matrix)
    yield None
    return [*found.ravel().tolist()]


@given(st.lists(st.tuples(st.integers(1, 300), st.booleans()), min_size=1, max_size=30))
def test_everybody_gets_what_came_of_his_own_records(requests: list[tuple[int, bool]]) -> None:
    sizes: list[int] = []

    def measured(run: Callable[[Matrix], Any], matrix: Matrix) -> Any:
        sizes.append(len(matrix))
        return run(matrix)

    def tripled(matrix: Matrix) -> Matrix:
        return 3 * matrix

    async def play() -> list[list[float]]:
        scheduler = Scheduler(100, measured)
        return await asyncio.gather(
            *(
                scheduler.run_batched(steps(rows, 1000.0 * place, tripled if odd else doubled))
                for place, (rows, odd) in enumerate(requests)
            )
        )

    for place, ((rows, odd), found) in enumerate(zip(requests, asyncio.run(play()), strict=True)):
        assert found == [(3 if odd else 2) * (1000.0 * place + row) for row in range(rows)]
    assert sum(sizes) == sum(rows for rows, _ in requests)
    assert all(size <= 300 for size in sizes)


def test_small_requests_that_come_together_go_through_the_model_together() -> None:
    calls: list[int] = []

    def measured(run: Callable[[Matrix], Any], matrix: Matrix) -> Any:
        calls.append(len(matrix))
        return run(matrix)

    async def play() -> None:
        scheduler = Scheduler(100, measured)
        await asyncio.gather(*(scheduler.run_batched(steps(1, place)) for place in range(8)))
        await scheduler.run_batched(steps(1, 0))

    asyncio.run(play())
    assert calls == [8, 1]


def test_where_several_come_at_a_time_the_next_may_come_two_rounds_later() -> None:
    calls: list[int] = []

    def measured(run: Callable[[Matrix], Any], matrix: Matrix) -> Any:
        calls.append(len(matrix))
        return run(matrix)

    async def late(scheduler: Scheduler, rounds: int) -> None:
        for _ in range(rounds):
            await asyncio.sleep(0)
        await scheduler.run_batched(steps(1, 0))

    async def play() -> None:
        scheduler = Scheduler(100, measured)
        for _ in range(2):
            await asyncio.gather(*(late(scheduler, rounds) for rounds in (0, 0, 1, 2)))
        await scheduler.run_batched(steps(1, 0))
        # A lone one came last, so nobody waits for others.
        await asyncio.gather(*(late(scheduler, rounds) for rounds in (0, 2)))

    asyncio.run(play())
    assert calls == [2, 2, 4, 1, 1, 1]


def test_what_the_model_fails_at_fails_for_those_who_asked_and_nobody_else() -> None:
    def failing(_: Matrix) -> Matrix:
        raise ValueError("broken")

    async def play() -> list[Any]:
        scheduler = Scheduler(100, timed)
        both = [scheduler.run_batched(steps(1, 5, failing)), scheduler.run_batched(steps(1, 5))]
        first = await asyncio.gather(*both, return_exceptions=True)
        return [*first, await scheduler.run_batched(steps(1, 7))]

    broken, fine, later = asyncio.run(play())
    assert isinstance(broken, ValueError)
    assert (fine, later) == ([10.0], [14.0])


def test_more_large_ones_than_may_wait_are_refused_at_once_and_the_others_are_answered() -> None:
    async def play() -> tuple[list[Any], Scheduler]:
        scheduler = Scheduler(5, timed)
        several = (scheduler.run_sliced(steps(1, place)) for place in range(8))
        return await asyncio.gather(*several, return_exceptions=True), scheduler

    found, scheduler = asyncio.run(play())
    assert found[:5] == [[2.0 * place] for place in range(5)]
    assert all(each.kind is OVERLOADED for each in found[5:])
    assert scheduler.waiting == 0


def test_small_ones_are_refused_unread_once_they_cannot_be_answered_in_time() -> None:
    read: list[int] = []

    def slow(place: int) -> Steps[list[float]]:
        read.append(place)
        time.sleep(0.04)
        return (yield from steps(1, place))

    async def play() -> list[list[Any]]:
        scheduler = Scheduler(5, timed)
        return [
            await asyncio.gather(
                *(scheduler.run_batched(slow(place)) for place in range(count)),
                return_exceptions=True,
            )
            for count in (20, 1)
        ]

    together, alone = asyncio.run(play())
    answered = [found for found in together if isinstance(found, list)]
    assert answered == [[2.0 * place] for place in range(len(answered))]
    assert 5 <= len(answered) <= 8
    assert all(each.kind is OVERLOADED for each in together[len(answered) :])
    assert read == [*range(len(answered)), 0]
    assert alone == [[0.0]]


def test_however_slowly_they_are_read_so_many_small_ones_as_may_wait_are_taken() -> None:
    def slow(place: int) -> Steps[list[float]]:
        time.sleep(0.1)
        return (yield from steps(1, place))

    async def play() -> list[list[float]]:
        scheduler = Scheduler(5, timed)
        return await asyncio.gather(*(scheduler.run_batched(slow(place)) for place in range(5)))

    assert asyncio.run(play()) == [[2.0 * place] for place in range(5)]


def test_many_small_ones_go_through_the_model_in_as_many_batches_as_they_need() -> None:
    calls: list[int] = []

    def measured(run: Callable[[Matrix], Any], matrix: Matrix) -> Any:
        calls.append(len(matrix))
        return run(matrix)

    async def play() -> list[list[float]]:
        scheduler = Scheduler(5, measured)
        return await asyncio.gather(
            *(scheduler.run_batched(steps(1, place)) for place in range(12))
        )

    assert asyncio.run(play()) == [[2.0 * place] for place in range(12)]
    assert calls == [5, 5, 2]


def _no_record() -> None:
    raise ValueError("no record")


def failing() -> Steps[None]:
    """A request that is refused as it is read."""
    _no_record()
    yield None


def test_a_request_that_fails_before_the_model_has_the_next_one_wait_for_nothing() -> None:
    async def play() -> list[float]:
        scheduler = Scheduler(1, timed)
        with pytest.raises(ValueError, match="no record"):
            await scheduler.run_batched(failing())
        await asyncio.sleep(0.3)
        return await scheduler.run_batched(steps(1, 3))

    assert asyncio.run(play()) == [6.0]


def test_many_that_fail_before_the_model_have_nobody_refused() -> None:
    async def play() -> list[float]:
        scheduler = Scheduler(2, timed)
        for _ in range(10):
            with pytest.raises(ValueError, match="no record"):
                await scheduler.run_batched(failing())
            await asyncio.sleep(0.05)
        return await scheduler.run_batched(steps(1, 3))

    assert asyncio.run(play()) == [6.0]


def test_large_requests_take_scheduler_and_small_ones_do_not_wait_for_them() -> None:
    order: list[str] = []

    def long(name: str) -> Steps[None]:
        for _ in range(5):
            order.append(name)
            yield None

    async def small(scheduler: Scheduler) -> None:
        await asyncio.sleep(0)
        await scheduler.run_batched(steps(1, 0))
        order.append("small")

    async def play() -> None:
        scheduler = Scheduler(5, timed)
        await asyncio.gather(
            scheduler.run_sliced(long("a")), scheduler.run_sliced(long("b")), small(scheduler)
        )

    asyncio.run(play())
    assert [name for name in order if name != "small"] == ["a", "b"] * 5
    assert order.index("small") == 1


def test_the_model_and_the_reader_of_a_large_request_work_in_different_time_slices() -> None:
    order: list[str] = []

    def inferred(matrix: Matrix) -> Matrix:
        order.append("inferred")
        return matrix

    def long() -> Steps[None]:
        for _ in range(3):
            order.append("read")
            yield Inference(inferred, np.zeros((1, 1), np.float32))
            order.append("written")
            yield None

    async def play() -> None:
        scheduler = Scheduler(5, timed)
        large = asyncio.ensure_future(scheduler.run_sliced(long()))
        while not large.done():
            order.append("|")
            await scheduler.run_batched(steps(1, 0))
            await asyncio.sleep(0)

    asyncio.run(play())
    slices = [part for part in "".join(order).split("|") if part]
    assert slices == ["read", "inferredwritten"] * 3


def test_who_goes_away_takes_nothing_from_the_others() -> None:
    async def play() -> list[float]:
        scheduler = Scheduler(5, timed)
        gone = asyncio.ensure_future(scheduler.run_batched(steps(1, 0)))
        stays = asyncio.ensure_future(scheduler.run_batched(steps(1, 4)))
        await asyncio.sleep(0)
        gone.cancel()
        return await stays

    assert asyncio.run(play()) == [8.0]
