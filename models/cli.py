"""The `faultcube` command, whose subcommands come from the packages that are installed.

A package registers them under the entry-point group `faultcube.commands`. The libraries of a
subcommand are loaded only when it is called.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points, version
from pathlib import Path
from typing import Annotated

import typer

__all__ = ["log_model", "main"]

_ANY_ARGUMENTS = {"ignore_unknown_options": True, "allow_extra_args": True}


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"faultcube {version('faultcube')}")
        raise typer.Exit


def main() -> None:
    """Run the command line; name the extra that a missing library belongs to."""
    app = typer.Typer(
        help="Faultcube: network-fault detection by distance in a small cube.",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    commands = {entry.name: entry for entry in entry_points(group="faultcube.commands")}
    for name, entry in sorted(commands.items()):
        _add(app, name, entry)
    try:
        app(prog_name="faultcube")
    except ModuleNotFoundError as error:
        # A package has the name of the extra that it needs.
        extra = commands[sys.argv[1]].value.split(".")[0]
        sys.exit(
            f"faultcube: {error.name} is not installed: pip install -c constraints.txt '.[{extra}]'"
        )


def _options(
    _: Annotated[
        bool,
        typer.Option(
            "--version", help="Print the version.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    """What may stand before a subcommand."""


def _add(app: typer.Typer, name: str, entry: EntryPoint) -> None:
    """Add a command or, if its libraries are not installed, one that raises that error."""
    try:
        app.command(name)(entry.load())
    except ModuleNotFoundError as error:
        reason = error

        @app.command(name, context_settings=_ANY_ARGUMENTS)
        def missing() -> None:
            """Not installed."""
            raise reason


def log_model(
    bundle: Annotated[Path, typer.Argument(help="Folder of the bundle.")],
    out: Annotated[Path, typer.Option(help="Folder to write; it must not exist yet.")],
) -> None:
    """Write a bundle as an MLflow model, for `mlflow.pyfunc.load_model` and MLflow's registry."""
    from models.bundle import BundleError
    from models.pyfunc import save

    try:
        save(bundle, out)
    except ModuleNotFoundError as error:
        library = (error.name or "").partition(".")[0]
        why = f"{library} is not installed: pip install -c constraints.txt '.[mlflow]'"
        raise _refusal(why) from error
    except BundleError as error:
        raise _refusal(str(error)) from error
    except OSError as error:
        raise _refusal(f"{out} cannot be written: {error.strerror}") from error
    typer.echo(f"{out}: mlflow.pyfunc.load_model reads it; predict() takes a table of records")


def _refusal(message: str) -> typer.Exit:
    typer.echo(f"faultcube: {message}", err=True)
    return typer.Exit(2)
