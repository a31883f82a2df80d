"""What Prometheus is told."""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterable

import prometheus_client as prometheus
from starlette.types import Scope

from models import UNKNOWN, Manifest
from service.problems import Problem

__all__ = ["Metrics"]

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)


class Metrics:
    """The counters of one application, in a registry of its own."""

    def __init__(self) -> None:
        registry = prometheus.CollectorRegistry()
        self.registry = registry
        self.requests = prometheus.Counter(
            "faultcube_requests", "Requests answered.", ["route", "status"], registry=registry
        )
        self.seconds = prometheus.Histogram(
            "faultcube_request_seconds",
            "Time from a request's headers to the end of its answer.",
            ["route"],
            buckets=_BUCKETS,
            registry=registry,
        )
        self.records = prometheus.Counter(
            "faultcube_records", "Records classified or embedded.", registry=registry
        )
        self.verdicts = prometheus.Counter(
            "faultcube_verdicts", "Verdicts given.", ["label"], registry=registry
        )
        self.rejected = prometheus.Counter(
            "faultcube_rejected_requests",
            "Requests refused for what they are.",
            ["reason"],
            registry=registry,
        )
        self.bundle = prometheus.Gauge(
            "faultcube_bundle_info", "The bundle served.", ["name", "version"], registry=registry
        )
        self.ready = prometheus.Gauge(
            "faultcube_ready", "1 when a verified bundle is served, else 0.", registry=registry
        )
        prometheus.ProcessCollector(registry=registry)

    def show_bundle(self, manifest: Manifest) -> None:
        """Say which bundle is served; each of its labels starts at 0."""
        self.bundle.clear()
        self.bundle.labels(manifest.name, manifest.version).set(1)
        for label in (*(known.name for known in manifest.classes), UNKNOWN):
            self.verdicts.labels(label)
        self.ready.set(1)

    def count_verdicts(self, labels: Iterable[str]) -> None:
        """Count verdicts by label."""
        for label, number in Tally(labels).items():
            self.verdicts.labels(label).inc(number)

    def text(self) -> bytes:
        """Everything in the Prometheus text format."""
        return prometheus.generate_latest(self.registry)

    def count_rejected(self, problem: Problem) -> None:
        """Count a request that was refused."""
        self.rejected.labels(problem.reason).inc()

    def count_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and time a request by its route."""
        # A path that is no route must not become a label: anyone can invent paths.
        route = getattr(scope.get("route"), "path", "none")
        self.requests.labels(route, status).inc()
        self.seconds.labels(route).observe(seconds)
