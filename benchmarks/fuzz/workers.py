"""Workers side by side, and a new one for each that ends too early."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.fuzz.worker import Job, Note, Report, save_finding, work

_SPAWN = multiprocessing.get_context("spawn")
_POLL_SECONDS, _SILENT_SECONDS = 5.0, 120.0
_MAX_ENDS = 50
_FIRST_SHARE = 0.1


@dataclass(slots=True)
class _Worker:
    """A process with a job, its last report, and its bytes of memory after a tenth of the job."""

    job: Job
    process: BaseProcess
    pipe: Connection
    last_seen: float = field(default_factory=time.monotonic)
    report: Report = field(default_factory=Report)
    first: int = 0

    @classmethod
    def start(cls, job: Job) -> _Worker:
        """Start a process."""
        receiver, sender = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=work, args=(job, sender), daemon=True)
        process.start()
        sender.close()
        return cls(job, process, receiver)

    @property
    def is_silent(self) -> bool:
        """Whether no report has come for a long time."""
        return time.monotonic() - self.last_seen > _SILENT_SECONDS

    def is_running(self) -> bool:
        """Take reports, kill a worker that is silent, and see whether it has ended."""
        try:
            while self.pipe.poll():
                self.report, self.last_seen = self.pipe.recv(), time.monotonic()
                if not self.first and self.report.sent >= _FIRST_SHARE * len(self.job.numbers):
                    self.first = self.report.memory
        except EOFError:
            return False
        if self.is_silent:
            self.process.kill()
        return True


class Workers:
    """Worker processes that share the inputs, and what they have found."""

    def __init__(
        self,
        seed: int,
        inputs: int,
        jobs: int,
        bundles: tuple[Path, ...],
        findings: Path,
        scratch: Path,
    ) -> None:
        size = -(-inputs // jobs)
        self._jobs = [
            Job(seed, range(at, min(at + size, inputs)), bundles, findings, scratch / f"{at}.note")
            for at in range(0, inputs, size)
        ]
        self._workers: list[_Worker] = []
        self._ends: Counter[str] = Counter()

    def run(self, progress: Callable[[], None]) -> None:
        """Work until everything was sent; call `progress` now and then."""
        self._workers = [_Worker.start(job) for job in self._jobs]
        running = list(self._workers)
        while running:
            wait([worker.pipe for worker in running], _POLL_SECONDS)
            for worker in list(running):
                if not worker.is_running():
                    running.remove(worker)
                    running += self._replacement(worker)
            progress()

    @property
    def reports(self) -> list[Report]:
        """The last one of every worker there was."""
        return [worker.report for worker in self._workers]

    @property
    def sent(self) -> int:
        """Inputs so far."""
        return sum(report.sent for report in self.reports)

    @property
    def kinds(self) -> Counter[str]:
        """Kinds of faults, and how often each was found."""
        return sum((report.kinds for report in self.reports), self._ends)

    @property
    def statuses(self) -> Counter[int | None]:
        """Statuses of answers, and how often each came."""
        return sum((report.statuses for report in self.reports), Counter())

    @property
    def memory(self) -> tuple[int, int, int]:
        """Bytes of the largest process after a tenth of its inputs, now, and at most."""
        first = max(worker.first for worker in self._workers)
        now = max(report.memory for report in self.reports)
        return first, now, max(report.peak for report in self.reports)

    def _replacement(self, worker: _Worker) -> list[_Worker]:
        """Save the input that ended a worker, if one did, and start another one behind it."""
        worker.process.join()
        if not worker.process.exitcode:
            return []
        number, written = Note(worker.job.note).read()
        kind = "hang" if worker.is_silent else "crash"
        fault = f"{kind}: the process ended with {worker.process.exitcode}"
        save_finding(worker.job.findings, fault, written)
        self._ends[kind] += 1
        rest = range(number + 1, worker.job.numbers.stop)
        if not rest or self._ends.total() > _MAX_ENDS:
            return []
        self._workers.append(_Worker.start(replace(worker.job, numbers=rest)))
        return self._workers[-1:]
