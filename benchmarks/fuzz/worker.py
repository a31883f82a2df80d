"""One process that asks and judges, and notes what it asks, so that its end tells something too."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import resource
import struct
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks.fuzz.mutation import mutated
from benchmarks.fuzz.request import Request
from benchmarks.fuzz.seeds import seeds
from benchmarks.fuzz.subject import Subject
from benchmarks.fuzz.verdict import judge, judge_twins

_TWINS_EVERY = 4
_REPORT_EVERY = 200
_MOST_OF_A_KIND = 20


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to do.

    Attributes:
        seed: of all that is random.
        numbers: of the inputs; each stands for one, whoever asks it.
        bundles: folders; each input is for one of them.
        findings: the folder to keep what fails in.
        note: the file to note in what is asked.
    """

    seed: int
    numbers: range
    bundles: tuple[Path, ...]
    findings: Path
    note: Path


@dataclass(slots=True)
class Report:
    """What a worker has done so far.

    Attributes:
        next: number of the next input.
        asked: inputs.
        statuses: of their answers.
        kinds: of what was wrong.
        memory: resident bytes now.
        peak: resident bytes at most.
        slowest: seconds of CPU for an input.
    """

    next: int = 0
    asked: int = 0
    statuses: Counter[int | None] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    memory: int = 0
    peak: int = 0
    slowest: float = 0.0


class Note:
    """The input that is being asked, in a file that outlives its process.

    Args:
        path: of the file.
    """

    _ROOM = 1 << 20

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(self._ROOM)
            self._room = mmap.mmap(file.fileno(), self._ROOM)

    def write(self, number: int, request: Request) -> None:
        """Note an input."""
        written = request.written()[: self._ROOM - 16]
        self._room[:16] = struct.pack("<QQ", number, len(written))
        self._room[16 : 16 + len(written)] = written

    def read(self) -> tuple[int, bytes]:
        """The number of the input that was noted last, and what it was."""
        number, length = struct.unpack("<QQ", self._room[:16])
        return number, self._room[16 : 16 + length]


def work(job: Job, told: Connection) -> None:
    """Do a job, and tell of it now and then."""
    os.nice(10)
    # What numpy warns of in a request is something that nobody has thought of.
    warnings.simplefilter("error", RuntimeWarning)
    asyncio.run(_work(job, told))


async def _work(job: Job, told: Connection) -> None:
    subjects = [Subject(bundle) for bundle in job.bundles]
    starts = [seeds(subject.model) for subject in subjects]
    note, report = Note(job.note), Report(job.numbers.start)
    for number in job.numbers:
        place = number % len(subjects)
        random = Random(f"{job.seed}/{number}")
        request = mutated(starts[place], random)
        note.write(number, request)
        reply, fault = await judge(subjects[place], request)
        if fault is None and (number // len(subjects)) % _TWINS_EVERY == 0:
            fault = await judge_twins(subjects[place], request, reply)
        report.next, report.asked = number + 1, report.asked + 1
        report.statuses[reply.status] += 1
        report.slowest = max(report.slowest, reply.seconds)
        if fault is not None:
            kind = fault.partition(":")[0]
            report.kinds[kind] += 1
            if report.kinds[kind] <= _MOST_OF_A_KIND:
                keep(job.findings, fault, request.written())
        if report.asked % _REPORT_EVERY == 0:
            _tell(told, report)
    _tell(told, report)


def keep(folder: Path, fault: str, written: bytes) -> None:
    """Keep an input that fails, and why, under a name that it always gets."""
    kind, name = fault.partition(":")[0], hashlib.sha256(written).hexdigest()[:12]
    (folder / f"{kind}-{name}.http").write_bytes(written)
    (folder / f"{kind}-{name}.txt").write_text(fault + "\n", encoding="utf-8")


def _tell(told: Connection, report: Report) -> None:
    pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    report.memory = pages * mmap.PAGESIZE
    report.peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss << 10
    told.send(report)
