"""The page that Prometheus reads, made of what all processes report."""

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

from service.observability.counters import Histogram, Moment, Tally
from service.observability.drift import Drifts

__all__ = ["CPU_SECONDS", "Page"]

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
class Page(Collector):
    """What there is to tell.

    Attributes:
        tally: of all processes there are and were.
        moments: of every process there is.
        drift: sampled records, and their drift unless they are too few.
    """

    tally: Tally
    moments: Sequence[Moment]
    drift: tuple[int, Drifts | None]

    def text(self) -> bytes:
        """The page in the Prometheus text format."""
        return prometheus.generate_latest(self)

    def collect(self) -> Iterator[Metric]:
        """The page for prometheus-client."""
        yield from self._of_requests()
        yield from self._of_records()
        yield from self._of_bundles()
        yield from self._of_classes()
        yield from self._of_drift()
        yield from self._of_shadow()
        yield from self._of_processes()

    def _of_requests(self) -> Iterator[Metric]:
        tally = self.tally
        counts = {(route, str(status)): n for (route, status), n in tally.requests.items()}
        yield _counter("requests", "Requests answered.", counts, "route", "status")
        yield _histogram(
            "request_seconds",
            "Time from a request's headers to the end of its answer.",
            {(route,): seconds for route, seconds in tally.seconds.items()},
            "route",
        )
        refused = "Requests refused for what they are."
        yield _counter("rejected_requests", refused, _keyed(tally.rejected), "reason")
        queue = "Large requests under way or waiting."
        yield _gauge("queue_requests", queue, {(): sum(each.queue for each in self.moments)})
        held = "Bytes of request bodies that are held."
        yield _gauge("held_bytes", held, {(): sum(each.held for each in self.moments)})

    def _of_records(self) -> Iterator[Metric]:
        tally = self.tally
        yield _counter("records", "Records classified or embedded.", {(): tally.records})
        yield _counter("verdicts", "Verdicts given.", _keyed(tally.verdicts), "label")
        distance = "Distance of records to their nearest class, 0 to 1."
        yield _histogram("distance", distance, {(): tally.distance})
        inference = "Time that the model takes for a piece of a request."
        yield _histogram("inference_seconds", inference, {(): tally.inference})

    def _of_bundles(self) -> Iterator[Metric]:
        bundles = {each.bundle: 1 for each in self.moments if each.bundle is not None}
        yield _gauge("bundle_info", "The bundle served.", bundles, "name", "version")
        swaps = "Times that another bundle took over."
        yield _counter("bundle_swaps", swaps, {(): self.tally.swaps})
        refused = "Times that a bundle was refused."
        yield _counter("bundle_refused", refused, {(): self.tally.refused})
        ready = all(each.bundle is not None for each in self.moments)
        yield _gauge("ready", "1 when a verified bundle is served, else 0.", {(): int(ready)})

    def _of_classes(self) -> Iterator[Metric]:
        revisions = [each.revision for each in self.moments]
        oldest = "Revision of the enrolled classes that is served; of several workers the oldest."
        yield _gauge("classes_revision", oldest, {(): min(revisions, default=0)})
        enrolled = max((each.enrolled for each in self.moments), default=0)
        yield _gauge("enrolled_classes", "Enrolled classes that decide.", {(): enrolled})
        stores = [each.store for each in self.moments if each.store is not None]
        up = "1 when the database of classes can be asked, 0 when it is away."
        yield _gauge("store_up", up, {(): int(all(stores))} if stores else {})

    def _of_drift(self) -> Iterator[Metric]:
        records, drift = self.drift
        index: dict[Labels, float] = {}
        if drift is not None:
            index = {("mean",): drift.mean, ("max",): drift.largest}
        meaning = "Population stability index of the embedding, over its dimensions."
        yield _gauge("drift", meaning, index, "statistic")
        yield _gauge("drift_records", "Records sampled to measure drift.", {(): records})

    def _of_shadow(self) -> Iterator[Metric]:
        pairs, agreed = Counter[tuple[str, str]](), Counter[Labels]()
        for found in self.tally.shadow.values():
            pairs.update(found)
        for (label, other), number in pairs.items():
            agreed[label,] += number if label == other else 0
        records = "Records that the shadow decided on too, by both labels."
        yield _counter("shadow_records", records, pairs, "label", "shadow_label")
        same = "Records to which the shadow gave the same label."
        yield _counter("shadow_agreed", same, agreed, "label")
        skipped = sum(self.tally.shadow_skipped.values())
        yield _counter("shadow_skipped", "Records that the shadow had no time for.", {(): skipped})

    def _of_processes(self) -> Iterator[Metric]:
        for name, (summed, meaning) in _PROCESS.items():
            values = [each.process[name] for each in self.moments if name in each.process]
            if values:
                yield GaugeMetricFamily(name, meaning, summed(values))
        if self.tally.cpu_seconds:
            cpu = "Total user and system CPU time spent in seconds."
            yield CounterMetricFamily(CPU_SECONDS, cpu, self.tally.cpu_seconds)


def _keyed(counts: Mapping[str, int]) -> dict[Labels, int]:
    return {(label,): number for label, number in counts.items()}


def _counter(name: str, meaning: str, counts: Mapping[K, int], *labels: str) -> Metric:
    family = CounterMetricFamily(f"faultcube_{name}", meaning, labels=labels)
    for values, number in counts.items():
        family.add_metric(values, number)
    return family


def _gauge(name: str, meaning: str, gauges: Mapping[K, float], *labels: str) -> Metric:
    family = GaugeMetricFamily(f"faultcube_{name}", meaning, labels=labels)
    for values, number in gauges.items():
        family.add_metric(values, number)
    return family


def _histogram(name: str, meaning: str, histograms: Mapping[K, Histogram], *labels: str) -> Metric:
    family = HistogramMetricFamily(f"faultcube_{name}", meaning, labels=labels)
    for values, histogram in histograms.items():
        ends = [*(f"{bound:g}" for bound in histogram.bounds), "+Inf"]
        buckets = list(zip(ends, accumulate(histogram.counts), strict=True))
        family.add_metric(values, buckets, histogram.total)
    return family
