"""The commands `faultcube serve`, `faultcube settings` and `faultcube key`.

What they stand on is imported when they are called: the command line stays quick, and works
without the service's libraries.
"""

from __future__ import annotations

import shlex
import signal
import socket
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from service.settings import Settings

__all__ = ["key", "serve", "settings"]


def serve(
    bundle: Annotated[
        Path | None, typer.Argument(help="Folder of the bundle.", show_default="the one that ships")
    ] = None,
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[
        int | None, typer.Option(min=0, max=65535, help="Port to listen on; 0 takes a free one.")
    ] = None,
) -> None:
    """Serve a bundle over HTTP; options override the environment (see `faultcube settings`)."""
    # SIGTERM ends the process as Ctrl-C does: what is under way is finished, and the exit is 0.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        chosen = _settings(bundle=bundle, host=host, port=port)
        from service.workers import run

        # Listened on before anything is loaded: a port that is taken ends the process at once.
        with _listener(chosen) as bound:
            run(chosen, bound)
    except KeyboardInterrupt:
        return


def settings() -> None:
    """Print what can be set by environment variables, as a Markdown table."""
    from service.settings import as_markdown

    typer.echo(as_markdown())


def key() -> None:
    """Make an API key: give it to a client, and its SHA-256 to the service."""
    from service.security import new_key

    made, digest = new_key()
    typer.echo(f"key      {made}\nsha256   {digest}")


def _settings(**options: object) -> Settings:
    from service import tls
    from service.settings import Settings, SettingsError

    try:
        chosen = Settings.read(**options)
        tls.context(chosen)
    except SettingsError as error:
        raise _refusal(str(error)) from error
    try:
        is_folder = chosen.bundle.is_dir()
    except OSError:  # a folder on the way to it cannot be entered
        is_folder = False
    if not is_folder:
        raise _refusal(f"no folder {shlex.quote(str(chosen.bundle))} can be read: nothing to serve")
    return chosen


def _listener(chosen: Settings) -> socket.socket:
    from service.server import listener

    try:
        return listener(chosen.host, chosen.port)
    except OSError as error:
        where = f"{chosen.host} port {chosen.port}"
        raise _refusal(f"cannot listen on {where}: {error.strerror or error}") from error


def _refusal(message: str) -> typer.Exit:
    typer.echo(f"faultcube: {message}", err=True)
    return typer.Exit(2)
