"""The state of one application: its settings, its metrics, and the model that it serves now."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from starlette.requests import Request

from models import Model
from models.schema import Matrix
from models.telemetry.share import Share
from service.bundles.repository import BundleRepository
from service.bundles.shadow import Shadow
from service.bundles.trial import TrialLoader
from service.classes.enrolment import Enrolment
from service.live.live import Live, LiveSources
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.observability.recent import Recent
from service.runtime.bundle_loader import BundleLoader
from service.runtime.class_sync import ClassSync
from service.runtime.incidents import Incidents, roles_of
from service.runtime.ingestion import Hooks, Ingestion
from service.runtime.sites import Sites
from service.scoring.scheduler import Scheduler
from service.scoring.scored import Observer, Scored
from service.scoring.served_model import ServedModel
from service.settings import Settings
from service.web.body import ByteBudget

if TYPE_CHECKING:
    from service.bundles.mirror import Mirror
    from service.classes.database import Store

__all__ = ["State", "state_of"]

_WRITTEN_SECONDS, _COPIED_SECONDS = 1.0, 0.1
"""How long a bundle must be at rest: one that is written here, and a copy, which comes whole."""
_STOP_SECONDS = 2.0
"""Longest time that the end waits for threads, such as one that loads a bundle."""

log = logging.getLogger(__name__)


class State:
    """The one object that routes use; `load` and `clock` are as in `create_app`.

    Attributes:
        keys: API keys and what they permit.
        repository: bundles that may be served.
        trial: loads bundles, each in a process of its own first.
        mirror: copies bundles of an object store into the repository; None without one.
        loader: loads the bundle that the repository chooses.
        classes: enrolled classes and profiles, in step with the database.
        sites: that have a profile, or learn one.
        incidents: that verdicts become.
        ingestion: takes metric points, and has their records judged.
        scheduler: shares the event loop among requests.
        budget: bounds the bytes of request bodies.
        shadow: compares a second bundle with the served one; None when there is none.
        live: what the live page shows; None when there is no page.
        settled: set once a bundle is loaded or refused.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        load: Callable[[Path], Model] | None,
        clock: Callable[[], float],
    ) -> None:
        self.settings, self.metrics, self.clock = settings, metrics, clock
        self.keys = settings.keys()
        settle = _COPIED_SECONDS if settings.bundles_from else _WRITTEN_SECONDS
        self.repository = BundleRepository(settings.shelf(), settle_seconds=settle)
        self.trial = TrialLoader(
            settings.bundle_seconds, settings.bundle_bytes, settings.threads, settings.trust()
        )
        self.mirror = self._mirror()
        load = load or self.trial.load
        self.loader = BundleLoader(self.repository, load, self._serve, metrics.counters)
        self.classes = ClassSync(self._serve_classes)
        self.sites = Sites()
        self.incidents = Incidents(settings, metrics.counters)
        self.live = self._live() if settings.page == "on" else None
        self.ingestion = self._ingestion()
        self.settled, self.refresh = self.loader.settled, self.loader.refresh
        self.adopt = self.classes.adopt
        self.scheduler = Scheduler(settings.queue, metrics.timed)
        self.budget = ByteBudget(settings.max_held_bytes)
        self.shadow: Shadow | None = None
        if settings.shadow is not None:
            self.shadow = Shadow(
                load, settings.shadow, clock, metrics.counters, lambda: metrics.totals()[0]
            )
        self._drift: Drift | None = None
        self._recent = Recent()
        self._enrolment: Enrolment | None = None
        self._served: ServedModel | None = None
        self._lock = threading.Lock()

    @property
    def loaded(self) -> Model | None:
        """The model that answers now, or None."""
        return self._served.model if self._served else None

    @property
    def served(self) -> ServedModel:
        """The model that answers now; a request takes it once and keeps it.

        Raises:
            Problem: not ready; it says why.
        """
        if self._served is None:
            raise self.loader.not_ready(self._unfollowed)
        return self._served

    @property
    def enrolment(self) -> Enrolment:
        """The classes that decide now.

        Raises:
            Problem: not ready; it says why.
        """
        if self._enrolment is None:
            raise self.loader.not_ready(self._unfollowed)
        return self._enrolment

    @property
    def store(self) -> Store | None:
        """The database of enrolled classes and feedback; None when there is none."""
        return self.classes.store

    @property
    def away(self) -> str | None:
        """Why the database cannot be reached; None while it can."""
        return self.classes.away

    @property
    def fault(self) -> str | None:
        """What does not work though records are answered, in a sentence; None if all does."""
        if self.away is not None:
            return f"The database of classes is away ({self.away})."
        if self.classes.unwritable is not None:
            return f"No change can be stored ({self.classes.unwritable})."
        return self._unfollowed

    def recent(self) -> Matrix:
        """Return some of the records that this bundle answered last: float32 [n, fields]."""
        return self._recent.matrix(len(self.enrolment.base.schema))

    def follow(self, **others: Callable[[threading.Event], None]) -> Callable[[], None]:
        """Follow the bundles and the classes, each in a thread; return what ends them.

        The threads are daemons: a load that hangs keeps no process from ending.

        Args:
            others: what else runs in a thread, by name, where there is a database.

        Raises:
            StoreError: the database must not be used as it is.
        """
        with suppress(RuntimeError):  # without a loop nothing is shown
            self.ingestion.loop = asyncio.get_running_loop()
        self.classes.open(self.settings.database())
        self.incidents.open(self.store)
        followers = {
            "bundles": self._follow_bundles,
            "alerts": self.incidents.run,
            "ingestion": self.ingestion.run,
        }
        if self.store is not None:
            followers |= {"classes": self.classes.run, **others}
        if self.shadow is not None:
            followers["shadow"] = self.shadow.run
        if self.mirror is not None:
            followers["mirror"] = self.mirror.run
        if self.live is not None:
            followers["live"] = self.live.run
        stop = threading.Event()
        threads = [
            threading.Thread(target=run, args=[stop], name=name, daemon=True)
            for name, run in followers.items()
        ]
        for thread in threads:
            thread.start()

        def end() -> None:
            stop.set()
            self.trial.stop()
            latest = time.monotonic() + _STOP_SECONDS
            for thread in threads:
                thread.join(max(latest - time.monotonic(), 0))
            if self.store is not None:
                self.store.close()

        return end

    @property
    def _unfollowed(self) -> str | None:
        """Why the bundles of the object store cannot be followed, in a sentence."""
        fault = None if self.mirror is None else self.mirror.found().fault
        return fault and f"The bundles of {self.mirror} cannot be followed: {fault}."

    def _mirror(self) -> Mirror | None:
        settings = self.settings
        if not settings.bundles_from:
            return None
        from service.bundles.mirror import Mirror  # noqa: PLC0415 - loads pyarrow's file systems

        return Mirror(
            settings.bundles_from,
            self.repository.path,
            settings.trust(),
            self.metrics.counters,
            seconds=settings.bundles_poll_seconds,
        )

    def _follow_bundles(self, stop: threading.Event) -> None:
        """Load bundles; those of an object store once some are here."""
        if self.mirror is not None and not self.mirror.has_copies:
            self.mirror.look()
        self.loader.run(stop)

    def _ingestion(self) -> Ingestion:
        """Return what takes points; its verdicts go to incidents, and to all observers."""
        settings = self.settings

        def show(served: ServedModel, scored: Scored) -> None:
            for observe in served.observers:
                observe(scored)

        def journal() -> Path | None:
            return None if self.store is None else settings.journal_folder()

        hooks = Hooks(
            lambda: self.served,
            self.incidents.observe,
            self.incidents.checkpoint,
            self.incidents.resume,
            show,
            self.metrics.counters,
            set_back=self.incidents.set_back,
            expect=self.incidents.expect,
        )
        if self.live is not None:
            hooks = replace(hooks, show=self.live.take)
        share = Share.parse(settings.ingest_share)
        ingestion = Ingestion(settings.rules(), journal, hooks, time.time, settings.workers, share)
        self.incidents.on_renew = ingestion.renew
        return ingestion

    def _live(self) -> Live:
        """Return what the live page shows."""
        settings = self.settings

        def interval() -> float:
            assembler = self.ingestion.assembler
            return 0.0 if assembler is None else assembler.mapping.interval

        def store() -> Literal["memory", "ok", "away"]:
            return "memory" if self.store is None else "away" if self.away else "ok"

        around = LiveSources(
            self.incidents.members,
            interval,
            keys=lambda: len(self.ingestion.last),
            requests=lambda: self.scheduler.waiting,
            points=lambda: self.ingestion.queued,
            drift=self.metrics.drifts,
            store=store,
            alone=settings.workers == 1,
        )
        viewers, devices = settings.live_viewers, settings.live_devices
        live = Live(around, self.metrics.counters, viewers=viewers, devices=devices)
        self.incidents.on_change = live.tell_incident
        return live

    def _serve(self, base: Model) -> None:
        with self._lock:
            self._swap(base)

    def _serve_classes(self) -> None:
        with self._lock:
            if self._enrolment is not None:
                self._swap(self._enrolment.base)

    def _swap(self, base: Model) -> None:
        """Serve a bundle's model with the classes read last."""
        manifest = base.manifest
        previous = self._served
        is_new = previous is None or previous.version != manifest.version
        drift, recent = self._drift, self._recent
        if is_new:
            drift = Drift.of(base, window=self.settings.drift_window, clock=self.clock)
            recent = Recent()
        enrolment = Enrolment.of(base, self.classes.snapshot, self._enrolment)
        roles = roles_of(enrolment)
        model, revision = enrolment.model, enrolment.snapshot.revision
        served = ServedModel(model, self.settings.max_records, revision=revision)
        served.sites = self.sites.of(base, enrolment.snapshot.profiles)
        # All that can fail has been made: what had part of a bundle would have to lose it again.
        served.observers = tuple(self._observers(enrolment, drift, recent))
        self.incidents.serve(roles)  # before any record is judged, or good ones would be faults
        self._drift, self._recent, self._enrolment, self._served = drift, recent, enrolment, served
        if self.live is not None:
            self.live.serve(served, enrolment)
        self.metrics.show_bundle(manifest, drift, labels=model.names, revision=revision)
        extra = {"bundle": manifest.name, "version": manifest.version}
        for name, why in enrolment.parked.items():
            log.warning("class parked", extra=extra | {"class": name, "reason": why})
        if not is_new:
            return
        if previous is not None:
            self.metrics.counters.swaps += 1
            extra["previous"] = previous.version
        log.info("bundle loaded", extra=extra)

    def _observers(
        self, enrolment: Enrolment, drift: Drift | None, recent: Recent
    ) -> list[Observer]:
        """Return who sees every scored chunk, in order."""
        model, metrics, offer_recent = enrolment.model, self.metrics, recent.offer

        def count(scored: Scored) -> None:
            metrics.count_verdicts(scored.decisions, scored.labels)
            offer_recent(scored.matrix)

        observers: list[Observer] = [count]
        if drift is not None:
            offer_drift = drift.offer
            observers.append(lambda scored: offer_drift(scored.matrix))
        if self.shadow is not None:
            snapshot = enrolment.snapshot
            enrol = lambda shadow: Enrolment.of(shadow, snapshot).model  # noqa: E731
            compare = self.shadow.against(model, enrol)
            observers.append(lambda scored: compare(scored.matrix, scored.labels, scored.decisions))
        if (live := self.live) is not None:

            def show(scored: Scored) -> None:
                if live.room > 0 and not scored.assembled:
                    live.offer(model, scored)

            observers.append(show)
        return observers


def state_of(request: Request) -> State:
    """Return the state of the application that a request came to."""
    state: State = request.app.state.faultcube
    return state
