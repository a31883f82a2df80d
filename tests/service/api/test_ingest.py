"""Metric points over HTTP: what every client gets back, and what it does with it."""

from __future__ import annotations

import gzip
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cramjam
import pytest
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
    ExportMetricsServiceResponse,
)
from starlette.testclient import TestClient

from service.app import create_app
from service.ingest.receivers import RECEIVERS
from service.settings import Settings

ROOT = Path(__file__).parents[3]
BODIES = ROOT / "tests/service/ingest/bodies"
Serve = Callable[..., TestClient]
PROTOBUF = {"Content-Type": "application/x-protobuf"}
SNAPPY = PROTOBUF | {"Content-Encoding": "snappy"}
JSON = {"Content-Type": "application/json"}

_TELEGRAF = b"""{"metrics": [{"name": "paths-count", "tags": {"device": "r1"},
"fields": {"value": 3}, "timestamp": 1501867000}]}"""
# Of each format: path, headers, a body.
SENT: dict[str, tuple[str, dict[str, str], bytes]] = {
    "telegraf": (
        "/ingest/telegraf",
        {"Content-Type": "text/plain"},
        _TELEGRAF,
    ),
    "collectd": ("/ingest/collectd", JSON, (BODIES / "collectd-rates.json").read_bytes()),
    "otlp": ("/v1/metrics", PROTOBUF, (BODIES / "opentelemetry-python.bin").read_bytes()),
    "otlp_json": ("/v1/metrics", JSON, (BODIES / "opentelemetry-js.json").read_bytes()),
    "remote_write": ("/api/v1/write", SNAPPY, (BODIES / "prometheus.snappy").read_bytes()),
    "gnmic": ("/ingest/gnmic", JSON, b"[]"),
}


def ready(client: TestClient) -> TestClient:
    end = time.monotonic() + 30
    while "refused" in client.get("/ingest/status").json():
        assert time.monotonic() < end
        time.sleep(0.05)
    return client


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    app = create_app(Settings(bundle=ROOT / "models/iosxr"))
    with TestClient(app, raise_server_exceptions=False) as client:
        yield ready(client)


def counts(client: TestClient, receiver: str) -> dict[str, Any]:
    empty = {"bodies": 0, "points": 0, "rejected": {}, "refused": {}}
    found: dict[str, Any] = client.get("/ingest/status").json()["receivers"].get(receiver, empty)
    return found


@pytest.mark.parametrize("receiver", SENT)
def test_each_client_gets_the_status_that_it_takes_for_success(
    client: TestClient, receiver: str
) -> None:
    path, headers, body = SENT[receiver]
    before = counts(client, receiver)
    answer = client.post(path, content=body, headers=headers)
    assert answer.status_code == RECEIVERS[receiver].status
    after = counts(client, receiver)
    assert after["bodies"] == before["bodies"] + 1
    assert after["refused"] == before["refused"]
    assert after["points"] > before["points"] or receiver == "gnmic"


@pytest.mark.parametrize("receiver", ["telegraf", "collectd", "otlp_json", "gnmic"])
def test_a_byte_order_mark_is_no_part_of_a_body(client: TestClient, receiver: str) -> None:
    path, headers, body = SENT[receiver]
    answer = client.post(path, content=b"\xef\xbb\xbf" + body, headers=headers)
    assert answer.status_code == RECEIVERS[receiver].status
    assert not answer.content or answer.json() == {}


def test_every_receiver_but_the_untried_is_tried() -> None:
    assert RECEIVERS.keys() - SENT.keys() == {"arrow", "remote_write_v2"}


def test_opentelemetry_is_told_what_was_not_taken(client: TestClient) -> None:
    taken = client.post("/v1/metrics", content=b"", headers=PROTOBUF)
    assert not ExportMetricsServiceResponse.FromString(taken.content).HasField("partial_success")
    assert _rejected_of_protobuf(client) == 1
    metric = {"name": "m", "gauge": {"dataPoints": [{"asDouble": 1}, {"asDouble": "NaN?"}]}}
    body = {"resourceMetrics": [{"scopeMetrics": [{"metrics": [metric]}]}]}
    answer = client.post("/v1/metrics", json=body)
    assert answer.status_code == 200
    assert answer.json()["partialSuccess"]["rejectedDataPoints"] == "1"


def _rejected_of_protobuf(client: TestClient) -> int:
    """Send a point with a value and one without, and return how many were not taken."""
    request = ExportMetricsServiceRequest()
    metric = request.resource_metrics.add().scope_metrics.add().metrics.add(name="m")
    metric.gauge.data_points.add(as_double=1)
    metric.gauge.data_points.add()
    body = request.SerializeToString()
    answer = client.post("/v1/metrics", content=body, headers=PROTOBUF)
    assert answer.status_code == 200
    said = ExportMetricsServiceResponse.FromString(answer.content)
    return int(said.partial_success.rejected_data_points)


@pytest.mark.parametrize("receiver", SENT)
@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"content": b"[nonsense"}, ""),
        ({"headers": {"Content-Encoding": "br"}}, "Content-Encoding must be one of"),
    ],
)
def test_what_cannot_be_used_is_400_so_that_nobody_sends_it_again(
    client: TestClient, receiver: str, change: dict[str, Any], why: str
) -> None:
    path, headers, body = SENT[receiver]
    options = {"content": body} | change
    if receiver == "telegraf":  # what does not look like JSON are lines, each refused for itself
        options["content"] = b"{"
    options["headers"] = headers | change.get("headers", {})
    before = counts(client, receiver)
    answer = client.post(path, **options)
    assert answer.status_code == 400
    assert why in answer.json()["detail"]
    assert sum(counts(client, receiver)["refused"].values()) == sum(before["refused"].values()) + 1


def test_a_body_that_is_too_large_is_400_too(serve: Serve) -> None:
    client = ready(serve(ROOT / "models/iosxr", max_body_bytes=1024))
    path, headers, _ = SENT["telegraf"]
    large = b'{"metrics":[' + b" " * 2000 + b"]}"
    for content, more in [
        (large, {}),
        (gzip.compress(large), {"Content-Encoding": "gzip"}),
    ]:
        answer = client.post(path, content=content, headers=headers | more)
        assert answer.status_code == 400
        assert "1024" in answer.json()["detail"].replace(",", "")
    bomb = bytes(cramjam.snappy.compress_raw(b"\0" * 100_000))
    assert client.post("/api/v1/write", content=bomb, headers=SNAPPY).status_code == 400


def test_a_path_says_what_it_takes(client: TestClient) -> None:
    answer = client.post("/v1/metrics", content=b"", headers={"Content-Type": "text/html"})
    assert answer.status_code == 400
    assert "application/x-protobuf" in answer.json()["detail"]
    wrong = client.get("/ingest/telegraf")
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")


def test_remote_write_2_is_told_how_many_samples_were_written(client: TestClient) -> None:
    headers = SNAPPY | {
        "Content-Type": "application/x-protobuf;proto=io.prometheus.write.v2.Request"
    }
    empty = bytes(cramjam.snappy.compress_raw(b""))
    answer = client.post("/api/v1/write", content=empty, headers=headers)
    assert answer.status_code == 204
    assert answer.headers["x-prometheus-remote-write-samples-written"] == "0"


def test_without_a_mapping_points_are_refused_with_what_to_do(bundle: Path, serve: Serve) -> None:
    client = serve(bundle)
    path, headers, body = SENT["telegraf"]
    end = time.monotonic() + 30
    while (answer := client.post(path, content=body, headers=headers)).status_code == 503:
        assert time.monotonic() < end
        time.sleep(0.05)
    assert (answer.status_code, answer.json()["reason"]) == (400, "not_ingesting")
    assert "FAULTCUBE_MAPPING" in answer.json()["detail"]
    assert "FAULTCUBE_MAPPING" in client.get("/ingest/status").json()["refused"]


def test_metrics_count_what_came(client: TestClient) -> None:
    path, headers, body = SENT["telegraf"]
    before = _taken(client)
    client.post(path, content=body, headers=headers)
    assert _taken(client) == before + 1


def _taken(client: TestClient) -> float:
    """Points of Telegraf, as the metrics count them."""
    start = 'faultcube_points_total{format="telegraf"} '
    [line] = [a for a in client.get("/metrics").text.splitlines() if a.startswith(start)]
    return float(line.removeprefix(start))
