"""What enrolment over HTTP does, costs and keeps, as a Markdown report.

`python -m benchmarks.enrolment`, from the root of the repository, on Linux with two cores.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.detection.report import asked, machine, versions
from benchmarks.enrolment import acceptance, kills, one_shot, replicas, throughput
from benchmarks.enrolment.report import merged, section
from benchmarks.enrolment.stage import Plan
from benchmarks.harness.report import Section
from benchmarks.harness.server import ServerError
from benchmarks.serving.environments import ROOT
from benchmarks.serving.rounds import say


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark, and the title of its section."""

    title: str
    measure: Callable[[Plan], Section]


PARTS: Mapping[str, Part] = {
    "one-shot": Part(one_shot.TITLE, one_shot.measure),
    "acceptance": Part(acceptance.TITLE, acceptance.measure),
    "throughput": Part(throughput.TITLE, throughput.measure),
    "replicas": Part(replicas.TITLE, replicas.measure),
    "kills": Part(kills.TITLE, kills.measure),
}
_PACKAGES = ("torch", "onnxruntime", "numpy", "SQLAlchemy", "psycopg", "uvicorn")


def main(
    only: Annotated[str, typer.Option(help="Parts, by commas; all if empty.")] = "",
    data: Annotated[Path, typer.Option(help="Folder of the data sets.")] = Path("../shared/data"),
    draws: Annotated[int, typer.Option(min=1, help="Of support records.")] = 30,
    times: Annotated[int, typer.Option(min=1, help="Enrolments between replicas.")] = 50,
    kill: Annotated[
        int, typer.Option("--kills", min=1, help="Of the service, for each database.")
    ] = 100,
    rounds: Annotated[int, typer.Option(min=1, help="Of the throughput.")] = 7,
    seconds: Annotated[float, typer.Option(min=1, help="Of one measurement of it.")] = 3.0,
    out: Annotated[
        Path, typer.Option(help="File to write; sections not measured now stay as they are.")
    ] = ROOT / "benchmarks" / "results" / "enrolment.md",
) -> None:
    """Measure, and write each section as it is done."""
    failed = False
    names = _names(only)
    # SIGTERM ends this as Ctrl-C does: what it started is ended too.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for name in names:
        part, how = PARTS[name], _how()
        with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
            plan = Plan(Path(folder), data.absolute(), draws, times, kill, rounds, seconds)
            try:
                found = part.measure(plan)
            except (ServerError, OSError) as error:
                kept = ROOT / "build" / "enrolment" / f"failed-{name}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(folder, kept)
                say(f"{name}: {error}; its databases and logs are in {kept}")
                failed = True
                continue
        before = out.read_text(encoding="utf-8") if out.exists() else ""
        titles = [each.title for each in PARTS.values()]
        out.write_text(merged(before, {part.title: section(found, how)}, titles), encoding="utf-8")
        sys.stdout.write(section(found, how) + "\n\n")
    if failed:
        raise typer.Exit(1)


def _names(only: str) -> list[str]:
    names = [name.strip() for name in only.split(",") if name.strip()] or list(PARTS)
    if unknown := set(names) - set(PARTS):
        known = ", ".join(PARTS)
        raise typer.BadParameter(f"no part is called {min(unknown)!r}; {known}")
    return names


def _how() -> list[str]:
    """How a section was measured."""
    busy = f"{os.getloadavg()[0]:.1f} processes were waiting for the cores before it began"
    return [
        *asked("benchmarks.enrolment"),
        f"- {machine()}; {busy}",
        f"- {versions(*_PACKAGES)}",
    ]


if __name__ == "__main__":
    typer.run(main)
