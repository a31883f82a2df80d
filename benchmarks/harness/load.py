"""A load generator: many connections in one loop, at a rate or each as fast as it is answered.

A rate is kept whether or not there are answers: a request that is due goes out on any connection
that has none under way. When every one has, it is counted, and never sent.
"""

from __future__ import annotations

import gc
import resource
import select
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from benchmarks.harness.connection import Connection, Ending
from benchmarks.harness.outcome import LOST, Outcome

clock = time.perf_counter
"""The clock of all times."""

_EVENTS = 64
"""Handled before urgent events are looked for again: about a millisecond."""
_REST_SECONDS = 0.05
"""How long a connection that lost a request is not used."""
_MAX_WAIT_SECONDS = 0.05
_CONNECT_SECONDS = 60.0


@dataclass(slots=True)
class Stream:
    """Requests of one kind.

    Attributes:
        requests: in HTTP; the stream is over when they are.
        connections: at most, each with one request under way.
        rate: requests that are due in a second; None when each connection asks again as soon as
            it is answered.
        urgent: whether its answers are looked for first, so that other load does not distort times.
        from_due: whether a request's time counts from when it was due, not from its first byte.
        check: returns what is wrong with an answer's opening, if anything is.
        due: requests that have been due so far.
        resting: connections that lost a request, and when to use them again.
    """

    requests: Iterator[bytes]
    connections: int = 1
    rate: float | None = None
    urgent: bool = False
    from_due: bool = False
    check: Callable[[bytes], str | None] | None = None
    outcome: Outcome = field(default_factory=Outcome)
    over: bool = False
    due: int = 0
    idle: deque[Connection] = field(default_factory=deque)
    resting: deque[tuple[float, Connection]] = field(default_factory=deque)

    def ended(self, connection: Connection, ending: Ending) -> None:
        """Record how a request ended."""
        now, outcome = clock(), self.outcome
        outcome.add(ending.begun, ending.sent, now, ending.status)
        if ending.status == LOST:
            self.resting.append((now + _REST_SECONDS, connection))
            return
        self.idle.append(connection)
        outcome.largest = max(outcome.largest, ending.length)
        outcome.retry += b"\r\nretry-after: " in ending.opening.lower()
        if self.check is not None and (fault := self.check(ending.opening)):
            outcome.faults[fault] += 1

    def issue(self, now: float) -> None:
        """Send what is due."""
        while self.resting and self.resting[0][0] <= now:
            self.idle.append(self.resting.popleft()[1])
        if self.rate is None:
            for _ in range(len(self.idle)):
                self._start()
            return
        due = int((now - self.outcome.first) * self.rate) + 1
        if not self.idle:
            self.outcome.unsent += max(0, due - self.due)
            self.due = max(due, self.due)
        for _ in range(min(due - self.due, len(self.idle), _EVENTS)):
            moment = self.outcome.first + self.due / self.rate
            self.due += 1
            self._start(moment if self.from_due else None)

    def _start(self, due: float | None = None) -> None:
        request = next(self.requests, None)
        if request is None:
            self.over = True
        else:
            self.idle.popleft().start(request, due)


class Load:
    """Streams of requests to one port on loopback."""

    def __init__(self, port: int, streams: Sequence[Stream]) -> None:
        self.streams = streams
        self._poll, self._urgent = select.epoll(), select.epoll()
        self._poll.register(self._urgent, select.EPOLLIN)
        self._open: dict[int, Connection] = {}
        self._connections = []
        for stream in streams:
            poll = self._urgent if stream.urgent else self._poll
            for _ in range(stream.connections):
                connection = Connection(port, poll, self._open, stream.ended, clock)
                self._connections.append(connection)
                stream.idle.append(connection)

    def connect(self, greeting: bytes) -> None:
        """Make all connections beforehand, and wait until each was answered once."""
        raise_file_limit()
        for connection in self._connections:
            connection.ended = _ignore
            connection.start(greeting)
        self._drain(_CONNECT_SECONDS)
        for stream in self.streams:
            for connection in stream.idle:
                connection.ended = stream.ended

    def run(
        self,
        seconds: float,
        *,
        drain: float = 30.0,
        until: Stream | None = None,
        at: tuple[float, Callable[[], None]] | None = None,
    ) -> None:
        """Send until the time is over, then wait for answers.

        Args:
            seconds: how long requests are due.
            drain: seconds to wait for answers after that; what is missing then is lost.
            until: a stream whose end ends it all earlier.
            at: seconds, and what to call once they have passed.
        """
        raise_file_limit()
        gc.disable()
        try:
            self._send(seconds, until, at)
            self._drain(drain)
        finally:
            gc.enable()
            for connection in self._connections:
                connection.close()
            self._poll.close()
            self._urgent.close()

    def _send(
        self, seconds: float, until: Stream | None, at: tuple[float, Callable[[], None]] | None
    ) -> None:
        begin = now = clock()
        for stream in self.streams:
            stream.outcome.first = begin
        while now - begin < seconds and not (until is not None and until.over):
            if at is not None and now - begin >= at[0]:
                at[1]()
                at = None
            for stream in self.streams:
                if not stream.over:
                    stream.issue(now)
            self._poll_once(self._pause(now))
            now = clock()
        for stream in self.streams:
            stream.outcome.last = now

    def _drain(self, seconds: float) -> None:
        end = clock() + seconds
        while clock() < end and any(connection.busy for connection in self._connections):
            self._poll_once(_MAX_WAIT_SECONDS)

    def _pause(self, now: float) -> float:
        """Return the seconds to wait: until the next request is due, at most."""
        waits = [
            stream.outcome.first + stream.due / stream.rate - now
            for stream in self.streams
            if stream.rate is not None and not stream.over
        ]
        return max(0.0, min([*waits, _MAX_WAIT_SECONDS]))

    def _poll_once(self, seconds: float) -> None:
        opened, urgent = self._open, self._urgent.fileno()
        for file, events in self._poll.poll(seconds, _EVENTS):
            if file == urgent:
                continue
            if (connection := opened.get(file)) is not None:
                connection.happened(events)
        for file, events in self._urgent.poll(0):
            if (connection := opened.get(file)) is not None:
                connection.happened(events)


def _ignore(_connection: Connection, _ending: Ending) -> None:
    """Forget a greeting."""


def raise_file_limit() -> None:
    """Let this process open as many files as the system allows."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
