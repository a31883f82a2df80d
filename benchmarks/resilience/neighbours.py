"""How long small requests wait while large ones are worked on."""

from __future__ import annotations

from itertools import repeat

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.process import settle
from benchmarks.harness.report import Figure, Section, at_most, none_of, told
from benchmarks.harness.requests import LARGE, batch
from benchmarks.harness.server import Running
from benchmarks.resilience.service import ROOMY
from benchmarks.resilience.stage import DELAY_MS, Stage, livez, probe
from benchmarks.serving.rounds import say

_TEXT = f"""\
Single records and /livez, each 50 times a second: by themselves, and while batches of {LARGE:,}
records are posted on 1 and on 4 connections that ask again as soon as they are answered. A probe
goes out whether or not earlier ones were answered."""


def measure(stage: Stage) -> Section:
    """Probe without and with batches."""
    with stage.service(ROOMY) as running:
        idle, figures = _probes(running, stage, "idle", [])
        for arrow, kind in ((False, "JSON"), (True, "Arrow")):
            for connections in (1, 4):
                place = f"beside {kind} on {connections}"
                large = Stream(repeat(batch(LARGE, arrow=arrow)), connections)
                figures += _judged(running, stage, place, large, idle)
    return Section("Neighbours", _TEXT, figures)


def _probes(
    running: Running, stage: Stage, place: str, others: list[Stream]
) -> tuple[dict[str, float], list[Figure]]:
    """p99 of each kind of probe, and what is told of it."""
    say(f"neighbours: {place}")
    settle(running.process.pid)
    probes = {"single records": probe(), "/livez": livez()}
    Load(running.port, [*probes.values(), *others]).run(stage.seconds / 3)
    outcomes = {name: stream.outcome for name, stream in probes.items()}
    found = {name: outcome.p99() for name, outcome in outcomes.items()}
    failed = sum(outcome.failed for outcome in outcomes.values())
    number = sum(len(outcome) + outcome.unsent for outcome in outcomes.values())
    figures = [none_of(f"{place}: probes that failed", failed, number)]
    if not others:
        figures += [told(f"{place}: p99 of {name}", p99, "ms") for name, p99 in found.items()]
    return found, figures


def _judged(
    running: Running, stage: Stage, place: str, large: Stream, idle: dict[str, float]
) -> list[Figure]:
    found, figures = _probes(running, stage, place, [large])
    outcome = large.outcome
    figures += [
        at_most(f"{place}: p99 of {name}", p99, idle[name] + DELAY_MS, "ms")
        for name, p99 in found.items()
    ]
    return [
        told(f"{place}: batches", outcome.rate(), "a second"),
        none_of(f"{place}: batches that failed", outcome.failed, len(outcome)),
        *figures,
    ]
