from __future__ import annotations

import io
import struct
import time
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Field, RecordError, Schema
from models.schema import UNSEEN
from service.formats.arrow_reader import read
from service.formats.chunk import CHUNK_RECORDS
from service.formats.errors import MalformedInputError
from tests.support.streams import (
    GOOD,
    INF,
    NAN,
    ROW,
    SCHEMA,
    TYPES,
    batch,
    chunks,
    errors,
    matrix,
    stream,
)

VALUES: dict[str, st.SearchStrategy[Any]] = {
    "loss": st.none() | st.floats(),
    "rx rate": st.none() | st.floats(),
    "up": st.none() | st.booleans(),
    "link": st.none() | st.sampled_from(["fiber", "radio", "", "copper", "a" * 20]),
    "vendor": st.none() | st.sampled_from(["a", "b", "", "other", "a" * 20]),
}
RECORDS = st.lists(
    st.fixed_dictionaries(VALUES) | st.just(GOOD), min_size=1, max_size=2 * CHUNK_RECORDS + 10
)
STRINGS = [
    pa.string(),
    pa.large_string(),
    pa.string_view(),
    pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
    pa.dictionary(pa.uint8(), pa.string_view()),
]


def nan_is_missing(record: dict[str, Any]) -> dict[str, Any]:
    loss = record["loss"]
    return record | {"loss": None if loss is not None and np.isnan(loss) else loss}


@settings(deadline=None, max_examples=100)
@given(
    records=RECORDS,
    strings=st.sampled_from(STRINGS),
    order=st.permutations(SCHEMA.names),
    size=st.integers(1, 600),
)
def test_a_stream_is_taken_exactly_when_the_schema_takes_its_records(
    records: list[dict[str, Any]], strings: pa.DataType, order: list[str], size: int
) -> None:
    types = TYPES | {"link": strings, "vendor": strings}
    columns = {name: [record[name] for record in records] for name in order}
    table = pa.table({name: _array(values, types[name]) for name, values in columns.items()})
    body = stream(*table.to_batches(max_chunksize=size))
    try:
        expected = SCHEMA.encode([nan_is_missing(record) for record in records])
    except RecordError:
        found = [(each["record"], each["field"], each["got"]) for each in errors(body)]
        first = chunks(body, report=True)
        told = [fault for chunk in first for fault in chunk.faults.values()]
        bad = [i for i, record in enumerate(records) if not _fits(record)]
        assert [fault.record for fault in told] == bad
        assert found[0] == (told[0].record, told[0].field, told[0].got)
        _check_faults(records, found)
        good = SCHEMA.encode([nan_is_missing(r) for r in records if _fits(r)])
        np.testing.assert_array_equal(np.concatenate([each.matrix for each in first]), good)
        return
    np.testing.assert_array_equal(matrix(body), expected)


EXTRA = [
    pa.array([1]),
    pa.array([None], pa.null()),
    pa.array([["s3cr3t"]]),
    pa.array([{"a": {"b": 1}}]),
    pa.array(["word"]).dictionary_encode(),
    pa.array(["a view that is longer than twelve"], pa.string_view()),
    pa.RunEndEncodedArray.from_arrays([1], [2.5]),
]


@settings(deadline=None)
@given(
    records=RECORDS,
    extra=st.lists(st.tuples(st.sampled_from(EXTRA), st.sampled_from(["x", "y", "else"]))),
    order=st.randoms(),
    report=st.booleans(),
)
def test_columns_that_are_ignored_change_nothing(
    records: list[dict[str, Any]], extra: list[tuple[pa.Array, str]], order: Any, report: bool
) -> None:
    rows = {name: _array([r[name] for r in records], TYPES[name]) for name in SCHEMA.names}
    columns = [*rows.items(), *((name, pa.concat_arrays([a] * len(records))) for a, name in extra)]
    order.shuffle(columns)
    names, arrays = [name for name, _ in columns], [array for _, array in columns]
    assert _outcome(stream(pa.record_batch(arrays, names)), report=report) == _outcome(
        stream(pa.record_batch(rows)), report=report
    )


def _outcome(body: bytes, *, report: bool) -> list[Any]:
    try:
        found = chunks(body, report=report, ignore_extra=True)
    except RecordError as error:
        return [*error.faults]
    return [(chunk.faults, str(chunk.matrix.tolist())) for chunk in found]


def test_a_column_that_is_ignored_replaces_none_of_the_schema() -> None:
    body = stream(batch(up=None, Up=pa.array([True])))
    with pytest.raises(RecordError, match="field 'up': expected a column of bool"):
        chunks(body, ignore_extra=True)
    one = batch(other=pa.array([1]))
    twice = pa.record_batch([*one.columns, one.column("up")], [*one.schema.names, "up"])
    with pytest.raises(RecordError, match="field 'up': expected one column"):
        chunks(stream(twice), ignore_extra=True)


def _array(values: list[Any], kind: pa.DataType) -> pa.Array:
    if pa.types.is_dictionary(kind):
        held = pa.array(values, pa.string()).dictionary_encode()
        words = held.dictionary.cast(kind.value_type)
        return pa.DictionaryArray.from_arrays(held.indices.cast(kind.index_type), words)
    return pa.array(values, kind, from_pandas=False)


def _fits(record: dict[str, Any]) -> bool:
    try:
        SCHEMA.encode([nan_is_missing(record)])
    except RecordError:
        return False
    return True


def _check_faults(records: list[dict[str, Any]], found: list[tuple[int, str, str]]) -> None:
    for place, field, got in found:
        with pytest.raises(RecordError) as refusal:
            SCHEMA.encode([nan_is_missing(records[place])])
        assert (field, got) in [(fault.field, fault.got) for fault in refusal.value.faults]


@pytest.mark.parametrize(
    ("column", "array", "got"),
    [
        ("rx_rate", pa.array([None], pa.float64()), "null"),
        ("rx_rate", pa.array([None], pa.int64()), "null"),
        ("rx_rate", pa.nulls(1), "null"),
        ("rx_rate", pa.array([NAN]), "NaN"),
        ("rx_rate", pa.array([np.float16(NAN)]), "NaN"),
        ("rx_rate", pa.array([INF]), "an infinite number"),
        ("rx_rate", pa.array([-INF], pa.float32()), "an infinite number"),
        ("rx_rate", pa.array([1e39]), "a number beyond ±3.4e+38"),
        ("loss", pa.array([-1e39]), "a number beyond ±3.4e+38"),
        ("loss", pa.array([INF]), "an infinite number"),
        ("up", pa.array([None], pa.bool_()), "null"),
        ("up", pa.nulls(1), "null"),
        ("link", pa.array(["copper"]), "a string"),
        ("link", pa.array(["copper that is long"], pa.string_view()), "a string"),
        ("link", pa.array(["copper"]).dictionary_encode(), "a string"),
        ("link", pa.array([None], pa.large_string()), "null"),
        ("link", pa.array([None], pa.string()).dictionary_encode(), "null"),
        ("link", pa.DictionaryArray.from_arrays([0], pa.array([None], pa.string())), "null"),
        ("link", pa.nulls(1), "null"),
    ],
)
def test_a_value_that_does_not_fit_is_named_with_what_it_is(
    column: str, array: pa.Array, got: str
) -> None:
    name = column.replace("_", " ")
    body = stream(batch(), batch(**{column: array})) if array.type == TYPES[name] else None
    (error,) = errors(body or stream(batch(**{column: array})))
    assert error["record"] == (0 if body is None else 1)
    assert (error["field"], error["got"]) == (name, got)
    assert error["expected"] == SCHEMA[name].expected


def test_a_number_is_bounded_exactly() -> None:
    largest = float(np.finfo(np.float32).max)
    beyond = float(np.nextafter(largest, INF))
    found = matrix(stream(batch(2, rx_rate=pa.array([largest, -largest]))))
    assert found[:, 1].tolist() == [largest, -largest]
    for number in (beyond, -beyond):
        (error,) = errors(stream(batch(2, rx_rate=pa.array([largest, number]))))
        assert (error["record"], error["got"]) == (1, "a number beyond ±3.4e+38")


def test_faults_are_told_by_their_place_in_the_whole_request() -> None:
    rates = [2.5] * 5000
    for place in (300, 301, 4999):
        rates[place] = INF
    body = stream(batch(5000, rx_rate=pa.array(rates)), batch(1, rx_rate=pa.array([INF])))
    assert [error["record"] for error in errors(body)] == [300, 301]
    found = chunks(body, report=True)
    assert max(map(len, found)) == CHUNK_RECORDS
    starts = np.cumsum([0, *map(len, found)])
    for start, chunk in zip(starts, found, strict=False):
        assert all(fault.record == start + place for place, fault in chunk.faults.items())
    told = [fault.record for chunk in found for fault in chunk.faults.values()]
    assert told == [300, 301, 4999, 5000]
    assert sum(len(chunk.matrix) for chunk in found) == 5001 - 4


def test_at_most_ten_faults_are_told_when_none_may_be() -> None:
    body = stream(batch(100, rx_rate=pa.nulls(100), up=pa.nulls(100)))
    assert [error["record"] for error in errors(body)] == [i // 2 for i in range(10)]


@pytest.mark.parametrize("numbers", [0, 51])
def test_records_must_be_within_bounds(numbers: int) -> None:
    got = "more of them" if numbers else "an empty stream"
    wanted = {"field": "records", "expected": "a list of 1 to 50 records", "got": got}
    assert errors(stream(batch(numbers)), 50) == [wanted]
    assert len(matrix(stream(batch(20), batch(0), batch(30)), 50)) == 50
    assert errors(stream(batch(20), batch(31)), 50)[0]["expected"] == wanted["expected"]


@pytest.mark.parametrize("content_length", [7, 51, 1 << 40, (1 << 63) - 1, -1, -(1 << 63)])
def test_records_that_take_no_room_are_counted_before_they_are_believed(
    content_length: int,
) -> None:
    schema = Schema([Field(name="loss", kind="gauge", required=False)])
    nothing = pa.table({"loss": pa.nulls(77_777)})
    for table in (nothing, nothing.select([])):
        body = stream(*table.to_batches())
        body = body.replace(struct.pack("<q", 77_777), struct.pack("<q", content_length))
        if content_length == 7:
            (chunk,) = read(body, schema, 50)
            np.testing.assert_array_equal(chunk.matrix, np.full((7, 1), NAN))
        else:
            with pytest.raises(MalformedInputError if content_length < 0 else RecordError):
                list(read(body, schema, 50))


def test_a_schema_without_a_batch_is_refused() -> None:
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, batch().schema).close()
    assert errors(bytes(sink.getvalue()))[0]["got"] == "an empty stream"


@pytest.mark.alone
def test_batches_without_a_record_are_read_over_but_not_for_ever() -> None:
    (chunk,) = chunks(stream(batch(0), batch(), batch(0)))
    np.testing.assert_array_equal(chunk.matrix, [ROW])
    start = time.perf_counter()
    with pytest.raises(MalformedInputError, match="more than 100 batches"):
        chunks(stream(*[batch(0)] * 20_000))
    assert time.perf_counter() - start < 2


def test_a_stream_of_ten_thousand_records_is_read_without_a_copy_of_it() -> None:
    columns = {f"f{i}": np.random.default_rng(i).random(10_000) for i in range(46)}
    schema = Schema([Field(name=name, kind="gauge") for name in columns])
    body = stream(*pa.table(columns).to_batches())
    tracemalloc.start()
    try:
        for chunk in read(body, schema, 10_000):
            assert len(chunk) <= CHUNK_RECORDS
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 1 << 20


FRAME = pl.DataFrame(
    {
        "vendor": ["a", None, "a vendor that is not known"],
        "loss": [1.5, None, NAN],
        "rx rate": [1, 2, 3],
        "up": [True, False, True],
        "link": ["fiber", "radio", ""],
    }
)
FRAME_MATRIX = [[1.5, 1, 1, 0, 0], [NAN, 2, 0, 1, NAN], [NAN, 3, 1, 2, UNSEEN]]


@pytest.mark.parametrize(
    "change",
    [
        lambda frame: frame,
        lambda frame: frame.cast({"link": pl.Categorical, "vendor": pl.Categorical}),
        lambda frame: frame.cast({"link": pl.Enum(["radio", "", "fiber", "copper"])}),
        lambda frame: frame.cast({"loss": pl.Float32, "rx rate": pl.UInt8}),
        lambda frame: frame.cast({"rx rate": pl.Decimal(10, 3)}),
        lambda frame: pl.concat([frame[:1], frame[1:]], rechunk=False),
        lambda frame: pl.concat([frame, frame])[3:],
    ],
)
@pytest.mark.parametrize("level", ["newest", "oldest"])
def test_what_polars_writes_is_read(change: Callable[[Any], Any], level: Any) -> None:
    made = pl.CompatLevel.newest() if level == "newest" else pl.CompatLevel.oldest()
    body = io.BytesIO()
    change(FRAME).write_ipc_stream(body, compat_level=made)
    np.testing.assert_array_equal(matrix(body.getvalue()), FRAME_MATRIX)
