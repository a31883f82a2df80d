"""What the service withstands, as a Markdown report.

`python -m benchmarks.resilience`, from the root of the repository, on Linux with two cores.
"""

from __future__ import annotations

import os
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.report import Section, page
from benchmarks.harness.server import SERVER_CORE, ServerError
from benchmarks.harness.wrk import LOAD_CORE
from benchmarks.resilience import (
    amplification,
    cost,
    crowd,
    neighbours,
    overload,
    restart,
    swaps,
)
from benchmarks.resilience.stage import Stage
from benchmarks.serving.rounds import say

SCENARIOS: Mapping[str, Callable[[Stage], Section]] = {
    "overload": overload.measure,
    "swaps": swaps.measure,
    "restart": restart.measure,
    "amplification": amplification.measure,
    "neighbours": neighbours.measure,
    "crowd": crowd.measure,
    "report": cost.measure,
}
_PACKAGES = ("onnxruntime", "numpy", "msgspec", "pydantic-core", "uvicorn", "uvloop", "pyarrow")


def main(
    only: Annotated[str, typer.Option(help="Scenarios, by commas; all if empty.")] = "",
    seconds: Annotated[
        float, typer.Option(min=3, help="Of an overload; others take a third or so.")
    ] = 60.0,
    out: Annotated[Path | None, typer.Option(help="File to write, anew as it goes on.")] = None,
) -> None:
    """Measure, and print the report."""
    names = _names(only)
    # SIGTERM ends this as Ctrl-C does: the services that it started are ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    _pin()
    heading, sections, notes = _heading(), list[Section](), list[str]()
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
            try:
                sections.append(SCENARIOS[name](Stage(Path(folder), seconds)))
            except (ServerError, OSError) as error:
                notes.append(f"{name}: {error}")
                say(notes[-1])
        if out is not None:
            out.write_text(page(heading, sections, notes), encoding="utf-8")
    sys.stdout.write(page(heading, sections, notes))


def _names(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(SCENARIOS)
    if unknown := set(names) - set(SCENARIOS):
        known = ", ".join(SCENARIOS)
        raise typer.BadParameter(f"no scenario is called {min(unknown)!r}; {known}")
    return names


def _pin() -> None:
    """Keep to the load's core: the other one is the service's."""
    if not {SERVER_CORE, LOAD_CORE} <= os.sched_getaffinity(0):
        raise typer.BadParameter(f"this needs cores {SERVER_CORE} and {LOAD_CORE}")
    os.sched_setaffinity(0, {LOAD_CORE})


def _heading() -> list[str]:
    # It knows training's libraries, which are slow to load.
    from benchmarks.detection.report import asked, machine, versions  # noqa: PLC0415

    busy = f"{os.getloadavg()[0]:.1f} processes were waiting for them before it began"
    return [
        *asked("benchmarks.resilience"),
        f"- {machine()}; service on core {SERVER_CORE}, load on core {LOAD_CORE}; {busy}",
        f"- {versions(*_PACKAGES)}",
    ]


if __name__ == "__main__":
    typer.run(main)
