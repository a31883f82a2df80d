from __future__ import annotations

import pytest

from service.live.rates import Rates
from service.observability.counters import Counters, Histogram


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_rates_are_of_the_last_ten_seconds() -> None:
    counters, clock = Counters(), Clock()
    rates = Rates(counters, clock)
    for second in range(1, 31):
        clock.now += 1
        counters.records += 10 if second <= 15 else 20
        counters.points["telegraf"] = 100 * second
        counters.assembled = {"records": 3 * second, "insufficient": second}
        counters.requests["/classify", 200] = second
        speed = rates.look()
        if second == 10:
            assert (speed.records, speed.points, speed.requests) == (12, 100, 1)
    assert speed.records == 22


def test_what_the_page_itself_asks_is_not_counted() -> None:
    counters, clock = Counters(), Clock()
    rates = Rates(counters, clock)
    clock.now += 1
    for route in ("/live/devices", "/", "/page/{path:path}", "/session", "none"):
        counters.requests[route, 200] = 100
    counters.requests["/classify", 503] = 4
    assert rates.look().requests == 4


def test_times_are_of_requests_with_records_in_milliseconds() -> None:
    counters, clock = Counters(), Clock()
    rates = Rates(counters, clock)
    assert (rates.look().p50, rates.look().p99) == (None, None)
    counters.seconds["/classify"] = classify = Histogram.of_seconds()
    counters.seconds["/live/records"] = Histogram.of_seconds()
    counters.seconds["/live/records"].observe(20)
    for _ in range(98):
        classify.observe(0.0015)
    for _ in range(2):
        classify.observe(0.03)
    clock.now += 5
    speed = rates.look()
    assert 1 < (speed.p50 or 0) <= 2.5
    assert 25 < (speed.p99 or 0) <= 50
    clock.now += 20
    rates.look()
    clock.now += 20
    assert rates.look().p50 is None


def test_a_time_beyond_all_bounds_is_the_last_bound() -> None:
    counters, clock = Counters(), Clock()
    rates = Rates(counters, clock)
    counters.seconds["/embed"] = Histogram.of_seconds()
    counters.seconds["/embed"].observe(100)
    clock.now += 1
    assert rates.look().p50 == pytest.approx(30_000)


def test_looking_often_keeps_few_looks() -> None:
    counters, clock = Counters(), Clock()
    rates = Rates(counters, clock)
    for _ in range(1000):
        clock.now += 0.01
        rates.look()
    assert len(rates._looks) <= 12
