"""What Prometheus is told.

Counting is on the way of every request, so it is done in plain numbers; prometheus-client turns
them into its text when it is asked for them.
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
from service.observability.counters import Histogram, Moment, Report, Tally
from service.observability.drift import Drift
from service.observability.exposition import CPU_SECONDS, Page
from service.observability.multiprocess import Sharing, sharing
from service.web.middleware import RequestInfo
from service.web.problems import Problem

__all__ = ["Metrics"]

T = TypeVar("T")


class Metrics:
    """What one application counts, and tells of itself and of the other workers there are.

    Attributes:
        tally: what is counted.
        drift: of the bundle that is served, None when there is nothing to compare with.
        queue: says how many large requests are under way or waiting.
        held: says how many bytes of bodies are held.
        store: says whether the database of classes can be asked, None when there is none.
    """

    def __init__(self) -> None:
        self.tally = Tally()
        self.drift: Drift | None = None
        self.queue: Callable[[], int] = lambda: 0
        self.held: Callable[[], int] = lambda: 0
        self.store: Callable[[], bool | None] = lambda: None
        self._bundle: tuple[str, str] | None = None
        self._revision = self._enrolled = 0
        self._process = prometheus.ProcessCollector(registry=None)
        self._sharing: Sharing | None = None

    @contextmanager
    def shared(self) -> Iterator[None]:
        """Answer for all workers, where there are several."""
        with sharing(self.report) as self._sharing:
            yield
        self._sharing = None

    def show_bundle(
        self,
        manifest: Manifest,
        drift: Drift | None = None,
        *,
        labels: Sequence[str] | None = None,
        revision: int = 0,
    ) -> None:
        """Say what is served; each of its labels starts at 0.

        Args:
            manifest: of the bundle.
            drift: compares what is answered with its reference.
            labels: of all classes that decide; those of the bundle unless given.
            revision: of the classes that are enrolled.
        """
        own = [known.name for known in manifest.classes]
        for label in (*(labels or own), UNKNOWN):
            self.tally.verdicts.setdefault(label, 0)
        self.drift = drift
        self._bundle = (manifest.name, manifest.version)
        self._revision, self._enrolled = revision, len(set(labels or own) - set(own))

    def timed(self, work: Callable[[Matrix], T], matrix: Matrix) -> T:
        """Time what a model does with a piece."""
        start = perf_counter()
        done = work(matrix)
        self.tally.inference.observe(perf_counter() - start)
        return done

    def count_verdicts(self, decisions: Decisions, labels: list[str]) -> None:
        """Count verdicts by label and by distance."""
        verdicts = self.tally.verdicts
        if len(labels) == 1:
            label = labels[0]
            verdicts[label] = verdicts.get(label, 0) + 1
        else:
            for label, number in Counter(labels).items():
                verdicts[label] = verdicts.get(label, 0) + number
        if labels:
            self.tally.distance.observe_all(decisions.distance)

    def count_rejected(self, problem: Problem) -> None:
        """Count a request that was refused."""
        rejected = self.tally.rejected
        rejected[problem.reason] = rejected.get(problem.reason, 0) + 1

    def count_request(self, scope: Scope, status: int, seconds: float) -> None:
        """Count and time a request by its route."""
        # A path that is no route must not become a label: anyone can invent paths.
        found = RequestInfo.of(scope).route or getattr(scope.get("route"), "path", None)
        route: str = found or "none"
        key, requests = (route, status), self.tally.requests
        requests[key] = requests.get(key, 0) + 1
        histogram = self.tally.seconds.get(route)
        if histogram is None:
            histogram = self.tally.seconds[route] = Histogram.of_seconds()
        histogram.observe(seconds)

    def report(self) -> Report:
        """What this process has to say; may be called in any thread."""
        process = {
            sample.name: sample.value
            for family in self._process.collect()
            for sample in family.samples
        }
        self.tally.cpu_seconds = process.pop(CPU_SECONDS, 0.0)
        window = None
        if drift := self.drift:
            drift.look()
            window = drift.window()
        moment = Moment(
            self.queue(),
            self.held(),
            self._bundle,
            process,
            window,
            self._revision,
            self._enrolled,
            self.store(),
        )
        return Report(self.tally, moment)

    def together(self) -> tuple[Tally, list[Moment]]:
        """What all workers have counted, and how each stands; takes milliseconds."""
        if self._sharing:
            return self._sharing.together()
        own = Report.decoded(self.report().encoded())
        return own.tally, [own.moment]

    def text(self) -> bytes:
        """Everything in the Prometheus text format; takes milliseconds: not for the event loop."""
        tally, moments = self.together()
        windows = [each.drift for each in moments if each.drift]
        drift = self.drift.measure(windows) if self.drift else (0, None)
        return Page(tally, moments, drift).text()
