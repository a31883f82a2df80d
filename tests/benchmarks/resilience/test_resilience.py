from __future__ import annotations

import math
import os

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.harness.outcome import LOST, Outcome
from benchmarks.harness.report import (
    Section,
    at_least,
    at_most,
    below,
    info,
    none_of,
)
from benchmarks.resilience.__main__ import SCENARIOS, main, page
from benchmarks.resilience.cost import ratio

app = typer.Typer()
app.command()(main)


def test_a_scenario_that_is_not_known_is_refused_before_anything_starts() -> None:
    before = os.sched_getaffinity(0)
    env = {"COLUMNS": "200", "NO_COLOR": "1"}
    result = CliRunner().invoke(app, ["--only", "crowd,flood"], env=env)
    assert result.exit_code == 2
    assert "no scenario is called 'flood'" in result.output
    assert os.sched_getaffinity(0) == before
    assert len(SCENARIOS) == 7


@pytest.mark.parametrize(
    ("figure", "wanted", "verdict"),
    [
        (info("p99", 3.0, "ms"), "", ""),
        (below("p99", 3.0, 3.0, "ms"), "< 3 ms", "**not reached**"),
        (below("p99", 2.99, 3.0, "ms"), "< 3 ms", "reached"),
        (below("p99", math.nan, 3.0, "ms"), "< 3 ms", "**not reached**"),
        (at_most("ratio", 1.25, 1.25), "≤ 1.25", "reached"),
        (at_least("share", 0.89, 0.9), "≥ 0.90", "**not reached**"),
        (none_of("lost", 0, 7), "0", "reached"),
        (none_of("lost", 1, 7), "0", "**not reached**"),
        (none_of("lost", 0, 0), "0", "**not reached**"),
    ],
)
def test_a_figure_stands_beside_what_it_must_reach(
    figure: object, wanted: str, verdict: str
) -> None:
    assert (figure.target, figure.verdict) == (wanted, verdict)  # type: ignore[attr-defined]


def test_a_page_begins_with_how_it_was_measured_and_how_much_was_not_reached() -> None:
    figures = [info("rate", 1234.5, "requests/s"), none_of("lost", 1, 2), below("p99", 12.34, 50)]
    text = page(["- how"], [Section("Overload", "So it was done.", figures)], ["crowd: no answer"])
    assert text.startswith("# Resilience\n\n- how\n- **missing**: crowd: no answer\n- 2 figures")
    assert "have something to reach; 1 of them do not" in text
    assert "## Overload\n\nSo it was done.\n\n| what |" in text
    assert "| rate | 1,234 requests/s |  |  |" in text
    assert "| lost | 1 of 2 | 0 | **not reached** |" in text
    assert "| p99 | 12.3 | < 50 | reached |" in text


@pytest.fixture
def outcome() -> Outcome:
    """Two seconds: 100 answers after 1 to 100 ms, one refusal, one loss, one never sent."""
    made = Outcome(first=0.0, last=2.0, unsent=1)
    for i in range(100):
        made.add(0.01 * i, 0.01 * i, 0.01 * i + (i + 1) / 1000, 200)
    made.add(1.0, 1.1, 1.5, 503)
    made.add(1.2, math.nan, 1.6, LOST)
    return made


def test_times_and_rates_are_of_those_that_ended_so(outcome: Outcome) -> None:
    assert (len(outcome), outcome.count(200), outcome.failed) == (102, 100, 3)
    assert outcome.p99() == pytest.approx(100)
    assert outcome.worst() == pytest.approx(100)
    assert outcome.p99(503) == outcome.worst(503) == pytest.approx(500)
    assert math.isnan(outcome.p99(404))
    assert (outcome.rate(), outcome.rate(503)) == (50, 0.5)
    assert (outcome.sent_rate, outcome.due_rate) == (51, 51.5)


def test_lost_is_what_was_all_sent_before_a_moment_and_never_answered(outcome: Outcome) -> None:
    assert outcome.lost_before(1.7) == 0, "of this one not all was sent"
    outcome.add(1.2, 1.3, 1.6, LOST)
    assert (outcome.lost_before(1.2), outcome.lost_before(1.3)) == (0, 1)


def test_a_ratio_is_the_median_of_neighbours() -> None:
    outcome = Outcome()
    for seconds in (1.0, 1.5, 2.0, 2.0, 4.0, 4.8, 100.0):
        outcome.add(0.0, 0.0, seconds, 200)
    assert ratio(outcome) == pytest.approx(1.2)
