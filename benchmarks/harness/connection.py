"""A client's connection, with at most one request under way."""

from __future__ import annotations

import math
import re
import select
import socket
from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.harness.outcome import LOST

_CHUNK = 1 << 18
"""Bytes that are sent or taken at a time."""
_BOTH = select.EPOLLIN | select.EPOLLOUT
_OPENING = 512
"""Bytes of an answer's body that are kept, at least."""
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Ending:
    """How a request ended.

    Attributes:
        begun, sent: when its first and its last byte were handed over; NaN when that never was.
        status: of the answer, or `LOST`.
        opening: the answer's head and the beginning of its body.
        length: bytes of its body.
    """

    begun: float
    sent: float
    status: int
    opening: bytes = b""
    length: int = 0


class Connection:
    """A connection that is made when it is needed, and made again when it was closed.

    Args:
        port: on loopback.
        poll: told of what it waits for.
        places: where it puts itself by its file's number, so that events find it.
        ended: told how a request ended.
        clock: seconds that only go forward.
    """

    def __init__(
        self,
        port: int,
        poll: select.epoll,
        places: dict[int, Connection],
        ended: Callable[[Connection, Ending], None],
        clock: Callable[[], float],
    ) -> None:
        self.port, self.poll, self.places, self.ended, self.clock = port, poll, places, ended, clock
        self.busy = False
        self._socket: socket.socket | None = None
        self._left = memoryview(b"")
        self._begun = self._sent = math.nan
        self._waits_for_room = False
        self._opening, self._status, self._length, self._missing = b"", LOST, 0, -1

    def open(self) -> socket.socket:
        """Connect, unless that is done; it is not waited for."""
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect_ex(("127.0.0.1", self.port))
            self.places[self._socket.fileno()] = self
            self.poll.register(self._socket, select.EPOLLIN)
        return self._socket

    def close(self) -> None:
        """Cut it off; a request that is under way is lost."""
        if self._socket is not None:
            self.places.pop(self._socket.fileno())
            self._socket.close()  # the poll forgets it
            self._socket = None
        self._left, self._waits_for_room = memoryview(b""), False
        if self.busy:
            self.busy = False
            self.ended(self, self._ending(LOST))

    def start(self, request: bytes) -> None:
        """Send a request, as far as there is room for it."""
        self.busy, self._left = True, memoryview(request)
        self._begun, self._sent = self.clock(), math.nan
        self._opening, self._missing = b"", -1
        self._send(self.open())

    def happened(self, events: int) -> None:
        """Go on."""
        if self._socket is not None and self._left and events & select.EPOLLOUT:
            self._send(self._socket)
        if self._socket is not None and events & ~select.EPOLLOUT:
            self._take(self._socket)

    def _send(self, opened: socket.socket) -> None:
        try:
            self._left = self._left[opened.send(self._left[:_CHUNK]) :]
        except BlockingIOError:
            pass  # so it is while the connection is made, too
        except OSError:
            # It may have been answered before it was cut off.
            self._left = memoryview(b"")
            self._take(opened)
            return
        if not self._left:
            self._sent = self.clock()
        if self._waits_for_room != bool(self._left):
            self._waits_for_room = bool(self._left)
            self.poll.modify(opened, _BOTH if self._waits_for_room else select.EPOLLIN)

    def _take(self, opened: socket.socket) -> None:
        try:
            data = opened.recv(_CHUNK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self.close()
        elif self.busy:
            self._read(data)

    def _read(self, data: bytes) -> None:
        if self._missing < 0 or len(self._opening) < _OPENING:
            self._opening += data
        if self._missing >= 0:
            self._missing -= len(data)
        elif (end := self._opening.find(b"\r\n\r\n")) >= 0:
            self._status = int(self._opening[9:12])
            found = _LENGTH.search(self._opening, 0, end)
            self._length = int(found.group(1)) if found else 0
            self._missing = end + 4 + self._length - len(self._opening)
        if self._missing == 0:
            self._answered()

    def _answered(self) -> None:
        """The answer is complete; a request that was refused half-way leaves nothing to go on."""
        ending = self._ending(self._status)
        head = self._opening.partition(b"\r\n\r\n")[0].lower()
        done, self.busy = not self._left and b"\r\nconnection: close" not in head, False
        if not done:
            self.close()
        self.ended(self, ending)

    def _ending(self, status: int) -> Ending:
        return Ending(self._begun, self._sent, status, self._opening, self._length)
