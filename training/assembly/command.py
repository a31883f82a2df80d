"""Run `faultcube assemble` and print what came of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import polars as pl
import typer

from models.engines import ENGINES
from models.telemetry.mapping import Mapping, MappingError
from models.telemetry.records import Counts
from training.assembly.assemble import ENDINGS, assemble, ending_of, write
from training.assembly.points_table import PointsTable, TimeUnit
from training.assembly.units import Job, assemble_units, files_of
from training.check import reason_of, status
from training.recipe import RecipeError

_TOLD = {"points", "records", "missing", "anew"}
"""Counts that are told in words of their own."""


def assemble_and_write(
    points: Path, mapping: Path, out: Path, keep: Sequence[str], time_column: str, unit: TimeUnit
) -> int:
    """Assemble and write a table; returns the exit code, 2 for what cannot be used."""
    started = time.perf_counter()
    try:
        ending_of(out)
        with status("reading points") as say:
            rules = Mapping.read(mapping)
            table = PointsTable.read(points, rules, time_column, unit, keep)
            made = assemble(table, lambda done: say(f"{done:,} points"))
            write(made.rows, out)
    except (RecipeError, MappingError, OSError) as error:
        typer.echo(f"faultcube: {reason_of(error)}", err=True)
        return 2
    learning, seconds = int(made.rows["learning"].sum()), time.perf_counter() - started
    _print(made.counts, made.keys, learning, made.findings, rules, seconds)
    typer.echo(f"wrote {out}")
    return 0


def assemble_archive(
    points: str,
    mapping: Path,
    out: Path,
    keep: Sequence[str],
    time_column: str,
    unit: TimeUnit,
    units: int,
    engine: str,
    jobs: int,
) -> int:
    """Assemble an archive by units; returns the exit code, 2 for what cannot be used.

    Args:
        points: a folder, pattern or file.
        mapping: file of it.
        out: folder of the parts.
        keep: columns of the points to carry along.
        time_column: name of that with the times.
        unit: of times that are numbers.
        units: shares of the keys.
        engine: what assembles units.
        jobs: workers on this machine.
    """
    started = time.perf_counter()
    try:
        files = files_of(points)
        _check_folder(out)
        with status("reading points") as say:
            job = Job(
                files,
                mapping.absolute(),
                out.absolute(),
                units,
                tuple(keep),
                time_column,
                unit,
            )
            found = assemble_units(
                job, ENGINES[engine], jobs, lambda done: say(f"unit {done} of {job.units}")
            )
            rules = Mapping.read(mapping)
    except (RecipeError, MappingError, OSError, pl.exceptions.PolarsError) as error:
        typer.echo(f"faultcube: {reason_of(error).splitlines()[0]}", err=True)
        return 2
    seconds = time.perf_counter() - started
    _print(found.counts, found.keys, found.learning, found.findings, rules, seconds)
    there = found.units - found.made
    typer.echo(f"wrote {found.made} parts into {out}" + (f"; {there} were there" if there else ""))
    return 0


def _check_folder(out: Path) -> None:
    if out.name.lower().endswith(ENDINGS):
        raise RecipeError(
            f"{out}: parts are written into a folder, and this is the name of a table; give "
            "another --out"
        )


def _print(
    counts: Counts,
    keys: int,
    learning: int,
    findings: Sequence[str],
    rules: Mapping,
    seconds: float,
) -> None:
    for line in findings:
        typer.echo(f"warning: {line}", err=True)
    typer.echo(
        f"{counts.points:,} points became {counts.records:,} records of {keys} "
        f"{' and '.join(rules.key)}, {len(rules.fields)} fields, in {seconds:.1f} s"
    )
    typer.echo(f"{learning:,} records are of a learning period; {counts.anew} keys began anew")
    if counts.missing:
        typer.echo(f"{counts.missing:,} points are missing of series that had some before")
    others = {
        name.replace("_", " "): count
        for name, count in dataclasses.asdict(counts).items()
        if count and name not in _TOLD
    }
    if others:
        typer.echo(", ".join(f"{name} {count:,}" for name, count in others.items()))
