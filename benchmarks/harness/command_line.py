"""What the benchmarks' command lines have in common."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable

import typer

from benchmarks.harness.process import LOAD_CORE, SERVER_CORE


def names_in(text: str) -> list[str]:
    """Return the names in a list by commas."""
    return [name.strip() for name in text.split(",") if name.strip()]


def choose(text: str, known: Iterable[str], kind: str) -> list[str]:
    """Return the names in a list by commas; all known ones if it is empty."""
    known = list(known)
    names = list(dict.fromkeys(names_in(text))) or known
    if unknown := set(names) - set(known):
        raise typer.BadParameter(
            f"no {kind} is called {min(unknown)!r}; there are {', '.join(known)}"
        )
    return names


def end_on_sigterm() -> None:
    """Let SIGTERM end the program as Ctrl-C does, so that it ends its servers too."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


def pin_to_load_core() -> None:
    """Keep this process off the servers' core."""
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise typer.BadParameter(f"this needs cores {SERVER_CORE} and {LOAD_CORE}")
    os.sched_setaffinity(0, {LOAD_CORE})
