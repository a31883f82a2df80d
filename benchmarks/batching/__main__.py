"""Requests a second and their times, by how small requests are put together, as a Markdown table.

`python -m benchmarks.batching`, from the root of the repository, with two idle cores and wrk.
Services whose schedulers differ take turns.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated, Final

import typer

from benchmarks.batching.variants import VARIANTS
from benchmarks.harness import wrk
from benchmarks.harness.command_line import end_on_sigterm, pin_to_load_core
from benchmarks.harness.report import RUNTIME, busy, heading, machine, progress, table, versions
from benchmarks.harness.requests import real_body
from benchmarks.harness.server import running_program
from benchmarks.harness.wires import ROWS

CONNECTIONS: Final = (1, 8, 64)
_PROGRAM: Final = "from benchmarks.batching.variants import use; use({!r}); "
_MAIN: Final = "from models.cli import main; main()"
_WARM_UP: Final = 1.0


def main(
    rounds: Annotated[int, typer.Option(min=1, help="In which all take turns.")] = 5,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 3.0,
) -> None:
    """Measure, and print the table."""
    end_on_sigterm()
    pin_to_load_core()
    was_busy = busy()
    loads: dict[tuple[int, str], list[wrk.Load]] = {}
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="batching-")))
        servers = {
            name: stack.enter_context(
                running_program(_PROGRAM.format(name) + _MAIN, folder / name.replace(" ", "-"))
            )
            for name in VARIANTS
        }
        body = folder / "body.json"
        body.write_bytes(real_body(1))
        for connections in CONNECTIONS:
            for number in range(rounds):
                progress(f"{connections} connections: round {number + 1} of {rounds}")
                for name in [*VARIANTS][:: 1 if number % 2 else -1]:
                    load, _, _ = wrk.measure(
                        servers[name],
                        "/classify",
                        body,
                        ROWS.headers,
                        connections=connections,
                        warm_up=_WARM_UP,
                        seconds=lambda _: seconds,
                    )
                    loads.setdefault((connections, name), []).append(load.answered())
    rows = [
        [
            f"{connections}",
            name,
            *_shown(loads[connections, name], loads[connections, "each alone"]),
        ]
        for connections in CONNECTIONS
        for name in VARIANTS
    ]
    head = ["connections", "requests of one record", "requests/s", "times alone", "p50, ms"]
    lines = [
        "# Small requests put together",
        "",
        *heading("benchmarks.batching"),
        f"- {machine()}; {versions(*RUNTIME)}",
        f"- {was_busy}",
        f"- medians of {rounds} rounds of {seconds:g} s each; *times alone* of ratios in one round",
        "",
        *table([*head, "p99, ms"], rows),
    ]
    sys.stdout.write("\n".join(lines))


def _shown(loads: list[wrk.Load], alone: list[wrk.Load]) -> list[str]:
    ratio = statistics.median(
        one.rate / other.rate for one, other in zip(loads, alone, strict=True)
    )
    rate, p50, p99 = (
        statistics.median(getattr(load, what) for load in loads) for what in ("rate", "p50", "p99")
    )
    return [f"{rate:,.0f}", f"{ratio:.2f}", f"{p50:.2f}", f"{p99:.2f}"]


if __name__ == "__main__":
    typer.run(main)
