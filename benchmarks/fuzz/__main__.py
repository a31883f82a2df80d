"""A million damaged requests, and what the application makes of them.

`python -m benchmarks.fuzz`, from the root of the repository. An input is made of its number and the
seed alone; what fails is kept in a folder, and `--replay FILE` asks it again.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.fuzz.crew import Crew
from benchmarks.fuzz.request import Request
from benchmarks.fuzz.subject import Subject
from benchmarks.fuzz.verdict import judge, judge_twins
from benchmarks.serving.environments import ROOT
from benchmarks.serving.rounds import say

_SHIPPED = ROOT / "models" / "iosxr"
_MEMORY_MIB = 100
"""By how much a worker may grow after its first tenth."""
_SAY_SECONDS = 10.0


def main(
    inputs: Annotated[int, typer.Option(min=1, help="How many to ask.")] = 1_000_000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Other seeds, other inputs.")] = 0,
    findings: Annotated[Path, typer.Option(help="Folder for what fails.")] = ROOT / "build/fuzz",
    replay: Annotated[Path | None, typer.Option(help="Ask one input that was kept.")] = None,
) -> None:
    """Ask, and print what was found."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as folder:
        bundles = _SHIPPED, _toy(Path(folder))
        if replay is not None:
            _replay(bundles, replay)
            return
        findings.mkdir(parents=True, exist_ok=True)
        begin = time.monotonic()
        crew = Crew(seed, inputs, jobs, bundles, findings, Path(folder))
        crew.run(_Progress(crew, inputs))
        sys.stdout.write(_report(crew, time.monotonic() - begin))
    if crew.kinds:
        raise typer.Exit(1)


def _toy(folder: Path) -> Path:
    """The bundle of the tests, which has every kind of field."""
    from tests.service.conftest import DOWN, FIELDS, GOOD, OVERLOAD, _make  # noqa: PLC0415

    _make(FIELDS, [GOOD, DOWN, OVERLOAD]).write(folder / "toy")
    return folder / "toy"


class _Progress:
    """Says how far it is, not too often."""

    def __init__(self, crew: Crew, inputs: int) -> None:
        self.crew, self.inputs, self.said = crew, inputs, 0.0

    def __call__(self) -> None:
        if time.monotonic() - self.said >= _SAY_SECONDS:
            self.said = time.monotonic()
            found = _counted(self.crew.kinds) or "no findings"
            say(f"fuzz: {self.crew.asked:,} of {self.inputs:,}, {found}")


def _report(crew: Crew, seconds: float) -> str:
    statuses = ", ".join(f"{number:,} x {status}" for status, number in crew.statuses.most_common())
    first, last, peak = (size / 2**20 for size in crew.memory)
    bounded = "bounded" if last - first < _MEMORY_MIB else "**it grows**"
    memory = f"{first:.0f} MiB after a tenth, {last:.0f} MiB at the end, {peak:.0f} MiB at most"
    slowest = max(report.slowest for report in crew.reports)
    lines = [
        f"{crew.asked:,} inputs in {seconds:,.0f} s: {crew.asked / seconds:,.0f} a second",
        f"answers: {statuses}",
        f"slowest: {slowest:.2f} s of CPU",
        f"memory of the largest process: {memory}: {bounded}",
        f"findings: {_counted(crew.kinds) or 'none'}",
    ]
    return "\n".join(lines) + "\n"


def _counted(kinds: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


def _replay(bundles: tuple[Path, ...], file: Path) -> None:
    request = Request.read(file.read_bytes())

    async def ask() -> None:
        for bundle in bundles:
            subject = Subject(bundle)
            reply, fault = await judge(subject, request)
            fault = fault or await judge_twins(subject, request, reply)
            sys.stdout.write(f"{bundle.name}: {reply.status}, {fault or 'nothing is wrong'}\n")
            sys.stdout.write(f"{reply.body[:300]!r}\n")

    asyncio.run(ask())


if __name__ == "__main__":
    typer.run(main)
