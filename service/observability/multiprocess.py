"""What workers tell each other, so that each can answer for all of them.

A folder in memory holds a file with the last report of every worker. A worker that lives keeps a
lock, which the kernel takes from it however it ends; what a dead one has counted goes into one
more file, the estate. Whoever puts the reports together first leaves its own there, and nobody else
does so meanwhile: no counter is ever seen to fall.

    FOLDER/4711-9f2c.alive    locked by worker 4711
    FOLDER/4711-9f2c.report   its last report
    FOLDER/estate             what workers have counted that are gone
    FOLDER/turn               locked by whoever puts reports together
"""

from __future__ import annotations

import fcntl
import logging
import multiprocessing
import os
import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec

from service.observability.counters import Moment, Report, Tally

__all__ = ["FOLDER", "Sharing", "common_folder", "sharing"]

FOLDER = "FAULTCUBE_METRICS_DIR"
"""The environment variable that names the folder; the parent of the workers sets it."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_SECONDS = 1.0

log = logging.getLogger(__name__)


class _Estate(msgspec.Struct):
    """What workers have counted that are gone.

    Attributes:
        tally: of all of them.
        last: the worker that was added last; its files may still be there.
    """

    tally: Tally = msgspec.field(default_factory=Tally)
    last: str = ""


class Sharing:
    """One worker's part in it.

    Args:
        folder: common to all workers.
        report: what this worker has to tell; may be called in any thread.
    """

    def __init__(self, folder: Path, report: Callable[[], Report]) -> None:
        self.folder, self.report = folder, report
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._alive = (folder / f"{self.name}.alive").open("wb")
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._keep, name="sharing", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Leave what was counted to the others."""
        self._stop.set()
        self._thread.join()
        self._alive.close()

    def publish(self) -> Report:
        """Write this worker's report for the others, and give it."""
        with self._lock:
            content = self.report().encoded()
            try:
                _write(self.folder / f"{self.name}.report", content)
            except OSError as error:
                _complain(error)
        return Report.decoded(content)

    def together(self) -> tuple[Tally, list[Moment]]:
        """What all workers have counted, and how those that live stand; this one comes first."""
        with (self.folder / "turn").open("wb") as turn:
            fcntl.flock(turn, fcntl.LOCK_EX)
            own = self.publish()
            estate, moments = self._estate(), [own.moment]
            for path in self.folder.glob("*.report"):
                if path.stem == self.name:
                    continue
                if _is_dead(path):
                    self._inherit(estate, path)
                else:
                    report = _read(path)
                    own.tally.add(report.tally)
                    moments.append(report.moment)
        own.tally.add(estate.tally)
        return own.tally, moments

    def _keep(self) -> None:
        self.publish()
        while not self._stop.wait(_SECONDS):
            self.publish()
        self.publish()

    def _estate(self) -> _Estate:
        try:
            return msgspec.msgpack.decode((self.folder / "estate").read_bytes(), type=_Estate)
        except FileNotFoundError:
            return _Estate()

    def _inherit(self, estate: _Estate, path: Path) -> None:
        """Take over what a dead worker has counted: once, even if this is stopped half-way."""
        if estate.last != path.stem:
            estate.tally.add(_read(path).tally)
            estate.last = path.stem
            try:
                _write(self.folder / "estate", msgspec.msgpack.encode(estate))
            except OSError as error:
                _complain(error)
                return
        for suffix in (".report", ".report.draft", ".alive"):
            path.with_suffix(suffix).unlink(missing_ok=True)


@contextmanager
def common_folder() -> Iterator[None]:
    """Give the processes that are started meanwhile a folder for their reports."""
    memory = _MEMORY if os.access(_MEMORY, os.W_OK) else None
    with tempfile.TemporaryDirectory(
        prefix="faultcube-", dir=memory, ignore_cleanup_errors=True
    ) as folder:
        os.environ[FOLDER] = folder
        try:
            yield
        finally:
            del os.environ[FOLDER]


@contextmanager
def sharing(report: Callable[[], Report]) -> Iterator[Sharing | None]:
    """Take part in it, where there are several workers."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield None
        return
    part = Sharing(Path(folder), report)
    try:
        yield part
    finally:
        part.close()
        if _is_orphan():
            shutil.rmtree(folder, ignore_errors=True)


def _is_orphan() -> bool:
    parent = multiprocessing.parent_process()
    return parent is not None and not parent.is_alive()


def _complain(error: OSError) -> None:
    log.warning("metrics are not shared", extra={"reason": str(error)})


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _read(path: Path) -> Report:
    return Report.decoded(path.read_bytes())


def _is_dead(path: Path) -> bool:
    with path.with_suffix(".alive").open("rb") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
