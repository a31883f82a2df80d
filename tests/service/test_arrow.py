from __future__ import annotations

import io
import json
import struct
import time
import tracemalloc
from collections.abc import Callable
from decimal import Decimal
from typing import Any

import numpy as np
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models import Fault, Field, RecordError, Schema
from models.schema import UNSEEN
from service.arrow import read, write_embeddings, write_verdicts
from service.piece import PIECE_RECORDS, Piece
from service.problems import Problem, Unfit, Unreadable

NAN, INF = float("nan"), float("inf")
SCHEMA = Schema(
    [
        Field(name="loss", kind="gauge", unit="%", required=False),
        Field(name="rx rate", kind="rate"),
        Field(name="up", kind="boolean"),
        Field(name="link", kind="category", categories=("fiber", "radio", "")),
        Field(name="vendor", kind="category", categories=("a", "b"), open=True, required=False),
    ]
)
GOOD: dict[str, Any] = {"loss": None, "rx rate": 2.5, "up": True, "link": "radio", "vendor": "c"}
TYPES = {
    "loss": pa.float64(),
    "rx rate": pa.float64(),
    "up": pa.bool_(),
    "link": pa.string(),
    "vendor": pa.string(),
}
ROW = [NAN, 2.5, 1, 1, UNSEEN]


def stream(*batches: pa.RecordBatch, **options: Any) -> bytes:
    sink = pa.BufferOutputStream()
    written = pa.ipc.IpcWriteOptions(**options)
    with pa.ipc.new_stream(sink, batches[0].schema, options=written) as writer:
        for batch in batches:
            writer.write_batch(batch)
    return bytes(sink.getvalue())


def batch(rows: int = 1, **columns: pa.Array | None) -> pa.RecordBatch:
    """A batch of good records, with other columns in place of some; None leaves one out."""
    arrays = {
        name: pa.array([value] * rows, TYPES[name]) for name, value in GOOD.items()
    } | {name.replace("_", " "): array for name, array in columns.items()}  # fmt: skip
    kept = {name: array for name, array in arrays.items() if array is not None}
    return pa.record_batch([*kept.values()], [*kept])


def pieces(body: bytes, most: int = 10_000, *, report: bool = False) -> list[Piece]:
    return list(read(body, SCHEMA, most, report=report))


def matrix(body: bytes, most: int = 10_000) -> Any:
    return np.concatenate([piece.matrix for piece in pieces(body, most)])


def errors(body: bytes, most: int = 10_000) -> list[dict[str, Any]]:
    with pytest.raises(Unfit) as refusal:
        pieces(body, most)
    return refusal.value.errors


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "loss": st.none() | st.floats(),
    "rx rate": st.none() | st.floats(),
    "up": st.none() | st.booleans(),
    "link": st.none() | st.sampled_from(["fiber", "radio", "", "copper", "a" * 20]),
    "vendor": st.none() | st.sampled_from(["a", "b", "", "other", "a" * 20]),
}
RECORDS = st.lists(
    st.fixed_dictionaries(VALUES) | st.just(GOOD), min_size=1, max_size=2 * PIECE_RECORDS + 10
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
        first = pieces(body, report=True)
        told = [fault for piece in first for fault in piece.faults.values()]
        bad = [i for i, record in enumerate(records) if not _fits(record)]
        assert [fault.record for fault in told] == bad
        assert found[0] == (told[0].record, told[0].field, told[0].got)
        _check_faults(records, found)
        good = SCHEMA.encode([nan_is_missing(r) for r in records if _fits(r)])
        np.testing.assert_array_equal(np.concatenate([each.matrix for each in first]), good)
        return
    np.testing.assert_array_equal(matrix(body), expected)


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
    "kind",
    [
        *(pa.int8(), pa.int16(), pa.int32(), pa.int64(), pa.uint8(), pa.uint16(), pa.uint32()),
        *(pa.uint64(), pa.float16(), pa.float32(), pa.float64()),
    ],
)
def test_a_number_may_be_of_any_width(kind: pa.DataType) -> None:
    value = np.float16(3) if pa.types.is_float16(kind) else 3
    rate, loss = pa.array([value, value], kind), pa.array([value, None], kind)
    found = matrix(stream(batch(2, rx_rate=rate, loss=loss)))
    np.testing.assert_array_equal(found[:, :2], [[3, 3], [NAN, 3]])


@pytest.mark.parametrize("kind", [pa.decimal32(5, 1), pa.decimal128(20, 1), pa.decimal256(60, 1)])
def test_a_number_may_be_a_decimal(kind: pa.DataType) -> None:
    rate = pa.array([Decimal("1.5"), Decimal("-2.5")], kind)
    assert matrix(stream(batch(2, rx_rate=rate)))[:, 1].tolist() == [1.5, -2.5]
    huge = pa.array([Decimal(10) ** 50], pa.decimal256(60, 1))
    assert errors(stream(batch(rx_rate=huge)))[0]["got"] == "a number beyond ±3.4e+38"


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
    found = pieces(body, report=True)
    assert max(map(len, found)) == PIECE_RECORDS
    starts = np.cumsum([0, *map(len, found)])
    for start, piece in zip(starts, found, strict=False):
        assert all(fault.record == start + place for place, fault in piece.faults.items())
    told = [fault.record for piece in found for fault in piece.faults.values()]
    assert told == [300, 301, 4999, 5000]
    assert sum(len(piece.matrix) for piece in found) == 5001 - 4


def test_at_most_ten_faults_are_told_when_none_may_be() -> None:
    body = stream(batch(100, rx_rate=pa.nulls(100), up=pa.nulls(100)))
    assert [error["record"] for error in errors(body)] == [i // 2 for i in range(10)]


@pytest.mark.parametrize(
    ("columns", "field", "got"),
    [
        ({"rx_rate": None}, "rx rate", "no such column"),
        ({"link": None}, "link", "no such column"),
        ({"other": pa.array([1])}, "other", "a column it does not have"),
        ({"rx_rate": pa.array(["1"])}, "rx rate", "a column of string"),
        ({"rx_rate": pa.array([True])}, "rx rate", "a column of bool"),
        ({"rx_rate": pa.array([1]).dictionary_encode()}, "rx rate", "a column of dictionary"),
        ({"rx_rate": pa.array([1], pa.timestamp("s"))}, "rx rate", "a column of timestamp"),
        ({"up": pa.array([1])}, "up", "a column of int64"),
        ({"up": pa.array([1], pa.int8()).cast(pa.bool8())}, "up", "a column of another type"),
        ({"link": pa.array([1])}, "link", "a column of int64"),
        ({"link": pa.array([b"fiber"])}, "link", "a column of binary"),
        ({"link": pa.array([1]).dictionary_encode()}, "link", "a column of dictionary"),
        ({"link": pa.array([["s3cr3t"]])}, "link", "a column of list"),
        ({"vendor": pa.array([{"s3cr3t": "a"}])}, "vendor", "a column of struct"),
        ({"vendor": pa.array(["a"]).cast(pa.json_())}, "vendor", "a column of another type"),
        (
            {"loss": pa.RunEndEncodedArray.from_arrays([1], [2.5])},
            "loss",
            "a column of run_end_encoded",
        ),
    ],
)
def test_a_column_that_does_not_fit_is_named_with_what_it_is(
    columns: dict[str, pa.Array], field: str, got: str
) -> None:
    (error,) = errors(stream(batch(**columns)))
    assert error["field"] == field
    assert error["got"] == got
    assert "s3cr3t" not in str(error)
    assert "record" not in error


def test_a_column_that_is_there_twice_is_refused() -> None:
    one = batch()
    twice = pa.record_batch([*one.columns, one.column("up")], [*one.schema.names, "up"])
    (error,) = errors(stream(twice))
    assert (error["field"], error["expected"]) == ("up", "one column")


def test_a_column_that_is_not_required_may_be_absent_or_of_nulls() -> None:
    expected = [[NAN, 2.5, 1, 1, NAN]]
    np.testing.assert_array_equal(matrix(stream(batch(loss=None, vendor=None))), expected)
    body = stream(batch(loss=pa.nulls(1), vendor=pa.nulls(1)))
    np.testing.assert_array_equal(matrix(body), expected)


def test_nan_in_a_column_that_is_not_required_is_missing() -> None:
    body = stream(batch(2, loss=pa.array([NAN, 1.5])))
    np.testing.assert_array_equal(matrix(body)[:, 0], [NAN, 1.5])


@pytest.mark.parametrize("numbers", [0, 51])
def test_records_must_be_within_bounds(numbers: int) -> None:
    got = "more of them" if numbers else "an empty stream"
    wanted = {"field": "records", "expected": "a list of 1 to 50 records", "got": got}
    assert errors(stream(batch(numbers)), 50) == [wanted]
    assert len(matrix(stream(batch(20), batch(0), batch(30)), 50)) == 50
    assert errors(stream(batch(20), batch(31)), 50)[0]["expected"] == wanted["expected"]


@pytest.mark.parametrize("announced", [7, 51, 1 << 40, (1 << 63) - 1, -1, -(1 << 63)])
def test_records_that_take_no_room_are_counted_before_they_are_believed(announced: int) -> None:
    schema = Schema([Field(name="loss", kind="gauge", required=False)])
    nothing = pa.table({"loss": pa.nulls(77_777)})
    for table in (nothing, nothing.select([])):
        body = stream(*table.to_batches())
        body = body.replace(struct.pack("<q", 77_777), struct.pack("<q", announced))
        if announced == 7:
            (piece,) = read(body, schema, 50)
            np.testing.assert_array_equal(piece.matrix, np.full((7, 1), NAN))
        else:
            with pytest.raises(Unreadable if announced < 0 else Unfit):
                list(read(body, schema, 50))


def test_a_schema_without_a_batch_is_refused() -> None:
    sink = pa.BufferOutputStream()
    pa.ipc.new_stream(sink, batch().schema).close()
    assert errors(bytes(sink.getvalue()))[0]["got"] == "an empty stream"


def test_batches_without_a_record_are_read_over_but_not_for_ever() -> None:
    (piece,) = pieces(stream(batch(0), batch(), batch(0)))
    np.testing.assert_array_equal(piece.matrix, [ROW])
    start = time.perf_counter()
    with pytest.raises(Unreadable, match="more than 100 batches"):
        pieces(stream(*[batch(0)] * 20_000))
    assert time.perf_counter() - start < 2


@pytest.mark.parametrize("codec", ["lz4", "zstd"])
def test_compressed_buffers_are_refused_before_they_are_inflated(codec: str) -> None:
    rows = 4_000_000
    columns = [pa.repeat(2.5, rows)] * 2 + [pa.repeat(True, rows)] + [pa.nulls(rows)] * 2
    bomb = stream(pa.record_batch(columns, SCHEMA.names), compression=codec)
    assert len(bomb) < 1 << 20
    words = pa.array(["fiber"] * 4).dictionary_encode()
    for body in (bomb, stream(batch(4, link=words), compression=codec)):
        before = pa.total_allocated_bytes()
        with pytest.raises(Unreadable, match="compressed buffers"):
            pieces(body, most=10_000_000)
        assert pa.total_allocated_bytes() - before < 1 << 20


def test_buffers_compressed_as_of_old_are_refused_too() -> None:
    sink = pa.BufferOutputStream()
    options = pa.ipc.IpcWriteOptions(metadata_version=pa.ipc.MetadataVersion.V4)
    with pa.ipc.new_stream(sink, batch().schema, options=options) as writer:
        writer.write_batch(batch())
        writer.write_batch(batch(), {"ARROW:experimental_compression": "zstd"})
    with pytest.raises(Unreadable, match="compressed buffers"):
        pieces(bytes(sink.getvalue()))


def test_old_versions_of_the_format_are_read() -> None:
    for options in (
        {"metadata_version": pa.ipc.MetadataVersion.V4},
        {"metadata_version": pa.ipc.MetadataVersion.V4, "use_legacy_format": True},
    ):
        np.testing.assert_array_equal(matrix(stream(batch(), **options)), [ROW])


def test_a_dictionary_may_be_sent_anew_but_not_grow() -> None:
    one = batch(3, link=pa.array(["fiber", None, "radio"]).dictionary_encode(), loss=None)
    more = batch(2, link=pa.array(["radio", "fiber"]).dictionary_encode(), loss=None)
    with pytest.raises(Unfit, match=r"record 1, field 'link': .* got null"):
        matrix(stream(one, more))
    good = batch(3, link=pa.array(["fiber", "", "radio"]).dictionary_encode(), loss=None)
    assert matrix(stream(good, more, good))[:, 3].tolist() == [0, 2, 1, 1, 0, 0, 2, 1]
    words = pa.array(["fiber", "radio"])
    small = batch(link=pa.DictionaryArray.from_arrays([0], words[:1]))
    grown = batch(link=pa.DictionaryArray.from_arrays([1], words))
    with pytest.raises(Unreadable, match="a dictionary that grows"):
        pieces(stream(small, grown, emit_dictionary_deltas=True))


def test_a_dictionary_of_many_strings_is_refused() -> None:
    words = pa.array([str(i) for i in range(70_000)])
    column = pa.DictionaryArray.from_arrays(pa.array([0], pa.int32()), words)
    (error,) = errors(stream(batch(vendor=column)))
    assert error["field"] == "vendor"
    assert error["got"] == "70000 strings"


def test_places_that_a_dictionary_does_not_have_are_refused() -> None:
    words = pa.array(["fiber", "radio"])
    for kind, value in ((pa.int8(), 2), (pa.int8(), -1), (pa.uint64(), 2**64 - 1)):
        indices = pa.array([0, value], kind)
        column = pa.DictionaryArray.from_arrays(indices, words, safe=False)
        with pytest.raises(Unreadable, match="a dictionary does not have"):
            pieces(stream(batch(2, link=column)))


def test_many_views_of_one_long_string_cost_no_more_than_one() -> None:
    views = np.zeros((10_000, 4), np.int32)
    views[:, 0] = 1 << 20
    views[:, 1] = int.from_bytes(b"aaaa", "little")
    buffers = [None, pa.py_buffer(views), pa.py_buffer(b"a" * (1 << 20))]
    column = pa.Array.from_buffers(pa.string_view(), 10_000, buffers)
    words = pa.DictionaryArray.from_arrays([1] * 10_000, column)
    for vendor in (column, words):
        body = stream(batch(10_000, vendor=vendor))
        before, start = pa.total_allocated_bytes(), time.perf_counter()
        assert set(matrix(body)[:, 4].tolist()) == {UNSEEN}
        assert pa.total_allocated_bytes() - before < 1 << 22
        assert time.perf_counter() - start < 1


def test_strings_that_are_not_what_they_say_are_refused() -> None:
    rows = 3
    offsets = pa.py_buffer(np.array([0, 5, 4000, 10], np.int32))
    outside = pa.Array.from_buffers(pa.string(), rows, [None, offsets, pa.py_buffer(b"fiberradio")])
    latin = pa.array([b"fiber", b"\xff", b""]).view(pa.string())
    headers = np.array([[20, 0, 0, 999], [5, 0, 0, 0], [-1, 0, 0, 0]], np.int32)
    viewed = [None, pa.py_buffer(headers), pa.py_buffer(b"x" * 20)]
    views = pa.Array.from_buffers(pa.string_view(), rows, viewed)
    schema = Schema([Field(name="a", kind="category", categories=("a", "b" * 30), open=True)])
    for column in (outside, latin, views, pa.DictionaryArray.from_arrays([0, 0, 0], latin)):
        with pytest.raises(Unreadable, match="corrupt"):
            list(read(stream(pa.record_batch([column], ["a"])), schema, 50))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\x00" * 8,
        b"\xff\xff\xff\xff\x00\x00\x00\x00",
        b"\xff\xff\xff\xff\xff\xff\xff\x7f",
        b"\xff\xff\xff\xff" + struct.pack("<i", -5) + b"x" * 100,
        b'{"records": []}',
        b"ARROW1\x00\x00" + stream(batch()),
        stream(batch()) + b"x",
        stream(batch()) + stream(batch()),
    ],
)
def test_what_is_no_stream_is_unreadable(body: bytes) -> None:
    with pytest.raises(Unreadable):
        pieces(body)


def test_a_stream_that_breaks_off_is_refused_or_ends_between_two_batches() -> None:
    body = stream(batch(3), batch(2), batch(link=pa.array(["radio"])))
    taken = set()
    for end in range(len(body) - 8):
        try:
            taken.add(len(matrix(body[:end])))
        except (Unreadable, Unfit):
            continue
    assert taken <= {3, 5, 6}


def test_a_schema_that_is_too_long_is_refused() -> None:
    columns = [pa.array([1])] * 20_000
    body = stream(pa.record_batch(columns, [f"column {i}" for i in range(20_000)]))
    with pytest.raises(Unreadable, match="too large"):
        pieces(body)


def test_more_dictionaries_than_columns_are_refused() -> None:
    column = pa.array(["fiber"]).dictionary_encode()
    body = stream(batch(link=column), batch(link=pa.array(["radio"]).dictionary_encode()))
    ends = [0]
    source = pa.BufferReader(body)
    kinds = []
    for message in pa.ipc.MessageReader.open_stream(source):
        ends.append(source.tell())
        kinds.append(message.type)
    at = kinds.index("dictionary", 2)
    again = body[ends[at] : ends[at + 1]] * 10
    with pytest.raises(Unreadable, match="more dictionaries than columns"):
        pieces(body[: ends[at]] + again + body[ends[at] :])


SAMPLES = [
    stream(batch(5)),
    stream(
        batch(3, link=pa.array(["fiber", "", "radio"]).dictionary_encode()),
        batch(3, link=pa.array(["radio", "fiber", ""]).dictionary_encode()),
    ),
    stream(
        batch(
            2,
            link=pa.array(["fiber", "radio"], pa.string_view()),
            vendor=pa.array(["a long string of a vendor", None], pa.string_view()),
            loss=pa.array([Decimal(1), None], pa.decimal128(9, 2)),
            up=pa.array([True, False]),
            rx_rate=pa.array([1, 2], pa.uint64()),
        )
    ),
]
CHANGES = st.lists(
    st.tuples(
        st.integers(0, 1 << 14), st.sampled_from([0, 1, 127, 128, 255]) | st.integers(0, 255)
    ),
    min_size=1,
    max_size=5,
)


@settings(max_examples=500, deadline=None)
@given(sample=st.sampled_from(SAMPLES), changes=CHANGES, report=st.booleans())
@example(sample=SAMPLES[0], changes=[(0, 0)], report=True)
def test_no_stream_whatever_gives_anything_but_pieces_or_a_problem(
    sample: bytes, changes: list[tuple[int, int]], report: bool
) -> None:
    body = bytearray(sample)
    for place, value in changes:
        body[place % len(body)] = value
    records = 0
    try:
        for piece in read(body, SCHEMA, 50, report=report):
            records += len(piece)
            assert piece.matrix.dtype == np.float32
            assert not np.isinf(piece.matrix).any()
    except Problem as problem:
        assert problem.status in {400, 422}  # noqa: PT017 - either is fine
    assert records <= 50


@given(body=st.binary(max_size=300))
def test_no_bytes_whatever_give_anything_but_a_problem(body: bytes) -> None:
    with pytest.raises(Problem):
        pieces(body)


def test_a_stream_of_ten_thousand_records_is_read_without_a_copy_of_it() -> None:
    columns = {f"f{i}": np.random.default_rng(i).random(10_000) for i in range(46)}
    schema = Schema([Field(name=name, kind="gauge") for name in columns])
    body = stream(*pa.table(columns).to_batches())
    tracemalloc.start()
    try:
        for piece in read(body, schema, 10_000):
            assert len(piece) <= PIECE_RECORDS
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


NAMES = ["normal", "link-down", "overload"]
VERDICTS: dict[str, Any] = {
    "nearest": np.array([0, 1, 2, 1]),
    "accepted": np.array([True, True, False, False]),
    "distance": np.array([0.25, 0.5, 0.75, 1], np.float32),
    "confidence": np.array([1, 0.5, 0.25, 0.125], np.float32),
    "names": NAMES,
    "good": [True, False, False],
    "bundle": ("toy", "abc"),
}
COLUMNS = {
    "label": ["normal", "link-down", "unknown", "unknown"],
    "good": [True, False, False, False],
    "distance": [0.25, 0.5, 0.75, 1.0],
    "confidence": [1.0, 0.5, 0.25, 0.125],
    "nearest": [None, None, "overload", "link-down"],
}
EVERY = np.arange(12, dtype=np.float32).reshape(4, 3)
FAULTS = [
    Fault(0, "rx rate", "a finite number", "null"),
    Fault(3, "link", "one of " + "x" * 5000, "a string"),
]


def test_verdicts_come_back() -> None:
    table = pa.ipc.open_stream(write_verdicts(**VERDICTS)).read_all()
    table.validate(full=True)
    assert table.to_pydict() == COLUMNS
    assert table.schema.metadata == {b"bundle_name": b"toy", b"bundle_version": b"abc"}
    words = pa.dictionary(pa.int8(), pa.string())
    kinds = [words, pa.bool_(), pa.float32(), pa.float32(), words]
    assert table.schema.types == kinds


def test_distances_come_with_the_names_of_their_classes() -> None:
    table = pa.ipc.open_stream(write_verdicts(**VERDICTS, distances=EVERY)).read_all()
    field = table.schema.field("distances")
    assert field.type == pa.list_(pa.float32(), 3)
    assert json.loads(field.metadata[b"classes"]) == NAMES
    assert table["distances"].to_pylist() == EVERY.tolist()


def test_records_without_a_verdict_have_an_error_in_their_place() -> None:
    body = write_verdicts(**VERDICTS, distances=EVERY, faults=FAULTS)
    table = pa.ipc.open_stream(body).read_all()
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
    table = pa.ipc.open_stream(write_verdicts(**VERDICTS, faults=[])).read_all()
    assert table.to_pydict() == COLUMNS | {"error": [None] * 4}


def test_a_report_may_hold_nothing_but_faults() -> None:
    none: dict[str, Any] = {
        name: value[:0] if isinstance(value, np.ndarray) else value
        for name, value in VERDICTS.items()
    }
    faults = [Fault(i, None, "a record", "null") for i in range(3)]
    table = pa.ipc.open_stream(write_verdicts(**none, distances=EVERY[:0], faults=faults))
    assert table.read_all()["error"].to_pylist() == ["expected a record, got null"] * 3


def test_embeddings_come_back() -> None:
    for faults in (None, FAULTS):
        table = pa.ipc.open_stream(
            write_embeddings(EVERY, bundle=("toy", "abc"), faults=faults)
        ).read_all()
        table.validate(full=True)
        assert table["embedding"].type == pa.list_(pa.float32(), 3)
        assert table["embedding"].drop_null().to_pylist() == EVERY.tolist()
        assert len(table) == 4 + len(faults or ())


def test_two_hundred_classes_have_room() -> None:
    names = [f"class {i}" for i in range(200)]
    nearest = np.array([0, 130, 199, 199])
    body = write_verdicts(**VERDICTS | {"nearest": nearest, "names": names, "good": [False] * 200})
    table = pa.ipc.open_stream(body).read_all()
    assert table["label"].to_pylist() == ["class 0", "class 130", "unknown", "unknown"]
    assert table["nearest"].to_pylist() == [None, None, "class 199", "class 199"]


def test_polars_reads_what_is_written() -> None:
    frame = pl.read_ipc_stream(write_verdicts(**VERDICTS, distances=EVERY, faults=FAULTS))
    assert frame["label"].cast(pl.String).drop_nulls().to_list() == COLUMNS["label"]
    assert frame["distances"].drop_nulls().to_list() == EVERY.tolist()
    frame = pl.read_ipc_stream(write_embeddings(EVERY, bundle=("toy", "abc")))
    assert frame["embedding"].to_numpy().tolist() == EVERY.tolist()
