"""The `faultcube` command: one door to every floor.

A floor announces its commands under the entry-point group `faultcube.commands`; this module knows
none of them, and a command's libraries are loaded only when it is called.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import typer

__all__ = ["main"]


def main() -> None:
    """Run the command line; what an extra provides and is not installed is named."""
    app = typer.Typer(
        help="Faultcube: network-fault detection by distance in a small cube.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    commands = {entry.name: entry for entry in entry_points(group="faultcube.commands")}
    for name, entry in sorted(commands.items()):
        app.command(name)(_load(entry))
    try:
        app(prog_name="faultcube")
    except ModuleNotFoundError as error:
        # A floor has the name of the extra that it needs.
        floor = commands[sys.argv[1]].value.split(".")[0]
        sys.exit(f"faultcube: {error.name} is not installed: pip install 'faultcube[{floor}]'")


def _load(entry: EntryPoint) -> Callable[..., Any]:
    """The command, or one that says why it cannot be loaded."""
    try:
        command: Callable[..., Any] = entry.load()
    except ModuleNotFoundError as error:
        why = error

        def command() -> None:
            raise why

    return command
