"""Units of an archive: what a worker reads, scores and writes on its own.

A unit is a file, or some row groups of a large Parquet file. Its part has a name that only the unit
decides, and appears whole or not at all; so a unit may be scored twice, by whomever, and nothing is
lost or doubled. No engine is known here.
"""

from __future__ import annotations

import json
import secrets
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet

from models import BundleError, Model
from models.profile import Adaptation
from models.signature import TrustedKeys
from service.bundles import addresses
from service.bundles.addresses import AddressError, why
from service.classes.entities import Snapshot, StoredClass
from service.offline.batch import Counts, ahead, verdicts_of
from service.offline.enrolled import with_classes
from service.offline.profiles import open_profile
from service.offline.tables import Table, TableError

__all__ = ["Job", "Unit", "counts_of_part", "decider", "files_of", "score", "table_of"]

_ROWS = "faultcube.unit"
"""Key of a part's metadata."""
_GROUP = 1 << 17
"""Rows of a row group of a part."""


@dataclass(frozen=True, slots=True)
class Job:
    """What is to be done to all units of an archive.

    Attributes:
        source: address of the archive, which tells its file system.
        out: address of the folder for the parts.
        bundle: folder of the bundle; every worker has it.
        version: of the bundle: a worker that finds another one refuses.
        profile: file of the site's profile.
        revision: of the enrolled classes; None without any.
        classes: that were enrolled, as of that revision.
        distances: whether to write the distance to every class.
        keep: columns to copy over.
        report: whether to report rows that do not fit, instead of stopping at one.
        trusted: public keys, one of which must have signed the bundle; any bundle will do without.
    """

    source: str
    out: str
    bundle: str
    version: str
    profile: str | None = None
    revision: int | None = None
    classes: tuple[StoredClass, ...] = ()
    distances: bool = False
    keep: tuple[str, ...] = ()
    report: bool = False
    trusted: str = ""


@dataclass(frozen=True, slots=True)
class Unit:
    """Some rows of an archive.

    Attributes:
        path: of the file, in the file system of the archive.
        part: path of its verdicts, below the output folder.
        size: of the file in bytes, and ...
        changed: ... the time of its last change, in nanoseconds: with another one, the part is old.
        groups: first row group and the one after the last; None for the whole file.
    """

    path: str
    part: str
    size: int
    changed: int
    groups: tuple[int, int] | None = None


def files_of(address: str) -> tuple[pa.fs.FileSystem, str]:
    """Return the file system of an address, and the path in it.

    Raises:
        TableError: it is an address of nothing that is known.
    """
    try:
        return addresses.files_of(address)
    except AddressError as error:
        raise TableError(str(error)) from error


def table_of(job: Job, unit: Unit, model: Model) -> Table:
    """Open the rows of a unit.

    Raises:
        TableError: they cannot be read.
    """
    files, _ = files_of(job.source)
    groups = None if unit.groups is None else range(*unit.groups)
    return Table(PurePosixPath(unit.path), model.schema, job.keep, files=files, groups=groups)


_kept: list[tuple[Job, tuple[Model, Adaptation | None]]] = []
"""The last job of this process, and what decides in it."""


def decider(job: Job) -> tuple[Model, Adaptation | None]:
    """Return the model that decides, with enrolled classes, and the site's profile; kept.

    Raises:
        TableError: the bundle cannot be used, or is another one than the job's.
    """
    if _kept and _kept[0][0] == job:
        return _kept[0][1]
    _kept[:] = [(job, _decider(job))]
    return _kept[0][1]


def _decider(job: Job) -> tuple[Model, Adaptation | None]:
    trusted = TrustedKeys.parse(job.trusted) if job.trusted else None
    try:
        base = Model.load(Path(job.bundle), threads=1, trusted=trusted)
    except BundleError as error:
        raise TableError(str(error)) from error
    if base.manifest.version != job.version:
        raise TableError(
            f"{job.bundle} holds version {base.manifest.version} on this worker, and the job is of "
            f"{job.version}: give all workers the same bundle"
        )
    adaptation = open_profile(None if job.profile is None else Path(job.profile), base)
    if job.revision is None:
        return base, adaptation
    stored = {entry.name: entry for entry in job.classes}
    return with_classes(base, Snapshot(job.revision, stored)), adaptation


def score(job: Job, unit: Unit) -> Counts:
    """Read a unit, score it, and write its part.

    Raises:
        TableError: the unit cannot be read, or the part not be written.
    """
    model, adapt = decider(job)
    table, counts = table_of(job, unit, model), Counts()
    batches: list[pa.RecordBatch] = []
    for part in ahead(table.parts(report=job.report)):
        if adapt is not None:
            part.matrix = adapt(part.matrix)
        batches.append(
            verdicts_of(
                model,
                part,
                counts,
                distances=job.distances,
                report=job.report,
                first=table.first,
            )
        )
    verdicts = pa.Table.from_batches(batches)
    about = {"unit": asdict(unit), "labels": dict(counts.labels), "faulty": counts.faulty}
    sink = pa.BufferOutputStream()
    metadata = {**(verdicts.schema.metadata or {}), _ROWS.encode(): json.dumps(about).encode()}
    pa.parquet.write_table(
        verdicts.replace_schema_metadata(metadata), sink, compression="zstd", row_group_size=_GROUP
    )
    _commit(job, unit, sink.getvalue())
    return counts


def counts_of_part(job: Job, unit: Unit) -> Counts | None:
    """Return the counts of a unit that was scored before; None if it has to be scored."""
    files, folder = files_of(job.out)
    try:
        with files.open_input_file(f"{folder}/{unit.part}") as file:
            metadata = pa.parquet.read_metadata(file)
        about = json.loads(metadata.metadata[_ROWS.encode()])
        if Unit(**about["unit"] | {"groups": _pair(about["unit"]["groups"])}) != unit:
            return None
        counts = Counts(Counter(about["labels"]), about["faulty"])
    except (OSError, pa.ArrowException, KeyError, TypeError, ValueError):
        return None
    return counts if counts.records == metadata.num_rows else None


def _commit(job: Job, unit: Unit, content: pa.Buffer) -> None:
    """Write a part as a whole: by renaming a draft, or as one object."""
    files, folder = files_of(job.out)
    path = PurePosixPath(folder) / unit.part
    try:
        if not isinstance(files, pa.fs.LocalFileSystem):
            stream = files.open_output_stream(str(path))
            stream.write(content)
            stream.close()  # not before all is written: it makes the object
            return
        files.create_dir(str(path.parent), recursive=True)
        draft = Path(path.parent) / f".{path.name}-{secrets.token_hex(4)}"
        try:
            draft.write_bytes(content)
            draft.replace(path)
        except BaseException:
            draft.unlink(missing_ok=True)
            raise
    except OSError as error:
        raise TableError(f"{path} cannot be written: {why(error, job.out)}") from error


def _pair(groups: object) -> tuple[int, int] | None:
    return (groups[0], groups[1]) if isinstance(groups, list) else None
