"""What fleets of devices need, as Markdown tables; nothing is measured.

`python -m benchmarks.capacity`, from the root of the repository, in an environment with `dev`.
With prices, it says what they cost: `--core 20 --gib 3`, each for a month.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import Annotated

import typer

from benchmarks.capacity.plan import BUSY, Fleet, Plan
from benchmarks.capacity.unit_costs import COSTS, LIMITS, WIRES
from benchmarks.harness.report import table

FLEETS = [Fleet(10**4), Fleet(10**5), Fleet(10**6)]
_DAY = 86_400


def main(
    core: Annotated[float | None, typer.Option(min=0, help="Price of a core.")] = None,
    gib: Annotated[float, typer.Option(min=0, help="Price of a GiB of memory.")] = 0.0,
) -> None:
    """Work it out, and print it."""
    lines = [*_ingesting(), *_by_wire(), *_shares(), *_over_http(), *_archives()]
    if core is not None:
        lines += _prices(core, gib)
    sys.stdout.write("\n".join([*lines, *_sources()]).rstrip() + "\n")


def _ingesting() -> list[str]:
    plans = [Plan(fleet, WIRES["telegraf"]) for fleet in FLEETS]
    return [
        "### Ingestion, as Telegraf sends JSON",
        "",
        *_compared(
            [
                ("points a second", lambda plan: f"{plan.fleet.points:,.0f}"),
                ("records a second", lambda plan: f"{plan.fleet.records:,.0f}"),
                ("series", lambda plan: f"{plan.fleet.series:,}"),
                ("busy cores", lambda plan: f"{plan.cores:.2f}"),
                (
                    "busy cores, if each body holds one device",
                    lambda plan: f"{plan.cores_of_lone_bodies:.2f}",
                ),
                *(
                    (f"processes that {what} ask for", _want(what))
                    for what in ("series", "devices", "cores")
                ),
                ("**processes, and cores to order**", lambda plan: f"**{plan.processes}**"),
                ("**memory, GiB**", lambda plan: f"**{plan.memory / 2**30:.1f}**"),
                ("of one process, GiB", lambda plan: f"{plan.memory / plan.processes / 2**30:.2f}"),
                ("network in and journals, MB/s", lambda plan: f"{plan.network / 1e6:.1f}"),
                ("a checkpoint, MB", lambda plan: f"{plan.checkpoint / 1e6:.0f}"),
                ("seconds between two", lambda plan: f"{plan.pause:.0f}"),
                ("**database, MB/s written**", lambda plan: f"**{plan.database / 1e6:.1f}**"),
            ],
            plans,
        ),
    ]


def _want(what: str) -> Callable[[Plan], str]:
    return lambda plan: str(plan.wants[what])


def _compared(rows: Sequence[tuple[str, Callable[[Plan], str]]], plans: list[Plan]) -> list[str]:
    head = ("", *(f"{plan.fleet.devices:,} devices" for plan in plans))
    return table(head, [(name, *map(show, plans)) for name, show in rows], "<")


def _by_wire() -> list[str]:
    rows = []
    for name, wire in WIRES.items():
        plans = [Plan(fleet, wire) for fleet in FLEETS]
        each = [f"{plan.cores:.2f}; {plan.network / 1e6:.1f}" for plan in plans]
        rows.append((name, *each))
    head = ("format", *(f"{fleet.devices:,} devices" for fleet in FLEETS))
    return ["### Busy cores, and MB/s that come in", "", *table(head, rows, "<")]


def _shares() -> list[str]:
    rows = []
    for name, wire in WIRES.items():
        plans = [Plan(fleet, wire) for fleet in FLEETS]
        rows.append((name, *(f"{plan.cores_of_shares:.2f}" for plan in plans)))
    head = ("format", *(f"{fleet.devices:,} devices" for fleet in FLEETS))
    return ["### Busy cores of each process, if all get all points", "", *table(head, rows, "<")]


def _over_http() -> list[str]:
    rows = [
        (COSTS[name].what, *(f"{fleet.records / COSTS[name].value:.2f}" for fleet in FLEETS))
        for name in ("single", "json", "arrow")
    ]
    head = ("cores", *(f"{fleet.devices:,} devices" for fleet in FLEETS))
    return ["### The same records by `/classify`", "", *table(head, rows, "<")]


def _archives() -> list[str]:
    speed = COSTS["scored"].value
    days = [
        (f"{f.records * _DAY / 1e6:,.0f}", f"{f.records * _DAY / speed / 3600:.2f}") for f in FLEETS
    ]
    rows = [
        ("records of a day, millions", *(day[0] for day in days)),
        ("core hours to classify them", *(day[1] for day in days)),
    ]
    head = ("", *(f"{fleet.devices:,} devices" for fleet in FLEETS))
    return ["### The archive of a day", "", *table(head, rows, "<")]


def _prices(core: float, gib: float) -> list[str]:
    plans = [Plan(fleet, WIRES["telegraf"]) for fleet in FLEETS]
    costs = [plan.processes * core + plan.memory / 2**30 * gib for plan in plans]
    head = ("", *(f"{fleet.devices:,} devices" for fleet in FLEETS))
    return [
        "### A month",
        "",
        *table(head, [("ingestion", *(f"{cost:,.0f}" for cost in costs))], "<"),
    ]


def _sources() -> list[str]:
    costs = [*(cost for wire in WIRES.values() for cost in (
        wire.size, wire.decoded, wire.assembled, wire.fresh)), *COSTS.values()]  # fmt: skip
    rows = [(cost.what, cost.written, f"[{cost.page}](../../{cost.page})") for cost in costs]
    limits = ", ".join(f"{name.replace('_', ' ')} {limit:,.0f}" for name, limit in LIMITS.items())
    return [
        "### Unit costs",
        "",
        *table(("what", "measured", "in"), rows, "<><"),
        f"Limits of a process: {limits}. A process is busy for {BUSY:.0%} of a core.",
    ]


if __name__ == "__main__":
    typer.run(main)
