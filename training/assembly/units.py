"""Assemble an archive of points, a share of the keys at a time, by an engine of workers.

Each key belongs to exactly one unit, whatever else is in the archive. A unit writes one file, which
appears whole or not at all and is the same whoever writes it: a run that was killed is resumed by
the same command.
"""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import polars as pl

from models.engines import Engine, EngineError
from models.telemetry.mapping import Mapping
from models.telemetry.records import Counts
from models.telemetry.share import Share
from training.assembly.assemble import LEARNING, TIME, NoRecordError, assemble
from training.assembly.points_table import PointsTable, TimeUnit, nanoseconds
from training.recipe import RecipeError

__all__ = ["Job", "Summary", "assemble_units", "files_of"]

_JOB = "_job.json"
_WILD = frozenset("*?[")
"""Characters of a pattern."""
_ABOUT = "faultcube.unit"
"""Key of a part's metadata."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done to all units.

    Workers may run in another folder, or on other machines: paths are absolute.

    Attributes:
        files: Parquet files with the points, in any order.
        mapping: file that says how points become records.
        out: folder for the parts.
        units: into how many shares the keys are parted.
        keep: columns to carry along.
        time: name of the time column.
        unit: of times that are numbers.
    """

    files: tuple[Path, ...]
    mapping: Path
    out: Path
    units: int
    keep: tuple[str, ...] = ()
    time: str = TIME
    unit: TimeUnit = "s"

    def part(self, number: int) -> Path:
        """Return the file of a unit, from 1."""
        return self.out / f"part-{number:02d}-of-{self.units:02d}.parquet"

    def description(self) -> dict[str, object]:
        """Return what the parts depend on."""
        files = [(str(path), path.stat().st_size, path.stat().st_mtime_ns) for path in self.files]
        return {
            "files": sorted([name, size, changed] for name, size, changed in files),
            "mapping": hashlib.sha256(self.mapping.read_bytes()).hexdigest(),
            "units": self.units,
            "keep": [*self.keep],
            "time": [self.time, self.unit],
        }


@dataclass(frozen=True, slots=True)
class _Unit:
    """A share of the keys: its number, from 1, and a row for each key."""

    number: int
    keys: pl.DataFrame


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of all units.

    Attributes:
        keys: number of keys.
        counts: what became of the points.
        learning: records of a learning period.
        findings: what is odd, a line each.
        units: that have points.
        made: units that were assembled now; the others were there already.
    """

    keys: int
    counts: Counts
    learning: int
    findings: tuple[str, ...]
    units: int
    made: int


def files_of(points: str) -> tuple[Path, ...]:
    """Return the Parquet files of a folder, a pattern, or one file.

    Raises:
        RecipeError: there are none.
    """
    path = Path(points).absolute()
    if path.is_dir():
        found = path.rglob("*.parquet")
    else:
        found = Path(path.anchor or ".").glob(str(path.relative_to(path.anchor)))
    files = tuple(sorted(one for one in found if one.is_file()))
    if not files:
        if not path.is_dir() and not set(points) & _WILD:
            raise RecipeError(f"there is no table {points}")
        raise RecipeError(f"there are no Parquet files of points in {points}")
    return files


def assemble_units(
    job: Job, engine: Engine, jobs: int, report: Callable[[int], object] = lambda _: None
) -> Summary:
    """Assemble all units that have no part yet.

    Args:
        job: the units.
        engine: assembles them ...
        jobs: ... with so many workers on this machine.
        report: called with the number of units that are done.

    Raises:
        RecipeError: the points or the engine cannot be used, or the folder holds something else.
    """
    key, scan = Mapping.read(job.mapping).key, _scan(job)
    names = scan.collect_schema().names()
    if lacking := [name for name in (*key, job.time, *job.keep) if name not in names]:
        raise RecipeError(f"the points have no column {lacking[0]!r}, which units need")
    _prepare(job)
    shares = _shares(scan, key, job.units)
    todo = [unit for unit in shares if not job.part(unit.number).exists()]
    done = len(shares) - len(todo)
    report(done)
    work = partial(_assemble, job, _latest(scan, job))
    try:
        for number, _ in enumerate(engine(jobs, work, todo), start=done + 1):
            report(number)
    except EngineError as error:
        raise RecipeError(str(error)) from error
    return _summary(job, len(shares), len(todo))


def _scan(job: Job) -> pl.LazyFrame:
    schema: dict[str, pl.DataType] = {}
    for file in job.files:  # or columns that the first file lacks would be left out
        for name, kind in pl.read_parquet_schema(file).items():
            schema.setdefault(name, kind)
    return pl.scan_parquet(
        [*job.files], schema=schema, missing_columns="insert", extra_columns="ignore"
    )


def _prepare(job: Job) -> None:
    """Write what the parts are of, or see that those that are there are of the same."""
    job.out.mkdir(parents=True, exist_ok=True)
    wanted, file = job.description(), job.out / _JOB
    if file.exists():
        if json.loads(file.read_text()) != wanted:
            raise RecipeError(
                f"{job.out} holds parts of other points or options; give another folder"
            )
        for draft in job.out.glob(".part-*"):
            draft.unlink(missing_ok=True)
        return
    if others := sorted(path.name for path in job.out.iterdir()):
        raise RecipeError(f"{job.out} holds {others[0]}; give a new folder")
    draft = file.with_name(f".{_JOB}")
    draft.write_text(json.dumps(wanted))
    draft.replace(file)


def _latest(scan: pl.LazyFrame, job: Job) -> float:
    """Return the latest time of a point, in seconds: when the recording had arrived."""
    times = pl.col(job.time)
    is_text = scan.collect_schema()[job.time] == pl.String
    found = scan.select(times if is_text else times.max()).collect()
    return float(nanoseconds(found[job.time], job.unit).max()) / 1e9


def _shares(scan: pl.LazyFrame, key: Sequence[str], units: int) -> list[_Unit]:
    """Return the units that have any keys."""
    keys = scan.select(key).drop_nulls().unique().sort(key).collect()
    every = [Share(number, units) for number in range(1, units + 1)]
    owners = [
        next(share.number for share in every if share.owns(tuple(map(str, row))))
        for row in keys.iter_rows()
    ]
    return [_Unit(number, keys.filter(pl.Series(owners) == number)) for number in sorted({*owners})]


def _assemble(job: Job, latest: float, unit: _Unit) -> None:
    """Write the part of a unit, unless no record comes of its points."""
    rules, part = Mapping.read(job.mapping), job.part(unit.number)
    points = _scan(job).join(unit.keys.lazy(), on=unit.keys.columns, how="semi").collect()
    table = PointsTable.of(points, rules, job.time, job.unit, job.keep)
    try:
        made = assemble(table, arrived=latest)
    except NoRecordError:
        return
    # By chance all times of one unit may be whole, and not those of another.
    rows = made.rows.cast({TIME: pl.Float64}) if rules.interval % 1 else made.rows
    about = {
        "keys": made.keys,
        "learning": int(rows[LEARNING].sum()),
        "findings": made.findings,
        "counts": asdict(made.counts),
    }
    # A worker may outlive its engine, and another one make the same part.
    draft = part.with_name(f".{part.name}-{secrets.token_hex(4)}")
    rows.write_parquet(draft, compression="zstd", metadata={_ABOUT: json.dumps(about)})
    draft.replace(part)


def _summary(job: Job, units: int, made: int) -> Summary:
    parts = [path for n in range(1, job.units + 1) if (path := job.part(n)).exists()]
    if not parts:
        raise RecipeError("no record came of the points: no metric of the mapping is among them")
    found = [json.loads(pl.read_parquet_metadata(part)[_ABOUT]) for part in parts]
    counts = Counts(
        **{name: sum(one["counts"][name] for one in found) for name in asdict(Counts())}
    )
    return Summary(
        keys=sum(one["keys"] for one in found),
        counts=counts,
        learning=sum(one["learning"] for one in found),
        findings=tuple(dict.fromkeys(line for one in found for line in one["findings"])),
        units=units,
        made=made,
    )
