"""Records that somebody made already."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from service.formats.errors import MalformedInputError
from service.scoring.served_model import ServedModel
from service.stream.partition import Partition
from service.stream.records import Made, read_records
from service.stream.rules import Rules
from tests.support.consuming import bytes_of

ARRIVED = 1_800_000_000.0
MOMENT = datetime(2026, 1, 1, 12, 30, 15, 123457, tzinfo=UTC)

Columns = Mapping[str, Sequence[object]]


def stream_of(columns: Mapping[str, Sequence[object] | pa.Array]) -> bytes:
    table = pa.table({**columns})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def json_of(columns: Columns) -> bytes:
    rows = [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]
    return json.dumps({"records": rows}).encode()


WRITERS = pytest.mark.parametrize("written", [stream_of, json_of])


def columns_of(rules: Rules, times: Sequence[object]) -> dict[str, Sequence[object]]:
    """One of the bundle's own examples for each time, as columns."""
    examples = rules.served.model.examples
    rows = [dict(examples[at % len(examples)]) for at in range(len(times))]
    fields = {name: [row[name] for row in rows] for name in rules.served.model.schema.names}
    return {"device": [f"r{at}" for at in range(len(times))], "time": times, **fields}


def read(rules: Rules, body: bytes) -> Made:
    return read_records(body, rules.served, rules.mapping, ARRIVED)


def read_if_good(rules: Rules, body: bytes) -> Made | None:
    """What a message holds; None if it is refused, as it may be."""
    with suppress(MalformedInputError):
        return read(rules, body)
    return None


def refusal(rules: Rules, body: bytes) -> str:
    """Why a message is refused: one line."""
    with pytest.raises(MalformedInputError) as refused:
        read(rules, body)
    reason = str(refused.value)
    assert reason.isprintable()
    return reason


@WRITERS
def test_records_get_the_verdicts_that_their_examples_have(
    rules: Rules, written: Callable[[Columns], bytes]
) -> None:
    partition = Partition("points/0", rules)
    model = rules.served.model
    times = [float(1000 + at) for at in range(len(model.examples))]

    output = partition.take_records(written(columns_of(rules, times)), 7, ARRIVED)

    assert [each.label for each in output.verdicts] == model.names
    assert [each.time for each in output.verdicts] == times
    assert not any(each.learning or each.insufficient for each in output.verdicts)
    [batch] = output.batches
    assert batch.place == (7, 1, 0)
    assert batch.rows["key"].to_pylist() == [each.key for each in output.verdicts]
    assert partition.watermark == times[-1] - rules.delay


def test_json_and_arrow_of_the_same_records_give_the_same_to_the_byte(rules: Rules) -> None:
    times = [MOMENT + timedelta(seconds=17.000003 * at) for at in range(2000)]
    columns = columns_of(rules, times)
    bodies = [
        stream_of({**columns, "time": pa.array(times, pa.timestamp("ns", "Europe/Berlin"))}),
        json_of({**columns, "time": [time.isoformat() for time in times]}),
        json_of({**columns, "time": [time.timestamp() for time in times]}),
    ]
    outputs = [Partition("points/0", rules).take_records(body, 7, ARRIVED) for body in bodies]

    arrow, text, numbers = map(bytes_of, outputs)
    assert len(outputs[0].verdicts) == len(times)
    assert arrow == text == numbers


@pytest.mark.parametrize(
    "time", [MOMENT.isoformat(), MOMENT.astimezone(timezone(-timedelta(hours=7))).isoformat()]
)
def test_the_time_of_json_may_be_a_text_with_its_zone(rules: Rules, time: str) -> None:
    made = read(rules, json_of(columns_of(rules, [time])))

    assert made.times.tolist() == [MOMENT.timestamp()]


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
def test_times_of_arrow_may_be_timestamps_and_other_columns_are_left_out(
    rules: Rules, unit: str
) -> None:
    moment = MOMENT.replace(microsecond=0)
    times = pa.array([moment], pa.timestamp(unit, "UTC"))
    body = stream_of({**columns_of(rules, [moment]), "time": times, "site": ["north"]})

    made = read(rules, body)

    assert made.keys == ["r0"]
    assert made.times.tolist() == [moment.timestamp()]
    assert made.matrix.dtype == np.float32


def test_keys_are_texts_or_integers(rules: Rules) -> None:
    columns = columns_of(rules, [1.0, 2.0, 3.0])
    strings = [pa.array(["a", "b", "a"], kind) for kind in (pa.large_string(), pa.string_view())]
    for device in (*strings, strings[0].dictionary_encode(), strings[1].dictionary_encode()):
        assert read(rules, stream_of({**columns, "device": device})).keys == ["a", "b", "a"]
    for written in (stream_of, json_of):
        assert read(rules, written({**columns, "device": [7, 8, 7]})).keys == ["7", "8", "7"]


def test_more_than_the_fields_of_the_model_is_left_out_of_json(rules: Rules) -> None:
    extra: Columns = {"site": ["north"], "tags": [{"a": [1, 2]}]}

    made = read(rules, b"\xef\xbb\xbf \n" + json_of({**columns_of(rules, [1.0]), **extra}))

    assert (made.keys, made.times.tolist()) == (["r0"], [1.0])


@WRITERS
@pytest.mark.parametrize("column", ["device", "time"])
def test_a_record_without_key_or_time_refuses_the_message(
    rules: Rules, column: str, written: Callable[[Columns], bytes]
) -> None:
    columns = columns_of(rules, [1.0, 2.0])
    body = written({**columns, column: [columns[column][0], None]})
    assert refusal(rules, body) == "Every record needs a key and a time."
    body = written({name: data for name, data in columns.items() if name != column})
    reasons: dict[object, str] = {
        json_of: "Every record needs a key and a time.",
        stream_of: f"The stream has no column '{column}', or several.",
    }
    assert refusal(rules, body) == reasons[written]


@pytest.mark.parametrize("column", ["device", "time"])
def test_a_column_that_comes_twice_refuses_the_message(rules: Rules, column: str) -> None:
    columns = columns_of(rules, [1.0])
    table = pa.table({**columns})
    table = table.append_column(column, table[column])
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)

    reason = refusal(rules, sink.getvalue().to_pybytes())

    assert reason == f"The stream has no column '{column}', or several."


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": ["2026-01-01T12:30:15"]}, "`datetime` with a timezone component"),
        ({"time": ["noon"]}, "Invalid RFC3339 encoded datetime - at `$.records[0].time`"),
        ({"time": [True]}, "got `bool` - at `$.records[0].time`"),
        ({"time": [[1]]}, "got `array` - at `$.records[0].time`"),
        ({"device": [1.5]}, "got `float` - at `$.records[0].device`"),
        ({"device": [10**30]}, "at `$.records[0].device`"),
        ({"device": ["r" * 1025]}, "`str` of length <= 1024 - at `$.records[0].device`"),
        ({"rel_paths-count": ["many"]}, "Records do not fit: "),
    ],
)
def test_json_says_which_record_does_not_fit(
    rules: Rules, changes: dict[str, list[object]], reason: str
) -> None:
    assert reason in refusal(rules, json_of({**columns_of(rules, [1.0]), **changes}))


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"time": ["2026-01-01T12:30:15Z"]}, "'time' needs timestamps or seconds"),
        ({"device": [1.5]}, "'device' needs texts"),
        ({"device": pa.array([["r"]])}, "'device' needs texts"),
        ({"device": ["r" * 1025]}, "A key is longer than 1024 characters"),
        ({"device": pa.array(["r" * 1025]).dictionary_encode()}, "A key is longer than 1024"),
        ({"device": pa.array(["r" * 1025], pa.string_view())}, "A text is longer than 1024"),
        ({"rel_paths-count": ["many"]}, "Records do not fit: "),
    ],
)
def test_arrow_says_what_does_not_fit(
    rules: Rules, changes: dict[str, list[object]], reason: str
) -> None:
    assert reason in refusal(rules, stream_of({**columns_of(rules, [1.0]), **changes}))


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", b"[]", b'{"records": []}', b'{"records": [1]}', b'{"records": [{}]}', b"\xff" * 9],
)
def test_what_holds_no_records_is_refused(rules: Rules, body: bytes) -> None:
    assert refusal(rules, body)


def test_what_stands_beside_the_records_is_told_in_a_short_line(rules: Rules) -> None:
    document = json.loads(json_of(columns_of(rules, [1.0])))
    body = json.dumps(document | {"a\a\n" * 1000: 1}).encode()

    assert len(refusal(rules, body)) < 400


@WRITERS
def test_a_message_holds_no_more_records_than_a_request(
    rules: Rules, written: Callable[[Columns], bytes]
) -> None:
    few = replace(rules, served=ServedModel(rules.served.model, 3))
    columns = columns_of(rules, [1.0, 2.0, 3.0, 4.0])

    assert "a list of 1 to 3 records" in refusal(few, written(columns))
    assert len(read(few, written({name: data[:3] for name, data in columns.items()})).keys) == 3


@WRITERS
def test_a_clock_that_is_far_ahead_refuses_the_message(
    rules: Rules, written: Callable[[Columns], bytes]
) -> None:
    body = written(columns_of(rules, [ARRIVED + rules.mapping.ahead + 1]))
    assert "far ahead of the message's" in refusal(rules, body)


@WRITERS
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(data=st.data())
def test_damaged_bodies_are_refused_or_read_and_nothing_else(
    rules: Rules, written: Callable[[Columns], bytes], data: st.DataObject
) -> None:
    body = bytearray(written(columns_of(rules, [1.0, 2.0])))
    for at in data.draw(st.lists(st.integers(0, len(body) - 1), min_size=1, max_size=5)):
        body[at] = data.draw(st.integers(0, 255) | st.sampled_from(b'{}[]",:0eN\\'))
    cut = data.draw(st.integers(0, len(body)) | st.just(len(body)))
    if (made := read_if_good(rules, bytes(body[:cut]))) is not None:
        assert len(made.keys) == len(made.times) == len(made.matrix) <= 2


@given(
    rows=st.lists(
        st.dictionaries(
            st.sampled_from(["device", "time", "rel_paths-count", "else"]),
            st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5)
            | st.datetimes(timezones=st.none() | st.just(UTC)).map(datetime.isoformat),
        ),
        max_size=3,
    )
)  # fmt: skip
def test_records_of_json_are_refused_or_have_a_key_and_a_time(
    rules: Rules, rows: list[dict[str, object]]
) -> None:
    good = {name: column[0] for name, column in columns_of(rules, [1.0]).items()}
    body = json.dumps({"records": [good | row for row in rows]}).encode()
    if (made := read_if_good(rules, body)) is not None:
        assert len(made.keys) == len(made.times) == len(made.matrix) == len(rows)
        assert np.isfinite(made.times).all()
