"""What it costs to ask for a report on bad records, when there are none."""

from __future__ import annotations

import statistics
from itertools import chain, repeat

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.report import Figure, Section, at_most, none_of
from benchmarks.harness.requests import batch
from benchmarks.resilience.service import ROOMY
from benchmarks.resilience.stage import Stage
from benchmarks.serving.rounds import say

_SIZES = (1_000, 10_000)
_MOST = 1.25
_TEXT = """\
Clean batches on one connection, with and without `?on_invalid=report` in turn: the median of the
ratios of neighbours, each from first byte to answer."""


def measure(stage: Stage) -> Section:
    """Ask in turn."""
    figures: list[Figure] = []
    with stage.service(ROOMY) as running:
        for size in _SIZES:
            say(f"report: batches of {size:,}")
            pair = (batch(size), batch(size, query="?on_invalid=report"))
            stream = Stream(chain.from_iterable(repeat(pair)))
            Load(running.port, [stream]).run(stage.seconds / 3)
            found, outcome = ratio(stream.outcome), stream.outcome
            what = f"{size:,} records: times as long with a report"
            figures += [
                at_most(f"{what} ({len(outcome) // 2:,} pairs)", found, _MOST),
                none_of(f"{size:,} records: failed", outcome.failed, len(outcome)),
            ]
    return Section("Report", _TEXT, figures)


def ratio(outcome: Outcome) -> float:
    """How many times as long as the ones before them every second request took; median."""
    waits = [done - begun for begun, done in zip(outcome.begun, outcome.done, strict=True)]
    pairs = zip(waits[::2], waits[1::2], strict=False)
    return statistics.median([second / first for first, second in pairs])
