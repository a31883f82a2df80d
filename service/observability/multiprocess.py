"""Reports that workers share, so that each can expose the sum over all of them.

A folder in memory holds a file with the last report of every worker. A live worker holds a lock,
which the kernel releases however the process ends; counters of a dead one are added to `inherited`.
Whoever sums up writes its own report first, both under a lock, so that no counter ever decreases.

    FOLDER/4711-9f2c.alive    locked by worker 4711
    FOLDER/4711-9f2c.report   its last report
    FOLDER/inherited          counters of workers that have exited
    FOLDER/lock               locked by whoever sums up
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

from service.observability.counters import Counters, ProcessReport, ProcessStatus

__all__ = ["FOLDER", "SharedReports", "reports_folder", "share_reports"]

FOLDER = "FAULTCUBE_METRICS_DIR"
"""The environment variable that names the folder; the parent of the workers sets it."""

_MEMORY = Path("/dev/shm")  # noqa: S108 - a folder of our own is made in it
_PUBLISH_SECONDS = 1.0

log = logging.getLogger(__name__)


class _Inherited(msgspec.Struct):
    """Counters inherited from exited workers.

    Attributes:
        counters: of all of them.
        last: the worker that was added last; its files may still exist.
    """

    counters: Counters = msgspec.field(default_factory=Counters)
    last: str = ""


_inherited = msgspec.msgpack.Decoder(_Inherited)


class SharedReports:
    """Publishes the reports of one worker, and reads those of the others.

    Args:
        folder: common to all workers.
        report: returns the report of this worker; called in any thread.
    """

    def __init__(self, folder: Path, report: Callable[[], ProcessReport]) -> None:
        self.folder, self.report = folder, report
        self.name = f"{os.getpid()}-{secrets.token_hex(4)}"
        self._alive = (folder / f"{self.name}.alive").open("wb")
        fcntl.flock(self._alive, fcntl.LOCK_EX)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="reports", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Publish a last report, and leave it to the other workers."""
        self._stop.set()
        self._thread.join()
        self._alive.close()

    def publish(self) -> ProcessReport:
        """Write the report of this worker for the others, and return it."""
        with self._lock:
            content = self.report().encoded()
            _try_write(self.folder / f"{self.name}.report", content)
        return ProcessReport.decoded(content)

    def totals(self) -> tuple[Counters, list[ProcessStatus]]:
        """Return the sum over all workers, and the status of those that live, this one first."""
        with (self.folder / "lock").open("wb") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            own = self.publish()
            inherited, statuses = self._inherited(), [own.status]
            for path in self.folder.glob("*.report"):
                if path.stem == self.name:
                    continue
                if _is_dead(path):
                    self._inherit(inherited, path)
                else:
                    report = ProcessReport.decoded(path.read_bytes())
                    own.counters.add(report.counters)
                    statuses.append(report.status)
        own.counters.add(inherited.counters)
        return own.counters, statuses

    def _run(self) -> None:
        is_last = False
        while not is_last:
            is_last = self._stop.is_set()
            try:
                self.publish()
            except Exception:  # the next report may do, and without any this worker looks dead
                log.exception("report not published")
            self._stop.wait(_PUBLISH_SECONDS)

    def _inherited(self) -> _Inherited:
        try:
            return _inherited.decode((self.folder / "inherited").read_bytes())
        except FileNotFoundError:
            return _Inherited()

    def _inherit(self, inherited: _Inherited, path: Path) -> None:
        """Add the counters of a dead worker: once, even if this is interrupted."""
        if inherited.last != path.stem:
            inherited.counters.add(ProcessReport.decoded(path.read_bytes()).counters)
            inherited.last = path.stem
            if not _try_write(self.folder / "inherited", msgspec.msgpack.encode(inherited)):
                return
        for suffix in (".report", ".report.draft", ".alive"):
            path.with_suffix(suffix).unlink(missing_ok=True)


@contextmanager
def reports_folder() -> Iterator[None]:
    """Create the folder for the reports of processes that are started meanwhile."""
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
def share_reports(report: Callable[[], ProcessReport]) -> Iterator[SharedReports | None]:
    """Share the reports of this process if it is one of several workers."""
    folder = os.environ.get(FOLDER)
    if folder is None:
        yield None
        return
    shared = SharedReports(Path(folder), report)
    try:
        yield shared
    finally:
        shared.close()
        parent = multiprocessing.parent_process()
        if parent is not None and not parent.is_alive():  # nobody else removes the folder
            shutil.rmtree(folder, ignore_errors=True)


def _try_write(path: Path, content: bytes) -> bool:
    """Write a file, or log why not: a full disk must not cost a response."""
    try:
        _write(path, content)
    except OSError as error:
        log.warning("metrics are not shared", extra={"reason": str(error)})
        return False
    return True


def _write(path: Path, content: bytes) -> None:
    draft = path.with_name(f"{path.name}.draft")
    draft.write_bytes(content)
    draft.replace(path)


def _is_dead(path: Path) -> bool:
    with path.with_suffix(".alive").open("rb") as alive:
        try:
            fcntl.flock(alive, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True
