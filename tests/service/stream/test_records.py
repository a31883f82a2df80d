"""Records that somebody made already."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pyarrow as pa
import pytest

from service.formats.errors import MalformedInputError
from service.stream.partition import Partition
from service.stream.records import read_records
from service.stream.rules import Rules

ARRIVED = 1_800_000_000.0


def stream_of(columns: dict[str, list[object]]) -> bytes:
    table = pa.table(columns)
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    data: bytes = sink.getvalue().to_pybytes()
    return data


def columns_of(rules: Rules, times: list[object]) -> dict[str, list[object]]:
    """One of the bundle's own examples for each time, as columns."""
    examples = rules.served.model.examples
    rows = [dict(examples[at % len(examples)]) for at in range(len(times))]
    fields = {name: [row[name] for row in rows] for name in rules.served.model.schema.names}
    return {"device": [f"r{at}" for at in range(len(times))], "time": times, **fields}


def test_records_get_the_verdicts_that_their_examples_have(rules: Rules) -> None:
    partition = Partition("points/0", rules)
    model = rules.served.model
    times = [float(1000 + at) for at in range(len(model.examples))]

    output = partition.take_records(stream_of(columns_of(rules, [*times])), 7, ARRIVED)

    assert [each.label for each in output.verdicts] == model.names
    assert [each.time for each in output.verdicts] == times
    assert not any(each.learning or each.insufficient for each in output.verdicts)
    [batch] = output.batches
    assert batch.place == (7, 1, 0)
    assert batch.rows["key"].to_pylist() == [each.key for each in output.verdicts]
    assert partition.watermark == times[-1] - rules.delay


def test_times_may_be_timestamps_and_other_columns_are_left_out(rules: Rules) -> None:
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    body = stream_of({**columns_of(rules, [moment]), "site": ["north"]})

    made = read_records(body, rules.served, rules.mapping, ARRIVED)

    assert made.keys == ["r0"]
    assert made.times.tolist() == [moment.timestamp()]
    assert made.matrix.dtype == np.float32


@pytest.mark.parametrize("column", ["device", "time"])
def test_a_record_without_key_or_time_refuses_the_message(rules: Rules, column: str) -> None:
    columns = columns_of(rules, [1.0, 2.0])
    body = stream_of({**columns, column: [columns[column][0], None]})
    with pytest.raises(MalformedInputError, match="Every record needs a key and a time"):
        read_records(body, rules.served, rules.mapping, ARRIVED)
    body = stream_of({name: data for name, data in columns.items() if name != column})
    with pytest.raises(MalformedInputError, match=f"The stream has no column '{column}'"):
        read_records(body, rules.served, rules.mapping, ARRIVED)


def test_what_is_no_stream_of_the_models_fields_is_refused(rules: Rules) -> None:
    columns = columns_of(rules, [1.0])
    name = rules.served.model.schema.names[0]
    for body in (b"", b"{}", stream_of({**columns, name: ["many"]})):
        with pytest.raises(MalformedInputError):
            read_records(body, rules.served, rules.mapping, ARRIVED)


def test_a_clock_that_is_far_ahead_refuses_the_message(rules: Rules) -> None:
    body = stream_of(columns_of(rules, [ARRIVED + rules.mapping.ahead + 1]))
    with pytest.raises(MalformedInputError, match="far ahead of the message's"):
        read_records(body, rules.served, rules.mapping, ARRIVED)
