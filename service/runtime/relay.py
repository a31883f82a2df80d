"""Bodies on their way from the worker that got them to the one that ingests.

One process owns the state of all devices. The other workers ask it over a Unix socket in the
folder of its journal, which only their user can open: MessagePack, after four bytes of length.
"""

from __future__ import annotations

import logging
import os
import socket
import socketserver
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

import msgspec

from service.formats.errors import MalformedInputError
from service.web import problems
from service.web.problems import Problem, problem_of

__all__ = ["Owner", "Receipt", "RelayServer"]

log = logging.getLogger(__name__)

_LENGTH = struct.Struct("<I")
_SOCKET: Final = "workers"
_SECONDS: Final = 60.0
"""For the answer to a body."""
_KINDS: Final = {
    kind.reason: kind
    for kind in (
        problems.MALFORMED_BODY,
        problems.NOT_INGESTING,
        problems.NOT_READY,
        problems.OVERLOADED,
    )
}
"""What taking a body may refuse with."""


class Receipt(msgspec.Struct, frozen=True):
    """What became of a body that was taken.

    Attributes:
        points: in it.
        reasons: why samples could not be used, with how many of them.
    """

    points: int
    reasons: dict[str, int]


class _Question(msgspec.Struct, frozen=True):
    """A body of a receiver; without one, the status is asked for."""

    receiver: str = ""
    body: bytes = b""


class _Refusal(msgspec.Struct, frozen=True):
    reason: str
    detail: str
    headers: dict[str, str]


class _Answer(msgspec.Struct, frozen=True, omit_defaults=True):
    receipt: Receipt | None = None
    refusal: _Refusal | None = None
    status: Any = None


_question = msgspec.msgpack.Decoder(_Question)
_answer = msgspec.msgpack.Decoder(_Answer)


class RelayServer:
    """Takes the bodies of the other workers, each in a thread of its own.

    Args:
        folder: of the journal.
        take: takes a body of the receiver of a name, or raises what a sender is answered.
        status: returns what msgspec can write.

    Raises:
        OSError: the socket cannot be made.
    """

    def __init__(
        self, folder: Path, take: Callable[[str, bytes], Receipt], status: Callable[[], object]
    ) -> None:
        def answer(question: _Question) -> _Answer:
            if not question.receiver:
                return _Answer(status=status())
            try:
                return _Answer(take(question.receiver, question.body))
            except (Problem, MalformedInputError) as error:
                problem = problem_of(error)
                headers = dict(problem.headers)
                return _Answer(refusal=_Refusal(problem.reason, str(problem), headers))
            except Exception:
                log.exception("a body of another worker was not taken")
                problem = Problem(problems.INTERNAL_ERROR)
                return _Answer(refusal=_Refusal(problem.reason, str(problem), {}))

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                with suppress(OSError, EOFError):  # the worker has ended
                    while True:
                        question = _question.decode(_receive(self.request))
                        _send(self.request, msgspec.msgpack.encode(answer(question)))

        with _Address(folder) as address:
            with suppress(FileNotFoundError):  # of an owner that was killed
                Path(address).unlink()
            self._server = socketserver.ThreadingUnixStreamServer(address, Handler)
        self._server.daemon_threads = True
        self._server.block_on_close = False
        serve = self._server.serve_forever
        threading.Thread(target=serve, args=[0.1], name="relay", daemon=True).start()

    def close(self) -> None:
        """Take nothing more."""
        self._server.shutdown()
        self._server.server_close()


class Owner:
    """The process that ingests, as another worker sees it; for one thread at a time.

    Args:
        folder: of its journal.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._connection: socket.socket | None = None
        self._lock = threading.Lock()

    def take(self, receiver: str, body: bytes) -> Receipt:
        """Have a body taken.

        Raises:
            Problem: the owner refuses it; `OVERLOADED` where there is none at the moment.
        """
        answer = self._ask(_Question(receiver, body))
        if answer.refusal is not None:
            kind = _KINDS.get(answer.refusal.reason, problems.INTERNAL_ERROR)
            raise Problem(kind, answer.refusal.detail, headers=answer.refusal.headers)
        assert answer.receipt is not None  # noqa: S101 - one of the two
        return answer.receipt

    def status(self) -> Any:
        """Return the owner's status, in builtin types.

        Raises:
            Problem: `OVERLOADED`, there is no owner at the moment.
        """
        return self._ask(_Question()).status

    def close(self) -> None:
        """Close the connection."""
        with self._lock:
            self._disconnect()

    def _ask(self, question: _Question) -> _Answer:
        with self._lock:
            try:
                if self._connection is None:
                    self._connection = self._connect()
                _send(self._connection, msgspec.msgpack.encode(question))
                return _answer.decode(_receive(self._connection))
            except (OSError, EOFError) as error:
                self._disconnect()
                raise Problem(problems.OVERLOADED) from error

    def _connect(self) -> socket.socket:
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(_SECONDS)
        try:
            with _Address(self._folder) as address:
                connection.connect(address)
        except OSError:
            connection.close()
            raise
        return connection

    def _disconnect(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None


class _Address:
    """The address of the socket in a folder; a path of any length has a short one."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def __enter__(self) -> str:
        self._open = os.open(self._folder, os.O_DIRECTORY | os.O_RDONLY)
        return f"/proc/self/fd/{self._open}/{_SOCKET}"

    def __exit__(self, *_: object) -> None:
        os.close(self._open)


def _send(connection: socket.socket, message: bytes) -> None:
    connection.sendall(_LENGTH.pack(len(message)) + message)


def _receive(connection: socket.socket) -> bytes:
    """Return the next message; raises EOFError where the other has closed the connection."""
    return _exactly(connection, *_LENGTH.unpack(_exactly(connection, _LENGTH.size)))


def _exactly(connection: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        part = connection.recv(min(size - len(data), 1 << 20))
        if not part:
            raise EOFError
        data += part
    return bytes(data)
