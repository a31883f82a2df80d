"""Export feedback and enrolled records as a table for training."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pyarrow as pa

from service.classes.database import Store
from service.offline.batch import destination, writing
from service.offline.tables import TableError

__all__ = ["write_feedback"]

_COLUMNS = ("label", "source", "time", "note", "label_severity")
_PAGE = 1000

Row = tuple[dict[str, Any], str, str, datetime | None, str, str | None]
"""A record, its label, its source, its time, a note, and the severity of an enrolled class."""


def write_feedback(
    store: Store, out: Path, *, enrolled: bool, force: bool
) -> tuple[dict[str, int], int]:
    """Write a row for each correction and each record of an enrolled class.

    Enrolled classes of good traffic are left out: a recipe has one good label, and a model would
    learn them as faults. They stay enrolled, whatever bundle is served.

    The columns are the records' fields in order of appearance, then `label`, `source` ("feedback"
    or "enrolled"), `time`, `note` and `label_severity` (of an enrolled class).

    Args:
        store: holds them.
        out: a new .csv, .csv.gz or .parquet file.
        enrolled: whether to write the records of enrolled classes, too.
        force: whether to replace a file that exists.

    Returns:
        The number of rows by source, and of records that are left out.

    Raises:
        StoreError: the database cannot be read.
        TableError: the file cannot be written, or there is nothing to write.
    """
    good = {name for name, stored in store.read().classes.items() if stored.good}
    found = [*_feedback(store), *(_support(store) if enrolled else ())]
    rows = [row for row in found if row[1] not in good]
    if not rows:
        raise TableError(
            "there is no feedback, and no enrolled class of faults: nothing was written"
        )
    names = list(dict.fromkeys(name for record, *_ in rows for name in record))
    if taken := [name for name in _COLUMNS if name in names]:
        raise TableError(f"a field is called {taken[0]!r}, as a column of the table has to be")
    columns = {name: _column([record.get(name) for record, *_ in rows]) for name in names}
    _, labels, sources, times, notes, severities = zip(*rows, strict=True)
    columns |= {
        "label": pa.array(labels, pa.string()),
        "source": pa.array(sources, pa.string()),
        "time": pa.array([time and time.isoformat() for time in times], pa.string()),
        "note": pa.array(notes, pa.string()),
        "label_severity": pa.array(severities, pa.string()),
    }
    batch = pa.record_batch(columns)
    with destination(out, force=force) as draft, writing(draft, batch.schema) as writer:
        writer.write(batch)
    counts = {source: sources.count(source) for source in dict.fromkeys(sources)}
    return counts, len(found) - len(rows)


def _feedback(store: Store) -> Iterator[Row]:
    last = 0
    while page := store.feedback(after=last, limit=_PAGE):
        for entry in page:
            yield entry.record, entry.true_label, "feedback", entry.at, entry.note, None
        last = page[-1].id


def _support(store: Store) -> Iterator[Row]:
    for stored in store.read().classes.values():
        if stored.hidden:  # as somebody wanted it: nothing is to be learned of it
            continue
        for support in stored.records:
            description, severity = stored.description, stored.severity
            yield support.record, stored.name, "enrolled", None, description, severity


def _column(values: list[Any]) -> pa.Array:
    """Make a column of booleans or numbers; of text if a field held several kinds."""
    kinds = {type(value) for value in values if value is not None}
    if kinds <= {bool}:
        return pa.array(values, pa.bool_())
    if kinds <= {int, float}:
        return pa.array([None if value is None else float(value) for value in values], pa.float64())
    return pa.array([None if value is None else str(value) for value in values], pa.string())
