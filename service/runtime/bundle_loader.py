"""Load the bundle to serve, and the next one whenever the repository changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from pathlib import Path

from models import BundleError, Model
from service.bundles.repository import BundleRepository, Entry, RepositoryError
from service.bundles.watcher import Watcher
from service.observability.counters import Counters
from service.web.problems import Problem, not_ready

__all__ = ["BundleLoader"]

_RETRY_LOADING, _RETRY_REFUSED = 1, 30

log = logging.getLogger(__name__)


class BundleLoader:
    """Loads bundles of a repository and hands their models on.

    Args:
        repository: bundles that may be served.
        load: returns the verified model of a folder, or raises `BundleError`.
        serve: swaps a model in.
        counters: counts refused bundles.

    Attributes:
        version: of the bundle that is served; empty when there is none.
        refused: why bundles are refused, by folder, as long as they are.
        settled: set once a bundle is loaded or refused.
    """

    def __init__(
        self,
        repository: BundleRepository,
        load: Callable[[Path], Model],
        serve: Callable[[Model], None],
        counters: Counters,
    ) -> None:
        self.repository, self.load, self.serve, self.counters = repository, load, serve, counters
        self.version = ""
        self.refused: dict[str, str] = {}
        self.settled = threading.Event()
        self._reason, self._retry_seconds = "The bundle is still loading.", _RETRY_LOADING
        self._lock = threading.Lock()

    def run(self, stop: threading.Event) -> None:
        """Refresh at first and after every change of the repository, until `stop` is set."""
        for _ in Watcher(self.repository).changes(stop):
            self.refresh()

    def refresh(self) -> None:
        """Serve the bundle that is to be served now; log and count refused ones, never raise.

        The served bundle stays until another one is verified and has answered its own examples.
        """
        with self._lock:
            try:
                candidates = self._candidates()
            except RepositoryError as error:
                self._refuse(self.repository.path.name, error.reason)
                candidates = []
            folders = {entry.folder for entry in candidates}
            self.refused = {name: why for name, why in self.refused.items() if name in folders}
            for entry in candidates:
                if entry.version == self.version or self._try(entry):
                    break
        self.settled.set()

    def verify(self, entry: Entry) -> None:
        """Load a bundle without serving it.

        Raises:
            RepositoryError: it is refused.
        """
        try:
            self.load(entry.path.resolve())
        except BundleError as error:
            reason = f"{entry.folder} is refused: {error.reason}"
            raise RepositoryError(entry.path, reason) from error

    def not_ready(self) -> Problem:
        """Return the problem that says why no bundle is served."""
        return not_ready(self._reason, retry_seconds=self._retry_seconds)

    def _candidates(self) -> list[Entry]:
        """Return what to serve, the best first: without a pointer, an older bundle will do."""
        choice = self.repository.choice()
        if choice.decided != "newest":
            return [choice.entry]
        entries = sorted(self.repository.entries(), key=lambda entry: entry.age, reverse=True)
        # Unreadable entries come first, so that they are reported.
        return sorted(entries, key=lambda entry: entry.reason is None)

    def _try(self, entry: Entry) -> bool:
        """Serve a bundle unless it is refused."""
        try:
            model = self.load(entry.path.resolve())
        except BundleError as error:
            self._refuse(entry.folder, error.reason)
        except Exception as error:
            log.exception("bundle failed", extra={"bundle": str(entry.path)})
            self._refuse(entry.folder, f"unexpected {type(error).__name__}; the log says more")
        else:
            self.serve(model)
            self.version = model.manifest.version
            return True
        return False

    def _refuse(self, folder: str, reason: str) -> None:
        if self.refused.get(folder) != reason:
            self.counters.refused += 1
            log.error("bundle refused", extra={"bundle": folder, "reason": reason})
        self.refused[folder] = reason
        self._reason = f"The bundle {folder} is refused: {reason}."
        self._retry_seconds = _RETRY_REFUSED
