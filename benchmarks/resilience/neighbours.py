"""How long small requests wait while the service works on large ones."""

from __future__ import annotations

from itertools import repeat

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.report import Figure, Section, at_most, info, none_of, progress
from benchmarks.harness.requests import LARGE, batch
from benchmarks.harness.server import LARGE_BODIES, Server
from benchmarks.resilience.run import DELAY_MS, Run, livez, probe

_TEXT = f"""\
Single records and /livez, each 50 times a second: by themselves, and while batches of {LARGE:,}
records are posted on 1 and on 4 connections that ask again as soon as they are answered. A probe
goes out whether or not earlier ones were answered."""


def measure(run: Run) -> Section:
    """Probe without and with batches."""
    with run.service(LARGE_BODIES) as server:
        idle, figures = _probes(server, run, "idle", [])
        for arrow, kind in ((False, "JSON"), (True, "Arrow")):
            for connections in (1, 4):
                where = f"beside {kind} on {connections}"
                large = Stream(repeat(batch(LARGE, arrow=arrow)), connections)
                figures += _beside(server, run, where, large, idle)
    return Section("Neighbours", _TEXT, figures)


def _probes(
    server: Server, run: Run, where: str, others: list[Stream]
) -> tuple[dict[str, float], list[Figure]]:
    """Return p99 of each kind of probe, and figures about the probes."""
    progress(f"neighbours: {where}")
    server.settle()
    probes = {"single records": probe(), "/livez": livez()}
    Load(server.port, [*probes.values(), *others]).run(run.seconds / 3)
    outcomes = {name: stream.outcome for name, stream in probes.items()}
    p99s = {name: outcome.p99() for name, outcome in outcomes.items()}
    failed = sum(outcome.failed for outcome in outcomes.values())
    number = sum(len(outcome) + outcome.unsent for outcome in outcomes.values())
    figures = [none_of(f"{where}: probes that failed", failed, number)]
    if not others:
        figures += [info(f"{where}: p99 of {name}", p99, "ms") for name, p99 in p99s.items()]
    return p99s, figures


def _beside(
    server: Server, run: Run, where: str, large: Stream, idle: dict[str, float]
) -> list[Figure]:
    p99s, figures = _probes(server, run, where, [large])
    outcome = large.outcome
    figures += [
        at_most(f"{where}: p99 of {name}", p99, idle[name] + DELAY_MS, "ms")
        for name, p99 in p99s.items()
    ]
    return [
        info(f"{where}: batches", outcome.rate(), "a second"),
        none_of(f"{where}: batches that failed", outcome.failed, len(outcome)),
        *figures,
    ]
