"""Watch a bundle repository for changes of the bundle to serve.

Events of the operating system only trigger a poll. Changes are found by comparing fingerprints,
because for network file systems and links there are no events, or others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Generator
from contextlib import closing
from pathlib import Path

from watchfiles import watch

from models.files import read_file
from service.bundles.repository import (
    MAX_POINTER_BYTES,
    POINTER,
    BundleRepository,
    Fingerprint,
    RepositoryError,
    fingerprint,
)

__all__ = ["Watcher"]

_DEBOUNCE_MS, _STEP_MS = 500, 100

log = logging.getLogger(__name__)


class Watcher:
    """Reports changes of a bundle repository once its files are settled.

    So a bundle that is being copied is not loaded in part. A folder that is missing, or that
    cannot be watched, is polled.
    """

    def __init__(self, repository: BundleRepository) -> None:
        self.repository = repository
        self._current: dict[str, Fingerprint] = {}
        self._reported: dict[str, Fingerprint] | None = None
        self._changed_at: dict[str, float] = {}
        self._is_polling = False
        self._stay_active()

    def changes(self, stop: threading.Event) -> Generator[None, None, None]:
        """Yield at first, in case of an earlier change, and then after each change.

        Args:
            stop: ends the iteration within about 0.1 s.
        """
        while not stop.is_set():
            if self.poll():
                yield
            else:
                self._wait(stop)

    def poll(self) -> bool:
        """Return whether there is a change to report, which counts as reported."""
        previous, self._current = self._current, self._fingerprints()
        now = time.monotonic()
        names = previous | self._current
        changed = [name for name in names if previous.get(name) != self._current.get(name)]
        if changed:
            self._stay_active()
        if self._reported is not None:
            self._changed_at |= dict.fromkeys(changed, now)
            if self._reported == self._current or not self._is_settled(now):
                return False
        self._reported = self._current
        return True

    def _is_settled(self, now: float) -> bool:
        """Whether the chosen bundle is at rest, and none is gone that may be back at once."""
        settle = self.repository.settle_seconds
        moving = {name for name, at in self._changed_at.items() if now - at < settle}
        try:
            chosen = {self.repository.choice().entry.folder}
        except RepositoryError:
            chosen = moving
        return not moving & chosen and moving | chosen <= self._current.keys()

    def _stay_active(self) -> None:
        # Twice the time to settle: what happens between a poll and the next watch is no event.
        self._active_until = time.monotonic() + 2 * self.repository.settle_seconds

    def _wait(self, stop: threading.Event) -> None:
        """Wait for a file-system event or until the next poll is due."""
        is_active = self._is_polling or time.monotonic() < self._active_until
        seconds = self.repository.settle_seconds if is_active else self.repository.sweep_seconds
        due = time.monotonic() + seconds
        try:
            self._wait_for_event(stop, due)
            self._is_polling = False
        except (OSError, RuntimeError) as error:  # no more watches to be had, say
            if not self._is_polling:
                log.warning("bundles are polled, not watched", extra={"reason": repr(error)})
            self._is_polling = True
            stop.wait(due - time.monotonic())

    def _wait_for_event(self, stop: threading.Event, due: float) -> None:
        path = self.repository.path
        # The parent is watched for the repository itself to come or be replaced.
        folders = [_real_folder(folder) for folder in (path.parent, path, *self._folders())]
        if not any(folders):
            raise FileNotFoundError(f"there is no folder {path.parent}")
        watching = watch(
            *{folder for folder in folders if folder},
            watch_filter=None,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            stop_event=stop,
            rust_timeout=_STEP_MS,
            yield_on_timeout=True,
            recursive=False,
            ignore_permission_denied=True,
        )
        with closing(watching):
            for events in watching:
                files = [Path(file) for _, file in events]
                # Other files beside the repository do not matter; in /tmp there are many.
                if any(file.parent != folders[0] or file.name == path.name for file in files):
                    self._stay_active()
                    break
                if time.monotonic() >= due:
                    break

    def _folders(self) -> list[Path]:
        try:
            return self.repository.folders()
        except RepositoryError:
            return []

    def _fingerprints(self) -> dict[str, Fingerprint]:
        """Return the fingerprint of each bundle by its folder's name, and of the pointer."""
        prints = {folder.name: fingerprint(folder) for folder in self._folders()}
        if not self.repository.is_bundle:
            prints[POINTER] = _content(self.repository.path / POINTER) or prints.get(POINTER)
        return {name: value for name, value in prints.items() if value}


def _content(pointer: Path) -> Fingerprint | None:
    try:
        stat = pointer.stat()
        return read_file(pointer, MAX_POINTER_BYTES), stat.st_mtime_ns, stat.st_ctime_ns
    except OSError:
        return None


def _real_folder(path: Path) -> Path | None:
    try:
        real = path.resolve(strict=True)
        return real if real.is_dir() else None
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return None
