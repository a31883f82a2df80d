from __future__ import annotations

import threading

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.observability.counters import Counters, Histogram, ProcessReport, ProcessStatus

COUNTS = st.dictionaries(st.sampled_from("abc"), st.integers(0, 9))
VALUES = st.lists(st.floats(0, 1, width=32), max_size=30)


@st.composite
def tallies(draw: st.DrawFn) -> Counters:
    counters = Counters(
        requests=draw(st.dictionaries(st.tuples(st.sampled_from("ab"), st.just(200)), st.just(2))),
        verdicts=draw(COUNTS),
        rejected=draw(COUNTS),
        records=draw(st.integers(0, 9)),
        swaps=draw(st.integers(0, 9)),
        refused=draw(st.integers(0, 9)),
        cpu_seconds=float(draw(st.integers(0, 9))),
    )
    for route in draw(st.sets(st.sampled_from("ab"))):
        counters.seconds[route] = Histogram.of_seconds()
        counters.seconds[route].observe(1.0)
    counters.distance.observe_all(np.array(draw(st.lists(st.just(0.25), max_size=3)), np.float32))
    return counters


def total(*tallies: Counters) -> dict[str, object]:
    together = Counters()
    for counters in tallies:
        together.add(counters)
    built: dict[str, object] = msgspec.to_builtins(
        together, str_keys=False, builtin_types=(dict, tuple)
    )
    return built


@given(VALUES)
def test_values_are_counted_alike_together_and_one_by_one(values: list[float]) -> None:
    together, single = Histogram.of_distances(), Histogram.of_distances()
    together.observe_all(np.array(values, np.float32))
    for value in values:
        single.observe(value)
    assert together.counts == single.counts
    assert together.total == pytest.approx(single.total, abs=1e-5)


def test_a_value_on_a_bound_belongs_below_it() -> None:
    histogram = Histogram.of((1, 2))
    for value in (1.0, 1.5, 2.0, 2.5):
        histogram.observe(value)
    assert histogram.counts == [1, 2, 1]


@settings(max_examples=30)
@given(tallies(), tallies(), tallies())
def test_the_order_in_which_tallies_are_added_does_not_matter(
    a: Counters, b: Counters, c: Counters
) -> None:
    assert total(a, b, c) == total(c, a, b)


@settings(max_examples=30)
@given(tallies(), tallies())
def test_adding_a_tally_leaves_it_as_it_is(a: Counters, b: Counters) -> None:
    before = total(b)
    a.add(b)
    assert total(b) == before


@settings(max_examples=30)
@given(tallies())
def test_a_report_survives_its_way_to_another_process(counters: Counters) -> None:
    report = ProcessReport(
        counters, ProcessStatus(3, 4, ("toy", "1" * 16), {"process_open_fds": 5.0})
    )
    assert ProcessReport.decoded(report.encoded()) == report


def test_a_report_may_be_taken_while_another_thread_counts() -> None:
    report, stop = ProcessReport(), threading.Event()

    def count() -> None:
        for number in range(10_000_000):
            report.counters.requests[f"/{number % 5000}", 200] = number
            if stop.is_set():
                return

    counting = threading.Thread(target=count)
    counting.start()
    sizes = [len(ProcessReport.decoded(report.encoded()).counters.requests) for _ in range(40)]
    stop.set()
    counting.join()
    assert sizes == sorted(sizes)


def test_seconds_of_the_processor_do_not_depend_on_the_order_of_their_sum() -> None:
    seconds = [0.1, 0.2, 0.3]
    sums = set()
    for order in (seconds, seconds[::-1]):
        total = Counters()
        for number in order:
            total.add(Counters(cpu_seconds=number))
        sums.add(total.cpu_seconds)
    assert sums == {0.6}
