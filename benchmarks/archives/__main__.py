"""Seconds of each engine over an archive, as ratios to a loop in one process.

`python -m benchmarks.archives`, from the root of the repository, on Linux with taskset; engines
that are not installed are left out, and the report says so.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import pyarrow as pa
import pyarrow.parquet
import typer

from benchmarks.harness.records import BUNDLE
from benchmarks.harness.report import heading, machine, progress, table, versions
from models import Model
from service.offline.archive import classify_archive, job_of

U = TypeVar("U")
R = TypeVar("R")
_LIBRARIES = {"local": "os", "ray": "ray", "spark": "pyspark"}
_FILES = 16
_HEAD = ("who", "cores", "seconds", "records/s", "times the loop's seconds", "of one worker's rate")


def main(
    records: Annotated[int, typer.Option(min=1000, help="In all tables.")] = 2_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="Of which the fastest counts.")] = 3,
) -> None:
    """Measure, and print the table."""
    report = [*heading("benchmarks.archives"), f"- {machine()}; {versions('pyarrow', 'ray')}", ""]
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "in", records)
        loop = min(_loop(folder, number) for number in range(rounds))
        rows.append(("a loop", "1", f"{loop:.1f}", f"{records / loop:,.0f}", "1", ""))
        for engine, library in _LIBRARIES.items():
            if importlib.util.find_spec(library) is None:
                report.append(f"- {engine} is left out: {library} is not installed")
                continue
            one = 0.0
            for cores in (1, 2):
                progress(f"{engine}, {cores} cores")
                runs = (_run(folder, engine, cores, number) for number in range(rounds))
                seconds = min(runs)
                one = one or seconds
                cells = f"{seconds:.1f}", f"{records / seconds:,.0f}", f"{seconds / loop:.2f}"
                rows.append((engine, str(cores), *cells, f"{one / seconds:.2f}"))
    sys.stdout.write("\n".join([*report, "", *table(_HEAD, rows, "<>>>>>")]) + "\n")


def _write(folder: Path, records: int) -> None:
    examples = [dict(record) for record in Model.load(BUNDLE).examples]
    each = pa.Table.from_pylist(examples * (records // _FILES // len(examples)))
    folder.mkdir()
    for number in range(_FILES):
        pa.parquet.write_table(each, folder / f"{number}.parquet")


def _in_this_process(_: int, work: Callable[[U], R], units: Sequence[U], /) -> Iterator[R]:
    return map(work, units)


def _loop(folder: Path, number: int) -> float:
    """Return the seconds of a loop over the units on one core."""
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(before)})
    try:
        job = job_of(str(folder / "in"), str(folder / f"loop{number}"), BUNDLE, Model.load(BUNDLE))
        classify_archive(job, _in_this_process, 1)
        return _seconds(Path(job.out), 1)
    finally:
        os.sched_setaffinity(0, before)


def _run(folder: Path, engine: str, cores: int, number: int) -> float:
    """Return the seconds that the command takes for all units."""
    cpus = ",".join(map(str, sorted(os.sched_getaffinity(0))[:cores]))
    out = folder / f"{engine}{cores}-{number}"
    program = str(Path(sys.executable).parent / "faultcube")
    command = ["taskset", "-c", cpus, program, "classify", str(folder / "in"), "--out", str(out)]
    options = ["--engine", engine, "--jobs", str(cores), "--bundle", str(BUNDLE)]
    subprocess.run(  # noqa: S603 - our own command
        [*command, *options], check=True, capture_output=True
    )
    return _seconds(out, cores)


def _seconds(out: Path, workers: int) -> float:
    """Return the seconds for all units, from the times of their parts.

    The start of an engine, which a large archive does not feel, is left out: time counts from the
    first part of each worker.
    """
    parts = sorted(path.stat().st_mtime for path in out.rglob("*.parquet"))
    return (parts[-1] - parts[0]) * len(parts) / (len(parts) - workers)


if __name__ == "__main__":
    typer.run(main)
