"""What many enrolled classes cost a client that only classifies."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.enrolment.client import AdminClient, enrolling_service
from benchmarks.enrolment.database import fill
from benchmarks.enrolment.options import Options
from benchmarks.harness import wrk
from benchmarks.harness.client import ServerError
from benchmarks.harness.process import LOAD_CORE, SERVER_CORE
from benchmarks.harness.records import BUNDLE
from benchmarks.harness.report import Figure, Section, at_least, info, none_of, progress
from benchmarks.harness.requests import real_body
from benchmarks.harness.server import Server
from benchmarks.harness.wires import ROWS
from models import Bundle

TITLE = "Throughput with enrolled classes"
_NUMBERS: Mapping[int, float] = {0: 0.0, 10: 0.95, 1_000: 0.75}
"""Enrolled classes, and what the ratio to none must be."""
_LOADS: Mapping[int, int] = {1: 8, 1_000: 2}
"""Records of a request, and connections."""
_WARM_UP_SECONDS = 1.0
_TEXT = """\
`POST /classify` in JSON by wrk on core {load}, a service on core {server}; 0, 10 and 1,000 classes
from one real record each, in SQLite, beside the {known} of the shipped bundle. Three services, of
which two stand still, take turns: {rounds} rounds of {seconds:g} s each. *Times* are ratios to none
of the same round, median of the rounds: requests a second, and requests per second of the service's
CPU time, which says less of what else the machine does."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Of one service in one round: requests a second, and per second of its CPU time."""

    rate: float
    per_cpu: float
    errors: int


def measure(options: Options) -> Section:
    """Measure services with few and with many classes in turn."""
    samples: dict[tuple[int, int], list[Sample]] = {}
    with ExitStack() as stack:
        services = {number: _service(number, options, stack) for number in _NUMBERS}
        for size, connections in _LOADS.items():
            body = options.folder / f"{size}.json"
            body.write_bytes(real_body(size))
            for turn in range(options.rounds):
                for number, service in services.items():
                    sample = _sample(service, body, connections, options.seconds)
                    samples.setdefault((size, number), []).append(sample)
                    what = f"{turn + 1}/{options.rounds}, {number} classes, {size} records"
                    progress(f"throughput: round {what}: {sample.rate:.4g}/s")
    figures = [figure for size in _LOADS for figure in _figures(size, samples)]
    failed = [sample.errors > 0 for row in samples.values() for sample in row]
    figures.append(none_of("measurements with errors", sum(failed), len(failed)))
    known = len(Bundle.read(BUNDLE).manifest.classes)
    pace = {"rounds": options.rounds, "seconds": options.seconds}
    text = _TEXT.format(load=LOAD_CORE, server=SERVER_CORE, known=known, **pace)
    return Section(TITLE, text, figures)


def ratios(samples: list[Sample], none: list[Sample]) -> tuple[float, float]:
    """Return the medians of the rounds' ratios to none: of rate, and of requests by CPU time."""
    pairs = list(zip(samples, none, strict=True))
    return (
        statistics.median(one.rate / other.rate for one, other in pairs),
        statistics.median(one.per_cpu / other.per_cpu for one, other in pairs),
    )


def _service(number: int, options: Options, stack: ExitStack) -> Server:
    folder = options.folder / f"{number}-classes"
    folder.mkdir()
    url = f"sqlite:///{folder / 'classes.sqlite'}"
    fill(url, number)
    service = stack.enter_context(enrolling_service(folder, url))
    with AdminClient(service.port) as client:
        listed = client.classes().content["classes"]
        active = sum(row["source"] == "enrolled" and row["state"] == "active" for row in listed)
    if active != number:
        raise ServerError(f"{active} classes decide, not {number}")
    service.settle()
    service.pause()
    return service


def _sample(service: Server, body: Path, connections: int, seconds: float) -> Sample:
    load, cpu, _ = wrk.measure(
        service,
        "/classify",
        body,
        ROWS.headers,
        connections=connections,
        warm_up=_WARM_UP_SECONDS,
        seconds=lambda _: seconds,
    )
    return Sample(load.rate, load.requests / max(cpu, 0.01), load.errors)


def _figures(size: int, samples: Mapping[tuple[int, int], list[Sample]]) -> list[Figure]:
    none = samples[size, 0]
    what = f"{size:,} record{'s' if size > 1 else ''} x {_LOADS[size]} connections"
    rate = statistics.median(sample.rate for sample in none)
    figures = [info(f"{what}, no classes", rate, "requests/s")]
    for number, limit in _NUMBERS.items():
        if number:
            by_rate, by_cpu = ratios(samples[size, number], none)
            title = f"{what}, {number:,} classes"
            figures.append(at_least(f"{title}: times by rate", by_rate, limit, 3))
            figures.append(at_least(f"{title}: times by CPU time", by_cpu, limit, 3))
    return figures
