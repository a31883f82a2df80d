"""What one application holds: its settings, its metrics, and the model that it serves now."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import anyio
from starlette.requests import Request

from models import BundleError, Model
from service.changes import changes
from service.drift import Drift
from service.metrics import Metrics
from service.problems import NotReady
from service.security import Keys
from service.serving import Serving
from service.settings import Settings
from service.shelf import Entry, Shelf, ShelfError
from service.turns import Turns

__all__ = ["State", "state_of"]

_RETRY_LOADING, _RETRY_REFUSED = 1, 30
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
        shelf: the bundles that may be served.
        turns: bounds what is under way.
        settled: set once a bundle is loaded or refused.
        refused: why bundles were refused, by folder, as long as they are.
    """

    settings: Settings
    metrics: Metrics
    loader: Callable[[Path], Model]
    clock: Callable[[], float]
    keys: Keys = field(init=False)
    shelf: Shelf = field(init=False)
    turns: Turns = field(init=False)
    settled: threading.Event = field(default_factory=threading.Event, init=False)
    refused: dict[str, str] = field(default_factory=dict, init=False)
    _serving: Serving | None = field(default=None, init=False)
    _why_not: str = field(default="The bundle is still loading.", init=False)
    _retry_seconds: int = field(default=_RETRY_LOADING, init=False)
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def __post_init__(self) -> None:
        self.keys = self.settings.keys()
        self.shelf = Shelf(self.settings.bundle)
        self.turns = Turns(self.settings.queue, self.settings.max_held_bytes, self.metrics.timed)

    @property
    def loaded(self) -> Model | None:
        """The model, or None when there is none."""
        return self._serving.model if self._serving else None

    @property
    def serving(self) -> Serving:
        """The model with all that is made of it once; a request takes it once and keeps it.

        Raises:
            NotReady: there is none; the message says why.
        """
        if self._serving is None:
            raise NotReady(self._why_not, retry_seconds=self._retry_seconds)
        return self._serving

    def follow(self) -> Callable[[], None]:
        """Load the bundle, and whichever is to be served after it, in a thread of its own.

        Returns:
            What ends that. The thread is a daemon: a load that hangs keeps no process from ending.
        """
        loop, stop = asyncio.new_event_loop(), anyio.Event()

        async def refresh() -> None:
            async for _ in changes(self.shelf, stop):
                self.refresh()

        def run() -> None:
            with asyncio.Runner(loop_factory=lambda: loop) as runner:
                runner.run(refresh())

        thread = threading.Thread(target=run, name="shelf", daemon=True)
        thread.start()

        def end() -> None:
            _call(loop, stop.set)
            # onnxruntime aborts the process when that ends while it reads a graph.
            thread.join(_LOAD_SECONDS)

        return end

    def refresh(self) -> None:
        """Serve what is to be served now; what is refused is logged and counted, never raised.

        The bundle that is served goes on until another one is verified and has answered its own
        examples.
        """
        with self._lock:
            try:
                candidates = list(self._candidates())
            except ShelfError as error:
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
            ShelfError: it is refused.
        """
        try:
            self.loader(entry.path.resolve())
        except BundleError as error:
            raise ShelfError(entry.path, f"{entry.folder} is refused: {error.reason}") from error

    def _candidates(self) -> Iterator[Entry]:
        """What to serve, the best first: without a pointer, an older bundle will do."""
        choice = self.shelf.choice()
        if choice.decided == "newest":
            # What cannot be read comes first, to be told of.
            entries = sorted(self.shelf.entries(), key=lambda entry: entry.age, reverse=True)
            yield from sorted(entries, key=lambda entry: entry.reason is None)
        else:
            yield choice.entry

    def _is_served(self, entry: Entry) -> bool:
        return self._serving is not None and self._serving.version == entry.version

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

    def _serve(self, model: Model) -> None:
        manifest = model.manifest
        drift = Drift.of(model, window=self.settings.drift_window, clock=self.clock)
        serving = Serving(model, self.settings.max_records, drift)
        previous, self._serving = self._serving, serving
        self.metrics.show_bundle(manifest, drift)
        extra = {"bundle": manifest.name, "version": manifest.version}
        if previous is not None:
            self.metrics.tally.swaps += 1
            extra["previous"] = previous.version
        log.info("bundle loaded", extra=extra)

    def _refuse(self, folder: str, reason: str) -> None:
        if self.refused.get(folder) != reason:
            self.metrics.tally.refused += 1
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
