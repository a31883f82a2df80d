from __future__ import annotations

import io
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formats.errors import MalformedInputError
from service.ingest import arrow
from service.ingest.decoded import BAD_TIME
from tests.support.points import NOW, Receiving

S = 1_795_965_610
TABLE = {
    "metric": ["octets", "state", "octets"],
    "value": [1.5, None, 2.5],
    "time": pa.array([S, S + 1, S + 2], pa.timestamp("s")),
    "device": ["router1", None, "router1"],
    "port": ["eth0", "eth1", "eth0"],
}


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(arrow.decode)


def stream(table: pa.Table, rows: int | None = None) -> bytes:
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def body(**changes: Any) -> bytes:
    columns = {name: column for name, column in (TABLE | changes).items() if column is not None}
    return stream(pa.table(columns))


def test_every_row_is_a_point(receiving: Receiving) -> None:
    tags = {"device": "router1", "port": "eth0"}
    assert repr(receiving.rows(body())) == repr(
        [
            ("octets", tags, S * 10**9, 1.5),
            ("state", {"port": "eth1"}, (S + 1) * 10**9, np.nan),
            ("octets", tags, (S + 2) * 10**9, 2.5),
        ]
    )


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_are_timestamps_or_integers_of_any_unit(receiving: Receiving, unit: str) -> None:
    times = pa.array([S] * 3, pa.timestamp("s", "Europe/Lisbon")).cast(pa.timestamp(unit))
    for column in (times, times.cast(pa.int64())):
        assert receiving.decode(body(time=column)).points.times.tolist() == [S * 10**9] * 3


def test_points_without_a_time_are_of_now(receiving: Receiving) -> None:
    assert receiving.decode(body(time=None)).points.times.tolist() == [NOW] * 3
    times = pa.array([None, S, None], pa.int32())
    assert receiving.decode(body(time=times)).points.times.tolist() == [NOW, S * 10**9, NOW]


@pytest.mark.parametrize(
    "times",
    [
        pa.array([2**63, 2**64 - 1, S], pa.uint64()),
        pa.array([-(2**63), 10**10, S], pa.int64()),
        pa.array([2**60, -(2**60), S], pa.timestamp("s")),
    ],
)
def test_a_time_beyond_int64_costs_its_row(receiving: Receiving, times: pa.Array) -> None:
    decoded = receiving.decode(body(time=times))
    assert (decoded.points.values.tolist(), decoded.reasons) == ([2.5], {BAD_TIME: 2})


TEXTS = [
    pa.string(), pa.large_string(), pa.string_view(), pa.dictionary(pa.int8(), pa.string()),
    pa.dictionary(pa.uint32(), pa.large_string()),
]  # fmt: skip


@pytest.mark.parametrize("kind", TEXTS, ids=str)
def test_texts_may_be_of_any_kind(receiving: Receiving, kind: pa.DataType) -> None:
    expected = receiving.rows(body())
    changes = {name: pa.array(TABLE[name]).cast(kind) for name in ("metric", "device", "port")}
    assert repr(receiving.rows(body(**changes))) == repr(expected)


@pytest.mark.parametrize(
    "kind", [pa.float16(), pa.float32(), pa.int8(), pa.uint64(), pa.decimal128(11, 1), pa.bool_()]
)
def test_values_may_be_of_any_kind(receiving: Receiving, kind: pa.DataType) -> None:
    numbers = pa.array([1, None, 0]).cast(pa.int32()).cast(kind)
    values = receiving.decode(body(value=numbers)).points.values
    assert repr(values.tolist()) == repr([1.0, np.nan, 0.0])


ROWS = st.lists(
    st.tuples(st.text(min_size=1, max_size=3), st.none() | st.text(max_size=3), st.floats())
)


@given(ROWS, st.integers(1, 5), st.booleans())
def test_batches_of_any_size_give_the_rows_in_order(
    rows: list[tuple[str, str | None, float]], size: int, encode: bool
) -> None:
    table = pa.table(
        {
            "metric": pa.array([row[0] for row in rows], pa.string()),
            "tag": pa.array([row[1] for row in rows], pa.string()),
            "value": pa.array([row[2] for row in rows], pa.float64()),
        }
    )
    if encode:
        table = table.set_column(1, "tag", table.column("tag").dictionary_encode())
    receiving = Receiving(arrow.decode)
    expected = [
        (name, {} if tag is None else {"tag": tag}, NOW, value) for name, tag, value in rows
    ]
    assert repr(receiving.rows(stream(table, size))) == repr(expected)
    assert len(receiving.placed) == len({row[:2] for row in rows})


def test_rows_without_a_name_or_with_long_ones_are_counted(receiving: Receiving) -> None:
    decoded = receiving.decode(body(metric=[None, "", "m"]))
    assert (len(decoded.points), decoded.reasons) == (1, {"series without a name": 2})
    assert receiving.decode(body(port=["x" * 5000] * 3)).rejected == 3


@pytest.mark.parametrize(
    "changes",
    [
        {"metric": None},
        {"value": None},
        {"value": ["1", "2", "3"]},
        {"time": [0.5, 1.5, 2.5]},
        {"device": [1, 2, 3]},
        {"metric": pa.array([b"a"] * 3)},
        {"port": pa.array(["x" * 2000] * 3, pa.string_view())},
        {f"tag{number}": ["x"] * 3 for number in range(65)},
    ],
)
def test_columns_that_are_no_points_are_malformed(
    receiving: Receiving, changes: dict[str, Any]
) -> None:
    with pytest.raises(MalformedInputError):
        receiving.decode(body(**changes))


def test_a_large_dictionary_and_many_batches_are_refused(receiving: Receiving) -> None:
    many = [str(number) for number in range(70_000)]
    column = pa.array(many).dictionary_encode()
    table = pa.table({"metric": column, "value": [1.0] * len(many)})
    with pytest.raises(MalformedInputError, match="dictionary has more than"):
        receiving.decode(stream(table))
    with pytest.raises(MalformedInputError, match="more than 1000 batches"):
        receiving.decode(stream(pa.table({"metric": many[:1100], "value": [1.0] * 1100}), 1))


@pytest.mark.parametrize("bad", [b"", b"ARROW1", b"\xff" * 100, b'{"a":1}'])
def test_what_is_no_stream_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError):
        receiving.decode(bad)
