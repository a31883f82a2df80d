"""A process that sends requests and checks answers; what it notes outlives it."""

from __future__ import annotations

import asyncio
import hashlib
import mmap
import os
import struct
import warnings
from collections import Counter
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from random import Random

from benchmarks.fuzz.application import Application
from benchmarks.fuzz.check import ask_and_check, check_variants
from benchmarks.fuzz.mutation import mutate
from benchmarks.fuzz.request import Request
from benchmarks.fuzz.seeds import seeds
from benchmarks.harness.process import peak, rss

_VARIANTS_EVERY = 4
_REPORT_EVERY = 200
_MAX_OF_A_KIND = 20


@dataclass(frozen=True, slots=True)
class Job:
    """What a worker has to do: seed and number alone make an input.

    Inputs are for the bundles in turn; those that fail are saved to a folder of findings, and the
    current one is noted in a file.
    """

    seed: int
    numbers: range
    bundles: tuple[Path, ...]
    findings: Path
    note: Path


@dataclass(slots=True)
class Report:
    """What a worker has done so far; resident bytes now and at most, slowest in CPU seconds."""

    sent: int = 0
    statuses: Counter[int | None] = field(default_factory=Counter)
    kinds: Counter[str] = field(default_factory=Counter)
    memory: int = 0
    peak: int = 0
    slowest: float = 0.0


class Note:
    """The current input, in a file that outlives its process."""

    _SIZE = 1 << 20

    def __init__(self, path: Path) -> None:
        with path.open("a+b") as file:
            file.truncate(self._SIZE)
            self._map = mmap.mmap(file.fileno(), self._SIZE)

    def write(self, number: int, request: Request) -> None:
        """Note an input."""
        written = request.written()[: self._SIZE - 16]
        self._map[:16] = struct.pack("<QQ", number, len(written))
        self._map[16 : 16 + len(written)] = written

    def read(self) -> tuple[int, bytes]:
        """Return the number of the last input, and the request as written."""
        number, length = struct.unpack("<QQ", self._map[:16])
        return number, self._map[16 : 16 + length]


def work(job: Job, pipe: Connection) -> None:
    """Do a job, and send reports now and then."""
    os.nice(10)
    # What numpy warns of in a request is a case that nobody has thought of.
    warnings.simplefilter("error", RuntimeWarning)
    asyncio.run(_work(job, pipe))


async def _work(job: Job, pipe: Connection) -> None:
    applications = [Application(bundle) for bundle in job.bundles]
    starts = [seeds(application.model) for application in applications]
    note, report = Note(job.note), Report()
    for number in job.numbers:
        which = number % len(applications)
        request = mutate(starts[which], Random(f"{job.seed}/{number}"))
        note.write(number, request)
        reply, fault = await ask_and_check(applications[which], request)
        if fault is None and (number // len(applications)) % _VARIANTS_EVERY == 0:
            fault = await check_variants(applications[which], request, reply)
        report.sent += 1
        report.statuses[reply.status] += 1
        report.slowest = max(report.slowest, reply.seconds)
        if fault is not None:
            kind = fault.partition(":")[0]
            report.kinds[kind] += 1
            if report.kinds[kind] <= _MAX_OF_A_KIND:
                save_finding(job.findings, fault, request.written())
        if report.sent % _REPORT_EVERY == 0:
            _send(pipe, report)
    _send(pipe, report)


def save_finding(folder: Path, fault: str, written: bytes) -> None:
    """Save an input that fails, and why, under a name that depends on these alone."""
    kind, name = fault.partition(":")[0], hashlib.sha256(written).hexdigest()[:12]
    (folder / f"{kind}-{name}.http").write_bytes(written)
    (folder / f"{kind}-{name}.txt").write_text(fault + "\n", encoding="utf-8")


def _send(pipe: Connection, report: Report) -> None:
    report.memory, report.peak = rss(os.getpid()), peak(os.getpid())
    pipe.send(report)
