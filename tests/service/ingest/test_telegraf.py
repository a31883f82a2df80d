from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.formats.errors import MalformedInputError
from service.ingest import telegraf
from service.ingest.decoded import BAD_TIME, NO_NUMBER
from tests.support.points import NOW, Receiving

S = 1_458_229_140
METRIC = {
    "fields": {"usage_idle": 98.5, "cores": 4},
    "name": "cpu",
    "tags": {"cpu": "cpu0", "host": "router1"},
    "timestamp": S,
}


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(telegraf.decode)


def body(**changes: Any) -> bytes:
    """A batch of one metric as Telegraf sends it."""
    return json.dumps({"metrics": [METRIC | changes]}, separators=(",", ":")).encode()


def test_every_field_of_a_batch_is_a_series(receiving: Receiving) -> None:
    tags = {"cpu": "cpu0", "host": "router1"}
    assert receiving.rows(body()) == [
        ("cpu_usage_idle", tags, S * 10**9, 98.5),
        ("cpu_cores", tags, S * 10**9, 4.0),
    ]


def test_a_metric_may_come_alone_and_end_with_a_line_break(receiving: Receiving) -> None:
    alone = json.dumps(METRIC).encode() + b"\n"
    assert receiving.rows(alone) == receiving.rows(body())
    assert len(receiving.placed) == 2


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
def test_the_magnitude_of_a_time_tells_its_unit(receiving: Receiving, unit: int) -> None:
    assert receiving.decode(body(timestamp=S * unit)).points.times.tolist() == [S * 10**9] * 2


def test_a_metric_without_a_time_is_of_now(receiving: Receiving) -> None:
    assert receiving.decode(b'{"name":"m","fields":{"a":1}}').points.times.tolist() == [NOW]


def test_values_that_are_no_numbers_are_counted_and_the_others_taken(receiving: Receiving) -> None:
    fields = {"text": "up", "null": None, "list": [1], "huge": 10**30, "up": True, "last": -0.0}
    decoded = receiving.decode(body(fields=fields))
    assert decoded.points.values.tolist() == [1.0, 0.0]
    assert np.signbit(decoded.points.values[1])
    assert (decoded.rejected, decoded.reasons) == (4, {NO_NUMBER: 4})


def test_one_bad_metric_costs_only_itself(receiving: Receiving) -> None:
    metrics = [{"name": "m"}, METRIC, 5, METRIC | {"name": None}, METRIC | {"tags": {"a": 1}}]
    decoded = receiving.decode(json.dumps({"metrics": metrics}).encode())
    assert len(decoded.points) == 2
    assert decoded.rejected == 3 + 2


@pytest.mark.parametrize("time", [10**25, 1e300, 10**10])
def test_a_time_beyond_int64_costs_its_points(receiving: Receiving, time: float) -> None:
    decoded = receiving.decode(body(timestamp=time))
    assert (len(decoded.points), decoded.reasons) == (0, {BAD_TIME: 2})


@pytest.mark.parametrize(
    "bad", [b"{", b"{}", b'{"metrics":5}', b'{"metrics":[{]}', b'{"a":' * 10_000, b'{"name":"m"}']
)
def test_json_that_is_no_batch_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="metrics"):
        receiving.decode(bad)


@given(st.dictionaries(st.text(min_size=1), st.text(), max_size=5), st.randoms())
def test_the_order_and_the_escapes_of_tags_do_not_matter(tags: dict[str, str], random: Any) -> None:
    receiving = Receiving(telegraf.decode)
    items = list(tags.items())
    random.shuffle(items)
    first = receiving.decode(body(tags=tags)).points.series.tolist()
    text = json.dumps(METRIC | {"tags": dict(items)}, ensure_ascii=False).encode()
    assert receiving.decode(text).points.series.tolist() == first


def test_json_and_lines_name_the_same_series(receiving: Receiving) -> None:
    receiving.decode(body())
    lines = b"cpu,host=router1,cpu=cpu0 usage_idle=97.5,cores=4i %d" % (S * 10**9)
    assert receiving.decode(lines).points.series.tolist() == [0, 1]


def test_tags_without_end_are_refused_series_by_series(receiving: Receiving) -> None:
    many = {f"tag{number}": "x" for number in range(100_000)}
    decoded = receiving.decode(body(tags=many))
    assert (len(decoded.points), decoded.rejected) == (0, 2)
    assert not receiving.table.ids


@pytest.mark.parametrize(("text", "number"), [("up", 1.0), ('not "here"', 2.0), ("dormant", None)])
def test_a_state_that_the_mapping_knows_is_its_number(
    receiving: Receiving, text: str, number: float | None
) -> None:
    lines = f"port,host=a oper-state={json.dumps(text)} 1000000000000000000".encode()
    for data in (body(name="port", tags={"host": "a"}, fields={"oper-state": text}), lines):
        decoded = receiving.decode(data)
        assert decoded.points.values.tolist() == ([] if number is None else [number])
        assert decoded.reasons == ({NO_NUMBER: 1} if number is None else {})
    assert len(receiving.placed) == (0 if number is None else 1)
