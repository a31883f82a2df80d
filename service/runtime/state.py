"""What one application holds: its settings, its metrics, and the model that it serves now."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import anyio
from starlette.requests import Request

from models import BundleError, Model
from models.schema import Matrix
from service.bundles.repository import BundleRepository, Entry, RepositoryError
from service.bundles.shadow import Shadow
from service.bundles.watcher import changes
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, Snapshot, StoreError
from service.observability.drift import Drift
from service.observability.metrics import Metrics
from service.observability.recent import Recent
from service.scoring.scheduler import Scheduler
from service.scoring.scored import Observer, Scored
from service.scoring.served_model import ServedModel
from service.settings import Settings
from service.web.auth import Keys
from service.web.body import ByteBudget
from service.web.problems import not_ready

if TYPE_CHECKING:
    from service.classes.database import Store

__all__ = ["State", "state_of"]

_RETRY_LOADING, _RETRY_REFUSED = 1, 30
_POLL_SECONDS = 0.25
"""Between two looks at the revision of the classes, which others may change."""
_NOTHING_STORED = Snapshot(0, {})
_LOAD_SECONDS = 2.0
"""How long the end waits for a bundle that is loading."""

log = logging.getLogger(__name__)


@dataclass(slots=True)
class State:
    """The state of one application.

    Attributes:
        settings: as read from the environment.
        metrics: of this application alone.
        loader: gives the verified model of a folder, or raises `BundleError`.
        clock: seconds that only go forward, for durations.
        keys: who may do what.
        repository: the bundles that may be served.
        store: of enrolled classes and feedback; None when there is none.
        away: why the store cannot be asked; None while it can.
        scheduler: shares the event loop among requests.
        budget: bounds the bytes of bodies.
        shadow: compares another bundle with the one that is served; None when there is none.
        settled: set once a bundle is loaded or refused.
        refused: why bundles were refused, by folder, as long as they are.
    """

    settings: Settings
    metrics: Metrics
    loader: Callable[[Path], Model]
    clock: Callable[[], float]
    keys: Keys = field(init=False)
    repository: BundleRepository = field(init=False)
    scheduler: Scheduler = field(init=False)
    budget: ByteBudget = field(init=False)
    shadow: Shadow | None = field(default=None, init=False)
    settled: threading.Event = field(default_factory=threading.Event, init=False)
    refused: dict[str, str] = field(default_factory=dict, init=False)
    store: Store | None = field(default=None, init=False)
    away: str | None = field(default=None, init=False)
    _snapshot: Snapshot = field(default=_NOTHING_STORED, init=False)
    _prepared: bool = field(default=False, init=False)
    _drift: Drift | None = field(default=None, init=False)
    _enrolment: Enrolment | None = field(default=None, init=False)
    _recent: Recent = field(default_factory=Recent, init=False)
    _served: ServedModel | None = field(default=None, init=False)
    _why_not: str = field(default="The bundle is still loading.", init=False)
    _retry_seconds: int = field(default=_RETRY_LOADING, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.keys = self.settings.keys()
        self.repository = BundleRepository(self.settings.bundle)
        self.scheduler = Scheduler(self.settings.queue, self.metrics.timed)
        self.budget = ByteBudget(self.settings.max_held_bytes)
        if (folder := self.settings.shadow) is not None:
            tally, together = self.metrics.counters, lambda: self.metrics.totals()[0]
            self.shadow = Shadow(self.loader, folder, self.clock, tally, together)

    @property
    def loaded(self) -> Model | None:
        """The model, or None when there is none."""
        return self._served.model if self._served else None

    @property
    def served(self) -> ServedModel:
        """The model with all that is made of it once; a request takes it once and keeps it.

        Raises:
            NotReady: there is none; the message says why.
        """
        if self._served is None:
            raise not_ready(self._why_not, retry_seconds=self._retry_seconds)
        return self._served

    @property
    def enrolment(self) -> Enrolment:
        """The classes that decide now.

        Raises:
            NotReady: there is no model.
        """
        if self._enrolment is None:
            raise not_ready(self._why_not, retry_seconds=self._retry_seconds)
        return self._enrolment

    def recent(self) -> Matrix:
        """Some of the records that this bundle answered last: float32 [n, fields]."""
        return self._recent.matrix(len(self.enrolment.base.schema))

    def open_store(self) -> None:
        """Open the database, if there is one; one that is away is asked again by `poll`.

        Raises:
            StoreError: it is there, but must not be used as it is.
        """
        if (url := self.settings.database()) is not None:
            from service.classes.database import Store  # noqa: PLC0415 - takes 0.3 s, and many do without

            self.store = Store(url)
            self.poll()

    def poll(self) -> None:
        """Serve the classes that the store holds now; while it is away, those last known.

        Raises:
            StoreError: it is there, but must not be used as it is.
        """
        if self.store is None:
            return
        try:
            if not self._prepared:
                self.store.prepare()
                self._prepared = True
            if self.store.revision() != self._snapshot.revision:
                with self._lock:  # or a change of this process might come between
                    self._adopt(self.store.read())
        except AwayError as error:
            self._lose(error)
        else:
            if self.away is not None:
                log.info("store back", extra={"revision": self._snapshot.revision})
            self.away = None

    def _lose(self, error: StoreError) -> None:
        """The store cannot be asked; it is told of once."""
        if self.away is None:
            log.error("store away", extra={"reason": str(error)})
        self.away = str(error)

    def adopt(self, snapshot: Snapshot) -> None:
        """Serve these classes, unless later ones are served already."""
        with self._lock:
            if snapshot.revision > self._snapshot.revision:
                self._adopt(snapshot)

    def _adopt(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        if self._enrolment is not None:
            self._serve(self._enrolment.base)
        log.info("classes loaded", extra={"revision": snapshot.revision})

    def follow(self) -> Callable[[], None]:
        """Load the bundle, and whichever is to be served after it, in a thread of its own.

        Enrolled classes are looked for in another one.

        Returns:
            What ends that. The threads are daemons: a load that hangs keeps no process from ending.
        """
        self.open_store()
        ended = threading.Event()
        poll = threading.Thread(target=self._poll, args=[ended], name="classes", daemon=True)
        if self.store is not None:
            poll.start()
        loop, stop = asyncio.new_event_loop(), anyio.Event()

        async def refresh() -> None:
            async for _ in changes(self.repository, stop):
                self.refresh()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(refresh())

        thread = threading.Thread(target=run, name="shelf", daemon=True)
        thread.start()
        if self.shadow is not None:
            self.shadow.start()

        def end() -> None:
            if self.shadow is not None:
                self.shadow.stop()
            ended.set()
            _call(loop, stop.set)
            # onnxruntime aborts the process when that ends while it reads a graph.
            thread.join(_LOAD_SECONDS)
            if self.store is not None:
                poll.join(_LOAD_SECONDS)
                self.store.close()

        return end

    def refresh(self) -> None:
        """Serve what is to be served now; what is refused is logged and counted, never raised.

        The bundle that is served goes on until another one is verified and has answered its own
        examples.
        """
        with self._lock:
            try:
                candidates = list(self._candidates())
            except RepositoryError as error:
                self._refuse(self.settings.bundle.name, error.reason)
                candidates = []
            names = {entry.folder for entry in candidates}
            self.refused = {name: why for name, why in self.refused.items() if name in names}
            for entry in candidates:
                if self._is_served(entry) or self._load(entry):
                    break
        self.settled.set()

    def try_out(self, entry: Entry) -> None:
        """Verify a bundle without serving it.

        Raises:
            RepositoryError: it is refused.
        """
        try:
            self.loader(entry.path.resolve())
        except BundleError as error:
            raise RepositoryError(
                entry.path, f"{entry.folder} is refused: {error.reason}"
            ) from error

    def _poll(self, ended: threading.Event) -> None:
        while not ended.wait(_POLL_SECONDS):
            try:
                self.poll()
            except StoreError as error:  # it was replaced by one that must not be used
                self._lose(error)
            except Exception:  # whatever it is, what is served goes on
                log.exception("classes not loaded")
                ended.wait(_RETRY_REFUSED)

    def _candidates(self) -> Iterator[Entry]:
        """What to serve, the best first: without a pointer, an older bundle will do."""
        choice = self.repository.choice()
        if choice.decided == "newest":
            # What cannot be read comes first, to be told of.
            entries = sorted(self.repository.entries(), key=lambda entry: entry.age, reverse=True)
            yield from sorted(entries, key=lambda entry: entry.reason is None)
        else:
            yield choice.entry

    def _is_served(self, entry: Entry) -> bool:
        return self._served is not None and self._served.version == entry.version

    def _load(self, entry: Entry) -> bool:
        try:
            model = self.loader(entry.path.resolve())
        except BundleError as error:
            self._refuse(entry.folder, error.reason)
        except Exception as error:
            log.exception("bundle failed", extra={"bundle": str(entry.path)})
            self._refuse(entry.folder, f"unexpected {type(error).__name__}; the log says more")
        else:
            self._serve(model)
            return True
        return False

    def _serve(self, base: Model) -> None:
        """Serve a bundle's model with the classes last known."""
        manifest = base.manifest
        previous = self._served
        other = previous is None or previous.version != manifest.version
        if other:
            self._drift = Drift.of(base, window=self.settings.drift_window, clock=self.clock)
            self._recent = Recent()
        self._enrolment = Enrolment.of(base, self._snapshot, self._enrolment)
        model, revision = self._enrolment.model, self._snapshot.revision
        most = self.settings.max_records
        self._served = ServedModel(model, most, revision=revision, observers=self._observers(model))
        self.metrics.show_bundle(manifest, self._drift, labels=model.names, revision=revision)
        extra = {"bundle": manifest.name, "version": manifest.version}
        for name, why in self._enrolment.parked.items():
            log.warning("class parked", extra=extra | {"class": name, "reason": why})
        if not other:
            return
        if previous is not None:
            self.metrics.counters.swaps += 1
            extra["previous"] = previous.version
        log.info("bundle loaded", extra=extra)

    def _observers(self, model: Model) -> list[Observer]:
        """Who sees every scored chunk, in order."""
        metrics, offer_recent = self.metrics, self._recent.offer

        def count(scored: Scored) -> None:
            metrics.count_verdicts(scored.decisions, scored.labels)
            offer_recent(scored.matrix)

        observers: list[Observer] = [count]
        if self._drift is not None:
            offer_drift = self._drift.offer
            observers.append(lambda scored: offer_drift(scored.matrix))
        if self.shadow is not None:
            compare = self.shadow.against(model)
            observers.append(lambda scored: compare(scored.matrix, scored.labels, scored.decisions))
        return observers

    def _refuse(self, folder: str, reason: str) -> None:
        if self.refused.get(folder) != reason:
            self.metrics.counters.refused += 1
            log.error("bundle refused", extra={"bundle": folder, "reason": reason})
        self.refused[folder] = reason
        self._why_not = f"The bundle {folder} is refused: {reason}."
        self._retry_seconds = _RETRY_REFUSED


def state_of(request: Request) -> State:
    """The state of the application that a request came to."""
    state: State = request.app.state.faultcube
    return state


def _call(loop: asyncio.AbstractEventLoop, work: Callable[[], None]) -> None:
    with suppress(RuntimeError):  # the loop is closed: its work is done
        loop.call_soon_threadsafe(work)
