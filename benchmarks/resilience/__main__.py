"""What the service withstands, as a Markdown report.

`python -m benchmarks.resilience`, from the root of the repository, on Linux with two cores.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.client import ServerError
from benchmarks.harness.command_line import choose, end_on_sigterm, pin_to_load_core
from benchmarks.harness.process import LOAD_CORE, SERVER_CORE
from benchmarks.harness.report import RUNTIME, Section, busy, heading, machine, progress, versions
from benchmarks.resilience import amplification, cost, crowd, neighbours, overload, restart, swaps
from benchmarks.resilience.run import Run

SCENARIOS: Mapping[str, Callable[[Run], Section]] = {
    "overload": overload.measure,
    "swaps": swaps.measure,
    "restart": restart.measure,
    "amplification": amplification.measure,
    "neighbours": neighbours.measure,
    "crowd": crowd.measure,
    "report": cost.measure,
}


def main(
    only: Annotated[str, typer.Option(help="Scenarios, by commas; all if empty.")] = "",
    seconds: Annotated[
        float, typer.Option(min=3, help="Of an overload; others take a third or so.")
    ] = 60.0,
    out: Annotated[Path | None, typer.Option(help="File to write, anew as it goes on.")] = None,
) -> None:
    """Measure, and print the report."""
    names = choose(only, SCENARIOS, "scenario")
    end_on_sigterm()
    pin_to_load_core()
    cores = f"service on core {SERVER_CORE}, load on core {LOAD_CORE}"
    lines = [*heading("benchmarks.resilience"), f"- {machine()}; {cores}; {busy()}"]
    lines.append(f"- {versions(*RUNTIME)}")
    sections, notes = list[Section](), list[str]()
    for name in names:
        with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
            try:
                sections.append(SCENARIOS[name](Run(Path(folder), seconds)))
            except (ServerError, OSError) as error:
                notes.append(f"{name}: {error}")
                progress(notes[-1])
        if out is not None:
            out.write_text(page(lines, sections, notes), encoding="utf-8")
    sys.stdout.write(page(lines, sections, notes))


def page(heading: Sequence[str], sections: Sequence[Section], notes: Sequence[str] = ()) -> str:
    """Return the whole file: how it was measured, what is missing and why, the sections."""
    judged = [f for section in sections for f in section.figures if f.reached is not None]
    missed = sum(not figure.reached for figure in judged)
    lines = ["# Resilience", "", *heading, *(f"- **missing**: {note}" for note in notes)]
    lines += [f"- {len(judged)} figures have something to reach; {missed} of them do not", ""]
    return "\n".join([*lines, *(line for section in sections for line in section.lines())])


if __name__ == "__main__":
    typer.run(main)
