"""Keep the enrolled classes of this process in step with the database, which others change too."""

from __future__ import annotations

import logging
import math
import threading
import time
from collections.abc import Callable
from typing import TYPE_CHECKING

from service.classes.entities import AwayError, Snapshot, StoreError

if TYPE_CHECKING:
    from service.classes.database import Store

__all__ = ["ClassSync"]

_POLL_SECONDS, _RETRY_SECONDS = 0.25, 30
_PROBE_SECONDS = 5.0
"""Between two looks whether the database can be written."""

log = logging.getLogger(__name__)


class ClassSync:
    """Polls the revision of the classes; while the database is away, those read last stay.

    Args:
        changed: called after each change of `snapshot`.

    Attributes:
        store: the database; None when there is none.
        away: why the database cannot be reached; None while it can.
        unwritable: why it cannot be written, as when its disk is full; None while it can.
        snapshot: the classes that were read last.
    """

    def __init__(self, changed: Callable[[], None]) -> None:
        self.changed = changed
        self.store: Store | None = None
        self.away: str | None = None
        self.unwritable: str | None = None
        self._probe_at = -math.inf
        self.snapshot = Snapshot(0, {})
        self._is_prepared = False
        self._lock = threading.Lock()

    def open(self, url: str | None) -> None:
        """Open the database, if there is one; one that is away is tried again by `poll`.

        Raises:
            StoreError: the database must not be used as it is.
        """
        if url is not None:
            from service.classes.database import Store  # noqa: PLC0415 - takes 0.3 s, and many do without

            self.store = Store(url)
            self.poll()

    def run(self, stop: threading.Event) -> None:
        """Poll until `stop` is set."""
        while not stop.wait(_POLL_SECONDS):
            try:
                self.poll()
            except StoreError as error:  # it was replaced by one that must not be used
                self._lose(error)
            except Exception:  # whatever it is, what is served goes on
                log.exception("classes not loaded")
                stop.wait(_RETRY_SECONDS)

    def poll(self) -> None:
        """Read the classes if the database has another revision of them.

        Raises:
            StoreError: the database must not be used as it is.
        """
        if self.store is None:
            return
        try:
            if not self._is_prepared:
                self.store.prepare()
                self._is_prepared = True
            revision = self.store.revision()
            if self.away is not None:
                log.info("store back", extra={"revision": revision})
            self.away = None
            self._probe(self.store)
            if revision != self.snapshot.revision:
                with self._lock:  # or a change by this process might come between
                    self._replace(self.store.read())
        except AwayError as error:
            self._lose(error)

    def adopt(self, snapshot: Snapshot) -> None:
        """Take these classes, unless later ones have been read already."""
        with self._lock:
            if snapshot.revision > self.snapshot.revision:
                self._replace(snapshot)

    def _replace(self, snapshot: Snapshot) -> None:
        before, self.snapshot = self.snapshot, snapshot
        try:
            self.changed()
        except BaseException:
            self.snapshot = before  # what does not decide is read again
            raise
        log.info("classes loaded", extra={"revision": snapshot.revision})

    def _probe(self, store: Store) -> None:
        if time.monotonic() < self._probe_at:
            return
        self._probe_at = time.monotonic() + _PROBE_SECONDS
        why = store.write_fault()
        if (why is None) != (self.unwritable is None):
            if why is None:
                log.info("store writable")
            else:
                log.error("store not writable", extra={"reason": why})
        self.unwritable = why

    def _lose(self, error: StoreError) -> None:
        if self.away is None:
            log.error("store away", extra={"reason": str(error)})
        self.away = str(error)
