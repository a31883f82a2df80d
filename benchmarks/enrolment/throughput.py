"""What many enrolled classes cost who only classifies."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from benchmarks.enrolment.report import reaching
from benchmarks.enrolment.stage import Desk, Plan, records, serving
from benchmarks.resilience.figures import Figure, Section, none_of, told
from benchmarks.resilience.messages import real_body
from benchmarks.serving import wrk
from benchmarks.serving.environments import ROOT
from benchmarks.serving.processes import cpu_seconds, settle
from benchmarks.serving.rounds import say
from benchmarks.serving.servers import SERVER_CORE, Running, ServerError
from benchmarks.serving.wrk import LOAD_CORE, WrkError
from models import Bundle
from service.classes.database import Store
from service.classes.entities import StoredClass, SupportRecord

__all__ = ["Sample", "fill", "measure", "ratios"]

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


def measure(plan: Plan) -> Section:
    """Load services with few and with many classes in turn."""
    samples: dict[tuple[int, int], list[Sample]] = {}
    with ExitStack() as stack:
        services = {number: _service(number, plan, stack) for number in _NUMBERS}
        for size, connections in _LOADS.items():
            body = plan.folder / f"{size}.json"
            body.write_bytes(real_body(size))
            for turn in range(plan.rounds):
                for number, service in services.items():
                    sample = _sample(service, body, connections, plan.seconds)
                    samples.setdefault((size, number), []).append(sample)
                    what = f"{number} classes, {size} records"
                    say(f"throughput: round {turn + 1}/{plan.rounds}, {what}: {sample.rate:.4g}/s")
    figures = [figure for size in _LOADS for figure in _figures(size, samples)]
    every = [sample for found in samples.values() for sample in found]
    figures.append(
        none_of("measurements with errors", sum(s.errors > 0 for s in every), len(every))
    )
    known = len(Bundle.read(ROOT / "models" / "iosxr").manifest.classes)
    text = _TEXT.format(
        load=LOAD_CORE, server=SERVER_CORE, known=known, rounds=plan.rounds, seconds=plan.seconds
    )
    return Section(TITLE, text, figures)


def fill(url: str, number: int) -> None:
    """Put so many classes of one record each into a database, in one revision."""
    store = Store(url)
    try:
        store.prepare()
        chosen = records(number) if number else []
        new = [
            StoredClass(f"class-{place}", records=(SupportRecord(1, dict(record)),), next_id=2)
            for place, record in enumerate(chosen)
        ]
        if new:
            after = {each.name: each for each in new}
            store.commit(0, after, action="enrol", who=None, request_id="benchmark")
    finally:
        store.close()


def ratios(samples: list[Sample], none: list[Sample]) -> tuple[float, float]:
    """Medians of the rounds' ratios to none: of the rate, and of what a second of CPU does."""
    pairs = list(zip(samples, none, strict=True))
    return (
        statistics.median(one.rate / other.rate for one, other in pairs),
        statistics.median(one.per_cpu / other.per_cpu for one, other in pairs),
    )


def _service(number: int, plan: Plan, stack: ExitStack) -> Running:
    folder = plan.folder / f"{number}-classes"
    folder.mkdir()
    url = f"sqlite:///{folder / 'classes.sqlite'}"
    fill(url, number)
    service = stack.enter_context(serving(folder, url))
    with Desk(service.port) as desk:
        listed = desk.classes().content["classes"]
        active = sum(e["source"] == "enrolled" and e["state"] == "active" for e in listed)
    if active != number:
        raise ServerError(f"{active} classes decide, not {number}")
    settle(service.process.pid)
    service.pause()
    return service


def _sample(service: Running, body: Path, connections: int, seconds: float) -> Sample:
    url, headers = f"http://127.0.0.1:{service.port}/classify", {"Content-Type": "application/json"}
    service.resume()
    try:
        wrk.run(url, body, headers, connections=connections, seconds=_WARM_UP_SECONDS)
        settle(service.process.pid)
        before = cpu_seconds(service.pids)
        seen = wrk.run(url, body, headers, connections=connections, seconds=seconds)
        spent = cpu_seconds(service.pids) - before
    except WrkError as error:
        raise ServerError(str(error)) from error
    finally:
        service.pause()
    return Sample(seen.rate, seen.requests / max(spent, 0.01), seen.errors)


def _figures(size: int, samples: Mapping[tuple[int, int], list[Sample]]) -> list[Figure]:
    none = samples[size, 0]
    what = f"{size:,} record{'s' if size > 1 else ''} x {_LOADS[size]} connections"
    rate = statistics.median(sample.rate for sample in none)
    figures = [told(f"{what}, no classes", rate, "requests/s")]
    for number, least in _NUMBERS.items():
        if number:
            by_rate, by_cpu = ratios(samples[size, number], none)
            title = f"{what}, {number:,} classes"
            figures.append(reaching(f"{title}: times by rate", by_rate, least))
            figures.append(reaching(f"{title}: times by CPU time", by_cpu, least))
    return figures
