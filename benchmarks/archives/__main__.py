"""Seconds of each engine over an archive, as ratios to a loop in one process.

`python -m benchmarks.archives`, from the root of the repository, on Linux with taskset; engines
that are not installed are left out, and the report says so.
"""

from __future__ import annotations

import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.parquet
import typer

from benchmarks.harness.records import BUNDLE, real_records
from benchmarks.harness.report import heading, machine, progress, table, versions
from models import Model
from service.offline.archive import classify_archive, job_of

U = TypeVar("U")
R = TypeVar("R")
_LIBRARIES = {"local": "os", "ray": "ray", "spark": "pyspark"}
_FILES, _RECORDS = 16, 40_000
"""Files, and the real records that each of them repeats."""
_HEAD = ("who", "cores", "seconds", "records/s", "times the loop's seconds", "of one worker's rate")


def main(
    records: Annotated[int, typer.Option(min=1000, help="In all tables.")] = 2_000_000,
    rounds: Annotated[int, typer.Option(min=1, help="In which the loop and all engines run.")] = 3,
) -> None:
    """Measure, and print the table."""
    report = [*heading("benchmarks.archives"), f"- {machine()}; {versions('pyarrow', 'ray')}", ""]
    rows: list[tuple[str, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        _write(folder / "in", records)
        engines = []
        for engine, library in _LIBRARIES.items():
            if importlib.util.find_spec(library) is None:
                report.append(f"- {engine} is left out: {library} is not installed")
            else:
                engines.append(engine)
        loops: list[float] = []
        times: dict[tuple[str, int], list[float]] = {}
        for number in range(rounds):
            progress(f"round {number + 1} of {rounds}: the loop")
            loops.append(_loop(folder, number))
            for engine in engines:
                for cores in (1, 2):
                    progress(f"round {number + 1} of {rounds}: {engine}, {cores} cores")
                    seconds = _run(folder, engine, cores, number)
                    times.setdefault((engine, cores), []).append(seconds)
        loop = statistics.median(loops)
        rows.append(("a loop", "1", f"{loop:.1f}", f"{records / loop:,.0f}", "1", ""))
        for (engine, cores), all_seconds in times.items():
            seconds = statistics.median(all_seconds)
            cells = f"{seconds:.1f}", f"{records / seconds:,.0f}", _ratio(all_seconds, loops)
            rows.append((engine, str(cores), *cells, _ratio(times[engine, 1], all_seconds)))
    sys.stdout.write("\n".join([*report, "", *table(_HEAD, rows, "<>>>>>")]) + "\n")


def _ratio(seconds: Sequence[float], others: Sequence[float]) -> str:
    """Return the median of the ratios of single rounds."""
    return f"{statistics.median(a / b for a, b in zip(seconds, others, strict=True)):.2f}"


def _write(folder: Path, records: int) -> None:
    each = records // _FILES
    batch = real_records(min(_RECORDS, each))
    columns = np.resize(batch.values, (each, len(batch.names))).T
    table = pa.table(
        {name: pa.array(c, from_pandas=True) for name, c in zip(batch.names, columns, strict=True)}
    )
    folder.mkdir()
    for number in range(_FILES):
        pa.parquet.write_table(table, folder / f"{number}.parquet")


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
