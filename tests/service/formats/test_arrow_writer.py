from __future__ import annotations

import json

import numpy as np
import polars as pl
import pyarrow as pa

from models import FieldError
from service.formats.arrow_writer import embedding_batch, to_stream, verdict_batch
from tests.support.decisions import decided, named

NAMES = ["normal", "link-down", "overload"]
MODEL = named(NAMES, [True, False, False])
COLUMNS = {
    "label": ["normal", "link-down", "unknown", "unknown"],
    "good": [True, False, False, False],
    "distance": [0.25, 0.5, 0.75, 1.0],
    "confidence": [1.0, 0.5, 0.25, 0.125],
    "nearest": [None, None, "overload", "link-down"],
}
EVERY = np.arange(12, dtype=np.float32).reshape(4, 3)
FAULTS = [
    FieldError(0, "rx rate", "a finite number", "null"),
    FieldError(3, "link", "one of " + "x" * 5000, "a string"),
]


def read(batch: pa.RecordBatch) -> pa.Table:
    return pa.ipc.open_stream(to_stream(batch)).read_all()


def test_verdicts_come_back() -> None:
    table = read(verdict_batch(decided(), MODEL))
    table.validate(full=True)
    assert table.to_pydict() == COLUMNS
    assert table.schema.metadata == {b"bundle_name": b"toy", b"bundle_version": b"abc"}
    words = pa.dictionary(pa.int8(), pa.string())
    kinds = [words, pa.bool_(), pa.float32(), pa.float32(), words]
    assert table.schema.types == kinds


def test_distances_come_with_the_names_of_their_classes() -> None:
    table = read(verdict_batch(decided(EVERY), MODEL, distances=True))
    field = table.schema.field("distances")
    assert field.type == pa.list_(pa.float32(), 3)
    assert json.loads(field.metadata[b"classes"]) == NAMES
    assert table["distances"].to_pylist() == EVERY.tolist()


def test_records_without_a_verdict_have_an_error_in_their_place() -> None:
    table = read(verdict_batch(decided(EVERY), MODEL, distances=True, faults=FAULTS))
    table.validate(full=True)
    rows = [1, 2, 4, 5]
    for name, values in (COLUMNS | {"distances": EVERY.tolist()}).items():
        found = table[name].to_pylist()
        assert [found[row] for row in rows] == values
        assert [found[0], found[3]] == [None, None]
    first, second = table["error"][0].as_py(), table["error"][3].as_py()
    assert first == "field 'rx rate': expected a finite number, got null"
    assert len(second) < 300
    assert table["error"].null_count == 4


def test_a_report_without_a_fault_has_a_column_of_errors_too() -> None:
    table = read(verdict_batch(decided(), MODEL, faults=[]))
    assert table.to_pydict() == COLUMNS | {"error": [None] * 4}


def test_a_report_may_hold_nothing_but_faults() -> None:
    faults = [FieldError(i, None, "a record", "null") for i in range(3)]
    none = decided(EVERY)[:0]
    table = read(verdict_batch(none, MODEL, distances=True, faults=faults))
    assert table["error"].to_pylist() == ["expected a record, got null"] * 3


def test_embeddings_come_back() -> None:
    for faults in (None, FAULTS):
        table = read(embedding_batch(EVERY, MODEL, faults=faults))
        table.validate(full=True)
        assert table["embedding"].type == pa.list_(pa.float32(), 3)
        assert table["embedding"].drop_null().to_pylist() == EVERY.tolist()
        assert len(table) == 4 + len(faults or ())


def test_two_hundred_classes_have_room() -> None:
    names = [f"class {i}" for i in range(200)]
    decisions = decided(nearest=[0, 130, 199, 199])
    table = read(verdict_batch(decisions, named(names, [False] * 200)))
    assert table["label"].to_pylist() == ["class 0", "class 130", "unknown", "unknown"]
    assert table["nearest"].to_pylist() == [None, None, "class 199", "class 199"]


def test_polars_reads_what_is_written() -> None:
    frame = pl.read_ipc_stream(
        to_stream(verdict_batch(decided(EVERY), MODEL, distances=True, faults=FAULTS))
    )
    assert frame["label"].cast(pl.String).drop_nulls().to_list() == COLUMNS["label"]
    assert frame["distances"].drop_nulls().to_list() == EVERY.tolist()
    frame = pl.read_ipc_stream(to_stream(embedding_batch(EVERY, MODEL)))
    assert frame["embedding"].to_numpy().tolist() == EVERY.tolist()
