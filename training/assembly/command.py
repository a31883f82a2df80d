"""Run `faultcube assemble` and print what came of it."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Sequence
from pathlib import Path

import typer

from models.telemetry.mapping import Mapping, MappingError
from training.assembly.assemble import Assembled, assemble, write
from training.assembly.points_table import PointsTable, TimeUnit
from training.check import status
from training.recipe import RecipeError

_TOLD = {"points", "records", "missing", "anew"}
"""Counts that are told in words of their own."""


def assemble_and_write(
    points: Path, mapping: Path, out: Path, keep: Sequence[str], time_column: str, unit: TimeUnit
) -> int:
    """Assemble and write a table; returns the exit code, 2 for what cannot be used."""
    started = time.perf_counter()
    try:
        with status("reading points") as say:
            rules = Mapping.read(mapping)
            table = PointsTable.read(points, rules, time_column, unit)
            made = assemble(table, keep, lambda done: say(f"{done:,} points"))
            write(made.rows, out)
    except (RecipeError, MappingError, OSError) as error:
        typer.echo(f"faultcube: {error}", err=True)
        return 2
    _print(made, rules, out, time.perf_counter() - started)
    return 0


def _print(made: Assembled, rules: Mapping, out: Path, seconds: float) -> None:
    for line in made.findings:
        typer.echo(f"warning: {line}", err=True)
    counts = made.counts
    typer.echo(
        f"{counts.points:,} points became {counts.records:,} records of {made.keys} "
        f"{' and '.join(rules.key)}, {len(rules.fields)} fields, in {seconds:.1f} s"
    )
    learning = int(made.rows["learning"].sum())
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
    typer.echo(f"wrote {out}")
