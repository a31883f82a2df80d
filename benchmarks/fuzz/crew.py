"""Workers side by side, and another one for each that ends before its time."""

from __future__ import annotations

import multiprocessing
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path

from benchmarks.fuzz.worker import Job, Note, Report, keep, work

_SPAWN = multiprocessing.get_context("spawn")
_LOOK_SECONDS, _SILENT_SECONDS = 5.0, 120.0
_MOST_ENDS = 50
_FIRST_SHARE = 0.1


@dataclass(slots=True)
class _Member:
    """A worker.

    Attributes:
        job: what it does.
        process: that does it.
        told: where its reports come.
        heard: when the last one came.
        report: the last one.
        first: bytes of memory after a tenth of the job.
    """

    job: Job
    process: BaseProcess
    told: Connection
    heard: float = field(default_factory=time.monotonic)
    report: Report = field(default_factory=Report)
    first: int = 0

    @classmethod
    def start(cls, job: Job) -> _Member:
        """Start a process."""
        told, tell = _SPAWN.Pipe(duplex=False)
        process = _SPAWN.Process(target=work, args=(job, tell), daemon=True)
        process.start()
        tell.close()
        return cls(job, process, told)

    def hear(self) -> None:
        """Take a report.

        Raises:
            EOFError: there will be none.
        """
        self.report, self.heard = self.told.recv(), time.monotonic()
        if not self.first and self.report.asked >= _FIRST_SHARE * len(self.job.numbers):
            self.first = self.report.memory


class Crew:
    """Workers, and what they have found.

    Args:
        seed: of all that is random.
        inputs: how many to ask.
        jobs: workers at a time.
        bundles: folders that are served.
        findings: an existing folder for what fails.
        scratch: an existing folder.
    """

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
        self._members: list[_Member] = []
        self._ends: Counter[str] = Counter()

    def run(self, say: Callable[[], None]) -> None:
        """Work until everything was asked; `say` is called now and then."""
        self._members = [_Member.start(job) for job in self._jobs]
        working = list(self._members)
        while working:
            wait([each.told for each in working], _LOOK_SECONDS)
            for member in list(working):
                if not self._goes_on(member):
                    working.remove(member)
                    working += self._after(member)
            say()

    @property
    def reports(self) -> list[Report]:
        """The last one of every worker there was."""
        return [member.report for member in self._members]

    @property
    def asked(self) -> int:
        """Inputs so far."""
        return sum(report.asked for report in self.reports)

    @property
    def kinds(self) -> Counter[str]:
        """Of what was wrong, and how often."""
        return sum((report.kinds for report in self.reports), self._ends)

    @property
    def statuses(self) -> Counter[int | None]:
        """Of answers, and how often."""
        return sum((report.statuses for report in self.reports), Counter())

    @property
    def memory(self) -> tuple[int, int, int]:
        """Of the largest process: bytes after a tenth of its inputs, now, and at most."""
        first = max(member.first for member in self._members)
        now = max(report.memory for report in self.reports)
        return first, now, max(report.peak for report in self.reports)

    def _goes_on(self, member: _Member) -> bool:
        try:
            while member.told.poll():
                member.hear()
        except EOFError:
            return False
        if time.monotonic() - member.heard > _SILENT_SECONDS:
            member.process.kill()
        return True

    def _after(self, member: _Member) -> list[_Member]:
        """Keep what ended a worker, if anything did, and go on behind it."""
        member.process.join()
        if not member.process.exitcode:
            return []
        hung = time.monotonic() - member.heard > _SILENT_SECONDS
        number, written = Note(member.job.note).read()
        fault = f"{'hang' if hung else 'crash'}: the process ended with {member.process.exitcode}"
        keep(member.job.findings, fault, written)
        self._ends[fault.partition(":")[0]] += 1
        rest = range(number + 1, member.job.numbers.stop)
        if not rest or self._ends.total() > _MOST_ENDS:
            return []
        self._members.append(_Member.start(replace(member.job, numbers=rest)))
        return self._members[-1:]
