"""Throughput of this checkout as a ratio to an earlier commit's, as a Markdown table.

`python -m benchmarks.regression COMMIT`, from the root of the repository, with two idle cores, git
and wrk. Both commits run in this environment, each from its own files, and take turns: machines
are noisy, so only the ratios of neighbouring measurements say something.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness import wrk
from benchmarks.harness.command_line import end_on_sigterm, pin_to_load_core
from benchmarks.harness.records import ROOT, real_records
from benchmarks.harness.report import RUNTIME, heading, machine, progress, table, versions
from benchmarks.harness.server import running_program
from benchmarks.harness.wires import ROWS

_LOADS = ((1, 8), (1000, 2))
"""Records a request, and connections."""
_PROGRAM = "from models.cli import main; main()"
_WARM_UP = 1.0


def main(
    commit: Annotated[str, typer.Argument(help="To compare with.")],
    rounds: Annotated[int, typer.Option(min=1, help="In which the two take turns.")] = 8,
    seconds: Annotated[float, typer.Option(min=1, help="Of each measurement.")] = 4.0,
) -> None:
    """Measure, and print the table."""
    end_on_sigterm()
    pin_to_load_core()
    rows = []
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="regression-")))
        earlier = stack.enter_context(_checkout(commit, folder / "earlier"))
        servers = [
            stack.enter_context(
                running_program(_PROGRAM, folder / name, {"PYTHONPATH": str(checkout)})
            )
            for name, checkout in (("before", earlier), ("after", ROOT))
        ]
        for records, connections in _LOADS:
            body, headers = ROWS.encode(real_records(records))
            file = folder / f"{records}.json"
            file.write_bytes(body)
            rates, costs = [], []
            for number in range(rounds):
                progress(f"{records} records x {connections}: round {number + 1} of {rounds}")
                # The second of a pair is first in the next one.
                order = servers if number % 2 else servers[::-1]
                measured = {
                    server.port: wrk.measure(
                        server,
                        "/classify",
                        file,
                        {**ROWS.headers, **headers},
                        connections=connections,
                        warm_up=_WARM_UP,
                        seconds=lambda _: seconds,
                    )
                    for server in order
                }
                (old, old_cpu, _), (new, new_cpu, _) = (measured[s.port] for s in servers)
                rates.append(new.answered().rate / old.answered().rate)
                costs.append((old_cpu / old.requests) / (new_cpu / new.requests))
            rows.append([f"{records} x {connections}", _ratio(rates), _ratio(costs)])
    head = ["records x connections", "requests a second", "requests a second of CPU"]
    lines = [
        "# Throughput against an earlier commit",
        "",
        *heading("benchmarks.regression"),
        f"- {machine()}; {versions(*RUNTIME)}",
        f"- ratios to {commit}, more is better: median (smallest to largest of {rounds} pairs)",
        "",
        *table(head, rows),
    ]
    sys.stdout.write("\n".join(lines) + "\n")


def _ratio(ratios: list[float]) -> str:
    return f"{statistics.median(ratios):.3f} ({min(ratios):.3f} to {max(ratios):.3f})"


@contextmanager
def _checkout(commit: str, folder: Path) -> Iterator[Path]:
    """Check a commit out beside this checkout, until the context ends."""
    _git("worktree", "add", "--detach", str(folder), commit)
    try:
        yield folder
    finally:
        _git("worktree", "remove", "--force", str(folder))


def _git(*words: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *words], check=True, capture_output=True)  # noqa: S603, S607


if __name__ == "__main__":
    typer.run(main)
