from __future__ import annotations

import math

import pytest

from benchmarks.harness.outcome import LOST, Outcome


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
