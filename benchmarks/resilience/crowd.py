"""Clients that stay idle, stall or never read, and single records beside them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.harness.load import Load, clock, raise_file_limit
from benchmarks.harness.process import growth, open_files, reset_peak
from benchmarks.harness.report import Figure, Section, at_most, info, none_of, progress
from benchmarks.harness.requests import LARGE, LIVEZ, batch
from benchmarks.harness.server import LARGE_BODIES, Server
from benchmarks.resilience.run import DELAY_MS, Run, probe

_IDLE, _HALF = 1_000, 200
_LIMITS = {"header_seconds": 5, "body_seconds": 10}
_STALLED_SECONDS = 15
_MARGIN_SECONDS = 8
"""The service looks only once a second, and lets connections linger."""
_SMALL_BUFFER = 4096
_SETTLE_SECONDS = 1.0
_TEXT = f"""\
Single records, 50 a second, beside nobody and beside each crowd. The service gives heads
{_LIMITS["header_seconds"]} seconds and bodies {_LIMITS["body_seconds"]} here, so that their ends
are within what is measured. *Left* is whose connection it has not ended {_MARGIN_SECONDS} seconds
after that. Whoever never reads asks for {LARGE:,} records with all their distances."""


@dataclass(frozen=True, slots=True)
class _Clients:
    """Clients of one kind, each with one thing to send.

    The service must close them after some seconds, or never if these are None.
    """

    name: str
    number: int
    sent: bytes
    seconds: int | None = None
    buffer: int | None = None

    @contextmanager
    def connected(self, port: int) -> Iterator[None]:
        """Connect them until the context ends."""
        with ExitStack() as stack:
            for _ in range(self.number):
                stack.enter_context(self._client(port))
            yield

    def _client(self, port: int) -> socket.socket:
        client = socket.socket()
        if self.buffer is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.buffer)
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        client.sendall(self.sent)
        if self.seconds is None:
            client.recv(1 << 16)
        return client


def measure(run: Run) -> Section:
    """Probe beside clients of every kind."""
    raise_file_limit()
    limits = {name: str(seconds) for name, seconds in _LIMITS.items()}
    with run.service({**LARGE_BODIES, **limits}) as server:
        progress("crowd: nobody")
        quiet = _p99(server, run)
        figures = [info("beside nobody: p99 of single records", quiet, "ms")]
        for clients in _all_clients():
            progress(f"crowd: {clients.name}")
            server.settle()
            figures += _beside(server, run, clients, quiet)
    return Section("Crowd", _TEXT, figures)


def _all_clients() -> Sequence[_Clients]:
    body, never_read = batch(100), batch(LARGE, query="?distances=true")
    head, whole = _LIMITS.values()
    return [
        _Clients("idle connections", _IDLE, LIVEZ),
        _Clients("half-sent heads", _HALF, LIVEZ[:-4], head),
        _Clients("half-sent bodies", _HALF, body[: len(body) // 2], whole),
        _Clients("clients that never read", 1, never_read, _STALLED_SECONDS, _SMALL_BUFFER),
    ]


def _p99(server: Server, run: Run) -> float:
    """Return p99 of single records; infinite if one failed."""
    stream = probe()
    Load(server.port, [stream]).run(run.seconds / 3)
    return float("inf") if stream.outcome.failed else stream.outcome.p99()


def _beside(server: Server, run: Run, clients: _Clients, quiet: float) -> list[Figure]:
    before, number = reset_peak(server.pid), clients.number
    name = f"{number:,} {clients.name}"
    files = open_files(server.pid)
    with clients.connected(server.port):
        begin = clock()
        p99 = _p99(server, run)
        end = begin + (clients.seconds + _MARGIN_SECONDS if clients.seconds else 0)
        time.sleep(max(_SETTLE_SECONDS, end - clock()))
        left = max(0, open_files(server.pid) - files)
    return [
        at_most(f"{name}: p99 of single records", p99, quiet + DELAY_MS, "ms"),
        none_of(f"{name}: cut off", max(0, number - left), number)
        if clients.seconds is None
        else none_of(f"{name}: left", left, number),
        info(f"{name}: memory grew by", growth(server.pid, before), "MiB"),
    ]
