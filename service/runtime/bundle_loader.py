"""Load the bundle to serve, and the next one whenever the repository changes."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Literal

from models import BundleError, Model
from service.bundles.repository import (
    POINTER,
    BundleRepository,
    Choice,
    Entry,
    Fingerprint,
    RepositoryError,
    fingerprint,
)
from service.bundles.trial import StoppedError
from service.bundles.watcher import Watcher
from service.observability.counters import Counters
from service.web.problems import Problem, not_ready

__all__ = ["BundleLoader", "FolderState"]

_RETRY_LOADING, _RETRY_REFUSED = 1, 30

FolderState = Literal["served", "pending", "idle", "refused"]

log = logging.getLogger(__name__)


class BundleLoader:
    """Loads bundles of a repository and hands their models on.

    A bundle that was refused is tried again when its files change, or when it is activated.

    Args:
        repository: bundles that may be served.
        load: returns the verified model of a folder, or raises `BundleError`.
        serve: swaps a model in.
        counters: counts refused bundles.

    Attributes:
        served: the bundle that is served, as its folder was when it was loaded; None when there is
            none.
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
        self.served: Entry | None = None
        self.refused: dict[str, str] = {}
        self.settled = threading.Event()
        self._tried: dict[str, Fingerprint | None] = {}
        self._verified: Model | None = None
        self._reason, self._retry_seconds = "The bundle is still loading.", _RETRY_LOADING
        self._lock = threading.Lock()

    @property
    def version(self) -> str:
        """Version of the bundle that is served; empty when there is none."""
        return (self.served.version if self.served else None) or ""

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
            self._verified = None
        self.settled.set()

    def verify(self, entry: Entry) -> None:
        """Load a bundle without serving it; the next refresh need not load it again.

        Raises:
            RepositoryError: it is refused.
        """
        try:
            self._verified = self.load(entry.path.resolve())
        except BundleError as error:
            reason = f"{entry.folder} is refused: {error.reason}"
            raise RepositoryError(entry.path, reason) from error

    def not_ready(self, more: str | None = None) -> Problem:
        """Return the problem that says why no bundle is served.

        Args:
            more: what else is known of it, in a sentence.
        """
        detail = f"{self._reason} {more}" if more else self._reason
        return not_ready(detail, retry_seconds=self._retry_seconds)

    def state_of(self, entry: Entry, choice: Choice | RepositoryError) -> tuple[FolderState, str]:
        """Return what becomes of a folder, and why.

        Args:
            entry: the folder.
            choice: of the repository now, or why there is none.
        """
        is_choice = isinstance(choice, Choice) and choice.entry.folder == entry.folder
        named = f"the file {POINTER!r} names "
        if self.served and (self.served.folder, self.version) == (entry.folder, entry.version):
            return "served", _why_served(choice, named, is_choice=is_choice)
        if reason := entry.reason or self.refused.get(entry.folder):
            return "refused", reason
        if self.served and entry.version == self.version:
            where = f"its version is served already, from the folder {self.served.folder}"
            return "idle", f"{where}; its own files were not verified"
        if isinstance(choice, RepositoryError):
            return "idle", choice.reason
        if choice.decided == "pointer" and not is_choice:
            return "idle", named + choice.entry.folder
        if choice.decided == "newest" and self.served and entry.age < self.served.age:
            how = "as old as" if entry.created == self.served.created else "older than"
            return "idle", f"it is {how} {self.served.folder}, which is served"
        return "pending", "it is to be served, once its files are at rest and it is loaded"

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
        model = self._verified
        if model is None or model.manifest.version != entry.version:
            model = self._loaded(entry)
        if model is None:
            return False
        try:
            self.serve(model)
        except Exception as error:
            # As of records that its examples do not show; the bundle before is served on.
            self._fail(entry, error)
            return False
        self.served = replace(entry, version=model.manifest.version)
        self.refused.pop(entry.folder, None)
        return True

    def _loaded(self, entry: Entry) -> Model | None:
        """Load a bundle, or refuse it."""
        if entry.reason is not None:
            self._refuse(entry.folder, entry.reason)
            return None
        # Taken before it is loaded: files that change meanwhile are another bundle.
        files = fingerprint(entry.path)
        if entry.folder in self.refused and self._tried.get(entry.folder, ()) == files:
            return None
        try:
            return self.load(entry.path.resolve())
        except StoppedError:
            pass
        except BundleError as error:
            self._refuse(entry.folder, error.reason)
            self._tried[entry.folder] = files
        except Exception as error:
            self._fail(entry, error)
        return None

    def _fail(self, entry: Entry, error: Exception) -> None:
        log.error("bundle failed", extra={"bundle": str(entry.path)}, exc_info=error)
        self._refuse(entry.folder, f"unexpected {type(error).__name__}; the log says more")

    def _refuse(self, folder: str, reason: str) -> None:
        if self.refused.get(folder) != reason:
            self.counters.refused += 1
            log.error("bundle refused", extra={"bundle": folder, "reason": reason})
        self.refused[folder] = reason
        self._reason = f"The bundle {folder} is refused: {reason}."
        self._retry_seconds = _RETRY_REFUSED


def _why_served(choice: Choice | RepositoryError, named: str, *, is_choice: bool) -> str:
    if isinstance(choice, RepositoryError):
        return choice.reason
    if is_choice:
        reasons = {"path": "it is the only one", "newest": "it is the newest", "pointer": named}
        return reasons[choice.decided] + ("it" if choice.decided == "pointer" else "")
    if choice.decided == "pointer":
        return f"{named}{choice.entry.folder}, which is not served yet or refused"
    return "no newer one could be loaded so far"
