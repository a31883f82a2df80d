"""The HTTP server, and what it says once it listens."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

import anyio
import prometheus_client
import uvicorn

from service.app import create_app
from service.logs import configure
from service.settings import Settings
from service.state import State

__all__ = ["Server", "greeting", "listener", "run"]

_GRACE_SECONDS = 10


class Server(uvicorn.Server):
    """A server that tells where it listens, the real port included."""

    def __init__(self, config: uvicorn.Config, state: State) -> None:
        super().__init__(config)
        self.state = state

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Start to serve, wait for the bundle, then greet."""
        await super().startup(sockets)
        await anyio.to_thread.run_sync(self.state.settled.wait, abandon_on_cancel=True)
        port = self.servers[0].sockets[0].getsockname()[1]
        ready = self.state.loaded is not None
        sys.stdout.write(greeting(self.state.settings, port, ready=ready))
        sys.stdout.flush()


def run(settings: Settings) -> None:
    """Serve until a signal ends it.

    Raises:
        OSError: the address cannot be listened on.
    """
    configure(settings)
    # One more series for each series is of no use here.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    app = create_app(settings)
    config = uvicorn.Config(
        app,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    # Bound before anything is loaded: a port that is taken ends the process at once.
    with listener(settings.host, settings.port) as bound:
        Server(config, app.state.faultcube).run([bound])


def listener(host: str, port: int) -> socket.socket:
    """Bind an address.

    Raises:
        OSError: it is taken, or is none of this machine's.
    """
    family, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    bound = socket.socket(family)
    try:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(address)
    except BaseException:
        bound.close()
        raise
    return bound


def greeting(settings: Settings, port: int, *, ready: bool) -> str:
    """Say what is served where, with a request that is ready to be sent."""
    host, bundle = settings.host, settings.bundle
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104 - a name to replace
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    if not ready:
        return f"Faultcube listens on {url} (docs: /docs)\nno bundle is served: see {url}/readyz\n"
    examples = shlex.quote(f"@{_nearby(bundle / 'examples.json')}")
    return (
        f"Faultcube serves {_nearby(bundle)} on {url} (docs: /docs)\n"
        f"curl -s {url}/classify -H 'Content-Type: application/json' --data {examples}\n"
    )


def _nearby(path: Path) -> Path:
    """The path as seen from the current directory when it is inside, absolute otherwise."""
    absolute, here = path.resolve(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
