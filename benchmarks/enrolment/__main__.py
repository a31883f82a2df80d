"""What enrolment over HTTP does, costs and keeps, as a Markdown report.

`python -m benchmarks.enrolment`, from the root of the repository, on Linux with two cores.
"""

from __future__ import annotations

import shutil
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.enrolment import acceptance, kills, one_shot, replicas, throughput
from benchmarks.enrolment.options import Options
from benchmarks.harness.client import ServerError
from benchmarks.harness.command_line import choose, end_on_sigterm
from benchmarks.harness.records import ROOT
from benchmarks.harness.report import Section, busy, heading, machine, progress, versions


@dataclass(frozen=True, slots=True)
class Part:
    """A part of the benchmark, and the title of its section."""

    title: str
    measure: Callable[[Options], Section]


PARTS: Mapping[str, Part] = {
    "one-shot": Part(one_shot.TITLE, one_shot.measure),
    "acceptance": Part(acceptance.TITLE, acceptance.measure),
    "throughput": Part(throughput.TITLE, throughput.measure),
    "replicas": Part(replicas.TITLE, replicas.measure),
    "kills": Part(kills.TITLE, kills.measure),
}
_PACKAGES = ("torch", "onnxruntime", "numpy", "SQLAlchemy", "psycopg", "uvicorn")
_HEAD = """\
# Enrolment

Classes that a running service learns over HTTP. `python -m benchmarks.enrolment` wrote this; each
section says when and how it was measured, for each can be measured by itself (`--only`)."""


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
    names = choose(only, PARTS, "part")
    end_on_sigterm()
    for name in names:
        part = PARTS[name]
        lines = [*heading("benchmarks.enrolment"), f"- {machine()}; {busy()}"]
        lines.append(f"- {versions(*_PACKAGES)}")
        with tempfile.TemporaryDirectory(prefix=f"{name}-", ignore_cleanup_errors=True) as folder:
            options = Options(Path(folder), data.absolute(), draws, times, kill, rounds, seconds)
            try:
                text = "\n".join(part.measure(options).lines(lines)[:-1])
            except (ServerError, OSError) as error:
                kept = ROOT / "build" / "enrolment" / f"failed-{name}"
                shutil.rmtree(kept, ignore_errors=True)
                shutil.copytree(folder, kept)
                progress(f"{name}: {error}; its databases and logs are in {kept}")
                failed = True
                continue
        before = out.read_text(encoding="utf-8") if out.exists() else ""
        titles = [part.title for part in PARTS.values()]
        out.write_text(merged(before, {part.title: text}, titles), encoding="utf-8")
        sys.stdout.write(text + "\n\n")
    if failed:
        raise typer.Exit(1)


def merged(before: str, sections: Mapping[str, str], order: Sequence[str]) -> str:
    """Return a file with sections, by title, in place of those that it had before."""
    parts = [part.strip() for part in f"\n{before}".split("\n## ")[1:]]
    kept = {part.partition("\n")[0]: f"## {part}" for part in parts}
    after = kept | dict(sections)
    return "\n\n".join([_HEAD, *(after[title] for title in order if title in after)]) + "\n"


if __name__ == "__main__":
    typer.run(main)
