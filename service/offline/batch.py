"""A table in, a table of verdicts out, in one process: what `faultcube classify` does.

One thread reads and parses while the other asks the model and writes; a few parts are in memory at
a time, however long the table is.
"""

from __future__ import annotations

import csv
import io
import os
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet

from models import UNKNOWN, BundleError, Fault, Model
from service.bundles.repository import BundleRepository, RepositoryError
from service.formats.arrow_writer import verdict_batch
from service.offline.tables import Part, Table, TableError
from service.settings import Settings, SettingsError

__all__ = ["Counts", "classify_table", "destination", "open_model", "writing"]

_AHEAD = 2
"""Parts that are read while one is worked on."""
_GROUP = 1 << 17
"""Rows of a Parquet row group, at least, but for the last."""
_ENDINGS = (".csv", ".csv.gz", ".parquet")

_Kind = TypeVar("_Kind")


@dataclass(slots=True)
class Counts:
    """What became of a table's rows.

    Attributes:
        labels: rows by verdict.
        faulty: rows without one, because they do not fit.
    """

    labels: Counter[str] = field(default_factory=Counter)
    faulty: int = 0

    @property
    def records(self) -> int:
        """How many rows there were."""
        return self.labels.total() + self.faulty


def open_model(bundle: Path | None) -> Model:
    """Load a bundle, of a folder of bundles the one that a service would serve.

    Args:
        bundle: None for what `FAULTCUBE_BUNDLE` names, or else the one that ships.

    Raises:
        TableError: there is none that can be used.
    """
    try:
        folder = BundleRepository(Settings.read(bundle=bundle).bundle).choice().folder
        return Model.load(folder)
    except (SettingsError, RepositoryError, BundleError) as error:
        raise TableError(str(error)) from error


def classify_table(
    model: Model,
    table: Table,
    out: Path | BinaryIO,
    *,
    distances: bool = False,
    report: bool = False,
    progress: Callable[[float], None] = lambda _: None,
) -> Counts:
    """Classify every row of a table.

    Args:
        model: its schema is the one that the table was opened with.
        table: what to classify.
        out: a new file whose ending says what to write, as `destination` gives it, or where to
            write CSV to.
        distances: whether to write the distance to every class.
        report: whether a row that does not fit is told of in its place.
        progress: told how much is done, 0..1.

    Raises:
        TableError: the table cannot be read or, unless `report`, a row does not fit.
        OSError: what was found cannot be written.
    """
    counts = Counts()
    with ExitStack() as stack:
        writer: _Writer | None = None
        for part in _ahead(table.parts(report=report)):
            verdicts = _verdicts(model, part, counts, distances=distances, report=report)
            if writer is None:
                writer = stack.enter_context(writing(out, verdicts.schema))
            writer.write(verdicts)
            progress(part.read)
    progress(1.0)
    return counts


def _verdicts(
    model: Model, part: Part, counts: Counts, *, distances: bool, report: bool
) -> pa.RecordBatch:
    """The rows of the answer: the columns of an Arrow answer, their number and what is kept."""
    names, first = model.names, counts.records
    decisions = model.decide(part.matrix)
    places = np.where(decisions.accepted, decisions.nearest, len(names))
    found = np.bincount(places, minlength=len(names) + 1).tolist()
    counts.labels.update(dict(zip([*names, UNKNOWN], found, strict=True)))
    counts.faulty += len(part.faults)
    faults: list[Fault] | None = [*part.faults.values()] if report else None
    answer = verdict_batch(decisions, model, faults=faults)
    own = {"row": pa.array(np.arange(first, first + len(part)))}
    own |= {name: _flat(answer[name]) for name in answer.schema.names}
    if distances:
        every = np.full((len(part), len(names)), np.nan, np.float32)
        every[np.setdiff1d(np.arange(len(part)), [*part.faults])] = decisions.distances
        for name, column in zip(names, every.T, strict=True):
            own[f"distance_{name}"] = pa.array(column, from_pandas=True)
    kept = {f"table_{n}" if n in own else n: _flat(column) for n, column in part.kept.items()}
    return pa.record_batch({"row": own.pop("row"), **kept, **own})


def _flat(column: pa.Array) -> pa.Array:
    return column.dictionary_decode() if pa.types.is_dictionary(column.type) else column


def _ahead(items: Iterator[_Kind]) -> Iterator[_Kind]:
    """The same items, made by a thread of their own, a few ahead of who asks for them."""
    with ThreadPoolExecutor(1) as thread:
        waiting = deque(thread.submit(next, items, None) for _ in range(_AHEAD))
        try:
            while (item := waiting.popleft().result()) is not None:
                waiting.append(thread.submit(next, items, None))
                yield item
        finally:
            thread.shutdown(wait=True, cancel_futures=True)


class _Writer:
    """Writes batches, a row group at a time."""

    def __init__(self, writer: Any, group: int) -> None:
        self._writer, self._group = writer, group
        self._held: list[pa.RecordBatch] = []

    def write(self, batch: pa.RecordBatch) -> None:
        self._held.append(batch)
        if sum(held.num_rows for held in self._held) >= self._group:
            self.flush()

    def flush(self) -> None:
        if self._held:
            self._writer.write_table(pa.Table.from_batches(self._held))
            self._held = []


@contextmanager
def writing(out: Path | BinaryIO, schema: pa.Schema) -> Iterator[_Writer]:
    """A writer of batches.

    Args:
        out: a file whose ending says what to write, or where to write CSV to.
        schema: of the batches.
    """
    with ExitStack() as stack:
        if isinstance(out, Path) and out.name.endswith(".parquet"):
            made = pa.parquet.ParquetWriter(out, schema, compression="zstd")
            writer = _Writer(made, _GROUP)
        else:
            file: Any = out
            if isinstance(out, Path):
                gzip = "gzip" if out.name.endswith(".gz") else None
                file = stack.enter_context(pa.output_stream(out, compression=gzip))
            # Arrow would put every name into quotes.
            file.write(_line(schema.names))
            options = pa.csv.WriteOptions(include_header=False)
            made = pa.csv.CSVWriter(file, schema, write_options=options)
            writer = _Writer(made, 1)
        with made:
            yield writer
            writer.flush()


def _line(names: list[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(names)
    return text.getvalue().encode()


@contextmanager
def destination(out: Path, *, force: bool) -> Iterator[Path]:
    """A file to write to that becomes `out` once it is whole; nothing is left of it otherwise.

    Args:
        out: ends in .csv, .csv.gz or .parquet.
        force: whether a file that is there is replaced.

    Raises:
        TableError: `out` has another ending, is there already, or cannot be written.
    """
    if not out.name.lower().endswith(_ENDINGS):
        raise TableError(f"{out} ends in none of {', '.join(_ENDINGS)}")
    if out.is_dir() or ((out.exists() or out.is_symlink()) and not force):
        raise TableError(f"{out} exists; give another --out, or --force")
    ending = next(ending for ending in _ENDINGS if out.name.lower().endswith(ending))
    try:
        handle, name = tempfile.mkstemp(ending, f".{out.name}-", out.parent)
    except OSError as error:
        raise TableError(f"{out} cannot be written: {error.strerror}") from error
    draft = Path(name)
    try:
        os.fchmod(handle, 0o666 & ~_umask())
        os.close(handle)
        yield draft
        draft.replace(out)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
