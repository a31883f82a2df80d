"""The `faultcube` command: one door to every floor.

A floor announces its commands under the entry-point group `faultcube.commands`; this module knows
none of them, and a command's libraries are loaded only when it is called.
"""

from __future__ import annotations

import sys
from importlib.metadata import entry_points

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
    for entry in sorted(entry_points(group="faultcube.commands")):
        app.command(entry.name)(entry.load())
    try:
        app(prog_name="faultcube")
    except ModuleNotFoundError as error:
        floor = "service" if {"serve", "settings"} & set(sys.argv[1:2]) else "training"
        sys.exit(f"faultcube: {error.name} is not installed: pip install 'faultcube[{floor}]'")
