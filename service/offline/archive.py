"""Classify an archive: a folder of tables or an address of one, by an engine of workers.

    OUT/_job.json               what the parts are of; another job is refused
    OUT/2026/11/a.parquet       the part of a whole file ...
    OUT/2026/12/b-0000-0008.parquet   ... and of row groups 0 to 7 of another one
    OUT/_manifest.json          at the end: units, rows, verdicts

A run does the units that have no part yet, so one that was killed is begun again by the same
command.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from models import Model
from models.engines import Engine, EngineError
from models.signature import TrustedKeys
from service.bundles.addresses import shown, why
from service.classes.entities import Snapshot
from service.offline.archive_units import (
    Job,
    Unit,
    counts_of_part,
    decider,
    files_of,
    score,
    table_of,
)
from service.offline.batch import Counts
from service.offline.tables import TableError

__all__ = ["classify_archive", "is_archive", "job_of", "plan"]

_UNIT_ROWS = 1 << 19
"""Rows of a unit, where row groups allow: half a minute of work at most, and 100 MB."""
_TABLE = re.compile(r"\.(parquet|arrows?|feather|[ct]sv(\.(gz|bz2|zst))?)$", re.IGNORECASE)
_PATTERN = re.compile(r"[*?\[]")
_JOB, _MANIFEST = "_job.json", "_manifest.json"


def is_archive(address: str) -> bool:
    """Whether an address is of many tables: a folder, a pattern, or one of an object store."""
    if "://" in address:
        return True
    files, path = files_of(address)
    kind = files.get_file_info(path).type
    return kind == pa.fs.FileType.Directory or (
        kind == pa.fs.FileType.NotFound and bool(_PATTERN.search(address))
    )


def job_of(
    source: str,
    out: str | None,
    bundle: Path,
    model: Model,
    *,
    profile: Path | None = None,
    snapshot: Snapshot | None = None,
    distances: bool = False,
    keep: Sequence[str] = (),
    report: bool = False,
    trusted: TrustedKeys | None = None,
) -> Job:
    """Return the job of classifying an archive; see `Job`.

    Raises:
        TableError: there is no place for the verdicts.
    """
    if out is None:
        raise TableError("the verdicts of an archive need a folder of their own: give --out")
    return Job(
        source,
        out,
        str(bundle.absolute()),
        model.manifest.version,
        None if profile is None else str(profile.absolute()),
        None if snapshot is None else snapshot.revision,
        () if snapshot is None else tuple(snapshot.classes.values()),
        distances,
        tuple(keep),
        report,
        str(trusted or ""),
    )


def classify_archive(
    job: Job,
    engine: Engine,
    jobs: int,
    progress: Callable[[int, int, Counts], None] = lambda _done, _all, _counts: None,
) -> Counts:
    """Classify all units of an archive that have no part yet.

    Args:
        job: what to do.
        engine: does it ...
        jobs: ... with so many workers on this machine.
        progress: called with the units that are done, all units, and the counts so far.

    Returns:
        The counts of all units.

    Raises:
        TableError: the archive, the output folder or a unit cannot be used.
    """
    model, _ = decider(job)
    units = plan(job, model)
    _begin(job, units)
    counts, left = Counts(), list[Unit]()
    for unit in units:
        if (before := counts_of_part(job, unit)) is None:
            left.append(unit)
        else:
            _add(counts, before)
    done = len(units) - len(left)
    progress(done, len(units), counts)
    try:
        for number, scored in enumerate(engine(jobs, partial(score, job), left), start=done + 1):
            _add(counts, scored)
            progress(number, len(units), counts)
    except EngineError as error:
        raise TableError(str(error)) from error
    about = {
        "units": len(units),
        "rows": counts.records,
        "faulty": counts.faulty,
        "labels": dict(sorted(counts.labels.items())),
    }
    _write(job, _MANIFEST, _described(job) | about)
    return counts


def plan(job: Job, model: Model) -> list[Unit]:
    """Cut an archive into units, in the order of their paths.

    Raises:
        TableError: it holds no tables, or tables of different columns.
    """
    units, parts = list[Unit](), dict[str, str]()
    first = typed = None
    for info, name in _tables(job.source, job.out):
        whole = Unit(info.path, f"{name}.parquet", info.size, info.mtime_ns or 0)
        table = table_of(job, whole, model)
        kinds = [(kept, None if table.is_text else kind) for kept, kind in table.kept.items()]
        read = info.path, (kinds, sorted(table.absent))
        first = first or read
        typed = typed or (None if table.is_text else read)
        for before in filter(None, (first, typed)):
            if difference := _difference(before, read):
                raise TableError(difference)
        of_file = [*_cut(job, whole, name)] if name.endswith(".parquet") else [whole]
        for unit in of_file:
            if (other := parts.setdefault(unit.part, unit.path)) != unit.path:
                raise TableError(
                    f"{unit.path} and {other} would have the same part {unit.part}: rename one"
                )
        units += of_file
    if first is None:
        raise TableError(
            f"{shown(job.source)} holds no tables: .parquet, .arrow, .csv, .tsv, .csv.gz"
        )
    return units


def _tables(address: str, out: str) -> Iterator[tuple[pa.fs.FileInfo, str]]:
    """Yield the tables of an archive but for its own output, each with its name in the folder."""
    files, path = files_of(address)
    parts = PurePosixPath(path).parts
    fixed = next((at for at, part in enumerate(parts) if _PATTERN.search(part)), len(parts))
    out_files, outside = files_of(out)
    same = files.equals(out_files)
    try:
        if files.get_file_info(path).type == pa.fs.FileType.Directory:
            fixed = len(parts)  # whatever characters its name has
        folder = str(PurePosixPath(*parts[:fixed]))
        found = files.get_file_info(pa.fs.FileSelector(folder, recursive=True))
    except (OSError, pa.ArrowException) as error:
        raise TableError(f"{shown(address)} cannot be read: {why(error, address)}") from error
    for info in sorted(found, key=lambda info: str(info.path)):
        name = str(PurePosixPath(info.path).relative_to(folder))
        hidden = any(part.startswith((".", "_")) for part in PurePosixPath(name).parts)
        fits = fixed == len(parts) or fnmatchcase(info.path, path)
        fits = fits and not (same and PurePosixPath(info.path).is_relative_to(outside))
        if info.type == pa.fs.FileType.File and _TABLE.search(name) and fits and not hidden:
            yield info, name


def _cut(job: Job, whole: Unit, name: str) -> Iterator[Unit]:
    """Yield the units of a Parquet file."""
    files, _ = files_of(job.source)
    with files.open_input_file(whole.path) as file:
        metadata = pa.parquet.read_metadata(file)
    if metadata.num_rows <= _UNIT_ROWS or metadata.num_row_groups < 2:
        yield Unit(whole.path, name, whole.size, whole.changed)
        return
    start = rows = 0
    for group in range(metadata.num_row_groups):
        rows += metadata.row_group(group).num_rows
        if rows >= _UNIT_ROWS or group == metadata.num_row_groups - 1:
            part = f"{name.removesuffix('.parquet')}-{start:04}-{group + 1:04}.parquet"
            yield Unit(whole.path, part, whole.size, whole.changed, (start, group + 1))
            start, rows = group + 1, 0


def _difference(first: tuple[str, Any], other: tuple[str, Any]) -> str | None:
    """Say in which column two tables differ, if in any; a type of None is text, and like any."""
    (one, (kept, absent)), (two, (other_kept, other_absent)) = first, other
    for name in sorted({*absent} ^ {*other_absent}):
        lacks, has = (one, two) if name in absent else (two, one)
        return f"{lacks} lacks the column {name!r}, which {has} has"
    for (name, kind), (_, other_kind) in zip(kept, other_kept, strict=True):
        if kind != other_kind and None not in (kind, other_kind):
            return f"column {name!r} is {other_kind} in {two}, and {kind} in {one}"
    return None


def _described(job: Job) -> dict[str, Any]:
    """Return what all parts of a job have in common."""
    about = asdict(job)
    for name in ("source", "out", "bundle", "trusted"):
        del about[name]
    # Classes of two databases may have the same revision.
    classes = json.dumps(about.pop("classes"), sort_keys=True).encode()
    about["classes"] = hashlib.sha256(classes).hexdigest() if job.classes else None
    if job.profile is not None:
        about["profile"] = hashlib.sha256(Path(job.profile).read_bytes()).hexdigest()
    about["source"] = _place(job.source)
    return json.loads(json.dumps(about))  # type: ignore[no-any-return]


def _place(address: str) -> str:
    """Return where an archive is, without keys and however it was written."""
    if "://" in address:
        return shown(address)
    return str(Path(address).absolute())


def _begin(job: Job, units: Sequence[Unit]) -> None:
    """Claim the output folder, and remove what an earlier run left half done or out of date.

    Raises:
        TableError: it holds something else.
    """
    files, folder = files_of(job.out)
    wanted, own = _described(job), f"{folder}/{_JOB}"
    try:
        selector = pa.fs.FileSelector(folder, recursive=True, allow_not_found=True)
        found = [info.path for info in files.get_file_info(selector) if info.is_file]
        if own in found:
            with files.open_input_stream(own) as stream:
                _check_same(job, json.loads(stream.read()), wanted)
        elif found:
            raise TableError(f"{shown(job.out)} holds other files: give an empty folder as --out")
        parts = {f"{folder}/{unit.part}" for unit in units}
        for path in found:
            is_draft = PurePosixPath(path).name.startswith(".")
            if is_draft or (path.endswith(".parquet") and path not in parts):
                files.delete_file(path)
        files.create_dir(folder, recursive=True)
        _write(job, _JOB, wanted)
    except (OSError, ValueError) as error:
        raise TableError(
            f"{shown(job.out)} cannot be used as --out: {why(error, job.out)}"
        ) from error


def _check_same(job: Job, found: dict[str, Any], wanted: dict[str, Any]) -> None:
    for name, value in wanted.items():
        # Folders of earlier jobs do not name their source.
        if found.get(name, value if name == "source" else None) != value:
            raise TableError(
                f"{shown(job.out)} holds verdicts of another job: {name} {found.get(name)}, not "
                f"{value}; give another --out"
            )


def _write(job: Job, name: str, document: dict[str, Any]) -> None:
    files, folder = files_of(job.out)
    with files.open_output_stream(f"{folder}/{name}") as stream:
        stream.write(json.dumps(document, indent=2).encode() + b"\n")


def _add(counts: Counts, more: Counts) -> None:
    counts.labels.update(more.labels)
    counts.faulty += more.faulty
