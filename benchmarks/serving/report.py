"""What was measured, as Markdown: targets first, then every row."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from benchmarks.harness.report import table
from benchmarks.serving.contestants import CONTESTANTS, ONNXRUNTIME, OURS
from benchmarks.serving.latency import Waits
from benchmarks.serving.memory import Growth
from benchmarks.serving.samples import Measured, Ratio, Sample, Scenario, median_of, ratio
from benchmarks.serving.targets import (
    LIVEZ_P99_MS,
    MEMORY_GROWTH,
    TARGETS,
    Target,
    reached,
    verdict,
)
from benchmarks.serving.words import in_words

_WORDS = """
Requests a second beside each peer that takes the same body, by the medians of the ratios below,
and where the time of a request goes. What is left beside the graph and the bytes is ours: every
field is checked against the schema, every answer has distance and confidence, and every request is
counted, logged and compared with the calibration records. A large batch is mostly numbers in text;
who takes or gives less text is quicker, as Arrow and the binary tensors of the same service are.
"""
_RATES = """
Medians over rounds. *CPU*: user and system time of all its processes for each request. *ours, times
it*: how many times its requests a second `faultcube` (JSON rows) and the one of ours that takes the
same body answer, median (least to most) of the ratios of single rounds. *its CPU, times ours*: the
same of the CPU time, beside `faultcube`. *memory*: of all its
processes, pages that they share counted once. Servers have one core, the load generator another.
A row with errors counts in no ratio.
"""
_LATENCY = """
p99 in ms of probes, 50 a second, each on a new connection and timed from the moment it was due;
median (least to most) over rounds. *saturated*: two connections send batches of 10,000 records
without a pause; *refused* are those of them that were not answered with 2xx.
"""
_HEAD = (
    *("who", "requests/s", "records/s", "CPU, ms", "p50, ms", "p99, ms", "memory, MiB"),
    *("errors", "ours, times it", "ours of the same body, times it", "its CPU, times ours"),
)


@dataclass(slots=True)
class Results:
    """Everything that was measured so far, and notes on what is missing."""

    measured: Measured = field(default_factory=Measured)
    waits: Sequence[Waits] = ()
    growth: Growth | None = None
    notes: list[str] = field(default_factory=list)


def report(results: Results, scenarios: Sequence[Scenario], heading: Sequence[str]) -> str:
    """Return the whole file: how it was measured, targets, and the rows of each scenario."""
    lines = ["# Serving benchmark", "", *heading, ""]
    lines += [*(f"- **missing**: {note}" for note in results.notes), ""] if results.notes else []
    if words := in_words(results.measured, scenarios):
        lines += ["## In words", _WORDS, *words, ""]
    lines += ["## Targets", "", *_targets(results)]
    if results.measured.samples or results.measured.failures:
        lines += ["## Rates", _RATES]
        for scenario in scenarios:
            lines += _scenario(results.measured, scenario)
    if results.waits:
        lines += ["## Latency beside large batches", _LATENCY, *_latency(results.waits)]
    if results.growth:
        lines += ["## Memory", "", *_memory(results.growth)]
    return "\n".join(lines)


def shown(value: Ratio | None) -> str:
    """Return a cell for a ratio."""
    if value is None:
        return "-"
    return f"{value.median:.3g} ({value.low:.3g} to {value.high:.3g})"


def _targets(results: Results) -> list[str]:
    rows = [_target(results.measured, target) for target in TARGETS]
    probe = next((waits for waits in results.waits if "livez" in waits.probe), None)
    loaded = probe.median()[1] if probe and not probe.refused else None
    low = None if loaded is None else loaded < LIVEZ_P99_MS
    text = "-" if loaded is None else f"{loaded:.3g} ms"
    what, of = "p99 of `/livez`", "beside batches of 10,000 records"
    rows.append((what, of, f"< {LIVEZ_P99_MS:g} ms", text, "", verdict(low)))
    growth = results.growth.ratio if results.growth else None
    level = None if growth is None else growth <= MEMORY_GROWTH
    text = "-" if growth is None else f"{growth:.3f}"
    what, of = "resident memory, last to first", "in batches of 1,000 records"
    rows.append((what, of, f"≤ {MEMORY_GROWTH:g}", text, "", verdict(level)))
    return table(("what", "of", "target", "measured", "by CPU time", ""), rows, "<<")


def _target(measured: Measured, target: Target) -> tuple[str, ...]:
    rates = target.by_rate(measured)
    is_reached = reached(rates.median, target.times) if rates else None
    what = f"`{target.ours}` to `{target.theirs}`, requests/s"
    cells = (f"≥ {target.times:g}", shown(rates), shown(target.by_cpu(measured)))
    return what, target.scenario.words, *cells, verdict(is_reached)


def _scenario(measured: Measured, scenario: Scenario) -> list[str]:
    rows = []
    ours = measured.of(OURS, scenario)
    for name, same in [*((entry.name, entry.same) for entry in CONTESTANTS), (ONNXRUNTIME, OURS)]:
        if reason := measured.failures.get((name, scenario)):
            rows.append((name, f"*{reason}*", *[""] * 9))
        elif samples := measured.of(name, scenario):
            same_body = measured.of(same, scenario)
            rows.append((name, *_cells(samples, scenario, ours, same_body, name == same)))
    if not rows:
        return []
    return [f"### {scenario.words}", "", *table(_HEAD, rows)]


def _cells(
    samples: Sequence[Sample],
    scenario: Scenario,
    ours: Sequence[Sample],
    same_body: Sequence[Sample],
    is_ours: bool,
) -> list[str]:
    rate, cpu, *others = map(attrgetter, ("rate", "cpu", "p50", "p99"))
    errors = sum(sample.errors for sample in samples)
    memory = f"{median_of(samples, attrgetter('memory')) / 2**20:.0f}"
    return [
        f"{median_of(samples, rate):.4g}",
        f"{median_of(samples, rate) * scenario.records:,.0f}",
        *(f"{median_of(samples, value):.4g}" for value in (cpu, *others)),
        "-" if memory == "0" else memory,
        f"**{errors}**" if errors else "0",
        shown(ratio(ours, samples, rate)),
        "" if is_ours else shown(ratio(same_body, samples, rate)),
        shown(ratio(samples, ours, cpu)),
    ]


def _latency(waits: Sequence[Waits]) -> list[str]:
    rows = []
    for probe in waits:
        cells = [
            f"{middle:.3g} ({min(values):.3g} to {max(values):.3g})"
            for middle, values in zip(probe.median(), (probe.idle, probe.loaded), strict=True)
        ]
        batches = f"{statistics.median(probe.batches):.3g}"
        refused = f"**{probe.refused}**" if probe.refused else "0"
        rows.append((f"`{probe.probe}`", *cells, str(probe.failed), batches, refused))
    head = ("probe", "idle, p99, ms", "saturated, p99, ms", "failed", "batches/s", "refused")
    return table(head, rows)


def _memory(growth: Growth) -> list[str]:
    first, last = growth.first / 2**20, growth.last / 2**20
    text = f"Resident memory of the largest process: {first:.1f} MiB after the first 10,000 records"
    text += f", {last:.1f} MiB after {growth.records:,} (ratio {growth.ratio:.3f}); batches of "
    return [text + "1,000, one after the other.", ""]
