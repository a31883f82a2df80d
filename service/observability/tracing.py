"""Whether a collector of OpenTelemetry traces is told of requests.

It is where `FAULTCUBE_OTLP_ENDPOINT` names one, and needs the extra `tracing`; otherwise nothing of
it is even imported.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from service.settings import Settings
from service.web.middleware import RequestObserver

__all__ = ["tracing"]


@contextmanager
def tracing(settings: Settings, watchers: list[RequestObserver]) -> Iterator[None]:
    """Trace requests while it lasts, where a collector is named.

    Args:
        settings: name it, and how large a share of requests is traced.
        watchers: those who are told of requests; one is added.
    """
    if not settings.otlp_endpoint:
        yield
        return
    from service.observability.spans import Spans, exporter  # noqa: PLC0415 - stands on the extra

    spans = Spans(exporter(settings.otlp_endpoint), share=settings.trace_share)
    watchers.append(spans)
    try:
        yield
    finally:
        watchers.remove(spans)
        spans.close()
