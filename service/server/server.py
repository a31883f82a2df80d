"""The HTTP server of one process, and the greeting that it prints once it listens."""

from __future__ import annotations

import asyncio
import ctypes
import errno
import gc
import logging
import multiprocessing
import resource
import shlex
import socket
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import cast

import uvicorn
from fastapi import FastAPI
from starlette.types import Scope
from uvicorn.config import STARTUP_FAILURE

from service.observability.logs import configure
from service.runtime.state import State
from service.server import tls
from service.server.connection import Connection, Connections
from service.settings import Settings
from service.web.problems import OVERLOADED, Problem

__all__ = ["Config", "Server", "greeting", "listener"]

log = logging.getLogger(__name__)

_BACKLOG = 2048
_ACCEPTED_AT_ONCE = 100
_EXHAUSTED = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM})
"""Errors of the system that leave a client waiting to be accepted."""
_EXHAUSTED_SECONDS = 0.5
"""Until it is tried again."""
_OTHER_FILES = 100
"""That the process may open beside its connections."""
_MAX_FILES = 65_536
_TICKS = 10
"""Of uvicorn, in a second."""
_SETTLE_SECONDS = 30.0
_TLS_SHUTDOWN_SECONDS = 2.0
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8
"""Parameters of `mallopt(3)`."""
_KEPT_BYTES, _ARENAS = 1 << 26, 2
"""That are kept of what was freed, in each arena: one of the event loop, one of all threads."""
_MAPPED_BYTES = 1 << 25
"""Of a single block that is given back at once; the C library takes no more."""


class Config(uvicorn.Config):
    """Uvicorn's configuration for our settings; every worker gets a copy.

    Args:
        settings: to serve with.

    Attributes:
        greetings: shared by all workers; the one that acquires it prints the greeting.
        app_instance: the application, once it is loaded.
    """

    app_instance: FastAPI

    def __init__(self, settings: Settings) -> None:
        self.settings, proxies = settings, settings.proxies()
        super().__init__(
            "service.app:create_app",
            factory=True,
            loop="uvloop",
            ws="none",
            workers=settings.workers,
            log_config=None,
            access_log=False,
            server_header=False,
            # Of its own accord, uvicorn believes whoever connects from this machine.
            proxy_headers=bool(proxies),
            forwarded_allow_ips=proxies,
            # Connections that are left are cut off a moment before.
            timeout_graceful_shutdown=int(settings.grace_seconds) + 2,
            timeout_worker_healthcheck=30,
        )
        several = settings.workers > 1
        spawn = multiprocessing.get_context("spawn")
        self.greetings = spawn.Semaphore() if several else threading.Semaphore()

    def configure_logging(self) -> None:
        """Set up logging in this process."""
        super().configure_logging()
        configure(self.settings)

    def load_app(self) -> Callable[[], FastAPI]:
        """Create the application; uvicorn expects a function that returns it."""
        self.app_instance = super().load_app()(self.settings)
        return lambda: self.app_instance


class Server(uvicorn.Server):
    """Uvicorn's server, with limits on connections and a shutdown that loses no request."""

    config: Config
    server_state: Connections

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Accept connections; one of several workers waits for its bundle first."""
        _keep_freed_memory()
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        settings = self.config.settings
        self.state: State = self.config.app_instance.state.faultcube
        self._sockets = sockets or []
        self.port = self._sockets[0].getsockname()[1]
        self.server_state = Connections(settings, _raise_file_limit(), self._on_refused)
        if settings.workers > 1:
            await self._settle()
        # Accept here: under load, a server of uvloop hardly ever accepts new connections.
        self.servers = []
        self._frozen = False
        self._connecting: set[asyncio.Task[None]] = set()
        self._tls = tls.context(settings)
        for listening in self._sockets:
            listening.setblocking(False)
            if hasattr(socket, "TCP_USER_TIMEOUT"):  # Linux drops clients that acknowledge nothing
                milliseconds = int(1000 * settings.body_seconds)
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)
            self._listen(listening)
        self.started = True

    async def _settle(self) -> None:
        """Leave requests to other workers until a bundle is loaded or refused."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE_SECONDS
        while not (self.state.settled.is_set() or self.should_exit or loop.time() > end):
            await asyncio.sleep(0.02)

    @property
    def settled(self) -> bool:
        """Whether it serves, and its bundle is loaded or refused."""
        return self.started and self.state.settled.is_set()

    async def on_tick(self, counter: int) -> bool:
        """Check timeouts, end without a parent, and print the greeting."""
        self._check_timeouts(counter % _TICKS)
        if counter % _TICKS == 0:
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                self.should_exit = True
        if self.settled and not self._frozen:
            self._frozen = True
            # What lives as long as the process would else be looked through again and again, a
            # tenth of a second each time.
            gc.collect()
            gc.freeze()
        if self.settled and self.config.greetings.acquire(False):
            served = self.state.loader.served
            folder = served.path if served else None
            sys.stdout.write(greeting(self.config.settings, self.port, folder))
            sys.stdout.flush()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer every client that has connected, then end; cut off the rest in the end."""
        loop = asyncio.get_running_loop()
        self.state.trial.stop()
        self.server_state.shutting_down = True
        if self.state.live is not None:  # its streams would last until they are cut off
            self.state.live.hub.close()
        for listening in self._sockets:
            loop.remove_reader(listening)
            # Closing the socket would reset connections that are not accepted yet.
            self._accept(listening, _BACKLOG)
        loop.call_later(self.config.settings.grace_seconds, self._cut_off)
        await super().shutdown(sockets)
        for task in self._connecting:
            task.cancel()

    def _listen(self, listening: socket.socket) -> None:
        """Accept whoever connects, unless the end has begun meanwhile."""
        if not self.server_state.shutting_down:
            loop = asyncio.get_running_loop()
            loop.add_reader(listening, self._accept, listening, _ACCEPTED_AT_ONCE)

    def _accept(self, listening: socket.socket, limit: int) -> None:
        loop, state = asyncio.get_running_loop(), self.server_state
        for _ in range(limit):
            try:
                accepted, _address = listening.accept()
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    # The client keeps the socket readable: the loop would call this all the time.
                    loop.remove_reader(listening)
                    loop.call_later(_EXHAUSTED_SECONDS, self._listen, listening)
                    log.warning("connections wait", extra={"reason": str(error.strerror)})
                return  # none is left, or none can be accepted
            # In its handshake a client holds a file, too, and cannot be told why it is refused.
            open_ = len(state.connections) + len(self._connecting)
            if self._tls is not None and open_ >= state.max_connections:
                self.state.metrics.count_rejected(Problem(OVERLOADED))
                accepted.close()
                continue
            task = loop.create_task(self._connect(accepted))
            self._connecting.add(task)
            task.add_done_callback(self._connecting.discard)

    async def _connect(self, accepted: socket.socket) -> None:
        seconds = self.config.settings.header_seconds
        with suppress(OSError):  # a client that fails its handshake needs no line in the log
            await asyncio.get_running_loop().connect_accepted_socket(
                partial(Connection, self.config, self.server_state, self.lifespan.state),
                accepted,
                ssl=self._tls,
                ssl_handshake_timeout=seconds if self._tls else None,
                ssl_shutdown_timeout=_TLS_SHUTDOWN_SECONDS if self._tls else None,
            )

    def _check_timeouts(self, part: int) -> None:
        """Check one part of the connections: a thousand refusals at once would delay the others."""
        now = asyncio.get_running_loop().time()
        for connection in cast("list[Connection]", list(self.server_state.connections)):
            if hash(connection) % _TICKS != part:
                continue
            try:
                connection.check_timeouts(now)
            except Exception:  # one connection must not end the server
                log.exception("connection dropped")
                connection.transport.abort()

    def _on_refused(self, scope: Scope, problem: Problem) -> None:
        self.state.metrics.count_rejected(problem)
        for observe in self.config.app_instance.state.observers:
            observe(scope, problem.status, 0.0)

    def _cut_off(self) -> None:
        connections = list(self.server_state.connections)
        if connections:
            log.warning("connections cut off", extra={"number": len(connections)})
        for connection in connections:
            connection.transport.abort()


def _keep_freed_memory() -> None:
    """Let the C library keep what a large request frees, instead of giving it to the system.

    The next one would get it back page by page, each with a fault: a tenth of its time. Does
    nothing where the C library is not glibc.
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_TRIM_THRESHOLD, _KEPT_BYTES)
        mallopt(_M_MMAP_THRESHOLD, _MAPPED_BYTES)
        mallopt(_M_ARENA_MAX, _ARENAS)


def listener(host: str, port: int) -> socket.socket:
    """Listen on an address; clients that connect before the service has started wait for it.

    Raises:
        OSError: the address is in use, or is not one of this machine.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    listening = socket.socket(family)
    try:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listening.bind(address)
        # Two sockets may bind one address, but not listen on it.
        listening.listen(_BACKLOG)
    except BaseException:
        listening.close()
        raise
    return listening


def greeting(settings: Settings, port: int, bundle: Path | None) -> str:
    """Describe what is served where, with a request that is ready to be sent.

    Args:
        settings: that the service runs with.
        port: that it listens on.
        bundle: the folder of the served bundle, if there is one.
    """
    host = settings.host
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a name to replace
    scheme = "http" if settings.tls_cert is None else "https"
    url = f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
    if bundle is None:
        return f"Faultcube listens on {url} (docs: /docs)\nno bundle is served: see {url}/readyz\n"
    examples = shlex.quote(f"@{_nearby(bundle / 'examples.json')}")
    # Whoever starts the service may trust it, whatever name its certificate is for.
    curl = "curl -s" if settings.tls_cert is None else "curl -sk"
    return (
        f"Faultcube serves {_nearby(bundle)} on {url} (docs: /docs)\n"
        f"{curl} {url}/classify -H 'Content-Type: application/json' --data {examples}\n"
    )


def _nearby(path: Path) -> Path:
    """Return the path relative to the current directory if it is inside, absolute otherwise."""
    absolute, here = path.resolve(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def _raise_file_limit() -> int:
    """Let the process open as many files as it may; return how many may be connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _MAX_FILES if hard == resource.RLIM_INFINITY else min(hard, _MAX_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return max(limit - _OTHER_FILES, limit // 2)
