"""Viewers of the live page in a process of their own: they take whatever they are told."""

from __future__ import annotations

import multiprocessing
import selectors
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from multiprocessing.sharedctypes import Synchronized

from benchmarks.harness.client import ServerError
from benchmarks.harness.requests import http

__all__ = ["Looking", "looking"]

_START_SECONDS = 30
_EVENTS = http("GET", "/live/events", headers={"Accept": "text/event-stream"})


class Looking:
    """Viewers that look, and the bytes that they were told so far."""

    def __init__(self, told: Synchronized[int]) -> None:
        self._told = told

    @property
    def told(self) -> int:
        """Bytes that all of them together were told."""
        return self._told.value


@contextmanager
def looking(port: int, number: int) -> Iterator[Looking]:
    """Keep so many live pages open until the context ends.

    Raises:
        ServerError: the service does not tell them anything.
    """
    spawn = multiprocessing.get_context("spawn")
    told = spawn.Value("q", 0)
    process = spawn.Process(target=_read, args=[port, number, told], daemon=True)
    process.start()
    try:
        end = time.monotonic() + _START_SECONDS
        while told.value < number * len(_EVENTS):
            if time.monotonic() > end or not process.is_alive():
                raise ServerError("the viewers of the live page are told nothing")
            time.sleep(0.05)
        yield Looking(told)
    finally:
        process.terminate()
        process.join()


def _read(port: int, number: int, told: Synchronized[int]) -> None:
    with ExitStack() as stack, selectors.DefaultSelector() as selector:
        for _ in range(number):
            connection = stack.enter_context(socket.create_connection(("127.0.0.1", port)))
            connection.sendall(_EVENTS)
            if not connection.recv(1 << 16).startswith(b"HTTP/1.1 200 "):
                return
            selector.register(connection, selectors.EVENT_READ, connection)
        while selector.get_map():
            for key, _ in selector.select():
                part = key.data.recv(1 << 18)
                told.value += len(part)
                if not part:
                    selector.unregister(key.fileobj)
