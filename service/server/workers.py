"""Serve in one process, or in several that share a port."""

from __future__ import annotations

import logging
import os
import signal
import socket
import sys
import threading
from contextlib import suppress

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from service.observability.multiprocess import reports_folder
from service.server.server import Config, Server
from service.settings import Settings

__all__ = ["leave", "run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings, listening: socket.socket) -> None:
    """Serve until a signal ends it.

    Args:
        settings: to serve with; workers get a copy.
        listening: the socket to accept connections from.
    """
    config = Config(settings)
    if settings.workers == 1:
        Server(config).run([listening])
        return
    multiprocess.Process = _Worker  # type: ignore[misc]  # uvicorn's supervisor starts these
    supervisor = _Supervisor(config, [listening])
    with reports_folder():
        supervisor.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in supervisor.processes):
        sys.exit(STARTUP_FAILURE)


def leave() -> None:
    """End the process with 0 at once if a thread of it is still at work.

    One that loads a slow bundle is inside onnxruntime, which crashes the process when its globals
    are destroyed meanwhile, as they are at the end of the interpreter.
    """
    if any(thread.daemon for thread in threading.enumerate()):
        sys.stdout.flush()
        logging.shutdown()
        os._exit(0)


class _Worker(multiprocess.Process):
    """A process that serves; the supervisor notices its end, and it ends with the supervisor."""

    def start(self) -> None:
        # A signal that comes before the worker can handle it has to wait.
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        # Kept open here, the worker's end of the pipe would hide that the worker is dead.
        self.child_conn.close()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        self._server = Server(self.config)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        with suppress(KeyboardInterrupt):
            super().target(sockets)
        leave()

    def pong(self) -> None:
        self.child_conn.recv()
        self.child_conn.send(isinstance(self.server, Server) and self.server.settled)


class _Supervisor(multiprocess.Multiprocess):
    """The parent of all workers: replaces a worker that dies or hangs."""

    def terminate_all(self) -> None:
        # The last process that stops to listen frees the port.
        for listening in self.sockets:
            listening.close()
        super().terminate_all()
