from __future__ import annotations

import os

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.harness.outcome import Outcome
from benchmarks.harness.report import (
    Section,
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


def test_a_page_begins_with_how_it_was_measured_and_how_much_was_not_reached() -> None:
    figures = [info("rate", 1234.5, "requests/s"), none_of("lost", 1, 2), below("p99", 12.34, 50)]
    text = page(["- how"], [Section("Overload", "So it was done.", figures)], ["crowd: no answer"])
    assert text.startswith("# Resilience\n\n- how\n- **missing**: crowd: no answer\n- 2 figures")
    assert "have something to reach; 1 of them do not" in text
    assert "## Overload\n\nSo it was done.\n\n| what |" in text
    assert "| rate | 1,234 requests/s |  |  |" in text
    assert "| lost | 1 of 2 | 0 | **not reached** |" in text
    assert "| p99 | 12.3 | < 50 | reached |" in text


def test_a_ratio_is_the_median_of_neighbours() -> None:
    outcome = Outcome()
    for seconds in (1.0, 1.5, 2.0, 2.0, 4.0, 4.8, 100.0):
        outcome.add(0.0, 0.0, seconds, 200)
    assert ratio(outcome) == pytest.approx(1.2)
