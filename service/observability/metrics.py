"""Prometheus metrics of one application.

Every request counts, so counters are plain numbers; prometheus-client only renders them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from time import perf_counter
from typing import TypeVar

import prometheus_client as prometheus
from starlette.types import Scope

from models import UNKNOWN, Decisions, Manifest
from models.schema import Matrix
from service.observability.counters import Counters, Histogram, ProcessReport, ProcessStatus
from service.observability.drift import Drift, Drifts
from service.observability.exposition import CPU_SECONDS, Exposition
from service.observability.multiprocess import SharedReports, share_reports
from service.web.middleware import RequestInfo
from service.web.problems import Problem

__all__ = ["Metrics"]

T = TypeVar("T")


class Metrics:
    """Counts for this process, and exposes the sum over all workers.

    Args:
        status: returns the queue, the held bytes and the state of the database.

    Attributes:
        counters: of this process.
        drift: of the served bundle; None without a reference to compare with.
    """

    def __init__(self, status: Callable[[], ProcessStatus] = ProcessStatus) -> None:
        self.status = status
        self.counters = Counters()
        self.drift: Drift | None = None
        self._bundle: tuple[str, str] | None = None
        self._revision = self._enrolled = 0
        self._process = prometheus.ProcessCollector(registry=None)
        self._shared: SharedReports | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Exchange reports with the other workers, if there are any."""
        with share_reports(self.report) as self._shared:
            yield
        self._shared = None

    def show_bundle(
        self,
        manifest: Manifest,
        drift: Drift | None = None,
        *,
        labels: Sequence[str] | None = None,
        revision: int = 0,
    ) -> None:
        """Set what is served; the verdicts of each label start at 0.

        Args:
            manifest: of the bundle.
            drift: compares records with the bundle's reference.
            labels: of all classes that decide; those of the bundle unless given.
            revision: of the enrolled classes.
        """
        bundled = [known.name for known in manifest.classes]
        for label in (*(labels or bundled), UNKNOWN):
            self.counters.verdicts.setdefault(label, 0)
        self.drift = drift
        self._bundle = (manifest.name, manifest.version)
        self._revision, self._enrolled = revision, len(set(labels or bundled) - set(bundled))

    def timed(self, work: Callable[[Matrix], T], matrix: Matrix) -> T:
        """Time what a model does with a chunk."""
        start = perf_counter()
        done = work(matrix)
        self.counters.inference.observe(perf_counter() - start)
        return done

    def count_verdicts(self, decisions: Decisions, labels: list[str]) -> None:
        """Count verdicts by label and by distance."""
        verdicts = self.counters.verdicts
        if len(labels) == 1:
            label = labels[0]
            verdicts[label] = verdicts.get(label, 0) + 1
        else:
            for label, number in Counter(labels).items():
                verdicts[label] = verdicts.get(label, 0) + number
        if labels:
            self.counters.distance.observe_all(decisions.distance)

    def count_rejected(self, problem: Problem) -> None:
        """Count a request that was refused."""
        rejected = self.counters.rejected
        rejected[problem.reason] = rejected.get(problem.reason, 0) + 1

    def count_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and time a request by its route."""
        # A path that is no route must not become a label: anyone can invent paths.
        info = RequestInfo.of(scope)
        matched = info.route or getattr(scope.get("route"), "path", None)
        route: str = matched or "none"
        key, requests = (route, status), self.counters.requests
        requests[key] = requests.get(key, 0) + 1
        if info.is_stream:
            return
        histogram = self.counters.seconds.get(route)
        if histogram is None:
            histogram = self.counters.seconds[route] = Histogram.of_seconds()
        histogram.observe(seconds)

    def report(self) -> ProcessReport:
        """Return counters and status of this process; any thread may call it."""
        status = self.status()
        status.bundle, status.revision = self._bundle, self._revision
        status.enrolled = self._enrolled
        samples = (sample for family in self._process.collect() for sample in family.samples)
        status.process = {sample.name: sample.value for sample in samples}
        self.counters.cpu_seconds = status.process.pop(CPU_SECONDS, 0.0)
        if drift := self.drift:
            drift.look()
            status.drift = drift.window()
        return ProcessReport(self.counters, status)

    def totals(self) -> tuple[Counters, list[ProcessStatus]]:
        """Return the sum over all workers, and the status of each; takes milliseconds."""
        if self._shared:
            return self._shared.totals()
        own = ProcessReport.decoded(self.report().encoded())
        return own.counters, [own.status]

    def text(self) -> bytes:
        """Render the Prometheus text format; takes milliseconds: not for the event loop."""
        counters, statuses = self.totals()
        return Exposition(counters, statuses, self._drifts(statuses)).text()

    def drifts(self) -> tuple[int, Drifts | None]:
        """Return the records that were compared, of all workers, and their drift; as `text`."""
        return self._drifts(self.totals()[1])

    def _drifts(self, statuses: list[ProcessStatus]) -> tuple[int, Drifts | None]:
        windows = [status.drift for status in statuses if status.drift]
        return self.drift.measure(windows) if self.drift else (0, None)
