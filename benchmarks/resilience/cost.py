"""What a report on bad records costs when there are none."""

from __future__ import annotations

import math
import statistics
from itertools import chain, repeat

from benchmarks.harness.load import Load, Stream
from benchmarks.harness.outcome import Outcome
from benchmarks.harness.report import Figure, Section, at_most, none_of, progress
from benchmarks.harness.requests import batch
from benchmarks.harness.server import LARGE_BODIES
from benchmarks.resilience.run import Run

_SIZES = (1_000, 10_000)
_MAX_RATIO = 1.25
_TEXT = """\
Clean batches on one connection, with and without `?on_invalid=report` in turn: the median of the
ratios of neighbours, each from first byte to answer."""


def measure(run: Run) -> Section:
    """Send both kinds of request in turn."""
    figures: list[Figure] = []
    with run.service(LARGE_BODIES) as server:
        for size in _SIZES:
            progress(f"report: batches of {size:,}")
            pair = (batch(size), batch(size, query="?on_invalid=report"))
            stream = Stream(chain.from_iterable(repeat(pair)))
            Load(server.port, [stream]).run(run.seconds / 3)
            outcome = stream.outcome
            what = f"{size:,} records: times as long with a report"
            figures += [
                at_most(f"{what} ({len(outcome) // 2:,} pairs)", ratio(outcome), _MAX_RATIO),
                none_of(f"{size:,} records: failed", outcome.failed, len(outcome)),
            ]
    return Section("Report", _TEXT, figures)


def ratio(outcome: Outcome) -> float:
    """Return how many times as long every second request took as the one before, as a median."""
    waits = [done - begun for begun, done in zip(outcome.begun, outcome.done, strict=True)]
    pairs = zip(waits[::2], waits[1::2], strict=False)
    return statistics.median([second / first for first, second in pairs] or [math.nan])
