"""What Prometheus is told.

Counting is on the way of every request, so it is done in plain numbers; prometheus-client turns
them into its text when it is asked for them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from time import perf_counter
from typing import TypeVar

import numpy as np
import prometheus_client as prometheus
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from starlette.types import Scope

from models import UNKNOWN, Decisions, Manifest
from models.schema import Matrix
from service.problems import Problem

__all__ = ["Histogram", "Metrics"]

T = TypeVar("T")

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_DISTANCES = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0)


class Histogram:
    """How often values fell between bounds.

    Args:
        bounds: upper ends of the buckets, ascending; one more takes what is beyond.
    """

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = tuple(bounds)
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def observe_all(self, values: Matrix) -> None:
        """Count values: float [n]."""
        if len(values) == 1:
            self.observe(float(values[0]))
            return
        places = np.searchsorted(self.bounds, values)
        for place, number in enumerate(np.bincount(places, minlength=len(self.counts)).tolist()):
            self.counts[place] += number
        self.total += float(values.sum())

    def buckets(self) -> list[tuple[str, float]]:
        """Cumulative counts, as Prometheus wants them."""
        names = [*map(str, self.bounds), "+Inf"]
        return list(zip(names, np.cumsum(self.counts).tolist(), strict=True))


class Metrics(Collector):
    """The counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        self.requests: Counter[tuple[str, ...]] = Counter()
        self.seconds: dict[str, Histogram] = {}
        self.records = 0
        self.verdicts: Counter[str] = Counter()
        self.distance = Histogram(_DISTANCES)
        self.inference = Histogram(_SECONDS)
        self.rejected: Counter[str] = Counter()
        self.bundle: tuple[str, str] | None = None
        self.swaps = self.refused = 0
        self.queue: Callable[[], int] = lambda: 0
        self.registry = prometheus.CollectorRegistry()
        self.registry.register(self)
        prometheus.ProcessCollector(registry=self.registry)

    def show_bundle(self, manifest: Manifest) -> None:
        """Say which bundle is served; each of its labels starts at 0."""
        self.bundle = (manifest.name, manifest.version)
        for label in (*(known.name for known in manifest.classes), UNKNOWN):
            self.verdicts[label] += 0

    def timed(self, work: Callable[[Matrix], T], matrix: Matrix) -> T:
        """Time what a model does with a piece."""
        start = perf_counter()
        done = work(matrix)
        self.inference.observe(perf_counter() - start)
        return done

    def count_verdicts(self, decisions: Decisions, labels: list[str]) -> None:
        """Count verdicts by label and by distance."""
        if labels:
            self.verdicts.update(labels)
            self.distance.observe_all(decisions.distance)

    def count_rejected(self, problem: Problem) -> None:
        """Count a request that was refused."""
        self.rejected[problem.reason] += 1

    def count_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and time a request by its route."""
        # A path that is no route must not become a label: anyone can invent paths.
        route = getattr(scope.get("route"), "path", None) or scope["state"].get("route", "none")
        self.requests[route, str(status)] += 1
        if route not in self.seconds:
            self.seconds[route] = Histogram(_SECONDS)
        self.seconds[route].observe(seconds)

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return prometheus.generate_latest(self.registry)

    def collect(self) -> Iterator[Metric]:
        """What is counted, for prometheus-client."""
        yield _counter("requests", "Requests answered.", ("route", "status"), self.requests)
        seconds = HistogramMetricFamily(
            "faultcube_request_seconds",
            "Time from a request's headers to the end of its answer.",
            labels=["route"],
        )
        for route, histogram in self.seconds.items():
            seconds.add_metric([route], histogram.buckets(), histogram.total)
        yield seconds
        yield _counter("records", "Records classified or embedded.", (), {(): self.records})
        yield _counter("verdicts", "Verdicts given.", ("label",), _keyed(self.verdicts))
        yield _histogram(
            "distance", "Distance of records to their nearest class, 0 to 1.", self.distance
        )
        yield _histogram(
            "inference_seconds", "Time that the model takes for a piece.", self.inference
        )
        why = "Requests refused for what they are."
        yield _counter("rejected_requests", why, ("reason",), _keyed(self.rejected))
        yield GaugeMetricFamily(
            "faultcube_queue_requests", "Large requests under way or waiting.", self.queue()
        )
        bundle = GaugeMetricFamily(
            "faultcube_bundle_info", "The bundle served.", labels=["name", "version"]
        )
        if self.bundle:
            bundle.add_metric(self.bundle, 1)
        yield bundle
        swaps = "Times that another bundle took over."
        yield _counter("bundle_swaps", swaps, (), {(): self.swaps})
        refused = "Times that a bundle was refused."
        yield _counter("bundle_refused", refused, (), {(): self.refused})
        yield GaugeMetricFamily(
            "faultcube_ready",
            "1 when a verified bundle is served, else 0.",
            float(self.bundle is not None),
        )


def _keyed(counts: Mapping[str, int]) -> dict[tuple[str, ...], int]:
    return {(label,): number for label, number in counts.items()}


def _counter(
    name: str, meaning: str, labels: Sequence[str], counts: Mapping[tuple[str, ...], int]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"faultcube_{name}", meaning, labels=labels)
    for values, number in counts.items():
        family.add_metric(values, number)
    return family


def _histogram(name: str, meaning: str, histogram: Histogram) -> HistogramMetricFamily:
    return HistogramMetricFamily(
        f"faultcube_{name}", meaning, buckets=histogram.buckets(), sum_value=histogram.total
    )
