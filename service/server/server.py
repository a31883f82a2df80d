"""The HTTP server of one process, and what it says once it listens."""

from __future__ import annotations

import asyncio
import logging
import multiprocessing
import os
import resource
import shlex
import socket
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from pathlib import Path
from typing import Any

import prometheus_client
import uvicorn
from fastapi import FastAPI
from starlette.types import Scope
from uvicorn.config import STARTUP_FAILURE

from service.bundles.repository import RepositoryError
from service.observability.logs import configure
from service.runtime.state import State
from service.server import tls
from service.server.connection import Connection
from service.settings import Settings
from service.web.problems import Problem

__all__ = ["Config", "Server", "greeting", "listener"]

log = logging.getLogger(__name__)

_SPAWN = multiprocessing.get_context("spawn")
_BACKLOG = 2048
_FILES = 100
"""That the process may open beside its connections."""
_MOST_FILES = 65_536
_TICKS = 10
"""Of uvicorn, in a second."""
_SETTLE_SECONDS = 30.0
_TLS_SHUTDOWN_SECONDS = 2.0


class Config(uvicorn.Config):
    """How uvicorn serves with our settings; a worker gets it whole, as its parent has it.

    Args:
        settings: to serve with.

    Attributes:
        greetings: one for all workers; whoever acquires it says that the service is there.
        made: the application, once it is loaded.
    """

    made: Any

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        super().__init__(
            "service.app:create_app",
            factory=True,
            loop="uvloop",
            ws="none",
            workers=settings.workers,
            log_config=None,
            access_log=False,
            server_header=False,
            # What is left of connections by then is cut off a moment before.
            timeout_graceful_shutdown=int(settings.grace_seconds) + 2,
            timeout_worker_healthcheck=30,
            backlog=_BACKLOG,
        )
        several = settings.workers > 1
        self.greetings = _SPAWN.Semaphore() if several else threading.Semaphore()

    def configure_logging(self) -> None:
        """Set up the logs; several processes say which they are."""
        super().configure_logging()
        configure(self.settings)
        if self.settings.workers > 1:
            logging.setLogRecordFactory(_with_pid)

    def load_app(self) -> Callable[[], FastAPI]:
        """Give what makes the application, once."""
        # One more series for each series is of no use here.
        prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
        create = super().load_app()

        def make() -> FastAPI:
            made: FastAPI = create(self.settings)
            self.made = made
            return made

        return make


class Server(uvicorn.Server):
    """Serves, says so once, and ends no request that it has received."""

    config: Config
    state: State

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve; one worker of several only once it has settled about its bundle."""
        await self.lifespan.startup()
        if self.lifespan.should_exit:
            sys.exit(STARTUP_FAILURE)
        made = self.config.made
        self.state, self.watchers = made.state.faultcube, made.front.observers
        if self.config.workers > 1:
            await self._settle()
        self.most = _most_connections()
        for bound in sockets or []:
            _give_up_after(bound, self.config.settings.body_seconds)
        self.tls = _tls(self.config.settings)
        loop = asyncio.get_running_loop()
        self.servers = [
            await loop.create_server(
                self._connection, sock=bound, backlog=self.config.backlog, **self.tls
            )
            for bound in sockets or []
        ]
        self._bound = sockets or []
        self._accepting: list[asyncio.Future[object]] = []
        self.port = self._bound[0].getsockname()[1]
        self.started = True

    async def _settle(self) -> None:
        """Leave requests to other workers while there is nothing to answer them with."""
        loop = asyncio.get_running_loop()
        end = loop.time() + _SETTLE_SECONDS
        while not (self.state.settled.is_set() or self.should_exit or loop.time() > end):
            await asyncio.sleep(0.02)

    @property
    def settled(self) -> bool:
        """Whether it serves, and its bundle is loaded or refused."""
        return self.started and self.state.settled.is_set()

    async def on_tick(self, counter: int) -> bool:
        """Look after what nobody else looks after."""
        self._look_at_connections(counter % _TICKS)
        self._accepting = [task for task in self._accepting if not task.done()]
        # While connections that are open have always something to say, uvloop accepts no new ones.
        self._accepting += map(asyncio.ensure_future, self._waiting(self._bound))
        if counter % _TICKS == 0:
            parent = multiprocessing.parent_process()
            if parent is not None and not parent.is_alive():
                self.should_exit = True
        if self.settled and self.config.greetings.acquire(False):
            self._greet()
        return await super().on_tick(counter)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Answer everyone who has connected, then end; after the grace period, at once."""
        loop = asyncio.get_running_loop()
        # Who is not accepted now would be cut off with the listening socket.
        late = asyncio.gather(*self._waiting(sockets or []), return_exceptions=True)
        loop.call_later(self.config.settings.grace_seconds, self._cut_off)
        await super().shutdown(sockets)
        late.cancel()

    def _look_at_connections(self, part: int) -> None:
        """Look at a part of them: a thousand that are refused at once would hold up the others."""
        now = asyncio.get_running_loop().time()
        for connection in list(self.server_state.connections):
            if hash(connection) % _TICKS != part:
                continue
            try:
                connection.look(now)  # type: ignore[union-attr]
            except Exception:
                # One connection must not end them all.
                log.exception("connection dropped")
                connection.transport.abort()

    def _greet(self) -> None:
        sys.stdout.write(greeting(self.config.settings, self.port, self._served()))
        sys.stdout.flush()

    def _served(self) -> Path | None:
        if (model := self.state.loaded) is None:
            return None
        version, bundle = model.manifest.version, self.config.settings.bundle
        with suppress(RepositoryError):
            entries = self.state.repository.entries()
            return next((entry.path for entry in entries if entry.version == version), bundle)
        return bundle

    def _connection(self) -> Connection:
        return Connection(
            self.config,
            self.server_state,
            self.lifespan.state,
            settings=self.config.settings,
            most=self.most,
            refused=self._refused,
            leaving=self.should_exit,
        )

    def _refused(self, scope: Scope, problem: Problem) -> None:
        self.state.metrics.count_rejected(problem)
        for watcher in self.watchers:
            watcher(scope, problem.status, 0.0)

    def _waiting(self, sockets: list[socket.socket]) -> list[Coroutine[Any, Any, object]]:
        """Accept those whom the kernel has let in."""
        loop = asyncio.get_running_loop()
        found: list[Coroutine[Any, Any, object]] = []
        for bound in sockets:
            bound.setblocking(False)
            for _ in range(self.config.backlog):
                try:
                    accepted, _address = bound.accept()
                except OSError:
                    break
                found.append(loop.connect_accepted_socket(self._connection, accepted, **self.tls))
        return found

    def _cut_off(self) -> None:
        left = list(self.server_state.connections)
        if left:
            log.warning("connections cut off", extra={"number": len(left)})
        for connection in left:
            connection.transport.abort()


def listener(host: str, port: int) -> socket.socket:
    """Listen on an address; whoever connects before the service is there waits for it.

    Raises:
        OSError: it is taken, or is none of this machine's.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
        # Two may bind one address, but not listen on it.
        bound.listen(_BACKLOG)
    except BaseException:
        bound.close()
        raise
    return bound


def greeting(settings: Settings, port: int, bundle: Path | None) -> str:
    """Say what is served where, with a request that is ready to be sent.

    Args:
        settings: that are served with.
        port: that is listened on.
        bundle: the folder of what is served, if anything is.
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
    """The path as seen from the current directory when it is inside, absolute otherwise."""
    absolute, here = path.resolve(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute


def _tls(settings: Settings) -> dict[str, Any]:
    """The arguments of an event loop's functions that make connections."""
    if (context := tls.context(settings)) is None:
        return {}
    return {
        "ssl": context,
        "ssl_handshake_timeout": settings.header_seconds,
        "ssl_shutdown_timeout": _TLS_SHUTDOWN_SECONDS,
    }


def _most_connections() -> int:
    """Let the process open as many files as it may, and say how many may be connections."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = _MOST_FILES if hard == resource.RLIM_INFINITY else min(hard, _MOST_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, hard))
    return max(most - _FILES, most // 2)


def _give_up_after(bound: socket.socket, seconds: float) -> None:
    """Let the kernel drop who takes nothing of what it holds for them; where it can do so."""
    if (option := getattr(socket, "TCP_USER_TIMEOUT", None)) is not None:
        bound.setsockopt(socket.IPPROTO_TCP, option, int(1000 * seconds))


def _with_pid(*args: Any, **kwargs: Any) -> logging.LogRecord:
    record = logging.LogRecord(*args, **kwargs)
    record.pid = os.getpid()
    return record
