from __future__ import annotations

import pytest

from benchmarks.serving.samples import Measured, Sample, Scenario, median_of, ratio

ONE = Scenario(1, 8)


def sample(
    contestant: str, number: int, rate: float, *, errors: int = 0, cpu: float = 1.0
) -> Sample:
    return Sample(contestant, ONE, number, rate, cpu, 1.0, 2.0, 0, errors)


def rate(each: Sample) -> float:
    return each.rate


def test_a_ratio_is_the_median_of_rounds_so_that_a_drifting_machine_cancels() -> None:
    speeds = [1.0, 0.5, 0.1]
    ours = [sample("a", i, 300 * speed) for i, speed in enumerate(speeds)]
    theirs = [sample("b", i, 100 * speed) for i, speed in enumerate(speeds)]
    found = ratio(ours, theirs, rate)
    assert found is not None
    assert found.median == found.low == found.high == pytest.approx(3)
    assert found.rounds == 3


def test_rounds_are_matched_by_number_and_the_median_is_not_the_mean() -> None:
    ours = [sample("a", i, value) for i, value in ((2, 30), (0, 10), (1, 200))]
    theirs = [sample("b", i, 10) for i in range(4)]
    found = ratio(ours, theirs, rate)
    assert found is not None
    assert (found.low, found.median, found.high, found.rounds) == (1, 3, 20, 3)


def test_samples_with_errors_or_without_an_answer_do_not_count() -> None:
    ours = [sample("a", 0, 10), sample("a", 1, 10), sample("a", 2, 10)]
    theirs = [sample("b", 0, 1, errors=1), sample("b", 1, 0), sample("b", 2, 5)]
    found = ratio(ours, theirs, rate)
    assert found is not None
    assert (found.median, found.rounds) == (2, 1)
    assert ratio(ours, theirs[:2], rate) is None
    assert ratio([], theirs, rate) is None


def test_rows_are_found_by_contestant_and_scenario() -> None:
    other = Sample("a", Scenario(100, 8), 0, 1.0, 1.0, 1.0, 1.0, 0, 0)
    measured = Measured([sample("a", 0, 1), other, sample("b", 0, 1), sample("a", 1, 4)])
    mine = measured.of("a", ONE)
    assert [each.round for each in mine] == [0, 1]
    assert median_of(mine, rate) == 2.5


def test_a_scenario_is_written_as_records_x_connections() -> None:
    assert Scenario.parse(" 1000x2 ") == Scenario(1000, 2)
    assert str(Scenario(1000, 2)) == "1000x2"
    assert Scenario(1000, 2).words == "1,000 records, 2 connections"
    assert Scenario(1, 1).words == "1 record, 1 connection"


@pytest.mark.parametrize("text", ["", "10", "ax1", "1x", "0x1", "1x-1"])
def test_what_is_no_scenario_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        Scenario.parse(text)
