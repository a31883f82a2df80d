"""Ingestion: bodies of metric points are taken, assembled into records, judged and observed.

A body is decoded, written to the journal and queued; then its sender gets its answer. One thread
takes the queue: it assembles, judges, and hands the verdicts on. So no client waits for the model.
One process owns the state of all devices: the worker that got the journal. The others pass on to it
what they receive, and one of them takes its place when it ends.
"""

from __future__ import annotations

import asyncio
import logging
import queue
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models import Model
from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping, MappingError
from models.telemetry.points import Points
from models.telemetry.records import Records
from models.telemetry.share import Share
from models.telemetry.snapshot import SnapshotError
from service.classes.entities import AwayError
from service.formats.errors import MalformedInputError
from service.incidents.incident import Judged
from service.incidents.storage import Checkpoint
from service.ingest.receivers import RECEIVERS, Receiver
from service.live.kept import Taken
from service.observability.counters import Counters
from service.runtime.ingest_status import MAX_LISTED, Latest, ReceiverCounts, status_document
from service.runtime.journal import Entry, Journal
from service.runtime.judging import Columns, judge_assembled, key_of, mapping_of
from service.runtime.relay import Owner, Receipt, RelayServer
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.web import problems
from service.web.problems import Problem, problem_of

__all__ = ["Hooks", "Ingestion"]

_TICK_SECONDS = 0.1
"""Longest time between a deadline and the end of its records."""
_CHECKPOINT_SECONDS = 60.0
_CHECKPOINT_BYTES = 64 << 20
"""Of the journal: a checkpoint is made when either is passed."""
_MAX_QUEUED = 2_000_000
"""Points that wait: 40 MB, some seconds of work."""
_RETRY_SECONDS = 1.0
_SET_BACK_SECONDS = 60.0
"""A clock that goes back by less goes on from there: it will be that late again soon."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Hooks:
    """What ingestion needs of the service.

    Attributes:
        served: returns the model that answers now, or raises the problem of none.
        observe: takes judged records.
        keep: stores a checkpoint with the state of who observes; False if it cannot now.
        restore: returns the checkpoint of a name, and takes up that state; None if there is none.
        scored: shows verdicts to the observers of all records; called on the event loop.
        counters: of the process.
        show: takes records of keys for the live page.
        set_back: says that the clock that gives records their times was set back.
        expect: says how many seconds are between two records of a key.
    """

    served: Callable[[], ServedModel]
    observe: Callable[[Judged], object]
    keep: Callable[[Checkpoint], bool]
    restore: Callable[[str], Checkpoint | None]
    scored: Callable[[ServedModel, Scored], None]
    counters: Counters
    show: Callable[[Taken], None] = lambda _taken: None
    set_back: Callable[[float], None] = lambda _now: None
    expect: Callable[[float], None] = lambda _seconds: None


@dataclass(frozen=True, slots=True)
class _Taken:
    points: Points
    arrived: float


@dataclass(frozen=True, slots=True)
class _Mark:
    """The place of a checkpoint in the queue: what came before it is in the files before."""

    position: int


class _NoJournalError(Exception):
    """The journal is another process's, or cannot be read."""


class Ingestion:
    """Takes points, if there is a mapping that says what to make of them.

    Args:
        mapping: the operator's; None for that of the bundle.
        folder: returns that of the journal; None if nothing is to survive the process.
        hooks: into the service.
        clock: seconds since the Unix epoch.
        workers: processes of the service, which need a journal's folder if there are several.
        share: of all keys that this service takes.

    Attributes:
        counts: by name of the receiver.
        queued: points that wait.
        refused: the problem why nothing is taken; None while bodies are.
        assembler: holds the state of all keys; None until there is a model and a mapping.
        last: the latest record of each key.
        loop: on which verdicts are shown, those too of bodies that other workers took; None until
            it runs.
    """

    def __init__(
        self,
        mapping: Mapping | None,
        folder: Callable[[], Path | None],
        hooks: Hooks,
        clock: Callable[[], float],
        workers: int = 1,
        share: Share = Share(),  # noqa: B008 - it cannot change
    ) -> None:
        self._own, self._hooks, self._clock, self._workers = mapping, hooks, clock, workers
        self._folder, self._share = folder, share
        self._journal: Journal | None = None
        self._relay: RelayServer | None = None
        self._owner: Owner | None = None  # while another worker ingests
        self.counts: dict[str, ReceiverCounts] = {name: ReceiverCounts() for name in RECEIVERS}
        self.queued = 0
        self.refused: Problem | None = problems.not_ready(
            "No model is loaded yet.", retry_seconds=1
        )
        self.assembler: Assembler | None = None
        self.last: dict[str, Latest] = {}
        # What judges, and where its fields stand in the records.
        self._judging: tuple[ServedModel, Columns] | None = None
        self._counted: dict[str, int] = {}  # by the process whose state was taken up
        self._queue: queue.SimpleQueue[_Taken | _Mark] = queue.SimpleQueue()
        self._decoding = ThreadPoolExecutor(1, thread_name_prefix="decode")
        # Decoding adds series to the assembler, which must not run meanwhile. Reentrant, because
        # who observes may ask for baselines to be learned anew.
        self._lock = threading.RLock()
        self._refusing = threading.Lock()  # the event loop must not wait for the other one
        # From the start, so that the first point of a format is seen as an increase.
        hooks.counters.points |= dict.fromkeys(RECEIVERS, 0)
        hooks.counters.samples_rejected |= dict.fromkeys(RECEIVERS, 0)
        self._marked = 0.0
        self.loop: asyncio.AbstractEventLoop | None = None

    async def take(self, receiver: Receiver, body: bytes) -> Receipt:
        """Decode a body and queue its points; once this returns they are not lost.

        Raises:
            MalformedInputError: it cannot be decoded.
            Problem: `OVERLOADED`, or `NOT_INGESTING`; nothing of the body is kept.
        """
        loop = self.loop = asyncio.get_running_loop()
        take = self._take if self._owner is None else self._owner.take
        return await loop.run_in_executor(self._decoding, take, receiver.name, body)

    def count_refused(self, receiver: str, reason: str) -> None:
        """Count a body that was refused; from any thread."""
        with self._refusing:
            self.counts[receiver].refused[reason] += 1

    async def status(self) -> dict[str, Any]:
        """Return what became of points since the process that ingests began, for `api`.

        Raises:
            Problem: `OVERLOADED`, no worker ingests at the moment.
        """
        if self._owner is None:
            return self._status()
        loop = asyncio.get_running_loop()
        document: dict[str, Any] = await loop.run_in_executor(None, self._owner.status)
        return document

    def strays(self) -> dict[str, int]:
        """Return keys that had points late or dated ahead, with their number."""
        found = {} if self.assembler is None else self.assembler.strays()
        return {key_of(key): count for key, count in found.items()}

    def renew(self, keys: Sequence[str]) -> None:
        """Learn the baselines of keys anew: what they do now is their new normal."""
        with self._lock:
            if self.assembler is not None:
                slots = {key: slot for slot, key in enumerate(map(key_of, self.assembler.keys))}
                self.assembler.renew([slots[key] for key in keys if key in slots])

    def run(self, stop: threading.Event) -> None:
        """Assemble and judge what was taken, until `stop` is set."""
        while not stop.is_set():
            try:
                if self._is_ready():
                    self._step()
                else:
                    stop.wait(_RETRY_SECONDS / 4)
            except Exception:  # whatever it is, what comes next is judged
                log.exception("ingestion failed")
                stop.wait(_RETRY_SECONDS)
        self._decoding.shutdown()
        if self._owner is not None:
            self._owner.close()
        if self._journal is not None:
            with self._lock:  # a worker whose body comes too late sends it to the next owner
                self.refused = Problem(problems.OVERLOADED)
            if self._relay is not None:
                self._relay.close()
            self._checkpoint_now()
            self._journal.close()

    def _is_ready(self) -> bool:
        """Return whether there is a model and a mapping; begin or change over when there is one."""
        try:
            served = self._hooks.served()
        except Problem as problem:
            self.refused = problem
            return False
        if self._judging is not None and self._judging[0].version == served.version:
            self._judging = served, self._judging[1]
            self.refused = None
            return True
        try:
            mapping = self._mapping(served.model)
            if not self._owns_journal():
                self.refused = None
                return False
            self._begin(served, mapping)
        except AwayError as error:
            self._wait(f"The database is away: {error}")
            return False
        except _NoJournalError as error:
            self._wait(str(error))
            return False
        except MappingError as error:
            told = str(self.refused) == str(error)
            if (self._own or served.model.mapping) and not told:
                log.warning("nothing is ingested", extra={"reason": str(error)})
            self.refused = Problem(problems.NOT_INGESTING, str(error))
            return False
        return True

    def _wait(self, why: str) -> None:
        """Let senders try again: here, or behind a load balancer where another process answers."""
        if str(self.refused) != why:
            log.warning("ingestion waits", extra={"reason": why})
        self.refused = problems.not_ready(why, retry_seconds=1)

    def _mapping(self, model: Model) -> Mapping:
        if self._workers > 1 and self._folder() is None:
            raise MappingError(
                "several workers ingest only with a database and a journal: give "
                "FAULTCUBE_DATABASE_URL, or set FAULTCUBE_WORKERS to 1"
            )
        return mapping_of(model, self._own)

    def _begin(self, served: ServedModel, mapping: Mapping) -> None:
        """Go on with the state of another process, or of another bundle, or with none."""
        columns = Columns.between(mapping, served.model.schema)
        if self.assembler is None:
            # Before anything is set: while the database is away it raises, and comes again.
            self.assembler, position = self._restored(mapping)
            self._counted = asdict(self.assembler.counts)
            self.assembler.judge_by(self._is_good)
            self._judging = served, columns
            self._hooks.expect(mapping.interval)
            try:
                self._repeat(self.assembler, position)
            except OSError as error:  # as long as it is not taken again, nothing else is
                self.assembler = self._judging = None
                why = f"The journal cannot be read ({error.strerror})."
                raise _NoJournalError(why) from error
        elif self.assembler.mapping.fingerprint != mapping.fingerprint:
            self._change_over(self.assembler, Assembler(mapping, share=self._share))
            self._hooks.expect(mapping.interval)
        self._judging = served, columns
        self.refused = None
        self._marked = self._clock()
        log.info("ingesting", extra={"mapping": mapping.name, "keys": len(self.assembler.keys)})

    def _change_over(self, before: Assembler, after: Assembler) -> None:
        """Begin with another mapping: what came before is judged as it would have been."""
        with self._lock:
            self.refused = problems.not_ready("The mapping changes.", retry_seconds=1)
        while not self._queue.empty():
            self._step()
        with self._lock:
            self._judge(before.finish())
            self.assembler = after
            total = self._hooks.counters.assembled  # which goes on
            self._counted = {what: -number for what, number in total.items()}
            self.assembler.judge_by(self._is_good)
            self.last.clear()
        if self._journal is not None:  # whose bodies are of the mapping before
            self._checkpoint(self._journal.rotate())

    def _owns_journal(self) -> bool:
        """Open the journal, if no other worker has it."""
        if (folder := self._folder()) is None:
            return True
        try:
            self._journal = self._journal or Journal(folder)
            if self._owner is not None:  # before others can pass anything on to this one
                self.refused = problems.not_ready("Another worker has ended.", retry_seconds=1)
            if self._workers > 1 and self._relay is None:
                self._relay = RelayServer(folder, self._take_passed_on, self._status)
        except BlockingIOError as error:
            if self._workers > 1:
                self._owner = self._owner or Owner(folder)
                return False
            raise _NoJournalError(
                f"another process ingests with the journal {folder}: one process owns the state of "
                "all devices; give another FAULTCUBE_JOURNAL, or send points there"
            ) from error
        except OSError as error:
            raise MappingError(
                f"the journal {folder} cannot be made ({error.strerror}): give FAULTCUBE_JOURNAL"
            ) from error
        if self._owner is not None:
            self._owner.close()
            self._owner = None
        return True

    def _restored(self, mapping: Mapping) -> tuple[Assembler, int]:
        checkpoint = self._hooks.restore(self._journal.name) if self._journal is not None else None
        if checkpoint is None:
            return Assembler(mapping, share=self._share), 0
        try:
            restored = Assembler.restore(mapping, checkpoint.document, share=self._share)
        except SnapshotError as error:
            log.warning("state of ingestion not restored", extra={"reason": str(error)})
            # What was taken since is taken again all the same: any mapping can read the bodies.
            restored = Assembler(mapping, share=self._share)
        return restored, checkpoint.position

    def _repeat(self, assembler: Assembler, position: int) -> None:
        """Take again what was taken after the checkpoint."""
        if self._journal is None:
            return
        bodies = 0
        for entry in self._journal.entries(position):
            try:
                receiver = RECEIVERS[entry.receiver]
                decoded = receiver.decode(entry.body, assembler.series, _ns(entry.arrived))
                self._set_clock(assembler, entry.arrived)
                self._judge(assembler.add(decoded.points, entry.arrived))
            except Exception:  # whatever it is, those behind it are taken
                log.exception("a body of the journal is left out")
            bodies += 1
        if bodies:
            log.info("journal repeated", extra={"bodies": bodies})

    def _take(self, name: str, body: bytes) -> Receipt:
        receiver, counts = RECEIVERS[name], self.counts[name]
        with self._lock:
            if self.queued > _MAX_QUEUED:
                raise Problem(problems.OVERLOADED)
            if self.refused is not None:
                raise self.refused.with_traceback(None)  # else it would grow with every body
            assert self.assembler is not None  # noqa: S101
            arrived = self._clock()
            decoded = receiver.decode(body, self.assembler.series, _ns(arrived))
            if self._journal is not None:
                try:
                    self._journal.append(Entry(name, arrived, body))
                except OSError as error:
                    log.warning("nothing is journalled", extra={"reason": str(error.strerror)})
                    raise Problem(problems.OVERLOADED) from error
            self.queued += len(decoded.points)
            self._queue.put(_Taken(decoded.points, arrived))
            self._mark_if_due(arrived)
            counts.bodies += 1
            counts.points += len(decoded.points)
            counts.rejected.update(decoded.reasons)
            counters = self._hooks.counters
            counters.points[name] = counts.points
            counters.samples_rejected[name] = counts.rejected.total()
        return Receipt(len(decoded.points), dict(decoded.reasons))

    def _take_passed_on(self, name: str, body: bytes) -> Receipt:
        try:
            return self._take(name, body)
        except (Problem, MalformedInputError) as error:
            self.count_refused(name, problem_of(error).reason)
            raise

    def _status(self) -> dict[str, Any]:
        document = status_document(self.counts, self.assembler, self.last, self.queued)
        return document | {
            "refused": None if self.refused is None else str(self.refused),
            "strays": dict(islice(self.strays().items(), MAX_LISTED)),
        }

    def _mark_if_due(self, now: float) -> None:
        """Ask for a checkpoint after what is queued; the lock is held."""
        journal = self._journal
        if journal is None or not journal.size:
            return
        if abs(now - self._marked) >= _CHECKPOINT_SECONDS or journal.size >= _CHECKPOINT_BYTES:
            self._marked = now
            try:
                self._queue.put(_Mark(journal.rotate()))
            except OSError as error:  # what was taken is in the old file
                log.warning("no checkpoint", extra={"reason": str(error.strerror)})

    def _step(self) -> None:
        """Work on the next body, or on deadlines that have passed."""
        assembler = self.assembler
        assert assembler is not None  # noqa: S101 - ready
        try:
            item = self._queue.get(timeout=_TICK_SECONDS)
        except queue.Empty:
            # A body that is being decoded has arrived before now: its time is not yet given.
            with self._lock:
                if not self._queue.empty():
                    return
                self._set_clock(assembler, now := self._clock())
                records = assembler.advance(now)
                self._mark_if_due(now)
            self._judge(records)
            return
        if isinstance(item, _Mark):
            self._checkpoint(item.position)
            return
        with self._lock:
            try:
                self._set_clock(assembler, item.arrived)
                records = assembler.add(item.points, item.arrived)
            finally:
                self.queued -= len(item.points)
        self._judge(records)

    def _set_clock(self, assembler: Assembler, now: float) -> None:
        """Follow a clock that was set back, or nothing would be due until it is that late again."""
        if now < assembler.now - _SET_BACK_SECONDS:
            log.warning("the clock was set back", extra={"seconds": round(assembler.now - now)})
            mapping, is_ahead = assembler.mapping, assembler.is_ahead(now)
            self._judge(assembler.set_back(now))
            if mapping.clock == "arrival":
                self._hooks.set_back(now)
            elif is_ahead:  # so that is what incidents know
                self._hooks.set_back(now + mapping.ahead)

    def _judge(self, records: Records) -> None:
        """Judge records and hand them on, however often that takes."""
        assert self.assembler is not None  # noqa: S101
        counts = asdict(self.assembler.counts)
        self._hooks.counters.assembled = {
            what: number - self._counted.get(what, 0) for what, number in counts.items()
        }
        if not len(records):
            return
        assert self._judging is not None  # noqa: S101
        keys = [key_of(self.assembler.key(slot)) for slot in records.keys.tolist()]
        served, columns = self._judging
        scored, judged, taken = judge_assembled(served, columns, records, keys)
        for key, time, label in zip(keys, records.times.tolist(), judged.labels, strict=True):
            self.last[key] = Latest(time, label)
        self._show(served, scored)
        self._hooks.show(taken)
        self._hooks.observe(judged)

    def _is_good(self, records: Records) -> NDArray[np.bool_]:
        """Tell which records the model calls good: baselines may follow them."""
        assert self._judging is not None  # noqa: S101
        served, columns = self._judging
        return columns.are_good(records, served.model)

    def _show(self, served: ServedModel, scored: Scored) -> None:
        """Show verdicts to those who see all records, in the thread of the other requests."""
        loop = self.loop
        if loop is not None and not loop.is_closed():
            with suppress(RuntimeError):  # it was closed just now
                loop.call_soon_threadsafe(self._hooks.scored, served, scored)

    def _checkpoint(self, position: int) -> None:
        assert self.assembler is not None  # noqa: S101
        assert self._journal is not None  # noqa: S101
        with self._lock:
            document = self.assembler.snapshot()
        if self._hooks.keep(Checkpoint(self._journal.name, position, document)):
            self._journal.forget(position)

    def _checkpoint_now(self) -> None:
        """Work on all that is queued, and keep the state: the end of the process."""
        if self.assembler is None or self._journal is None:
            return
        while not self._queue.empty():
            self._step()
        # Replicas that only answer requests come and go, and would leave a row each.
        if not self.assembler.is_new:
            self._checkpoint(self._journal.rotate())


def _ns(seconds: float) -> int:
    return round(seconds * 1e9)
