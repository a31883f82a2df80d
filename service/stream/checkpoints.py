"""Checkpoints of partitions, in the database of the incidents: whoever takes one up finds them."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import TypeVar

from service.classes.database import Store
from service.classes.entities import AwayError
from service.incidents.storage import Checkpoint, Written
from service.incidents.store import IncidentStore

__all__ = ["Checkpoints"]

_RESTORE_SECONDS = 240.0
"""That the database may be away while partitions are taken up: the group waits five minutes."""

T = TypeVar("T")
log = logging.getLogger(__name__)


class Checkpoints:
    """Those of a group of consumers.

    Args:
        store: database.
        group: that shares them.
        stop: set when the process is to end.
        clock: the time of day, seconds since the Unix epoch.
    """

    def __init__(
        self, store: Store, group: str, stop: threading.Event, clock: Callable[[], float]
    ) -> None:
        self._storage, self._group = IncidentStore(store), group
        self._stop, self._clock = stop, clock

    def name(self, source: str) -> str:
        """Return what the checkpoint of a partition is called."""
        return f"{self._group}/{source}"

    def find(self, source: str) -> tuple[Checkpoint, bytes] | None:
        """Return the checkpoint of a partition, and the snapshot of its engine.

        Raises:
            AwayError: the database is away, and stays so.
        """
        return self.with_retries(lambda: self._storage.checkpoint(self.name(source)))

    def keep(self, source: str, position: int, document: bytes, engine: bytes) -> bool:
        """Keep that of a partition; return whether it is kept, which it is not without database."""
        checkpoint = Checkpoint(self.name(source), position, document)
        now = datetime.fromtimestamp(self._clock(), UTC)
        try:
            self._storage.commit(Written(now, checkpoint=checkpoint, engine=engine))
        except AwayError as error:
            log.warning("no checkpoint", extra={"reason": str(error)})
            return False
        return True

    def with_retries(self, read: Callable[[], T]) -> T:
        """Return what the database has, once it is there.

        Raises:
            AwayError: it stays away.
        """
        end, wait = time.monotonic() + _RESTORE_SECONDS, 0.5
        while True:
            try:
                return read()
            except AwayError as error:
                log.warning("the database is away", extra={"reason": str(error)})
                if time.monotonic() > end or self._stop.wait(wait):
                    raise
                wait = min(2 * wait, 10.0)
