"""What ingest, incidents and the live page cost `/classify`, as a Markdown table.

    python -m benchmarks.live

from the root of the repository. Services without the page and a database, with all of it, and with
viewers take turns;
what counts is the CPU time of a request, which says more than seconds where other programs run too.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.command_line import end_on_sigterm, pin_to_load_core
from benchmarks.harness.report import (
    RUNTIME,
    busy,
    heading,
    machine,
    progress,
    table,
    versions,
)
from benchmarks.harness.server import running_service
from benchmarks.live.measure import LOADS, VARIANTS, Costs, measure

_LEAST = 0.97
"""Of the throughput without all that."""


def main(
    viewers: Annotated[int, typer.Option(min=1, help="Live pages that are open.")] = 20,
    rounds: Annotated[int, typer.Option(min=1, help="In which all take turns.")] = 8,
    seconds: Annotated[float, typer.Option(min=0.1, help="Of each measurement.")] = 6.0,
) -> None:
    """Measure, and print the table; exit with 1 if something costs more than it may."""
    end_on_sigterm()
    pin_to_load_core()
    was_busy = busy()
    with ExitStack() as stack:
        servers = {}
        for name, settings in VARIANTS.items():
            folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="live-"))
            chosen = {key: value.format(folder=folder) for key, value in settings.items()}
            context = running_service(Path(folder), chosen)
            servers[name] = stack.enter_context(context)
        costs: dict[str, Costs] = {}
        for load in LOADS:
            progress(load)
            costs[load] = measure(servers, load, viewers=viewers, rounds=rounds, seconds=seconds)
    rows = [
        [load, *(_shown(cost, name) for name in [*VARIANTS][1:]), f"{cost.told / 1000:,.0f} kB/s"]
        for load, cost in costs.items()
    ]
    what = (
        "requests in a second of CPU, as a ratio to a service without the page and a database: "
        f"median (smallest to largest of {rounds} rounds); it must be {_LEAST} or more, also with "
        f"{viewers} viewers"
    )
    lines = [
        "# Cost of ingest, incidents and the live page",
        "",
        *heading("benchmarks.live"),
        f"- {machine()}; {versions(*RUNTIME)}",
        f"- {was_busy}",
        f"- {what}",
        "",
        *table(["records x connections", *[*VARIANTS][1:], "a viewer is told"], rows),
    ]
    sys.stdout.write("\n".join(lines))
    if min(cost.ratio(name) for cost in costs.values() for name in [*VARIANTS][1:]) < _LEAST:
        raise typer.Exit(1)


def _shown(costs: Costs, variant: str) -> str:
    ratios = costs.ratios(variant)
    return f"{costs.ratio(variant):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


if __name__ == "__main__":
    typer.run(main)
