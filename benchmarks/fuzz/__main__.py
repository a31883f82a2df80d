"""A million damaged requests, and what the application makes of them.

`python -m benchmarks.fuzz`, from the root of the repository. An input is made of its number and the
seed alone; inputs that fail are kept in a folder, and `--replay FILE` sends one again.
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

from benchmarks.fuzz.application import Application
from benchmarks.fuzz.check import ask_and_check, check_variants
from benchmarks.fuzz.request import Request
from benchmarks.fuzz.toy import toy_bundle
from benchmarks.fuzz.workers import Workers
from benchmarks.harness.records import BUNDLE, ROOT
from benchmarks.harness.report import progress

_MEMORY_MIB = 100
"""By how much a worker may grow after its first tenth."""
_PROGRESS_SECONDS = 10.0


def main(
    inputs: Annotated[int, typer.Option(min=1, help="How many to ask.")] = 1_000_000,
    jobs: Annotated[int, typer.Option(min=1, help="Processes.")] = 2,
    seed: Annotated[int, typer.Option(help="Other seeds, other inputs.")] = 0,
    findings: Annotated[Path, typer.Option(help="Folder for what fails.")] = ROOT / "build/fuzz",
    replay: Annotated[Path | None, typer.Option(help="Ask one input that was kept.")] = None,
) -> None:
    """Ask, and print what was found."""
    with tempfile.TemporaryDirectory(prefix="fuzz-") as name:
        folder = Path(name)
        bundles = BUNDLE, folder / "toy"
        toy_bundle().write(folder / "toy")
        if replay is not None:
            asyncio.run(_replay(bundles, replay))
            return
        findings.mkdir(parents=True, exist_ok=True)
        begin = shown = time.monotonic()
        workers = Workers(seed, inputs, jobs, bundles, findings, folder)

        def show() -> None:
            nonlocal shown
            if time.monotonic() - shown >= _PROGRESS_SECONDS:
                shown = time.monotonic()
                kinds = _counts(workers.kinds) or "no findings"
                progress(f"fuzz: {workers.sent:,} of {inputs:,}, {kinds}")

        workers.run(show)
        sys.stdout.write(_report(workers, time.monotonic() - begin))
    if workers.kinds:
        raise typer.Exit(1)


def _report(workers: Workers, seconds: float) -> str:
    statuses = ", ".join(f"{n:,} x {status}" for status, n in workers.statuses.most_common())
    first, last, peak = (size / 2**20 for size in workers.memory)
    bounded = "bounded" if last - first < _MEMORY_MIB else "**it grows**"
    memory = f"{first:.0f} MiB after a tenth, {last:.0f} MiB at the end, {peak:.0f} MiB at most"
    slowest = max(report.slowest for report in workers.reports)
    lines = [
        f"{workers.sent:,} inputs in {seconds:,.0f} s: {workers.sent / seconds:,.0f} a second",
        f"answers: {statuses}",
        f"slowest: {slowest:.2f} s of CPU",
        f"memory of the largest process: {memory}: {bounded}",
        f"findings: {_counts(workers.kinds) or 'none'}",
    ]
    return "\n".join(lines) + "\n"


def _counts(kinds: Counter[str]) -> str:
    return ", ".join(f"{number} {kind}" for kind, number in kinds.most_common())


async def _replay(bundles: tuple[Path, ...], file: Path) -> None:
    request = Request.read(file.read_bytes())
    for bundle in bundles:
        application = Application(bundle)
        reply, fault = await ask_and_check(application, request)
        fault = fault or await check_variants(application, request, reply)
        sys.stdout.write(f"{bundle.name}: {reply.status}, {fault or 'nothing is wrong'}\n")
        sys.stdout.write(f"{reply.body[:300]!r}\n")


if __name__ == "__main__":
    typer.run(main)
