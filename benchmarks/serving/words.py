"""The first lines of the report: beside whom the service is ahead, where not, and why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import attrgetter

from benchmarks.serving.contestants import CONTESTANTS, ECHO, ONNXRUNTIME, OURS
from benchmarks.serving.samples import Measured, Scenario, median_of, ratio

__all__ = ["in_words"]


def in_words(measured: Measured, scenarios: Sequence[Scenario]) -> list[str]:
    """Return a line for each peer, and one for each load with where its time goes."""
    return [*_peers(measured, scenarios), *_floors(measured, scenarios)]


def _peers(measured: Measured, scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Yield how many times the requests of a peer ours of the same body answers."""
    for entry in CONTESTANTS:
        if entry.server in (OURS, ECHO):
            continue
        found, missing = {}, []
        for scenario in scenarios:
            ours, theirs = (measured.whole(name, scenario) for name in (entry.same, entry.name))
            if times := ratio(ours, theirs, attrgetter("rate")):
                found[scenario] = times.median
            elif (entry.name, scenario) in measured.failures:
                missing.append(scenario.words)
        rest = f"; it failed with {'; '.join(missing)}" if missing else ""
        every = "every load" if not missing else f"all {len(found)} other loads"
        ahead = [times for times in found.values() if times >= 1]
        behind = [f"{words.words} ({times:.2g})" for words, times in found.items() if times < 1]
        if not found:
            continue
        if not behind:
            yield f"- ahead of `{entry.name}` in {every}, {_range(ahead)}{rest}"
        elif not ahead:
            yield f"- **behind** `{entry.name}` in {every}: {'; '.join(behind)}{rest}"
        else:
            yield (
                f"- ahead of `{entry.name}` in {len(ahead)} of {len(found)} loads, "
                f"{_range(ahead)}; **behind** it with {'; '.join(behind)}{rest}"
            )


def _range(times: Sequence[float]) -> str:
    low, high = f"{min(times):.2g}", f"{max(times):.2g}"
    return f"{low} times" if low == high else f"{low} to {high} times"


def _floors(measured: Measured, scenarios: Sequence[Scenario]) -> Iterator[str]:
    """Yield what the graph alone, and bytes alone, take of the CPU time of a request."""
    cpu = attrgetter("cpu")
    for scenario in scenarios:
        rows = [measured.of(name, scenario) for name in (OURS, ONNXRUNTIME, ECHO)]
        if not all(rows):
            continue
        ours, graph, echo = (median_of(samples, cpu) for samples in rows)
        yield (
            f"- {scenario.words}: of {ours:.3g} ms of CPU, the graph alone takes {graph:.3g} "
            f"({graph / ours:.0%}), and a bare server that reads the JSON and answers as many "
            f"bytes {echo:.3g} ({echo / ours:.0%})"
        )
