from __future__ import annotations

import json

from benchmarks.ingest.bodies import BODIES, points, snappy
from benchmarks.ingest.prometheus import Request, WriteRequest
from service.ingest.snappy import inflate


def test_every_series_has_a_point_in_each_round() -> None:
    table = points(series=12, rounds=3)
    assert len(table) == 36
    assert len({(point.device, point.interface, point.field) for point in table}) == 12
    assert len({point.time for point in table}) == 3


def test_telegraf_puts_the_fields_of_a_port_together() -> None:
    metrics = json.loads(BODIES["telegraf"](points(series=10, rounds=2)))["metrics"]
    assert [len(metric["fields"]) for metric in metrics] == [5] * 4


def test_remote_write_has_a_series_for_each_sample() -> None:
    table = points(series=10, rounds=2)
    first = WriteRequest.FromString(BODIES["remote_write"](table))
    second = Request.FromString(BODIES["remote_write_v2"](table))
    assert len(first.timeseries) == len(second.timeseries) == 20
    name, value = second.timeseries[3].labels_refs[:2]
    assert second.symbols[name] == first.timeseries[3].labels[0].name == "__name__"
    assert second.symbols[value] == first.timeseries[3].labels[0].value == table[3].field


def test_a_block_inflates_again() -> None:
    assert inflate(snappy(b"x" * 1000), 1000) == b"x" * 1000
