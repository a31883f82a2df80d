from __future__ import annotations

from collections import Counter

import numpy as np
import pytest

from benchmarks.ingest.bodies import BODIES, points
from models.telemetry.points import SeriesTable
from service.ingest.receivers import ANY, RECEIVERS, receiver_of
from tests.support.points import NOW, Receiving

TABLE = points(series=50, rounds=3)


@pytest.mark.parametrize(
    ("path", "content_type", "name"),
    [
        ("/ingest/telegraf", "text/plain; charset=utf-8", "telegraf"),
        ("/ingest/telegraf", "", "telegraf"),
        ("/ingest/collectd", "application/json", "collectd"),
        ("/ingest/gnmic", "application/json", "gnmic"),
        ("/ingest/arrow", "application/vnd.apache.arrow.stream", "arrow"),
        ("/v1/metrics", "application/x-protobuf", "otlp"),
        ("/v1/metrics", "Application/JSON;charset=UTF-8", "otlp_json"),
        ("/api/v1/write", "application/x-protobuf", "remote_write"),
        ("/api/v1/write", "application/x-protobuf;proto=prometheus.WriteRequest", "remote_write"),
        (
            "/api/v1/write",
            'application/x-protobuf; proto="io.prometheus.write.v2.Request"',
            "remote_write_v2",
        ),
        ("/v1/metrics", "text/plain", None),
        ("/api/v1/write", "application/x-protobuf;proto=other", None),
        ("/ingest/none", "application/json", None),
    ],
)
def test_path_and_content_type_tell_the_receiver(
    path: str, content_type: str, name: str | None
) -> None:
    found = receiver_of(path, content_type)
    assert (found and found.name) == name


def test_no_two_receivers_take_the_same() -> None:
    told = [(r.path, kind) for r in RECEIVERS.values() for kind in r.content_types]
    assert max(Counter(told).values()) == 1
    paths = Counter(receiver.path for receiver in RECEIVERS.values())
    assert all(paths[r.path] == 1 for r in RECEIVERS.values() if ANY in r.content_types)


@pytest.mark.parametrize("name", BODIES)
def test_every_receiver_takes_the_same_points(name: str) -> None:
    receiving = Receiving(RECEIVERS["telegraf" if name == "influx" else name].decode)
    body = BODIES[name](TABLE)
    for _ in range(2):
        decoded = receiving.decode(body)
        assert decoded.rejected == 0
        assert len(receiving.placed) == 50
        assert sorted(decoded.points.values) == sorted(point.value for point in TABLE)
        assert len(np.unique(decoded.points.series)) == 50
        assert len(np.unique(decoded.points.times)) == 3


def test_no_token_means_a_series_of_two_receivers() -> None:
    shared = {"remote_write_v2": "remote_write", "otlp_json": "otlp", "influx": "telegraf"}
    tokens: dict[object, str] = {}
    for name, encode in BODIES.items():
        receiving = Receiving(RECEIVERS["telegraf" if name == "influx" else name].decode)
        receiving.decode(encode(TABLE))
        for token in receiving.table.ids:
            assert tokens.setdefault(token, shared.get(name, name)) == shared.get(name, name)


@pytest.mark.parametrize("name", BODIES)
def test_series_without_an_id_are_points_too(name: str) -> None:
    class Nowhere:
        def place(self, series: object) -> int:  # noqa: ARG002
            return -1

    table = SeriesTable(Nowhere(), max_foreign=7)
    decode = RECEIVERS["telegraf" if name == "influx" else name].decode
    decoded = decode(BODIES[name](TABLE), table, NOW)
    assert (decoded.points.series == -1).all()
    assert len(decoded.points) == len(TABLE)
    assert len(table.ids) <= 7
