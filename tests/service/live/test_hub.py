from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from service.live import hub as module
from service.live.hub import Event, FullError, Hub, Viewer


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def run(work: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(work())  # type: ignore[arg-type]


async def published(hub: Hub, *events: Event) -> None:
    """Publish from another thread, and wait until the events have arrived."""
    await asyncio.to_thread(hub.publish, events)
    await asyncio.sleep(0)


async def read(viewer: Viewer) -> list[dict[str, Any]]:
    """What a viewer is sent now, frame by frame."""
    content = await viewer.next()
    assert content is not None
    frames = []
    for text in content.decode().split("\n\n")[:-1]:
        fields = dict(line.split(": ", 1) for line in text.split("\n"))
        frames.append(fields | {"data": json.loads(fields.get("data", "null"))})
    return frames


def test_events_come_in_order_with_ids_to_resume_from() -> None:
    async def work() -> None:
        hub = Hub(5)
        one, other = hub.join(), hub.join()
        await published(hub, Event("health", {"n": 1}), Event("model", {"n": 2}))
        for viewer in (one, other):
            first, *events = await read(viewer)
            assert first == {"retry": "2000", "data": None}
            assert [(e["event"], e["data"]["n"]) for e in events] == [("health", 1), ("model", 2)]
        last = events[0]["id"]
        hub.leave(one)
        back = hub.join(last)
        _, missed = await read(back)
        assert missed["data"] == {"n": 2}
        await published(hub, Event("health", {"n": 3}))
        assert [frame["data"]["n"] for frame in await read(back)] == [3]

    run(work)


@pytest.mark.parametrize("last", ["other-1", "{run}-9", "{run}-x", "{run}-", "²", "{run}-²", "-1"])
def test_who_saw_an_event_that_is_not_known_is_told_to_begin_anew(last: str) -> None:
    async def work() -> None:
        hub = Hub(5)
        hub.join()
        await published(hub, Event("health", {}))
        _, reset = await read(hub.join(last.format(run=hub._run)))
        assert (reset["event"], reset["id"]) == ("reset", f"{hub._run}-1")

    run(work)


def test_who_saw_the_last_event_is_sent_nothing() -> None:
    async def work() -> None:
        hub = Hub(5)
        hub.join()
        await published(hub, Event("health", {}))
        assert await read(hub.join(f"{hub._run}-1")) == [{"retry": "2000", "data": None}]

    run(work)


def test_events_that_are_not_kept_any_more_are_a_reset() -> None:
    async def work() -> None:
        hub = Hub(5)
        viewer = hub.join()
        for number in range(module._MAX_KEPT_EVENTS + 1):
            await published(hub, Event("health", {"n": number}))
            await viewer.next()
        _, *missed = await read(hub.join(f"{hub._run}-1"))
        assert [frame["data"]["n"] for frame in missed] == [*range(1, 201)]
        _, reset = await read(hub.join(f"{hub._run}-0"))
        assert reset["event"] == "reset"

    run(work)


@pytest.mark.parametrize(("size", "number"), [(1, 257), (1 << 19, 2)])
def test_a_viewer_that_does_not_take_its_events_is_let_go_and_the_others_are_not(
    size: int, number: int
) -> None:
    async def work() -> None:
        hub = Hub(5)
        slow, quick = hub.join(), hub.join()
        await slow.next()
        for _ in range(number):
            await published(hub, Event("records", "x" * size))
            assert await quick.next()
        assert hub.viewers == 1
        assert await slow.next() is None
        assert not slow._waiting
        await published(hub, Event("health", {}))
        assert [frame["event"] for frame in await read(quick)] == ["health"]

    run(work)


def test_what_is_kept_is_bounded_in_bytes_too() -> None:
    async def work() -> None:
        hub = Hub(5)
        viewer = hub.join()
        for _ in range(20):
            await published(hub, Event("records", "x" * 100_000))
            await viewer.next()
        assert hub._kept_bytes == sum(len(frame) for _, frame in hub._kept)
        assert hub._kept_bytes <= module._MAX_KEPT_BYTES
        missed = await hub.join(f"{hub._run}-{hub._kept[0][0] - 1}").next()
        assert missed is not None
        assert b"reset" not in missed

    run(work)


def test_there_are_no_more_viewers_than_allowed() -> None:
    async def work() -> None:
        hub = Hub(1)
        viewer = hub.join()
        with pytest.raises(FullError):
            hub.join()
        hub.leave(viewer)
        hub.leave(viewer)
        hub.join()

    run(work)


def test_events_go_on_for_a_while_after_the_last_viewer_has_left() -> None:
    async def work() -> None:
        clock = Clock()
        hub = Hub(1, clock)
        before = hub.watched
        viewer = hub.join()
        assert (before, hub.watched) == (False, True)
        clock.now = 1000
        assert bool(hub.watched)
        hub.leave(viewer)
        await published(hub, Event("health", {}))
        clock.now += 29
        assert hub.watched
        [_, event] = await read(hub.join(f"{hub._run}-0"))
        assert event["event"] == "health"

    run(work)


def test_who_comes_back_late_begins_anew() -> None:
    async def work() -> None:
        clock = Clock()
        hub = Hub(1, clock)
        viewer = hub.join()
        await published(hub, Event("health", {}))
        hub.leave(viewer)
        clock.now += 31
        for last in (
            "0",
            "1",
            "0",
        ):  # who saw the last event, too: what happens now is told to nobody
            assert not hub.watched
            viewer = hub.join(f"{hub._run}-{last}")
            [_, event] = await read(viewer)
            assert event["event"] == "reset"
            hub.leave(viewer)
            clock.now += 31

    run(work)


def test_a_viewer_that_waits_for_long_gets_a_comment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMENT_SECONDS", 0.01)

    async def work() -> None:
        viewer = Hub(1).join()
        await viewer.next()
        assert await viewer.next() == b": still here\n\n"

    run(work)


def test_at_the_end_all_viewers_end_and_those_that_come_then() -> None:
    async def work() -> None:
        hub = Hub(5)
        early = hub.join()
        await early.next()
        waiting = asyncio.ensure_future(early.next())
        await asyncio.sleep(0)
        hub.close()
        assert await waiting is None
        late = hub.join()
        assert await late.next() == b"retry: 2000\n\n"
        assert await late.next() is None
        assert hub.viewers == 0

    run(work)


def test_without_a_viewer_ever_nothing_is_told() -> None:
    hub = Hub(5)
    hub.publish([Event("health", {})])
    assert not hub._kept
