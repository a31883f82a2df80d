from __future__ import annotations

import gzip
import logging
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from random import Random
from typing import Any

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExporter, SpanExportResult
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from starlette.testclient import TestClient

from service.observability.tracing import Spans
from service.settings import Settings, SettingsError
from service.web.middleware import RequestInfo

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SECRET = "s3cr3t-value"

Serve = Callable[..., TestClient]


class Collector:
    """Takes traces by OTLP over HTTP, as an OpenTelemetry collector does."""

    def __init__(self) -> None:
        self.requests: list[ExportTraceServiceRequest] = []
        self.headers: list[dict[str, str]] = []
        self.paths: set[str] = set()
        collector = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                if self.headers["content-encoding"] == "gzip":
                    body = gzip.decompress(body)
                collector.paths.add(self.path)
                collector.headers.append(dict(self.headers))
                collector.requests.append(ExportTraceServiceRequest.FromString(body))
                self.send_response(200)
                self.send_header("Content-Type", "application/x-protobuf")
                self.end_headers()

            def log_message(self, *_: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server.server_address[1]}"

    @property
    def spans(self) -> list[Span]:
        return [
            span
            for request in self.requests
            for resource in request.resource_spans
            for scope in resource.scope_spans
            for span in scope.spans
        ]

    @property
    def resource(self) -> dict[str, str]:
        attributes = self.requests[0].resource_spans[0].resource.attributes
        return {each.key: each.value.string_value for each in attributes}


@pytest.fixture
def collector(monkeypatch: pytest.MonkeyPatch) -> Iterator[Collector]:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "50")
    collector = Collector()
    yield collector
    collector.server.shutdown()
    collector.server.server_close()


def attributes_of(span: Span) -> dict[str, str | int]:
    return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}


def received(collector: Collector, number: int) -> list[Span]:
    """Wait for so many spans and a little longer."""
    deadline = time.monotonic() + 20
    while len(collector.spans) < number and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.2)
    assert len(collector.spans) == number
    return sorted(collector.spans, key=lambda span: span.start_time_unix_nano)


def test_each_request_is_one_span_that_says_what_it_was_and_nothing_it_held(
    bundle: Path, serve: Serve, collector: Collector, good: dict[str, Any]
) -> None:
    before = time.time_ns()
    client = serve(bundle, otlp_endpoint=collector.url, trace_share=1)
    ready = client.get("/readyz").json()["bundle"]
    path = f"/classify?on_invalid=report&{SECRET}"
    answers = [
        client.post("/classify", json={"records": [good | {"vendor": SECRET}] * 3}),
        client.post(path, json={"records": [good | {"vendor": SECRET}]}),
        client.get(f"/nothing-{'x' * 300}"),
    ]
    names = [answer.headers["x-request-id"] for answer in answers]
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        found = {attributes_of(each)["faultcube.request_id"]: each for each in collector.spans}
        if set(names) <= set(found):
            break
        time.sleep(0.01)
    answered, refused, lost = (found[name] for name in names)
    assert attributes_of(answered) == {
        "http.request.method": "POST",
        "http.response.status_code": 200,
        "http.route": "/classify",
        "url.path": "/classify",
        "url.scheme": "http",
        "faultcube.request_id": names[0],
        "faultcube.records": 3,
        "faultcube.bundle.name": "toy",
        "faultcube.bundle.version": ready["version"],
    }
    assert (answered.name, answered.kind) == ("POST /classify", Span.SPAN_KIND_SERVER)
    assert answered.parent_span_id == b""
    assert before < answered.start_time_unix_nano < answered.end_time_unix_nano < time.time_ns()
    assert answered.status.code == Status.STATUS_CODE_UNSET
    assert attributes_of(refused)["http.response.status_code"] == 422
    assert refused.status.code == Status.STATUS_CODE_UNSET
    assert "faultcube.records" not in attributes_of(refused)
    assert lost.name == "GET"
    assert "http.route" not in attributes_of(lost)
    assert len(str(attributes_of(lost)["url.path"])) == 200
    assert SECRET not in str(collector.requests)
    assert collector.paths == {"/v1/traces"}
    assert collector.resource["service.name"] == "faultcube"
    assert {"service.version", "service.instance.id"} <= set(collector.resource)


def test_a_trace_that_a_sender_has_begun_goes_on(
    bundle: Path, serve: Serve, collector: Collector
) -> None:
    client = serve(bundle, otlp_endpoint=collector.url, trace_share=0)
    sent = {"traceparent": f"00-{TRACE}-{PARENT}-01", "tracestate": "vendor=1"}
    client.get("/livez", headers=sent)
    client.get("/livez")
    client.get("/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    client.get("/livez", headers={"traceparent": "nonsense"})
    (span,) = received(collector, 1)
    assert (span.trace_id.hex(), span.parent_span_id.hex()) == (TRACE, PARENT)
    assert span.trace_state == "vendor=1"


def test_a_sender_that_does_not_trace_is_not_traced_and_one_that_sends_nonsense_is_as_any_other(
    bundle: Path, serve: Serve, collector: Collector
) -> None:
    client = serve(bundle, otlp_endpoint=collector.url, trace_share=1)
    client.get("/livez", headers={"traceparent": f"00-{TRACE}-{PARENT}-00"})
    client.get("/metrics", headers={"traceparent": f"00-{'0' * 32}-{PARENT}-01"})
    spans = [span for span in received_after(client, collector) if span.name != "GET /readyz"]
    assert [span.name for span in spans] == ["GET /metrics", "GET /model"]
    assert spans[0].parent_span_id == b""


def received_after(client: TestClient, collector: Collector) -> list[Span]:
    """All spans up to that of one more request."""
    client.get("/model")
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        spans = sorted(collector.spans, key=lambda span: span.start_time_unix_nano)
        if spans and spans[-1].name == "GET /model":
            return spans
        time.sleep(0.01)
    raise AssertionError("the last span has not arrived")


def test_a_failure_of_ours_is_an_error(
    bundle: Path, serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = serve(bundle, otlp_endpoint=collector.url, trace_share=1)
    monkeypatch.setattr("service.api.operations.Alive", lambda **_fields: 1 / 0)
    assert client.get("/livez").status_code == 500
    monkeypatch.undo()
    (span,) = (each for each in received_after(client, collector) if each.name == "GET /livez")
    assert span.status.code == Status.STATUS_CODE_ERROR
    assert attributes_of(span)["error.type"] == "500"


def test_what_is_not_sent_yet_is_sent_at_the_end(
    bundle: Path, serve: Serve, collector: Collector, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OTEL_BSP_SCHEDULE_DELAY", "60000")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "authorization=key%201")
    monkeypatch.setenv("OTEL_SERVICE_NAME", "faults")
    client = serve(bundle, otlp_endpoint=f"{collector.url}/", trace_share=1)
    client.get("/livez")
    assert not collector.requests
    client.__exit__()
    assert "GET /livez" in {span.name for span in collector.spans}
    assert collector.headers[0]["authorization"] == "key 1"
    assert collector.resource["service.name"] == "faults"


def scope(**known: Any) -> dict[str, Any]:
    made: dict[str, Any] = {"type": "http", "method": "POST", "path": "/classify"}
    RequestInfo(**({"headers": {}, "request_id": "1", "route": "/classify"} | known)).attach(made)
    return made


def test_a_share_of_requests_is_traced() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, share=0.1, random=Random(1), clock=lambda: 5_000_000_000)
    for _ in range(2000):
        spans(scope(), 200, 0.5)
    spans.close()
    found = exporter.get_finished_spans()
    assert 150 < len(found) < 250
    assert len({span.context.trace_id for span in found if span.context}) == len(found)
    assert (found[0].start_time, found[0].end_time) == (4_500_000_000, 5_000_000_000)


def test_methods_that_anyone_can_invent_are_one_name() -> None:
    exporter = InMemorySpanExporter()
    spans = Spans(exporter, share=1)
    spans({**scope(route=None), "method": "BREW"}, 405, 0.0)
    spans.close()
    (span,) = exporter.get_finished_spans()
    assert span.name == "HTTP"
    assert (span.attributes or {})["http.request.method"] == "_OTHER"


class Stuck(SpanExporter):
    """A collector that never answers."""

    def __init__(self) -> None:
        self.began, self.end = threading.Event(), threading.Event()

    def export(self, spans: Sequence[ReadableSpan]) -> SpanExportResult:
        assert spans
        self.began.set()
        self.end.wait(60)
        return SpanExportResult.FAILURE


@pytest.fixture
def quiet(caplog: pytest.LogCaptureFixture) -> None:
    """The SDK tells of every batch that is lost."""
    caplog.set_level(logging.CRITICAL, logger="opentelemetry")


@pytest.mark.usefixtures("quiet")
def test_a_collector_that_hangs_holds_up_no_request_and_the_end_hardly() -> None:
    exporter = Stuck()
    spans = Spans(exporter, share=1)
    longest = 0.0
    for _ in range(5000):
        start = time.thread_time()
        spans(scope(), 200, 0.0)
        longest = max(longest, time.thread_time() - start)
    assert exporter.began.wait(20)
    assert longest < 3
    start = time.monotonic()
    spans.close()
    assert time.monotonic() - start < 10
    exporter.end.set()


@pytest.mark.usefixtures("quiet")
def test_a_collector_that_is_away_costs_no_answer(bundle: Path, serve: Serve) -> None:
    client = serve(bundle, otlp_endpoint="http://127.0.0.1:9", trace_share=1)
    assert client.get("/livez").status_code == 200


SILENT = """
import sys, time
from starlette.testclient import TestClient
from service.app import create_app
from service.settings import Settings

with TestClient(create_app(Settings())) as client:
    while client.get("/readyz").status_code != 200:
        time.sleep(0.01)
extra = ("opentelemetry.sdk", "opentelemetry.exporter")
names = [name for name in sys.modules if name.startswith(extra)]
sys.exit(f"imported: {names}" if names else 0)
"""


def test_nothing_is_imported_when_nothing_is_traced() -> None:
    subprocess.run([sys.executable, "-c", SILENT], check=True, timeout=120)


WITHOUT_EXTRA = """
import sys
sys.modules["opentelemetry.exporter"] = None
from models.cli import main
sys.argv = ["faultcube", "serve", "--port", "0"]
main()
"""


def test_without_the_extra_the_service_says_what_to_install_and_does_not_start() -> None:
    started = subprocess.run(
        [sys.executable, "-c", WITHOUT_EXTRA],
        env=os.environ | {"FAULTCUBE_OTLP_ENDPOINT": "http://localhost:4318"},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert started.returncode == 2
    assert started.stdout == ""
    assert started.stderr == (
        "faultcube: FAULTCUBE_OTLP_ENDPOINT: tracing needs more libraries: "
        "pip install -c constraints.txt '.[tracing]'\n"
    )


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FAULTCUBE_OTLP_ENDPOINT", "localhost:4318"),
        ("FAULTCUBE_OTLP_ENDPOINT", "grpc://localhost:4317"),
        ("FAULTCUBE_OTLP_ENDPOINT", "http://"),
        ("FAULTCUBE_TRACE_SHARE", "1.5"),
        ("FAULTCUBE_TRACE_SHARE", "nan"),
        ("FAULTCUBE_DRIFT_WINDOW", "10"),
    ],
)
def test_settings_that_make_no_sense_are_refused(
    monkeypatch: pytest.MonkeyPatch, variable: str, value: str
) -> None:
    monkeypatch.setenv(variable, value)
    with pytest.raises(SettingsError, match=f"^{variable}: "):
        Settings.read()
