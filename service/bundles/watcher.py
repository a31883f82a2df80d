"""When another bundle may have to be served: a shelf is watched, and looked at now and then.

What the operating system tells is only the alarm. What has changed is found by comparing what is
there with what was there: network file systems and links tell nothing, or something else.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing, suppress
from pathlib import Path

import anyio
from anyio.to_thread import run_sync
from watchfiles import Change, awatch

from service.bundles.repository import MANIFEST, POINTER, BundleRepository, RepositoryError

__all__ = ["changes"]

_DEBOUNCE_MS, _STEP_MS = 500, 100
_DEAF_MS = 500
"""As long as watchfiles does not notice that its task is cancelled."""

log = logging.getLogger(__name__)

_Print = tuple[object, ...]
"""Differs when what it is of has changed."""


async def changes(shelf: BundleRepository, stop: anyio.Event) -> AsyncGenerator[None, None]:
    """Tell that something changed: at first, lest a change before be missed, then of each.

    What is to be served is told of once it is at rest, so a bundle that is being copied is not
    loaded by halves. A folder that is missing, or cannot be watched, is looked at all the same.

    Args:
        shelf: what is watched.
        stop: ends it soon after it is set.
    """
    watch = _Watch(shelf)
    while not stop.is_set():
        if await run_sync(watch.look, abandon_on_cancel=True):
            yield
        else:
            await watch.wait(stop)


class _Watch:
    """What was seen of a shelf, and what was told of it."""

    def __init__(self, shelf: BundleRepository) -> None:
        self.repository = shelf
        self.seen: dict[str, _Print] = {}
        self.told: dict[str, _Print] | None = None
        self.moved: dict[str, float] = {}
        self.places: frozenset[Path] = frozenset()
        self.beside: Path | None = None
        self.stirred = time.monotonic()
        self.is_deaf = False

    def look(self) -> bool:
        """Look again; True when there is something to tell, which counts as told."""
        before, self.seen = self.seen, _prints(self.repository)
        self.places = _places(self.repository)
        self.beside = _real_folder(self.repository.path.parent)
        now = time.monotonic()
        moved = [name for name in before | self.seen if before.get(name) != self.seen.get(name)]
        if moved:
            self.stirred = now
        if self.told is not None:
            self.moved |= dict.fromkeys(moved, now)
        is_due = self.told is None or (self.told != self.seen and self._is_at_rest(now))
        self.told = self.seen if is_due else self.told
        return is_due

    def _is_at_rest(self, now: float) -> bool:
        """Whether what is to be served stays, and nothing has gone that may come back at once."""
        settle = self.repository.settle_seconds
        moving = {name for name, at in self.moved.items() if now - at < settle}
        try:
            chosen = {self.repository.choice().entry.folder}
        except RepositoryError:
            chosen = moving
        return not moving & chosen and moving | chosen <= self.seen.keys()

    async def wait(self, stop: anyio.Event) -> None:
        """Return when something stirs, and when it is time to look again all the same."""
        settle = self.repository.settle_seconds
        # Twice, because what stirs after a look and before the next watch is laid is not heard.
        soon = self.is_deaf or time.monotonic() - self.stirred < 2 * settle
        until = _Until(stop, settle if soon else self.repository.sweep_seconds)
        try:
            if await self._hears(until):
                self.stirred = time.monotonic()
            self.is_deaf = False
        except (OSError, RuntimeError, ExceptionGroup) as error:  # no more watches to be had, say
            if not self.is_deaf:
                log.warning("bundles are polled, not watched", extra={"reason": repr(error)})
            self.is_deaf = True
            while not until.is_set():
                await anyio.sleep(_STEP_MS / 1000)

    async def _hears(self, until: _Until) -> bool:
        """Whether something stirs before the time is over."""
        if not self.places:
            raise FileNotFoundError(f"there is no folder {self.repository.path.parent}")
        watch = awatch(
            *self.places,
            watch_filter=self._concerns,
            debounce=_DEBOUNCE_MS,
            step=_STEP_MS,
            rust_timeout=_DEAF_MS,
            stop_event=until,
            recursive=False,
            ignore_permission_denied=True,
        )
        async with aclosing(watch) as heard:
            async for _ in heard:
                return True
        return False

    def _concerns(self, _change: Change, changed: str) -> bool:
        """Whether it is not of what else lies beside the shelf, much of it in /tmp."""
        path = Path(changed)
        return path.parent != self.beside or path.name == self.repository.path.name


class _Until:
    """As much of an event as a watch asks for: set when another is, or when its time is over."""

    def __init__(self, stop: anyio.Event, seconds: float) -> None:
        self._stop, self._end = stop, time.monotonic() + seconds

    def is_set(self) -> bool:
        return self._stop.is_set() or time.monotonic() >= self._end

    def set(self) -> None:
        """End it; a watch does so when its task is cancelled."""
        self._end = 0.0


def _places(shelf: BundleRepository) -> frozenset[Path]:
    """The folders in which something may stir; the one above tells when the shelf itself comes."""
    found = {_real_folder(path) for path in (shelf.path.parent, shelf.path, *_folders(shelf))}
    return frozenset(path for path in found if path is not None)


def _prints(shelf: BundleRepository) -> dict[str, _Print]:
    """A print of each bundle by its folder's name, and of the pointer."""
    found = {folder.name: _print_of_bundle(folder) for folder in _folders(shelf)}
    if not shelf.is_bundle and (pointer := _print_of_file(shelf.path / POINTER)):
        found[POINTER] = pointer
    return {name: seen for name, seen in found.items() if seen}


def _folders(shelf: BundleRepository) -> list[Path]:
    try:
        return shelf.folders()
    except RepositoryError:
        return []


def _print_of_bundle(folder: Path) -> _Print | None:
    """Where it really is and how its files are, two levels deep; None where no manifest is."""
    try:
        return (folder / MANIFEST).resolve(strict=True), *sorted(_stats(folder, levels=2))
    except (OSError, RuntimeError):  # RuntimeError: a link to itself
        return None


def _stats(folder: Path, *, levels: int) -> Iterator[tuple[str, int, int, int]]:
    with os.scandir(folder) as found:
        for item in found:
            with suppress(OSError):
                if not item.is_dir():
                    # No inode: there are network file systems that make one up at each look.
                    stat = item.stat()
                    yield item.path, stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns
                elif levels > 1:
                    yield from _stats(Path(item.path), levels=levels - 1)


def _print_of_file(path: Path) -> _Print | None:
    try:
        stat = path.stat()
        return path.read_bytes(), stat.st_mtime_ns, stat.st_ctime_ns
    except OSError:
        return None


def _real_folder(path: Path) -> Path | None:
    try:
        real = path.resolve(strict=True)
        return real if real.is_dir() else None
    except (OSError, RuntimeError):
        return None
