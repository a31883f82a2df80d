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
    """How a request ended: when its first and last byte were sent (NaN: never), and the answer.

    The opening is the answer's head and the beginning of its body, the length that of the body.
    """

    begun: float
    sent: float
    status: int
    opening: bytes = b""
    length: int = 0


class Connection:
    """A connection to a port on loopback, made when it is needed, and again when it was closed.

    It registers its file with a poll and itself by the file's number; `ended` is called with how a
    request ended.
    """

    def __init__(
        self,
        port: int,
        poll: select.epoll,
        connections: dict[int, Connection],
        ended: Callable[[Connection, Ending], None],
        clock: Callable[[], float],
    ) -> None:
        self.port, self.poll, self.connections = port, poll, connections
        self.ended, self.clock = ended, clock
        self.busy = False
        self._socket: socket.socket | None = None
        self._unsent = memoryview(b"")
        self._begun = self._sent = math.nan
        self._wants_write = False
        self._opening, self._status, self._length, self._missing = b"", LOST, 0, -1

    def open(self) -> socket.socket:
        """Connect, unless that is done; do not wait for it."""
        if self._socket is None:
            self._socket = socket.socket()
            self._socket.setblocking(False)
            self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._socket.connect_ex(("127.0.0.1", self.port))
            self.connections[self._socket.fileno()] = self
            self.poll.register(self._socket, select.EPOLLIN)
        return self._socket

    def close(self) -> None:
        """Close the connection; a request that is under way is lost."""
        if self._socket is not None:
            self.connections.pop(self._socket.fileno())
            self._socket.close()  # and so the poll forgets it
            self._socket = None
        self._unsent, self._wants_write = memoryview(b""), False
        if self.busy:
            self.busy = False
            self.ended(self, self._ending(LOST))

    def start(self, request: bytes, due: float | None = None) -> None:
        """Send a request, as far as there is room for it; it begins now or when it was due."""
        self.busy, self._unsent = True, memoryview(request)
        self._begun, self._sent = self.clock() if due is None else due, math.nan
        self._opening, self._missing = b"", -1
        self._send(self.open())

    def happened(self, events: int) -> None:
        """Go on after events of the poll."""
        if self._socket is not None and self._unsent and events & select.EPOLLOUT:
            self._send(self._socket)
        if self._socket is not None and events & ~select.EPOLLOUT:
            self._receive(self._socket)

    def _send(self, opened: socket.socket) -> None:
        try:
            self._unsent = self._unsent[opened.send(self._unsent[:_CHUNK]) :]
        except BlockingIOError:
            pass  # the connection may still be under way
        except OSError:
            # An answer may have come before the connection was closed.
            self._unsent = memoryview(b"")
            self._receive(opened)
            return
        if not self._unsent:
            self._sent = self.clock()
        if self._wants_write != bool(self._unsent):
            self._wants_write = bool(self._unsent)
            self.poll.modify(opened, _BOTH if self._wants_write else select.EPOLLIN)

    def _receive(self, opened: socket.socket) -> None:
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
            match = _LENGTH.search(self._opening, 0, end)
            self._length = int(match.group(1)) if match else 0
            self._missing = end + 4 + self._length - len(self._opening)
        if self._missing == 0:
            self._answered()

    def _answered(self) -> None:
        """Finish a complete answer; a request refused half-way leaves no usable connection."""
        ending = self._ending(self._status)
        head = self._opening.partition(b"\r\n\r\n")[0].lower()
        reusable = not self._unsent and b"\r\nconnection: close" not in head
        self.busy = False
        if not reusable:
            self.close()
        self.ended(self, ending)

    def _ending(self, status: int) -> Ending:
        return Ending(self._begun, self._sent, status, self._opening, self._length)
