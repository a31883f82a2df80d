"""Server-sent events for whoever looks; who does not take them is let go, never waited for."""

from __future__ import annotations

import asyncio
import secrets
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec

__all__ = ["Event", "FullError", "Hub", "Viewer"]

_MAX_EVENTS, _MAX_BYTES = 256, 1 << 20
"""That wait for a viewer."""
_MAX_KEPT_EVENTS, _MAX_KEPT_BYTES = 200, 3 << 18
"""For a viewer who comes back: fewer, so that they can wait for it with what comes meanwhile."""
_COMMENT_SECONDS = 15.0
_COMMENT = b": still here\n\n"
_GREETING = b"retry: 2000\n\n"
_WATCHED_SECONDS = 30.0
"""For which events go on after the last viewer has left: one who comes back misses nothing."""

_encode = msgspec.json.Encoder().encode


class Event(NamedTuple):
    """Something to tell: its name, and what is sent as JSON."""

    name: str
    data: Any


class FullError(Exception):
    """There are as many viewers as there may be."""


class Viewer:
    """What waits for one who looks; used on the event loop alone."""

    def __init__(self) -> None:
        self._waiting: deque[bytes] = deque([_GREETING])
        self._bytes = 0
        self._wake = asyncio.Event()
        self._ended = False

    def put(self, frames: Sequence[bytes], size: int) -> bool:
        """Add events, of so many bytes; False if they are too many, which ends it."""
        self._bytes += size
        self._waiting += frames
        if len(self._waiting) > _MAX_EVENTS or self._bytes > _MAX_BYTES:
            self._waiting.clear()
            self.end()
        self._wake.set()
        return not self._ended

    def end(self) -> None:
        """Send what waits, and nothing more."""
        self._ended = True
        self._wake.set()

    async def next(self) -> bytes | None:
        """Return what is to be sent next, or a comment after a while; None at the end."""
        if not self._waiting and not self._ended:
            self._wake.clear()
            with suppress(TimeoutError):
                async with asyncio.timeout(_COMMENT_SECONDS):
                    await self._wake.wait()
        if self._waiting:
            waiting = b"".join(self._waiting)
            self._waiting.clear()
            self._bytes = 0
            return waiting
        return None if self._ended else _COMMENT


class Hub:
    """Hands events on to all viewers; one thread publishes, viewers are on an event loop.

    Args:
        limit: of viewers.
        clock: monotonic seconds.
    """

    def __init__(self, limit: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit, self._clock = limit, clock
        self._viewers: set[Viewer] = set()
        self._kept: deque[tuple[int, bytes]] = deque()
        self._kept_bytes = 0
        # Numbers of another process mean nothing here.
        self._run = secrets.token_hex(4)
        self._last = 0
        self._looked = -_WATCHED_SECONDS
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    @property
    def viewers(self) -> int:
        """How many look."""
        return len(self._viewers)

    @property
    def watched(self) -> bool:
        """Whether anybody looks, or did a moment ago."""
        return bool(self._viewers) or self._clock() - self._looked < _WATCHED_SECONDS

    def join(self, last: str = "") -> Viewer:
        """Begin to look; on the event loop.

        Args:
            last: id of the event that was seen last, empty for none: those since then come first,
                or `reset` if they are not kept.

        Raises:
            FullError: too many look already.
        """
        if len(self._viewers) >= self._limit:
            raise FullError
        if not self.watched:
            self._kept.clear()
            self._kept_bytes = 0
            if self._loop is not None:  # nothing was told since somebody looked: all missed some
                self._last += 1
        self._loop = asyncio.get_running_loop()
        viewer = Viewer()
        if last:
            missed = self._missed(last)
            viewer.put(missed, sum(map(len, missed)))
        if self._closed:
            viewer.end()
        else:
            self._viewers.add(viewer)
        return viewer

    def leave(self, viewer: Viewer) -> None:
        """Look no longer; on the event loop."""
        if viewer in self._viewers:
            self._viewers.remove(viewer)
            self._looked = self._clock()

    def publish(self, events: Sequence[Event]) -> None:
        """Tell all viewers; from any thread."""
        if not events or self._loop is None:
            return
        texts = [b"event: %b\ndata: %b\n\n" % (e.name.encode(), _encode(e.data)) for e in events]
        with suppress(RuntimeError):  # the loop was closed
            self._loop.call_soon_threadsafe(self._deliver, texts)

    def close(self) -> None:
        """End all viewers, and those that are still to come; on the event loop."""
        self._closed = True
        for viewer in [*self._viewers]:
            viewer.end()
            self.leave(viewer)

    def _deliver(self, texts: Sequence[bytes]) -> None:
        frames = []
        for text in texts:
            self._last += 1
            frame = self._id(self._last) + text
            frames.append(frame)
            self._kept.append((self._last, frame))
            self._kept_bytes += len(frame)
        while len(self._kept) > _MAX_KEPT_EVENTS or self._kept_bytes > _MAX_KEPT_BYTES:
            self._kept_bytes -= len(self._kept.popleft()[1])
        size = sum(map(len, frames))
        for viewer in [*self._viewers]:
            if not viewer.put(frames, size):
                self.leave(viewer)

    def _missed(self, last: str) -> list[bytes]:
        run, _, number = last.partition("-")
        first = self._kept[0][0] if self._kept else self._last + 1
        if run == self._run and number.isdecimal() and first - 1 <= int(number[:18]) <= self._last:
            return [frame for each, frame in self._kept if each > int(number[:18])]
        return [self._id(self._last) + b"event: reset\ndata: {}\n\n"]

    def _id(self, number: int) -> bytes:
        return f"id: {self._run}-{number}\n".encode()
