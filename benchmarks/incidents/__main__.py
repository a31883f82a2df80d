"""Incidents that a model's verdicts on the three runs become; prints a Markdown table.

    python -m benchmarks.incidents [--model FOLDER] [--recipe FILE] [--raw FILE]

from the root of the repository; it takes some seconds, with --raw some minutes.
"""

from __future__ import annotations

import statistics
import sys
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.harness.report import table
from benchmarks.incidents.measure import Outcome, replay
from benchmarks.incidents.over_http import send
from benchmarks.incidents.runs import roles_of, runs_of
from models import Model
from service.incidents.hysteresis import Hysteresis
from training.recipe import Recipe

_HEAD = (
    *("run", "hours", "bad verdicts", "incidents", "events", "found, right cause and root"),
    *("median delay, s", "longest, s", "false per hour", "outside windows", "incidents per event"),
)


def main(
    model: Annotated[Path, typer.Option(help="A bundle's folder.")] = Path("models/iosxr"),
    recipe: Annotated[Path, typer.Option(help="Of its training.")] = Path("training/iosxr.toml"),
    open_records: Annotated[int, typer.Option(help="Bad records that open.")] = 2,
    window: Annotated[int, typer.Option(help="Records that are looked at.")] = 3,
    close_records: Annotated[int, typer.Option(help="Good records that close.")] = 4,
    raw: Annotated[
        Path | None,
        typer.Option(help="Table of raw points: send it to a running service instead."),
    ] = None,
    mapping: Annotated[Path, typer.Option(help="Of these points.")] = Path(
        "training/data/cisco-iosxr/mapping.toml"
    ),
) -> None:
    """Replay all runs, and print what came of them."""
    settings = Recipe.read(recipe, {})
    hysteresis = Hysteresis(open_records, window, close_records)
    roles = roles_of(settings)
    runs = [*runs_of(settings, Model.load(model))]
    if raw is None:
        outcomes = [replay(run, roles, hysteresis) for run in runs]
    else:
        sent = send(runs, raw, model, mapping)
        outcomes = sent.outcomes
        sys.stdout.write(
            f"{sent.points:,} points over HTTP in {sent.seconds:.0f} s "
            f"({sent.points / sent.seconds:,.0f} a second), {sent.records:,} records\n\n"
        )
    rows = [row_of(outcome) for outcome in outcomes]
    sys.stdout.write("\n".join([*table(_HEAD, [*rows, total_of(outcomes)]), ""]))


def row_of(outcome: Outcome) -> list[str]:
    """Return the cells of a run."""
    return _cells(outcome.run.name, [outcome])


def total_of(outcomes: list[Outcome]) -> list[str]:
    """Return the cells of all runs together."""
    return _cells("together", outcomes)


def _cells(name: str, outcomes: list[Outcome]) -> list[str]:
    hours = sum(outcome.run.hours for outcome in outcomes)
    delays = [delay for outcome in outcomes for delay in outcome.delays]
    opened = sum(len(outcome.opened) for outcome in outcomes)
    events = sum(len(outcome.run.events) for outcome in outcomes)
    false = sum(len(outcome.false) for outcome in outcomes)
    return [
        name,
        f"{hours:.2f}",
        f"{sum(outcome.bad for outcome in outcomes):,}",
        str(opened),
        str(events),
        f"{len(delays)} of {events}",
        f"{statistics.median(delays):.1f}" if delays else "",
        f"{max(delays):.1f}" if delays else "",
        f"{false / hours:.2f}",
        str(sum(outcome.outside for outcome in outcomes)),
        f"{opened / events:.2f}" if events else "",
    ]


if __name__ == "__main__":
    typer.run(main)
