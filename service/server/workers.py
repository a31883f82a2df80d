"""Serve in one process, or in several on one port."""

from __future__ import annotations

import signal
import socket
import sys

from uvicorn.config import STARTUP_FAILURE
from uvicorn.supervisors import multiprocess

from service.observability.multiprocess import common_folder
from service.server.server import Config, Server
from service.settings import Settings

__all__ = ["Workers", "run"]

_SIGNALS = (signal.SIGINT, signal.SIGTERM)


def run(settings: Settings, bound: socket.socket) -> None:
    """Serve until a signal ends it.

    Args:
        settings: how; workers get them as they are here.
        bound: the socket to listen on.
    """
    config = Config(settings)
    if settings.workers == 1:
        Server(config).run([bound])
        return
    workers = Workers(config, [bound])
    with common_folder():
        workers.run()
    if any(worker.exitcode == STARTUP_FAILURE for worker in workers.processes):
        sys.exit(STARTUP_FAILURE)


class Worker(multiprocess.Process):
    """A process that serves; its end is noticed, and it ends when its parent does."""

    def start(self) -> None:
        """Start it; it hears of signals when it can do with them."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        # Its own end of the pipe: kept open here, it would hide that the worker has closed it.
        self.child_conn.close()

    def target(self, sockets: list[socket.socket] | None = None) -> None:
        """Serve, in the new process."""
        self._server = Server(self.config)
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)
        super().target(sockets)

    def pong(self) -> None:
        """Tell the parent whether this worker has settled."""
        self.child_conn.recv()
        server = self.server
        self.child_conn.send(isinstance(server, Server) and server.settled)


class Workers(multiprocess.Multiprocess):
    """The parent of all workers: replaces one that dies, and ends them all."""

    def terminate_all(self) -> None:
        """End them; the last to stop listening shall free the port."""
        for bound in self.sockets:
            bound.close()
        super().terminate_all()


# It starts `Process`, by that name.
multiprocess.Process = Worker  # type: ignore[misc]
