"""Clients that do nothing, or only half of it, and those who want something beside them."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.harness.load import Load, clock, open_files
from benchmarks.harness.process import settle
from benchmarks.harness.report import Figure, Section, at_most, none_of, told
from benchmarks.harness.requests import LARGE, LIVEZ, batch
from benchmarks.harness.server import Running
from benchmarks.resilience.service import ROOMY, growth, open_files_of, reset_peak
from benchmarks.resilience.stage import DELAY_MS, Stage, probe
from benchmarks.serving.rounds import say

_IDLE, _HALF = 1_000, 200
_LIMITS = {"header_seconds": 5, "body_seconds": 10}
_STALLED_SECONDS = 15
_MARGIN_SECONDS = 8
"""For looking only once a second, and for what lingers."""
_LITTLE_ROOM = 4096
_SETTLE_SECONDS = 1.0
_TEXT = f"""\
Single records, 50 a second, beside nobody and beside each crowd. The service gives heads
{_LIMITS["header_seconds"]} seconds and bodies {_LIMITS["body_seconds"]} here, so that their ends
are within what is measured. *Left* is whose connection it has not ended {_MARGIN_SECONDS} seconds
after that. Whoever never reads asks for {LARGE:,} records with all their distances."""


@dataclass(frozen=True, slots=True)
class _Crowd:
    """Clients of one kind.

    Attributes:
        name: what they are.
        number: how many.
        sent: by each, and no more.
        seconds: after which they are to be cut off; None when they are not.
        room: bytes that each has for what comes.
    """

    name: str
    number: int
    sent: bytes
    seconds: int | None = None
    room: int | None = None

    @contextmanager
    def gathered(self, port: int) -> Iterator[None]:
        """Connect them."""
        with ExitStack() as stack:
            for _ in range(self.number):
                stack.enter_context(self._client(port))
            yield

    def _client(self, port: int) -> socket.socket:
        client = socket.socket()
        if self.room is not None:
            client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, self.room)
        client.settimeout(30)
        client.connect(("127.0.0.1", port))
        client.sendall(self.sent)
        if self.seconds is None:
            client.recv(1 << 16)
        return client


def measure(stage: Stage) -> Section:
    """Probe beside every crowd."""
    open_files()
    limits = {name: str(seconds) for name, seconds in _LIMITS.items()}
    with stage.service({**ROOMY, **limits}) as running:
        say("crowd: nobody")
        quiet = _p99(running, stage)
        figures = [told("beside nobody: p99 of single records", quiet, "ms")]
        for crowd in _crowds():
            say(f"crowd: {crowd.name}")
            settle(running.process.pid)
            figures += _beside(running, stage, crowd, quiet)
    return Section("Crowd", _TEXT, figures)


def _crowds() -> Sequence[_Crowd]:
    body, never_read = batch(100), batch(LARGE, query="?distances=true")
    head, whole = _LIMITS.values()
    return [
        _Crowd("idle connections", _IDLE, LIVEZ),
        _Crowd("half-sent heads", _HALF, LIVEZ[:-4], head),
        _Crowd("half-sent bodies", _HALF, body[: len(body) // 2], whole),
        _Crowd("clients that never read", 1, never_read, _STALLED_SECONDS, _LITTLE_ROOM),
    ]


def _p99(running: Running, stage: Stage) -> float:
    """Of single records; a failed one counts as endless."""
    stream = probe()
    Load(running.port, [stream]).run(stage.seconds / 3)
    return float("inf") if stream.outcome.failed else stream.outcome.p99()


def _beside(running: Running, stage: Stage, crowd: _Crowd, quiet: float) -> list[Figure]:
    before, name, number = reset_peak(running), f"{crowd.number:,} {crowd.name}", crowd.number
    files = open_files_of(running)
    with crowd.gathered(running.port):
        begin = clock()
        p99 = _p99(running, stage)
        end = begin + crowd.seconds + _MARGIN_SECONDS if crowd.seconds is not None else clock()
        time.sleep(max(_SETTLE_SECONDS, end - clock()))
        left = max(0, open_files_of(running) - files)
    return [
        at_most(f"{name}: p99 of single records", p99, quiet + DELAY_MS, "ms"),
        none_of(f"{name}: cut off", max(0, number - left), number)
        if crowd.seconds is None
        else none_of(f"{name}: left", left, number),
        told(f"{name}: memory grew by", growth(running, before), "MiB"),
    ]
