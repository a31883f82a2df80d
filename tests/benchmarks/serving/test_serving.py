from __future__ import annotations

import os

import pytest
import typer
from typer.testing import CliRunner

from benchmarks.serving.__main__ import PARTS, SCENARIOS, main
from benchmarks.serving.latency import Waits, quantile
from benchmarks.serving.memory import Growth
from benchmarks.serving.samples import Scenario
from benchmarks.serving.targets import TARGETS

app = typer.Typer()
app.command()(main)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--only", "speed"], "no part is called 'speed'"),
        (["--peers", "nobody"], "no peer is called 'nobody'"),
        (["--scenarios", "1by8"], "RECORDSxCONNECTIONS"),
    ],
)
def test_a_name_that_is_not_known_is_refused_before_anything_starts(
    options: list[str], said: str
) -> None:
    before = os.sched_getaffinity(0)
    result = CliRunner().invoke(app, options, env={"COLUMNS": "200", "NO_COLOR": "1"})
    assert result.exit_code == 2
    assert said in result.output
    assert os.sched_getaffinity(0) == before


def test_every_target_is_measured_unless_told_otherwise() -> None:
    scenarios = {Scenario.parse(each) for each in SCENARIOS.split(",")}
    assert {each.scenario for each in TARGETS} <= scenarios
    assert PARTS == ("rates", "latency", "memory")


def test_a_quantile_is_a_value_that_enough_others_do_not_exceed() -> None:
    assert quantile([float(i) for i in range(100, 0, -1)], 0.99) == 99
    assert quantile([1.0, 2.0], 0.99) == 2
    assert quantile([3.0], 0.5) == 3


def test_a_probe_without_an_answer_counts_as_the_longest_wait() -> None:
    waits = Waits("GET /livez")
    waits.add([1.0] * 98 + [10_000.0] * 2, waits.loaded)
    assert (waits.loaded, waits.failed) == ([10_000.0], 2)


def test_waits_are_the_median_of_rounds_and_growth_is_a_ratio() -> None:
    assert Waits("GET /livez", [1, 9, 2], [30, 10, 20]).median() == (2, 20)
    assert Growth(200, 220, 1_000_000).ratio == pytest.approx(1.1)
