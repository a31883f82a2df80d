from __future__ import annotations

from models.telemetry.points import Series
from service.ingest.decoded import Batch
from service.ingest.measurements import add_fields
from service.ingest.naming import canonical
from tests.support.points import Receiving

TAGS = {"host": "router1"}


def test_every_field_is_a_point_of_one_time() -> None:
    receiving, batch = Receiving(lambda *_: NotImplemented), Batch()
    for time in (5, 6):
        fields = [("user", 1.0), ("idle", 2.0)]
        add_fields("cpu", canonical(TAGS), time, fields, receiving.table, batch)
    assert receiving.placed == [Series("cpu_user", TAGS), Series("cpu_idle", TAGS)]
    assert (batch.series, batch.times) == ([0, 1, 0, 1], [5, 5, 6, 6])
    assert batch.values == [1.0, 2.0, 1.0, 2.0]


def test_a_field_whose_name_is_too_long_costs_only_itself() -> None:
    receiving, batch = Receiving(lambda *_: NotImplemented), Batch()
    fields = [("a", 1.0), ("x" * 5000, 2.0), ("b", 3.0)]
    add_fields("m", canonical(TAGS), 5, fields, receiving.table, batch)
    assert (batch.values, batch.times, batch.reasons.total()) == ([1.0, 3.0], [5, 5], 1)
