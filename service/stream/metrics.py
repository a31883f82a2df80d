"""Prometheus metrics of a consumer, which has no other route: a port of their own."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

import prometheus_client as prometheus
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

from service.observability.exposition import counter, gauge, keyed
from service.stream.consumer import StreamConsumer
from service.stream.log import StreamError
from service.stream.work import Judging, Owned

__all__ = ["StreamMetrics", "exposed"]

_LARGEST_PORT = 65_535


class StreamMetrics(Collector):
    """What a consumer does, asked when it is scraped, in another thread.

    Args:
        consumer: that is asked.
    """

    def __init__(self, consumer: StreamConsumer) -> None:
        self._consumer = consumer

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics for prometheus-client."""
        totals = self._consumer.totals
        messages = "Messages of points and records that were read, refused ones too."
        yield counter("consumer_messages", messages, {(): totals.messages})
        refused = "Messages that could not be decoded, and were passed over."
        yield counter("consumer_messages_refused", refused, {(): totals.refused})
        points = "Metric points of the messages that were taken."
        yield counter("consumer_points", points, {(): totals.points})
        verdicts = "Verdicts that were written, one a record, by label."
        yield counter("consumer_verdicts", verdicts, keyed(totals.verdicts.copy()), "label")
        changes = "Changes of incidents that were written."
        yield counter("consumer_incident_changes", changes, {(): totals.changes})
        yield from _of_places(self._consumer.places())


def _of_places(places: dict[str, Owned | Judging]) -> Iterator[Metric]:
    lags = {
        source.rpartition("/")[::2]: float(place.waiting)
        for source, place in places.items()
        if place.waiting is not None
    }
    lag = "Messages of an own partition that wait to be read."
    yield gauge("consumer_lag_messages", lag, lags, "topic", "partition")
    kept = [place.kept for place in places.values()]
    age = "Seconds since the oldest of the last checkpoints of own partitions."
    ages = {(): time.monotonic() - min(kept)} if kept else {}
    yield gauge("consumer_checkpoint_age_seconds", age, ages)
    judging = next((place for place in places.values() if isinstance(place, Judging)), None)
    still = {} if judging is None else {(): judging.merger.incidents.open_incidents}
    incidents = "Incidents that are open or settled; of the owner of judged records alone."
    yield gauge("consumer_incidents_open", incidents, still)


@contextmanager
def exposed(consumer: StreamConsumer, address: str | None) -> Iterator[int | None]:
    """Answer scrapes at an address meanwhile; without one, do nothing.

    Args:
        consumer: whose metrics they are.
        address: HOST:PORT; port 0 takes a free one.

    Yields:
        The port.

    Raises:
        StreamError: nobody can listen there.
    """
    if address is None:
        yield None
        return
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or int(port) > _LARGEST_PORT:
        raise StreamError("--metrics takes HOST:PORT, such as 127.0.0.1:9100")
    registry = prometheus.CollectorRegistry()
    registry.register(StreamMetrics(consumer))
    prometheus.ProcessCollector(registry=registry)
    try:
        server, thread = prometheus.start_http_server(int(port), host.strip("[]"), registry)
    except OSError as error:
        raise StreamError(f"--metrics: cannot listen on {address}: {error.strerror}") from error
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
