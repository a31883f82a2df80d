"""OpenTelemetry spans of requests, sent to a collector by OTLP over HTTP; needs extra `tracing`.

A span is made when its request has ended, so one that is not sampled costs next to nothing. They
are sent in batches by a thread; if the collector is away or slow, some are lost and no request
waits. Attributes follow the semantic conventions for HTTP servers:
https://opentelemetry.io/docs/specs/semconv/http/http-spans/

The usual variables of an OpenTelemetry SDK work too: `OTEL_EXPORTER_OTLP_HEADERS`,
`OTEL_EXPORTER_OTLP_CERTIFICATE`, `OTEL_SERVICE_NAME`, `OTEL_RESOURCE_ATTRIBUTES`, `OTEL_BSP_*`.
"""

from __future__ import annotations

import threading
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from random import Random
from typing import Any

from opentelemetry import trace
from opentelemetry.context import Context
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter
from opentelemetry.sdk.trace.sampling import ALWAYS_ON
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
from starlette.types import Scope

from service.formats.errors import printable
from service.settings import Settings
from service.web.middleware import RequestInfo, RequestObserver

__all__ = ["Spans", "tracing"]

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE"})
_LONGEST_PATH = 200
_FAILED = 500
_FAREWELL_SECONDS = 2.0
"""To send the last spans when the service ends."""

_propagator = TraceContextTextMapPropagator()


@contextmanager
def tracing(settings: Settings, observers: list[RequestObserver]) -> Iterator[None]:
    """Trace requests by one more watcher, and send the last spans at the end."""
    exporter = OTLPSpanExporter(f"{settings.otlp_endpoint.rstrip('/')}/v1/traces")
    spans = Spans(exporter, share=settings.trace_share)
    observers.append(spans)
    try:
        yield
    finally:
        observers.remove(spans)
        spans.close()


class Spans:
    """A watcher that makes spans of requests.

    A request with a `traceparent` (W3C Trace Context) belongs to that trace, and is traced if its
    sender traces it; of the others a share is traced.

    Args:
        exporter: sends the spans.
        share: of requests that are traced, 0 to 1.
        random: samples requests.
        clock: nanoseconds since 1970.
    """

    def __init__(
        self,
        exporter: SpanExporter,
        *,
        share: float,
        random: Random | None = None,
        clock: Callable[[], int] = time.time_ns,
    ) -> None:
        self.share, self.random, self.clock = share, random or Random(), clock
        self._provider = TracerProvider(
            sampler=ALWAYS_ON, resource=_resource(), shutdown_on_exit=False
        )
        self._provider.add_span_processor(BatchSpanProcessor(exporter))
        self._tracer = self._provider.get_tracer("faultcube", version("faultcube"))

    def __call__(self, scope: Scope, status: int, seconds: float) -> None:
        """Make a span of a request if it is sampled."""
        headers = RequestInfo.of(scope).headers
        parent = b"traceparent" in headers
        if not parent and self.random.random() >= self.share:
            return
        context = Context()
        if parent:
            context = _context(headers)
            if not self._is_sampled(context):
                return
        end = self.clock()
        method = scope["method"] if scope["method"] in _METHODS else "_OTHER"
        attributes = _attributes(scope, method, status)
        route = attributes.get("http.route", "")
        span = self._tracer.start_span(
            f"{'HTTP' if method == '_OTHER' else method} {route}".rstrip(),
            context=context,
            kind=SpanKind.SERVER,
            attributes=attributes,
            start_time=end - int(seconds * 1e9),
        )
        if status >= _FAILED:
            span.set_status(Status(StatusCode.ERROR))
        span.end(end)

    def close(self) -> None:
        """Send the spans that are left, for two seconds at most."""
        # The SDK's own time limit is half a minute, and not ours to set.
        last = threading.Thread(target=self._provider.shutdown, name="last spans", daemon=True)
        last.start()
        last.join(_FAREWELL_SECONDS)

    def _is_sampled(self, context: Context) -> bool:
        parent = trace.get_current_span(context).get_span_context()
        if parent.is_valid:
            return parent.trace_flags.sampled
        return self.random.random() < self.share


def _resource() -> Resource:
    """Describe this process; the environment's attributes take precedence."""
    own = Resource(
        {
            "service.name": "faultcube",
            "service.version": version("faultcube"),
            "service.instance.id": str(uuid.uuid4()),
        }
    )
    return own.merge(OTELResourceDetector().detect())


def _context(headers: Mapping[bytes, bytes]) -> Context:
    names = (b"traceparent", b"tracestate")
    carrier = {name.decode(): headers[name].decode("latin-1") for name in names if name in headers}
    return _propagator.extract(carrier, Context())


def _attributes(scope: Scope, method: str, status: int) -> dict[str, Any]:
    info = RequestInfo.of(scope)
    attributes = {
        "http.request.method": method,
        "http.response.status_code": status,
        "url.path": printable(scope["path"], _LONGEST_PATH),
        "url.scheme": scope.get("scheme", "http"),
        "faultcube.request_id": info.request_id,
    }
    if route := info.route or getattr(scope.get("route"), "path", None):
        attributes["http.route"] = route
    if status >= _FAILED:
        attributes["error.type"] = str(status)
    if info.records is not None:
        attributes["faultcube.records"] = info.records
    if bundle := info.bundle:
        attributes["faultcube.bundle.name"] = bundle["name"]
        attributes["faultcube.bundle.version"] = bundle["version"]
    return attributes
