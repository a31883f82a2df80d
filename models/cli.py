"""The `faultcube` command: one door to every floor.

A floor announces its commands under the entry-point group `faultcube.commands`; this module knows
none of them, and a command's libraries are loaded only when it is called.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points

import typer

__all__ = ["main"]

_TAKES_ANYTHING = {"ignore_unknown_options": True, "allow_extra_args": True}


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
        _add(app, name, entry)
    try:
        app(prog_name="faultcube")
    except ModuleNotFoundError as error:
        # A floor has the name of the extra that it needs.
        floor = commands[sys.argv[1]].value.split(".")[0]
        sys.exit(
            f"faultcube: {error.name} is not installed: pip install -c constraints.txt '.[{floor}]'"
        )


def _add(app: typer.Typer, name: str, entry: EntryPoint) -> None:
    """Add the command, or, where its floor is not there, one that takes anything and says so."""
    try:
        app.command(name)(entry.load())
    except ModuleNotFoundError as error:
        why = error

        @app.command(name, context_settings=_TAKES_ANYTHING)
        def missing() -> None:
            """Not installed."""
            raise why
