"""The HTTP server, and what it says once it listens."""

from __future__ import annotations

import shlex
import socket
import sys
from pathlib import Path

import prometheus_client
import uvicorn

from service.app import create_app
from service.logs import configure
from service.settings import Settings

__all__ = ["Server", "greeting", "run"]

_GRACE_SECONDS = 10


class Server(uvicorn.Server):
    """A server that tells where it listens, the real port included."""

    def __init__(self, config: uvicorn.Config, settings: Settings) -> None:
        super().__init__(config)
        self.settings = settings

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Bind, then greet."""
        await super().startup(sockets)
        port = self.servers[0].sockets[0].getsockname()[1]
        sys.stdout.write(greeting(self.settings, port))
        sys.stdout.flush()


def run(settings: Settings) -> None:
    """Serve until a signal ends it."""
    configure(settings)
    # One more series for each series is of no use here.
    prometheus_client.disable_created_metrics()  # type: ignore[no-untyped-call]
    config = uvicorn.Config(
        create_app(settings),
        host=settings.host,
        port=settings.port,
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    Server(config, settings).run()


def greeting(settings: Settings, port: int) -> str:
    """Say what is served where, with a request that is ready to be sent."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(settings.host, settings.host)  # noqa: S104 - a name to replace
    url = f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
    examples = shlex.quote(f"@{_nearby(settings.bundle / 'examples.json')}")
    return (
        f"Faultcube serves {_nearby(settings.bundle)} on {url} (docs: /docs)\n"
        f"curl -s {url}/classify -H 'Content-Type: application/json' --data {examples}\n"
    )


def _nearby(path: Path) -> Path:
    """The path as seen from the current directory when it is inside, absolute otherwise."""
    absolute, here = path.resolve(), Path.cwd()
    return absolute.relative_to(here) if absolute.is_relative_to(here) else absolute
