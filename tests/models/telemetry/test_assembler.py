"""What becomes of points: records, the same whatever bodies and order the points come in."""

from __future__ import annotations

from dataclasses import astuple

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from models.telemetry.assembler import Assembler
from models.telemetry.points import REFUSED, UNMAPPED, Points, Series
from models.telemetry.records import Records
from tests.support.feeds import GAUGE, START, feed_of, mapping_of

EVERYTHING = """
[[fields]]
name = "level"
metric = "level"
relation = "baseline"
[[fields]]
name = "octets"
metric = "octets"
kind = "counter"
bits = 32
aggregate = "sum"
absent = 0.0
[[fields]]
name = "requests"
metric = "requests"
kind = "counter"
[[fields]]
name = "state"
metric = "state"
kind = "state"
states = { 1 = 1, 2 = 0 }
aggregate = "mean"
[[fields]]
name = "total"
metric = "load"
relation = "each"
aggregate = "sum"
[[fields]]
name = "{metric}_spread"
metric = ["load"]
relation = "each"
aggregate = "std"
active = 0.5
absent = 0.0
[[fields]]
name = "least"
metric = "load"
aggregate = "min"
[[fields]]
name = "most"
metric = "load"
aggregate = "max"
[[fields]]
name = "down"
metric = "load"
relation = "each"
aggregate = "share_below"
below = -0.5
"""
METRICS = [
    ("level", 1), ("octets", 3), ("requests", 1), ("state", 2), ("load", 4), ("foreign", 1),
]  # fmt: skip


def some_points(seed: int, steps: int, jitter: float) -> list[tuple[str, int, int, int, float]]:
    """Metric, device, port, nanoseconds and value of points, in the order of time."""
    random = np.random.default_rng(seed)
    points = []
    for step in range(steps):
        for device in range(3):
            if random.random() < 0.05:
                continue
            for metric, ports in METRICS:
                for port in range(ports):
                    if random.random() < 0.03:
                        continue
                    value = float(random.normal(10, 5))
                    if metric in {"octets", "requests"}:
                        value = float(random.integers(0, 2**32))
                    if metric == "state":
                        value = float(random.integers(1, 4))
                    if random.random() < 0.02:
                        value = np.nan
                    late = int(random.random() * jitter * 1e9)
                    at = (START + 5 * step + 100 * (step > 20)) * 1_000_000_000 + late
                    points.append((metric, device, port, at, value))
    return points


def assembled(
    head: str, bodies: list[list[tuple[str, int, int, int, float]]], *, restart: bool = False
) -> tuple[Assembler, dict[str, Records]]:
    """Feed bodies to a new assembler; its records by device."""
    mapping = mapping_of(EVERYTHING, head)
    assembler = Assembler(mapping, max_keys=10, max_series=1000)
    parts = []
    for body in bodies:
        ids = []
        for metric, device, port, _, _ in body:
            token = (metric, device, port)
            if token not in assembler.series.ids:
                tags = {"device": f"d{device}", "port": f"p{port}"}
                assembler.series.add(token, Series(metric, tags, delta=metric == "requests"))
            ids.append(assembler.series.ids[token])
        points = Points(
            np.array(ids, np.int32),
            np.array([point[3] for point in body], np.int64),
            np.array([point[4] for point in body], np.float64),
        )
        parts.append(assembler.add(points, START + 1000.0))
        if restart:
            assembler = Assembler.restore(
                mapping, assembler.snapshot(), max_keys=10, max_series=1000
            )
    parts.append(assembler.finish())
    records = Records.joined(parts, len(mapping.fields))
    names = [assembler.key(slot)[0] for slot in records.keys.tolist()]
    return assembler, {
        name: records.take(np.flatnonzero(np.array(names) == name)) for name in sorted(set(names))
    }


def assert_same(one: dict[str, Records], other: dict[str, Records]) -> None:
    """Every record of every device is the same to the bit, and in the same order."""
    assert one.keys() == other.keys()
    for name, records in one.items():
        for mine, its in zip(astuple(records)[1:], astuple(other[name])[1:], strict=True):
            assert np.array_equal(mine, its, equal_nan=mine.dtype == np.float64)


SAMPLES = "learn = 5\nlateness = 12\nforget = 60\nstale = 11"
INTERVALS = SAMPLES + '\nalign = "interval"'


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), intervals=st.booleans(), restart=st.booleans())
def test_the_same_points_give_the_same_records_in_any_bodies_and_order(
    data: st.DataObject, seed: int, intervals: bool, restart: bool
) -> None:
    head, jitter = (INTERVALS, 1.0) if intervals else (SAMPLES, 0.0)
    points = some_points(seed, 40, jitter)
    _, expected = assembled(head, [points])
    assert len(expected["d0"]) > 20

    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    twice = random.random(len(points)) < data.draw(st.sampled_from([0, 0.1]))
    points += [point for point, again in zip(points, twice, strict=True) if again]
    delays = random.random(len(points)) * data.draw(st.sampled_from([0.0, 5.0, 11.9]))
    points = [points[at] for at in np.argsort([p[3] for p in points] + delays * 1e9)]
    cuts = sorted(random.integers(0, len(points), data.draw(st.sampled_from([0, 3, 40]))))
    bodies = [points[a:b] for a, b in zip([0, *cuts], [*cuts, len(points)], strict=True)]
    _, records = assembled(head, bodies, restart=restart)
    assert_same(records, expected)


def test_a_series_that_no_field_takes_is_counted() -> None:
    feed = feed_of(GAUGE)
    assert feed.assembler.series.add("x", Series("other", {"device": "a"})) == UNMAPPED
    feed.add(("other", {"device": "a"}, 0, 1.0), ("load", {"device": "a"}, 0, 1.0))
    assert feed.assembler.counts.points == 2
    assert feed.assembler.counts.unmapped == 1


LOAD = {"device": "a"}


def test_a_record_closes_when_a_point_passes_its_end_by_more_than_the_lateness() -> None:
    feed = feed_of(GAUGE, "lateness = 10")
    feed.add(("load", LOAD, 0, 1.0), ("load", LOAD, 10, 2.0))
    assert feed.values() == []
    feed.add(("load", LOAD, 10.001, 3.0))
    assert feed.values() == [1.0]
    assert feed.records.times.tolist() == [START]


def test_a_point_for_a_complete_record_is_late_and_left_out() -> None:
    feed = feed_of(GAUGE, "lateness = 1")
    feed.add(("load", LOAD, 0, 1.0), ("load", LOAD, 5, 2.0), ("load", LOAD, 0, 9.0))
    feed.add(("load", LOAD, 3.9, 9.0), ("load", LOAD, 4, 1.5))
    feed.finish()
    assert feed.values() == [1.0, 1.5, 2.0]
    assert feed.assembler.counts.late == 2


def test_a_record_is_complete_when_its_key_has_been_silent_for_the_wait() -> None:
    feed = feed_of(GAUGE, "lateness = 10\nwait = 0.5")
    feed.add(("load", LOAD, 0, 1.0), arrived=0.0)
    feed.add(("load", {"device": "b"}, 0, 2.0), arrived=0.3)
    feed.advance(0.49)
    assert feed.values() == []
    feed.advance(0.5)
    assert feed.values() == [1.0]
    feed.add(("load", LOAD, 0, 9.0), arrived=0.6)
    assert feed.assembler.counts.late == 1
    feed.add(("load", LOAD, 5, 3.0), arrived=0.9)
    assert feed.values() == [1.0, 2.0]


@given(st.lists(st.floats(0, 30), max_size=20), st.integers(0, 9))
def test_ticks_in_between_change_nothing(ticks: list[float], seed: int) -> None:
    random = np.random.default_rng(seed)
    arrivals = np.cumsum(random.choice([0.1, 0.4, 0.7, 3.0], 15))
    bodies = [
        (arrived, f"d{random.integers(3)}", arrived - random.choice([0, 2, 6]))
        for arrived in arrivals
    ]
    plain, ticked = (feed_of(GAUGE, "lateness = 4\nwait = 0.5") for _ in range(2))
    for arrived, device, time in bodies:
        for tick in sorted(tick for tick in ticks if tick <= arrived):
            ticked.advance(tick)
        for feed in (plain, ticked):
            feed.add(("load", {"device": device}, time, arrived), arrived=arrived)
    for feed in (plain, ticked):
        feed.advance(100)
    for mine, its in zip(astuple(plain.records), astuple(ticked.records), strict=True):
        assert np.array_equal(mine, its)


def test_points_far_ahead_of_their_arrival_close_nothing() -> None:
    feed = feed_of(GAUGE, "ahead = 300")
    feed.add(("load", LOAD, 0, 1.0), ("load", LOAD, 301, 9.0), ("load", LOAD, -START - 1, 9.0))
    assert feed.values() == []
    assert feed.assembler.counts.misdated == 2
    feed.add(("load", LOAD, 300, 2.0))
    assert feed.values() == [1.0]


def test_a_device_whose_clock_is_wrong_can_be_placed_by_arrival() -> None:
    feed = feed_of(GAUGE, 'clock = "arrival"\nalign = "interval"')
    for second in (0, 5, 10):
        feed.add(("load", LOAD, 1e7, second), ("load", LOAD, -1e7, second + 0.5), arrived=second)
    feed.finish()
    assert feed.records.times.tolist() == [START + 5, START + 10, START + 15]
    assert feed.values() == [0.5, 5.5, 10.5]  # the last of each interval
    assert feed.assembler.strays() == {}


def test_keys_with_points_that_are_late_or_misdated_are_named() -> None:
    feed = feed_of(GAUGE)
    feed.add(*(("load", {"device": name}, 0, 1.0) for name in "abc"))
    feed.add(("load", {"device": "b"}, 5, 1.0), ("load", {"device": "b"}, 0, 1.0))
    feed.add(("load", {"device": "c"}, 1000, 1.0), ("load", {"device": "c"}, -1e10, 1.0))
    assert feed.assembler.strays() == {("b",): 1, ("c",): 2}


def test_the_last_of_the_same_series_and_time_counts() -> None:
    feed = feed_of(GAUGE, "lateness = 1")
    feed.add(("load", LOAD, 0, 1.0), ("load", LOAD, 0, 2.0))
    feed.add(("load", LOAD, 0, 3.0))
    feed.finish()
    assert feed.values() == [3.0]
    assert feed.assembler.counts.repeated == 2


def test_the_last_of_an_interval_counts_by_its_time() -> None:
    feed = feed_of(GAUGE, 'align = "interval"\nlateness = 5')
    feed.add(("load", LOAD, 4.9, 1.0), ("load", LOAD, 0, 9.0))
    feed.add(("load", LOAD, 3, 9.0), ("load", LOAD, 5, 2.0), ("load", LOAD, 5, 3.0))
    feed.finish()
    assert feed.values() == [1.0, 3.0]
    assert feed.records.times.tolist() == [START + 5, START + 10]
    assert feed.assembler.counts.repeated == 1


def test_a_sum_without_one_of_its_series_is_missing_until_the_series_is_stale() -> None:
    feed = feed_of(f'{GAUGE}\naggregate = "sum"', "stale = 7")
    one, two = LOAD | {"port": "1"}, LOAD | {"port": "2"}
    feed.add(("load", one, 0, 1.0), ("load", two, 0, 2.0))
    feed.add(("load", one, 5, 1.0), ("load", one, 10, 1.0))
    feed.finish()
    assert feed.values()[0] == 3.0
    assert np.isnan(feed.values()[1])
    assert feed.values()[2] == 1.0
    assert feed.assembler.counts.missing == 1
    assert feed.records.sufficient.tolist() == [True, False, True]
    assert feed.assembler.counts.insufficient == 1


def test_a_value_that_is_no_number_ends_its_series_at_once() -> None:
    feed = feed_of(f'{GAUGE}\naggregate = "sum"')
    one, two = LOAD | {"port": "1"}, LOAD | {"port": "2"}
    feed.add(("load", one, 0, 1.0), ("load", two, 0, 2.0))
    feed.add(("load", one, 5, 1.0), ("load", two, 5, np.inf))
    feed.add(("load", one, 10, 1.0))
    feed.finish()
    assert feed.values() == [3.0, 1.0, 1.0]
    assert feed.assembler.counts.ended == 1


COUNTER = f'{GAUGE}\nkind = "counter"'


def test_a_counter_does_not_go_on_after_its_series_ended() -> None:
    feed = feed_of(COUNTER)
    for time, value in ((0, 10.0), (5, 20.0), (10, np.nan), (15, 30.0), (20, 40.0)):
        feed.add(("load", LOAD, time, value))
    feed.finish()
    assert np.array_equal(feed.values(), [np.nan, 2.0, np.nan, np.nan, 2.0], equal_nan=True)


def test_the_first_value_of_a_counter_is_the_absent_value_if_there_is_one() -> None:
    feed = feed_of(f'{COUNTER}\naggregate = "sum"\nabsent = 0.0')
    one, two = LOAD | {"port": "1"}, LOAD | {"port": "2"}
    feed.add(("load", one, 0, 10.0), ("load", one, 5, 20.0), ("load", two, 5, 7.0))
    feed.add(("load", one, 10, 5.0), ("load", two, 10, 12.0))
    feed.finish()
    assert feed.values() == [0.0, 2.0, 1.0]
    assert feed.assembler.counts.resets == 1


def test_a_lost_point_of_a_counter_leaves_the_mean_rate_over_both_intervals() -> None:
    feed = feed_of(f'{COUNTER}\n[[fields]]\nname = "other"\nmetric = "other"')
    for time in (0, 5, 10):
        feed.add(("other", LOAD, time, 1.0))
        if time != 5:
            feed.add(("load", LOAD, time, 3.0 * time))
    feed.finish()
    assert np.array_equal(feed.values(), [np.nan, np.nan, 3.0], equal_nan=True)


def test_increases_are_summed_over_their_record_and_divided_by_the_time_since_the_last() -> None:
    feed = feed_of(COUNTER, 'align = "interval"\nlateness = 20')
    feed.add(("load", LOAD, 1, 5.0), delta=True)
    feed.add(("load", LOAD, 12, 7.0), ("load", LOAD, 11, 8.0), ("load", LOAD, 6, 10.0), delta=True)
    feed.add(("load", LOAD, 12, 7.0), delta=True)
    feed.finish()
    assert np.array_equal(feed.values(), [np.nan, 2.0, 3.0], equal_nan=True)
    assert feed.assembler.counts.repeated == 1


def test_a_key_begins_anew_after_a_long_silence() -> None:
    feed = feed_of(COUNTER, "forget = 60")
    feed.add(("load", LOAD, 0, 10.0), ("load", LOAD, 60, 70.0), ("load", LOAD, 121, 80.0))
    feed.finish()
    assert np.array_equal(feed.values(), [np.nan, 1.0, np.nan], equal_nan=True)
    assert feed.assembler.counts.anew == 1


def test_more_open_records_than_are_kept_are_left_out_and_counted() -> None:
    feed = feed_of(GAUGE, "lateness = 100")
    feed.add(*(("load", LOAD, time / 100, float(time)) for time in range(500)))
    feed.finish()
    counts = feed.assembler.counts
    assert 0 < counts.records < 500
    assert counts.crowded == 500 - counts.records
    assert feed.values() == [*range(counts.records)]


def test_a_field_of_one_series_is_missing_where_there_are_several() -> None:
    feed = feed_of(GAUGE)
    feed.add(("load", LOAD | {"port": "1"}, 0, 1.0), ("load", LOAD | {"port": "2"}, 0, 1.0))
    feed.finish()
    assert np.isnan(feed.values()[0])
    assert "give aggregate, or tags" in feed.assembler.findings()[0]


def test_keys_and_series_beyond_the_limits_are_refused_and_counted() -> None:
    assembler = Assembler(mapping_of(f'{GAUGE}\naggregate = "sum"'), max_keys=2, max_series=3)
    ids = [
        assembler.series.add(
            number, Series("load", {"device": f"d{number % 4}", "port": f"{number}"})
        )
        for number in range(8)
    ]
    assert ids == [0, 1, REFUSED, REFUSED, 2, REFUSED, REFUSED, REFUSED]
    assert assembler.counts.refused_keys == 4
    assert assembler.counts.refused_series == 1


def test_a_series_by_two_tokens_is_one() -> None:
    assembler = feed_of(GAUGE).assembler
    assert assembler.series.add(b"one", Series("load", LOAD)) == 0
    assert assembler.series.add(b"other", Series("load", LOAD)) == 0
    assert assembler.key(0) == ("a",)
    assert assembler.keys == [("a",)]


def test_all_series_of_a_key_that_lack_a_tag_of_it_are_told_of() -> None:
    feed = feed_of(GAUGE)
    feed.add(("load", {"host": "a"}, 0, 1.0))
    assert "tags are host: change key" in feed.assembler.findings()[0]


TIMES = st.one_of(
    st.integers(-(2**63), 2**63 - 1),
    st.integers(START * 10**9, (START + 60) * 10**9),
    st.sampled_from([START * 10**9 + 5 * 10**9 * step for step in range(9)]),
)


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-2, 10), TIMES, st.floats(width=64)), max_size=60),
    st.lists(st.integers(1, 20), max_size=5),
    st.sampled_from([SAMPLES, INTERVALS]),
)
def test_no_points_whatever_do_harm(
    points: list[tuple[int, int, float]], sizes: list[int], head: str
) -> None:
    mapping = mapping_of(EVERYTHING, head)
    assembler = Assembler(mapping, max_keys=10, max_series=100)
    names = [(metric, port) for metric, ports in METRICS[:-1] for port in range(ports)]
    for metric, port in names:
        tags = {"device": "a" if port < 2 else "b", "port": f"{port}"}
        series = Series(metric, tags, delta=metric == "requests")
        assert assembler.series.add((metric, port), series) >= 0
    parts = []
    for size in [*sizes, len(points)]:
        body, points = points[:size], points[size:]
        columns = [*zip(*body, strict=True)] or [(), (), ()]
        kinds = (np.int32, np.int64, np.float64)
        arrays = [np.array(column, kind) for column, kind in zip(columns, kinds, strict=True)]
        parts.append(assembler.add(Points(arrays[0], arrays[1], arrays[2]), START + 60.0))
    records = Records.joined([*parts, assembler.finish()], len(mapping.fields))
    assert not np.isinf(records.matrix).any()
    counts = assembler.counts
    assert counts.records == len(records)
    taken = counts.points - counts.unmapped - counts.refused - counts.misdated - counts.late
    assert taken >= counts.repeated + counts.crowded


def test_two_bodies_at_the_same_moment_make_a_record_once() -> None:
    feed = feed_of(GAUGE, "lateness = 10")
    feed.add(("load", LOAD, 0, 1.0), arrived=1)
    feed.add(("load", LOAD, 5, 2.0), arrived=1)
    feed.advance(9)
    assert feed.values() == [1.0, 2.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.sampled_from([0.01, 0.1]))
def test_lost_points_make_fields_missing_and_no_field_wrong(seed: int, share: float) -> None:
    points = [point for point in some_points(seed, 20, 0.0) if not np.isnan(point[4])]
    head = "learn = 5\nlateness = 12\nstale = 1000"
    random = np.random.default_rng(seed)
    learned = (START + 5 * 8) * 10**9
    kept = [point for point in points if point[3] < learned or random.random() > share]
    whole, expected = assembled(head, [points])
    lossy, found = assembled(head, [kept])
    # The few of 1 % may all be first points of their series, which nobody expected.
    assert lossy.counts.missing >= whole.counts.missing + (share > 0.05)
    assert {"octets", "requests"} < {*whole.mapping.names}  # the next rate is over two intervals
    gauges = [
        at for at, name in enumerate(whole.mapping.names) if name not in {"octets", "requests"}
    ]
    for name, records in expected.items():
        same = np.isin(records.times, found[name].times)
        mine, its = found[name].matrix[:, gauges], records.matrix[same][:, gauges]
        assert np.array_equal(mine, np.where(np.isnan(mine), np.nan, its), equal_nan=True)


def test_a_clock_that_was_set_back_moves_what_is_waited_for() -> None:
    feed = feed_of(GAUGE, "wait = 2")
    feed.add(("load", LOAD, 0, 1.0), arrived=7200)
    assert not len(feed.assembler.set_back(START))
    feed.advance(1.9)
    assert feed.values() == []
    feed.advance(2.1)
    assert feed.values() == [1.0]
    assert feed.assembler.now == START + 2.1


def test_points_that_were_ahead_with_a_wrong_clock_are_not_waited_for() -> None:
    day = 86_400
    feed = feed_of(f'{GAUGE}\nkind = "counter"', "wait = 2")
    feed.add(("load", LOAD, day, 10.0), ("load", LOAD, day + 5, 20.0), arrived=day + 5)
    feed.assembler.set_back(START)
    for number in range(3):
        feed.add(("load", LOAD, 5 * number, 10.0 + 50 * number), arrived=5 * number)
    feed.advance(40)
    at = feed.records.times.tolist()
    assert at[-3:] == [START, START + 5, START + 10]
    first, *rates = feed.values()[-3:]
    assert np.isnan(first)
    assert rates == [10.0, 10.0]
    assert feed.assembler.counts.late == 0


def test_by_arrival_records_go_on_at_the_time_to_which_the_clock_was_set_back() -> None:
    counter = f'{GAUGE}\nkind = "counter"'
    feed = feed_of(counter, 'clock = "arrival"\nwait = 2')
    feed.add(("load", LOAD, 0, 10.0), arrived=7200)
    closed = feed.assembler.set_back(START)
    assert closed.times.tolist() == [START + 7200]
    for number in (1, 2, 3):
        feed.add(("load", LOAD, 0, 10.0 + 50 * number), arrived=10 * number)
    feed.advance(40)
    assert feed.records.times.tolist() == [START + 10, START + 20, START + 30]
    first, *rates = feed.values()
    assert np.isnan(first)
    assert rates == [5.0, 5.0]
    assert feed.assembler.counts.late == 0
