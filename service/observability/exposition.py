"""The metrics of all processes in the Prometheus text format."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import TypeVar

import prometheus_client as prometheus
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector

from service.observability.counters import Counters, Histogram, ProcessStatus
from service.observability.drift import Drifts

__all__ = ["CPU_SECONDS", "Exposition", "counter", "gauge", "keyed"]

Labels = tuple[str, ...]
K = TypeVar("K", bound=Labels)

CPU_SECONDS = "process_cpu_seconds_total"

_PROCESS: Mapping[str, tuple[Callable[[Iterable[float]], float], str]] = {
    "process_virtual_memory_bytes": (sum, "Virtual memory size in bytes."),
    "process_resident_memory_bytes": (sum, "Resident memory size in bytes."),
    "process_open_fds": (sum, "Number of open file descriptors."),
    "process_max_fds": (sum, "Maximum number of open file descriptors."),
    "process_start_time_seconds": (
        max,
        "Start time since unix epoch in seconds; of several workers that of the newest.",
    ),
}


@dataclass(frozen=True, slots=True)
class Exposition(Collector):
    """Metrics of all processes.

    Attributes:
        counters: sum over all processes, exited ones too.
        statuses: of every running process.
        drift: number of sampled records, and their drift unless they are too few.
    """

    counters: Counters
    statuses: Sequence[ProcessStatus]
    drift: tuple[int, Drifts | None]

    def text(self) -> bytes:
        """Render the Prometheus text format."""
        return prometheus.generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """Yield the metrics for prometheus-client."""
        yield from self._requests()
        yield from self._records()
        yield from self._bundles()
        yield from self._classes()
        yield from self._drift()
        yield from self._shadow()
        yield from self._ingestion()
        yield from self._incidents()
        yield from self._processes()

    def _requests(self) -> Iterator[Metric]:
        counters, statuses = self.counters, self.statuses
        requests = {(route, str(status)): n for (route, status), n in counters.requests.items()}
        yield counter("requests", "Requests answered.", requests, "route", "status")
        seconds = {(route,): histogram for route, histogram in counters.seconds.items()}
        time = "Time from a request's headers to the end of its answer."
        yield _histogram("request_seconds", time, seconds, "route")
        rejected = "Requests refused for what they are."
        yield counter("rejected_requests", rejected, keyed(counters.rejected), "reason")
        queue = sum(status.queue for status in statuses)
        yield gauge("queue_requests", "Large requests under way or waiting.", {(): queue})
        held = sum(status.held for status in statuses)
        yield gauge("held_bytes", "Bytes of request bodies that are held.", {(): held})

    def _records(self) -> Iterator[Metric]:
        counters = self.counters
        yield counter("records", "Records classified or embedded.", {(): counters.records})
        yield counter("verdicts", "Verdicts given.", keyed(counters.verdicts), "label")
        distance = "Distance of records to their nearest class, 0 to 1."
        yield _histogram("distance", distance, {(): counters.distance})
        inference = "Time that the model takes for a piece of a request."
        yield _histogram("inference_seconds", inference, {(): counters.inference})

    def _bundles(self) -> Iterator[Metric]:
        counters, statuses = self.counters, self.statuses
        bundles = {status.bundle: 1 for status in statuses if status.bundle is not None}
        yield gauge("bundle_info", "The bundle served.", bundles, "name", "version")
        swaps = "Times that another bundle took over."
        yield counter("bundle_swaps", swaps, {(): counters.swaps})
        yield counter("bundle_refused", "Times that a bundle was refused.", {(): counters.refused})
        sources = [status.source for status in statuses if status.source is not None]
        followed = "1 when the object store of bundles can be followed, 0 when it is away, say."
        yield gauge("bundle_source_up", followed, {(): int(all(sources))} if sources else {})
        ready = all(status.bundle is not None for status in statuses)
        yield gauge("ready", "1 when a verified bundle is served, else 0.", {(): int(ready)})

    def _classes(self) -> Iterator[Metric]:
        revision = min((status.revision for status in self.statuses), default=0)
        oldest = "Revision of the enrolled classes that is served; of several workers the oldest."
        yield gauge("classes_revision", oldest, {(): revision})
        enrolled = max((status.enrolled for status in self.statuses), default=0)
        yield gauge("enrolled_classes", "Enrolled classes that decide.", {(): enrolled})
        stores = [status.store for status in self.statuses if status.store is not None]
        up = "1 when the database of classes can be asked, 0 when it is away."
        yield gauge("store_up", up, {(): int(all(stores))} if stores else {})
        written = [status.writable for status in self.statuses if status.writable is not None]
        writable = "1 when the database of classes can be written, 0 when its disk is full, say."
        yield gauge("store_writable", writable, {(): int(all(written))} if written else {})

    def _drift(self) -> Iterator[Metric]:
        records, drift = self.drift
        index = {("mean",): drift.mean, ("max",): drift.largest} if drift else {}
        meaning = "Population stability index of the embedding, over its dimensions."
        yield gauge("drift", meaning, index, "statistic")
        yield gauge("drift_records", "Records sampled to measure drift.", {(): records})

    def _shadow(self) -> Iterator[Metric]:
        pairs, agreed = Counter[tuple[str, str]](), Counter[Labels]()
        for counts in self.counters.shadow.values():
            pairs.update(counts)
        for (label, other), number in pairs.items():
            agreed[label,] += number if label == other else 0
        records = "Records that the shadow decided on too, by both labels."
        yield counter("shadow_records", records, pairs, "label", "shadow_label")
        same = "Records to which the shadow gave the same label."
        yield counter("shadow_agreed", same, agreed, "label")
        skipped = sum(self.counters.shadow_skipped.values())
        yield counter("shadow_skipped", "Records that the shadow had no time for.", {(): skipped})

    def _ingestion(self) -> Iterator[Metric]:
        counters = self.counters
        taken = "Metric points that were taken, by wire format."
        yield counter("points", taken, keyed(counters.points), "format")
        unusable = "Samples of metric points that could not be used, by wire format."
        yield counter("samples_rejected", unusable, keyed(counters.samples_rejected), "format")
        became = "What became of metric points: records made, late or unmapped points, and so on."
        yield counter("assembled", became, keyed(counters.assembled), "what")
        queue = sum(status.points for status in self.statuses)
        yield gauge("points_queued", "Metric points that wait to be assembled.", {(): queue})

    def _incidents(self) -> Iterator[Metric]:
        counters, statuses = self.counters, self.statuses
        opened = "Incidents that were told first, by class."
        yield counter("incidents_opened", opened, keyed(counters.opened), "label")
        closed = "Incidents that closed, by class."
        yield counter("incidents_closed", closed, keyed(counters.closed), "label")
        still = sum(status.incidents for status in statuses)
        yield gauge("incidents_open", "Incidents that are open or settled.", {(): still})
        sent = "States of incidents that a target took."
        yield counter("alerts_sent", sent, keyed(counters.alerts_sent), "target")
        failed = "States of incidents that a target did not take; most are tried again."
        yield counter("alerts_failed", failed, keyed(counters.alerts_failed), "target")
        queue = sum(status.alerts for status in statuses)
        yield gauge("alerts_queued", "Incidents that a target has yet to be told of.", {(): queue})

    def _processes(self) -> Iterator[Metric]:
        for name, (reduce, meaning) in _PROCESS.items():
            values = [status.process[name] for status in self.statuses if name in status.process]
            if values:
                yield GaugeMetricFamily(name, meaning, reduce(values))
        if self.counters.cpu_seconds:
            cpu = "Total user and system CPU time spent in seconds."
            yield CounterMetricFamily(CPU_SECONDS, cpu, self.counters.cpu_seconds)


def keyed(counts: Mapping[str, int]) -> dict[Labels, int]:
    """Return counts by one label as `counter` takes them."""
    return {(label,): number for label, number in counts.items()}


def counter(name: str, meaning: str, counts: Mapping[K, int], *labels: str) -> Metric:
    """Return a counter, by the values of its labels; `faultcube_` goes before its name."""
    return _add(CounterMetricFamily(f"faultcube_{name}", meaning, labels=labels), counts)


def gauge(name: str, meaning: str, gauges: Mapping[K, float], *labels: str) -> Metric:
    """Return a gauge, likewise."""
    return _add(GaugeMetricFamily(f"faultcube_{name}", meaning, labels=labels), gauges)


def _add(family: CounterMetricFamily | GaugeMetricFamily, samples: Mapping[K, float]) -> Metric:
    for labels, number in samples.items():
        family.add_metric(labels, number)
    return family


def _histogram(name: str, meaning: str, histograms: Mapping[K, Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(f"faultcube_{name}", meaning, labels=labels)
    for values, histogram in histograms.items():
        ends = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(ends, accumulate(histogram.counts), strict=True))
        family.add_metric(values, buckets, histogram.total)
    return family
