"""Assemble a table of records from a table of points."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.telemetry.assembler import Assembler
from models.telemetry.records import Counts, Records
from training.assembly.points_table import PointsTable
from training.recipe import RecipeError

TIME, LEARNING = "time", "learning"
ENDINGS = (".parquet", ".csv", ".csv.gz")
"""Of tables that are written."""
_SERIES = 5_000_000
_KEYS = 1_000_000


@dataclass(frozen=True, slots=True)
class Assembled:
    """What came of a table of points.

    Attributes:
        rows: a record a row: key, time in seconds, fields, `learning`, and the columns to keep.
        keys: number of keys.
        counts: what became of the points.
        findings: what is odd, a line each.
    """

    rows: pl.DataFrame
    keys: int
    counts: Counts
    findings: tuple[str, ...]


class NoRecordError(RecipeError):
    """No record came of the points."""


def assemble(
    points: PointsTable,
    report: Callable[[int], object] = lambda _: None,
    arrived: float | None = None,
) -> Assembled:
    """Return the records of all points.

    Args:
        points: in the order of time.
        report: called with the number of points so far.
        arrived: when all points had arrived, seconds since the Unix epoch; at the latest of them
            unless given.

    Raises:
        NoRecordError: there is no record.
        RecipeError: the mapping calls a field as another column is called.
    """
    # A recording has no times of arrival.
    mapping = points.rules.model_copy(update={"clock": "points"})
    assembler = Assembler(mapping, max_keys=_KEYS, max_series=_SERIES)
    parts = []
    if arrived is None:
        arrived = float(points.times.max()) / 1e9  # a recording waits for nothing
    for some in points.points(assembler.series):
        parts.append(assembler.add(some, arrived))
        report(assembler.counts.points)
    parts.append(assembler.finish())
    records = Records.joined([part for part in parts if len(part)], len(mapping.fields))
    findings = (*assembler.findings(), *points.findings())
    if not len(records):
        why = f"; {findings[0]}" if findings else ": no metric of the mapping is among its columns"
        raise NoRecordError(f"no record came of the points{why}")
    rows = _table(assembler, records)
    if points.keep:
        rows = _with_kept(rows, points)
    return Assembled(rows, len(np.unique(records.keys)), assembler.counts, findings)


def write(rows: pl.DataFrame, path: Path) -> None:
    """Write a table as Parquet or CSV, as the ending of its path says, or raise RecipeError."""
    ending = ending_of(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    match ending:
        case ".parquet":
            rows.write_parquet(path, compression="zstd")
        case ".csv":
            rows.write_csv(path)
        case ".csv.gz":
            rows.write_csv(path, compression="gzip")


def ending_of(path: Path) -> str:
    """Return the ending that says how a table is written, or raise RecipeError."""
    for ending in ENDINGS:
        if path.name.lower().endswith(ending):
            return ending
    raise RecipeError(f"{path}: a table is written as .parquet, .csv or .csv.gz")


def _table(assembler: Assembler, records: Records) -> pl.DataFrame:
    mapping = assembler.mapping
    used, slots = np.unique(records.keys, return_inverse=True)
    names = [assembler.key(slot) for slot in used.tolist()]
    keys = {
        tag: pl.Series([name[at] for name in names])[slots] for at, tag in enumerate(mapping.key)
    }
    clash = {*keys, TIME, LEARNING} & {*mapping.names}
    if clash:
        raise RecipeError(f"the mapping calls a field {clash.pop()!r}, as another column is called")
    matrix = pl.DataFrame(records.matrix, schema=[*mapping.names]).fill_nan(None)
    rows = pl.DataFrame({**keys, TIME: _whole(records.times)}).hstack(matrix)
    return rows.with_columns(pl.Series(LEARNING, records.learning)).sort(*keys, TIME)


def _whole(seconds: NDArray[np.float64]) -> pl.Series:
    """Return times as whole numbers if they are."""
    times = pl.Series(seconds)
    return times.cast(pl.Int64) if not (seconds % 1).any() else times


def _with_kept(rows: pl.DataFrame, points: PointsTable) -> pl.DataFrame:
    """Add columns of the points' table: of each record the values of its last row."""
    seconds = points.rules.record_times(points.times) / 1e9
    keys = points.keys()
    kept = points.rows.select(
        pl.col(name).alias(f"{name}_kept" if name in rows.columns else name) for name in points.keep
    ).with_columns(*keys.get_columns(), pl.Series(TIME, seconds).cast(rows.schema[TIME]))
    by = [*keys.columns, TIME]
    last = kept.unique(by, keep="last", maintain_order=True)
    return rows.join(last, on=by, how="left", maintain_order="left")
