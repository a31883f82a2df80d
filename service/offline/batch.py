"""Classify a table in one process, as `faultcube classify` does.

One thread reads and parses while the other runs the model and writes; a few parts are in memory at
a time, however long the table is.
"""

from __future__ import annotations

import csv
import io
import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, TypeGuard, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from models import UNKNOWN, BundleError, FieldError, Model
from models.profile import Adaptation
from service.bundles.repository import BundleRepository, RepositoryError
from service.formats.arrow_writer import verdict_batch
from service.formats.errors import printable
from service.offline.tables import Part, Table, TableError
from service.settings import Settings, SettingsError

if TYPE_CHECKING:
    from models.signature import TrustedKeys

__all__ = [
    "Counts",
    "ahead",
    "check_destination",
    "chosen_bundle",
    "classify_table",
    "destination",
    "open_model",
    "trusted_keys",
    "verdicts_of",
    "writing",
]

_AHEAD = 2
"""Parts that are read ahead."""
_GROUP = 1 << 17
"""Rows of a Parquet row group, except the last, at least."""
_ENDINGS = (".csv", ".csv.gz", ".parquet")

_Item = TypeVar("_Item")


@dataclass(slots=True)
class Counts:
    """Counts of a table's rows.

    Attributes:
        labels: rows by verdict.
        faulty: rows without a verdict, because they do not fit.
    """

    labels: Counter[str] = field(default_factory=Counter)
    faulty: int = 0

    @property
    def records(self) -> int:
        """All rows."""
        return self.labels.total() + self.faulty


def open_model(bundle: Path | None) -> Model:
    """Load a bundle; from a folder of bundles, the one that a service would serve.

    Args:
        bundle: None for the one that `FAULTCUBE_BUNDLE` names, or else the one that ships.

    Raises:
        TableError: no bundle can be used.
    """
    try:
        return Model.load(chosen_bundle(bundle), trusted=trusted_keys())
    except BundleError as error:
        raise TableError(str(error)) from error


def trusted_keys() -> TrustedKeys | None:
    """Return the keys of `FAULTCUBE_TRUSTED_KEYS`, one of which must have signed a bundle.

    Raises:
        TableError: they cannot be used.
    """
    try:
        return Settings.read().trust()
    except SettingsError as error:
        raise TableError(str(error)) from error


def chosen_bundle(bundle: Path | None) -> Path:
    """Return the folder of a bundle; of a folder of bundles, that of the one that is served.

    Args:
        bundle: None for the one that `FAULTCUBE_BUNDLE` names, or else the one that ships.

    Raises:
        TableError: there is none.
    """
    try:
        return BundleRepository(Settings.read(bundle=bundle).shelf()).choice().folder
    except (SettingsError, RepositoryError) as error:
        raise TableError(str(error)) from error


def classify_table(
    model: Model,
    table: Table,
    out: Path | BinaryIO,
    *,
    adapt: Adaptation | None = None,
    distances: bool = False,
    report: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> Counts:
    """Classify every row of a table.

    Args:
        model: its schema is the one that the table was opened with.
        table: its rows.
        out: a new file whose ending names its format, as `destination` yields it, or a file object
            for CSV.
        adapt: the profile of the site that the table is from.
        distances: whether to write the distance to every class.
        report: whether to report rows that do not fit in place.
        progress: called with the share that is done, 0..1.

    Raises:
        TableError: the table cannot be read, a kept column cannot be written or, unless `report`,
            a row does not fit.
        OSError: the verdicts cannot be written.
    """
    if not _is_parquet(out):
        _check_csv(table)
    counts = Counts()
    with ExitStack() as stack:
        writer: _Writer | None = None
        for part in ahead(table.parts(report=report)):
            if adapt is not None:
                part.matrix = adapt(part.matrix)
            verdicts = verdicts_of(model, part, counts, distances=distances, report=report)
            if writer is None:
                writer = stack.enter_context(writing(out, verdicts.schema))
            writer.write(verdicts)
            progress(part.read)
    progress(1.0)
    return counts


def verdicts_of(
    model: Model, part: Part, counts: Counts, *, distances: bool, report: bool, first: int = 0
) -> pa.RecordBatch:
    """Return rows of the output: row number, kept columns, and those of an Arrow answer.

    Args:
        model: decides.
        part: some rows.
        counts: of the rows before, to which these are added.
        distances: whether to return the distance to every class.
        report: whether rows that do not fit are reported in place.
        first: number of the table's first row.
    """
    names, first = model.names, first + counts.records
    decisions = model.decide(part.matrix)
    counts.labels.update(dict.fromkeys([*names, UNKNOWN], 0))
    counts.labels.update(model.labels(decisions))
    counts.faulty += len(part.faults)
    faults: list[FieldError] | None = [*part.faults.values()] if report else None
    answer = verdict_batch(decisions, model, faults=faults)
    own = {"row": pa.array(np.arange(first, first + len(part)))}
    own |= {name: _flat(answer[name]) for name in answer.schema.names}
    if distances:
        spread = np.full((len(part), len(names)), np.nan, np.float32)
        spread[np.setdiff1d(np.arange(len(part)), [*part.faults])] = decisions.distances
        for name, column in zip(names, spread.T, strict=True):
            own[f"distance_{name}"] = pa.array(column, from_pandas=True)
    kept = {f"table_{n}" if n in own else n: _flat(column) for n, column in part.kept.items()}
    return pa.record_batch({"row": own.pop("row"), **kept, **own})


def _flat(column: pa.Array) -> pa.Array:
    flat = column.dictionary_decode() if pa.types.is_dictionary(column.type) else column
    # The library writes no CSV of views.
    return flat.cast(pa.string()) if flat.type == pa.string_view() else flat


def _is_parquet(out: Path | BinaryIO) -> TypeGuard[Path]:
    return isinstance(out, Path) and out.name.endswith(".parquet")


def _check_csv(table: Table) -> None:
    """Reject a column to keep that CSV cannot hold, such as a list or a struct."""
    for name, kind in table.kept.items():
        try:
            pa.csv.write_csv(pa.table([_flat(pa.nulls(1, kind))], [name]), io.BytesIO())
        except pa.ArrowException as error:
            raise TableError(
                f"{table.path}: column {name!r} is {printable(str(kind), 100)}, which CSV cannot "
                "hold; leave it out of --keep, or write to .parquet"
            ) from error


def ahead(items: Iterator[_Item]) -> Iterator[_Item]:
    """Yield the same items, which a thread makes a few ahead."""
    with ThreadPoolExecutor(1) as thread:
        futures = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        try:
            while (item := futures.popleft().result()) is not None:
                futures.append(thread.submit(next, items, None))
                yield item
        finally:
            thread.shutdown(wait=True, cancel_futures=True)


class _Writer:
    """Writes batches in groups of rows."""

    def __init__(self, writer: Any, group: int) -> None:
        self._writer, self._group = writer, group
        self._batches: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._batches.append(batch)
        if sum(batch.num_rows for batch in self._batches) >= self._group:
            self.flush()

    def flush(self) -> None:
        if self._batches:
            try:
                self._writer.write_table(pa.Table.from_batches(self._batches))
            except pa.ArrowNotImplementedError as error:
                why = printable(str(error), 200)
                raise TableError(
                    f"a column cannot be written; leave it out of --keep: {why}"
                ) from error
            self._batches = []


@contextmanager
def writing(out: Path | BinaryIO, schema: pa.Schema) -> Iterator[_Writer]:
    """Yield a writer of batches.

    Args:
        out: a file whose ending names its format, or a file object for CSV.
        schema: of the batches.
    """
    with ExitStack() as stack:
        if _is_parquet(out):
            made = pa.parquet.ParquetWriter(out, schema, compression="zstd")
        else:
            file: Any = out
            if isinstance(out, Path):
                gzip = "gzip" if out.name.endswith(".gz") else None
                file = stack.enter_context(pa.output_stream(out, compression=gzip))
            # Arrow would put every name into quotes.
            header = io.StringIO()
            csv.writer(header, lineterminator="\n").writerow(schema.names)
            file.write(header.getvalue().encode())
            options = pa.csv.WriteOptions(include_header=False)
            made = pa.csv.CSVWriter(file, schema, write_options=options)
        writer = _Writer(stack.enter_context(made), _GROUP if _is_parquet(out) else 1)
        yield writer
        writer.flush()


def check_destination(out: Path, endings: Sequence[str], *, force: bool) -> str:
    """Return the ending of a file to write: to be called before the work, see `destination`.

    Raises:
        TableError: `out` has another ending, or exists already.
    """
    ending = next((ending for ending in endings if out.name.lower().endswith(ending)), None)
    if ending is None:
        raise TableError(f"{out} ends in none of {', '.join(endings)}")
    if out.is_dir() or ((out.exists() or out.is_symlink()) and not force):
        raise TableError(f"{out} exists; give another --out, or --force")
    return ending


@contextmanager
def destination(out: Path, endings: Sequence[str] = _ENDINGS, *, force: bool) -> Iterator[Path]:
    """Yield a file to write to, which becomes `out` when it is complete; else nothing remains.

    Args:
        out: the file.
        endings: one of which its name must have.
        force: whether to replace a file that exists.

    Raises:
        TableError: `out` has another ending, exists already, or cannot be written.
    """
    ending = check_destination(out, endings, force=force)
    draft = out.with_name(f".{out.name}-{secrets.token_hex(4)}{ending}")
    try:
        draft.touch(exist_ok=False)
    except OSError as error:
        raise TableError(f"{out} cannot be written: {error.strerror}") from error
    try:
        yield draft
        draft.replace(out)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
