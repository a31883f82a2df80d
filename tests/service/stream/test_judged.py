"""Batches of judged records, as they are on the log."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from numpy.typing import NDArray

from service.formats.errors import MalformedInputError
from service.incidents.incident import Judged
from service.stream.judged import ROWS, Batch, rows_of


def batch_of(records: int, skipped: NDArray[np.bool_] | None = None) -> Batch:
    times = np.arange(records, dtype=np.float64)
    labels = ["down" if at % 3 == 0 else "normal" for at in range(records)]
    points = np.full((records, 2), 0.5, np.float32)
    judged = Judged(times, [f"r{at}" for at in range(records)], labels, points, skipped)
    bad = np.array([label == "down" for label in labels])
    rows = rows_of(judged, np.ones((records, 4), np.float32), bad, floor=2.0)
    return Batch("points/3", (17, 1, 0), 5.0, "v1", rows)


def test_a_batch_is_read_as_it_was_written() -> None:
    batch = batch_of(5)
    read = Batch.read(batch.to_bytes())

    assert read.rows.equals(batch.rows)
    assert (read.source, read.place, read.watermark, read.bundle) == (
        *("points/3", (17, 1, 0), 5.0, "v1"),
    )
    assert read.rows["stamp"].to_pylist() == [2.0, 2.0, 2.0, 3.0, 4.0]
    assert [data is None for data in read.rows["record"].to_pylist()] == [
        *(False, True, True, False, True),
    ]


def test_records_that_say_nothing_of_incidents_are_left_out() -> None:
    batch = batch_of(4, np.array([True, False, True, False]))

    assert batch.rows["key"].to_pylist() == ["r1", "r3"]
    assert batch.rows["label"].to_pylist() == ["normal", "down"]
    assert [data is None for data in batch.rows["embedding"].to_pylist()] == [True, False]


def test_a_batch_without_records_says_how_far_a_partition_is() -> None:
    read = Batch.read(Batch("points/3", None, 7.0, "v1", Batch.nothing()).to_bytes())

    assert read.place is None
    assert read.watermark == 7.0
    assert not len(read.rows)


def test_a_large_batch_comes_in_parts_of_which_the_last_tells_the_watermark() -> None:
    batch = batch_of(2500)
    parts = [*batch.parts(before=1.0)]

    assert [part.place for part in parts] == [(17, 1, 0), (17, 1, 1), (17, 1, 2)]
    assert [part.watermark for part in parts] == [1.0, 1.0, 5.0]
    assert pa.concat_tables([part.rows for part in parts]).equals(batch.rows)
    assert max(len(part.to_bytes()) for part in parts) < 1_000_000


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="nothing"),
        pytest.param(b"\xff" * 100, id="noise"),
        pytest.param(batch_of(3).to_bytes()[:200], id="cut off"),
    ],
)
def test_something_else_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedInputError, match=r"^No batch of judged records: "):
        Batch.read(data)


def test_a_stream_of_other_columns_or_without_a_source_is_refused() -> None:
    for schema in (ROWS, pa.schema([("x", pa.int8())])):
        sink = pa.BufferOutputStream()
        with pa.ipc.new_stream(sink, schema) as writer:
            writer.write_table(schema.empty_table())
        with pytest.raises(MalformedInputError, match=r"^No batch of judged records: "):
            Batch.read(sink.getvalue().to_pybytes())


def test_wide_records_come_in_more_parts_than_narrow_ones() -> None:
    times, points = np.arange(900.0), np.full((900, 500), 0.5, np.float32)
    judged = Judged(times, [f"r{at}" for at in range(900)], ["down"] * 900, points)
    rows = rows_of(judged, np.ones((900, 300), np.float32), np.ones(900, np.bool_), floor=0.0)
    parts = [*Batch("points/3", (17, 1, 0), 5.0, "v1", rows).parts(before=1.0)]

    assert pa.concat_tables([part.rows for part in parts]).equals(rows)
    assert [part.watermark for part in parts] == [1.0] * (len(parts) - 1) + [5.0]
    sizes = [len(part.to_bytes()) for part in parts]
    assert min(sizes[:-1]) > 300_000
    assert max(sizes) < 700_000
