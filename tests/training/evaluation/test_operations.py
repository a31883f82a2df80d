"""Small timelines, drawn as text: one character a record, one line a series."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from training.evaluation.operations import LONGEST, MOST, Operations, interval, measure_operations

CLASSES = ("good", "slow", "lossy")
CODES = {".": 0, "s": 1, "l": 2, "?": 3}


def drawn(
    *lines: tuple[str, str], step: float = 10, gap: float = 0, without: Sequence[str] = ()
) -> Operations:
    """Measure series given as truth and verdict: `.` good, `s` slow, `l` lossy, `?` unknown.

    Faults of one class that stand together are an event, the same in all series. A blank is no
    record. The gap of 0 makes two steps the longest that an episode bridges.
    """
    rows = []
    for series, (truth, verdict) in enumerate(lines):
        events = 0
        for place, (true, said) in enumerate(zip(truth, verdict, strict=True)):
            events += true in "sl" and (place == 0 or truth[place - 1] != true)
            if true != " ":
                event = f"e{events}" if true in "sl" else None
                rows.append((CODES[true], CODES[said], step * place, f"r{series}", event))
    labels, verdicts, *context = zip(*rows, strict=True)
    records = pl.DataFrame(dict(zip(("time", "series", "event"), context, strict=True)))
    records = records.cast({"time": pl.Float64}).drop(without)
    return measure_operations(np.array(labels), np.array(verdicts), CLASSES, records, gap)


def test_every_alarm_on_a_good_record_is_a_false_one_and_unknown_is_an_alarm() -> None:
    result = drawn(("......ss", ".s.?..s.")).false_alarms
    assert (result.good, result.alarms, result.share) == (6, 2, 2 / 6)


def test_false_alarms_no_further_apart_than_the_gap_are_one_episode() -> None:
    truth, said = "...........", ".s.s...s..s"  # 20 s, 40 s and 30 s apart
    counts = {gap: drawn((truth, said), gap=gap).false_alarms.episodes for gap in (0, 29, 30, 40)}
    assert counts == {0: 3, 29: 3, 30: 2, 40: 1}


def test_episodes_of_two_series_are_never_one() -> None:
    assert drawn((".s", ".s"), ("s.", "s.")).false_alarms.episodes == 0
    assert drawn(("..", ".s"), ("..", "s.")).false_alarms.episodes == 2


def test_alarms_on_faults_do_not_join_false_ones() -> None:
    # the false alarms are 50 s apart, with the alarms of a fault between them
    assert drawn(("..ssss..", ".sssssl."), gap=40).false_alarms.episodes == 2
    assert drawn(("..ssss..", ".sssssl."), gap=50).false_alarms.episodes == 1


def test_a_good_record_stands_for_the_time_to_the_next() -> None:
    # six good records: five times 10 s to the next, and the last of the series for 10 s
    result = drawn(("...ss...", "s......."))
    assert result.false_alarms.device_days == pytest.approx(60 / 86400)
    assert result.device_days == pytest.approx(80 / 86400)
    assert result.false_alarms.episodes_per_device_day == pytest.approx(86400 / 60)


def test_a_hole_in_the_records_counts_for_three_usual_intervals() -> None:
    result = drawn(("....      ....", "....      ...."))
    assert result.false_alarms.device_days == pytest.approx((7 + LONGEST) * 10 / 86400)


def test_the_usual_interval_is_that_of_each_series() -> None:
    # r0 has a record every 10 s, r1 every 30 s; alarms 60 s apart are one episode in r1 alone
    truth = ".......", ".  .  ."
    result = drawn((truth[0], "s.....s"), (truth[1], "s  .  s"))
    assert [each.episodes for each in result.series.values()] == [1, 2]
    assert [each.device_days for each in result.series.values()] == [90 / 86400, 70 / 86400]


def test_an_event_is_found_by_the_first_alarm_that_begins_in_it() -> None:
    result = drawn(("....ssssss..", ".......sss.."))
    assert result.events is not None
    assert (result.events.total, result.events.found, result.events.running) == (1, 1, 0)
    assert (result.events.delay, result.events.naming_delay) == ((30, 30), (30, 30))


def test_the_first_faulty_record_may_raise_the_alarm_at_once() -> None:
    events = drawn(("..ss..", "..s...")).events
    assert events is not None
    assert events.delay == (0, 0)


def test_an_alarm_that_ran_on_from_before_finds_nothing() -> None:
    events = drawn(("....ssss..", "...sssss..")).events
    assert events is not None
    assert (events.found, events.named, events.running, events.delay) == (0, 0, 1, None)


def test_an_alarm_that_begins_anew_finds_the_event() -> None:
    events = drawn(("...ssssss", "..ss...ss")).events  # 40 s apart, more than two steps
    assert events is not None
    assert (events.found, events.running, events.delay) == (1, 0, (40, 40))
    merged = drawn(("...ssssss", "..ss...ss"), gap=40).events
    assert merged is not None
    assert (merged.found, merged.running) == (0, 1)


def test_an_event_without_an_alarm_is_missed_and_none_was_running() -> None:
    events = drawn(("....ssss......", "s..........sss"), gap=20).events
    assert events is not None
    assert (events.found, events.share, events.running) == (0, 0, 0)


def test_no_verdict_is_adjusted_for_its_neighbours() -> None:
    # one alarm in ten faulty records: the event is found, and the records stay missed
    result = drawn(("..ssssssssss", "...........s"))
    assert result.events is not None
    assert result.events.delay == (90, 90)


def test_a_wrong_class_finds_the_event_and_the_right_one_names_it() -> None:
    events = drawn((".sssss.", ".l?.ss.")).events
    assert events is not None
    assert (events.found, events.named) == (1, 1)
    assert (events.delay, events.naming_delay) == ((0, 0), (30, 30))
    never = drawn((".sssss.", ".l?.l?.")).events
    assert never is not None
    assert (never.found, never.named, never.naming_delay) == (1, 0, None)


def test_a_name_from_an_alarm_that_ran_on_does_not_count() -> None:
    events = drawn((".sssss.", "ssss..."), gap=0).events
    assert events is not None
    assert (events.found, events.named) == (0, 0)


def test_an_event_is_found_in_any_series_and_counted_in_each() -> None:
    result = drawn(
        ("...ssss", ".....ss"),  # 20 s after it began here, 20 s after it began anywhere
        (".....ss", "......s"),  # 10 s here, 30 s after it began in the first series
        ("...ssss", "......."),
    )
    assert result.events is not None
    assert result.event_series is not None
    assert (result.events.total, result.events.found, result.events.delay) == (1, 1, (20, 20))
    assert (result.event_series.total, result.event_series.found) == (3, 2)
    assert result.event_series.delay == (15, 19)


def by_series(result: Operations) -> tuple[int, int, int, int]:
    found = result.event_series
    assert found is not None
    return found.total, found.unjudged, found.found, found.named


def test_an_event_close_behind_another_is_found_by_its_name_alone() -> None:
    truth = "..ssssllll.."
    assert by_series(drawn((truth, "..ssssllll.."))) == (2, 0, 2, 2)
    assert by_series(drawn((truth, "..ssssssss.."))) == (2, 0, 1, 1)
    assert by_series(drawn((truth, "..ssss????.."))) == (2, 0, 1, 1)
    assert by_series(drawn((truth, "..slllllll.."))) == (2, 0, 1, 1)  # its alarm ran on
    assert by_series(drawn((truth, ".......lll.."))) == (2, 0, 1, 1)
    delays = drawn((truth, "..ssssssll..")).by_class["lossy"]
    assert (delays.delay, delays.naming_delay) == ((20, 20), (20, 20))


def test_an_event_close_behind_another_of_its_class_is_not_judged() -> None:
    records = {"time": [10.0 * place for place in range(8)], "series": ["r"] * 8}
    labels = np.array([0, 1, 1, 1, 1, 0, 0, 1])
    events = pl.Series("event", [None, "a", "a", "b", "b", None, None, "c"])
    for gap, total in ((0, 2), (29, 2), (30, 1)):
        for verdicts in (labels, labels * 0, labels * 0 + 1):
            frame = pl.DataFrame(records).with_columns(events)
            result = measure_operations(labels, verdicts, CLASSES, frame, gap)
            assert by_series(result)[:2] == (total, 3 - total)
            assert result.events is not None
            assert (result.events.total, result.events.unjudged) == (total, 3 - total)


def test_the_classes_of_events_are_told_apart() -> None:
    result = drawn(("..ss...ll...", "..s........."), ("..ss...ll...", ".......ll..."))
    assert {name: (each.total, each.found) for name, each in result.by_class.items()} == {
        "slow": (2, 1),
        "lossy": (2, 1),
    }
    assert result.events is not None
    assert (result.events.total, result.events.found) == (2, 2)


def test_each_series_has_its_own_figures_the_worst_first() -> None:
    result = drawn((".....", "....."), ("ss...", "sss.."), ("..   ", "s.   "), ("ss   ", "ss   "))
    assert [*result.series] == ["r2", "r1", "r0"]  # r3 has no good record
    assert [each.share for each in result.series.values()] == [1 / 2, 1 / 3, 0]
    assert (result.series_seen, result.values, result.records) == (4, {"series": 4}, 14)


def test_of_very_many_series_the_worst_have_figures() -> None:
    lines = [("..", "..")] * MOST + [("..", ".s")] * 2
    result = drawn(*lines)
    assert len(result.series) == MOST
    assert [each.alarms for each in result.series.values()][:3] == [1, 1, 0]
    assert result.series_seen == MOST + 2


def test_faults_that_belong_to_no_event_are_counted() -> None:
    records = pl.DataFrame({"event": ["a", None, None]})
    result = measure_operations(np.array([1, 1, 0]), np.array([1, 1, 1]), CLASSES, records)
    assert result.faults_without_event == 1
    assert result.events is not None
    assert result.events.total == 1


def test_without_times_only_neighbours_are_an_episode_and_nothing_is_timed() -> None:
    result = drawn(("....ss....", "ss.s.s..ss"), gap=1000, without=["time"])
    assert result.missing == ("time",)
    assert (result.false_alarms.episodes, result.false_alarms.device_days) == (3, None)
    assert result.events is not None
    assert (result.events.found, result.events.delay, result.events.naming_delay) == (1, None, None)


def test_without_series_all_records_are_one() -> None:
    result = drawn(("..ss", "...s"), without=["series"])
    assert (result.series, result.series_seen, result.values) == ({}, None, {})
    assert result.event_series is None
    assert result.events is not None
    assert result.events.found == 1


def test_without_anything_the_share_of_false_alarms_is_left() -> None:
    result = drawn(("....s", ".s.ls"), without=["time", "series", "event"])
    assert (result.false_alarms.share, result.false_alarms.episodes) == (0.5, None)
    assert (result.events, result.event_series, result.by_class) == (None, None, {})
    assert result.missing == ("time", "series", "event")


def test_without_good_records_or_faults_nothing_is_divided_by_zero() -> None:
    faults, good = drawn(("ss", "s.")), drawn(("..", ".s"))
    assert (faults.false_alarms.share, faults.false_alarms.episodes_per_device_day) == (None, None)
    assert good.events is not None
    assert (good.events.total, good.events.share, good.events.interval) == (0, None, (0, 1))
    single = drawn((".", "s"))
    assert (single.false_alarms.episodes, single.false_alarms.device_days) == (1, 0)


@pytest.mark.parametrize(
    ("found", "total", "low", "high"),
    [(8, 8, 0.676, 1), (0, 8, 0, 0.324), (5, 10, 0.237, 0.763), (81, 263, 0.255, 0.366)],
)
def test_the_interval_is_that_of_wilson(found: int, total: int, low: float, high: float) -> None:
    # the last is the example of R. G. Newcombe, Statistics in Medicine 17 (1998), method 3
    assert interval(found, total) == pytest.approx((low, high), abs=6e-4)


FEW = settings(max_examples=30, deadline=None)
Record = tuple[int, int, int, str]


def measured(rows: Sequence[tuple[Any, ...]], gap: float = 30, shift: int = 0) -> Operations:
    labels, verdicts, times, series = zip(*rows, strict=True)
    records = pl.DataFrame(
        {
            "time": pl.Series(times, dtype=pl.Float64) + shift,
            "series": series,
            "event": [str(time // 50) for time in times],
        }
    )
    return measure_operations(np.array(labels), np.array(verdicts), CLASSES, records, gap)


RECORDS = st.lists(
    st.tuples(st.integers(0, 2), st.integers(0, 3), st.integers(0, 300), st.sampled_from("ab")),
    min_size=1,
    max_size=60,
    unique_by=lambda record: record[2:],
)


@FEW
@given(RECORDS, st.randoms(use_true_random=False), st.integers(-(10**9), 10**9))
def test_neither_order_nor_beginning_of_time_matters(
    rows: list[Record], random: Any, shift: int
) -> None:
    shuffled = rows.copy()
    random.shuffle(shuffled)
    assert measured(shuffled) == measured(rows)
    assert measured(rows, shift=shift) == measured(rows)


@FEW
@given(RECORDS, st.integers(0, 400))
def test_counts_agree_with_each_other(rows: list[Record], gap: int) -> None:
    result = measured(rows, gap)
    false, pairs, events = result.false_alarms, result.event_series, result.events
    assert false.alarms == sum(label == 0 and verdict != 0 for label, verdict, *_ in rows)
    assert false.episodes is not None
    assert (false.episodes > 0) == (false.alarms > 0)
    assert false.episodes <= false.alarms <= false.good
    assert sum(each.alarms for each in result.series.values()) == false.alarms
    assert sum(each.episodes or 0 for each in result.series.values()) == false.episodes
    assert pairs is not None
    assert events is not None
    for found in (pairs, events, *result.by_class.values()):
        assert found.named <= found.found <= found.total
        assert found.running <= found.total - found.found
        assert (found.delay is None) == (found.found == 0)
        assert found.delay is None or 0 <= found.delay[0] <= found.delay[1]
    assert events.found <= pairs.found
    assert sum(each.found for each in result.by_class.values()) == pairs.found


@FEW
@given(RECORDS, st.integers(0, 200), st.integers(0, 200))
def test_a_longer_gap_never_makes_more_episodes_nor_lets_more_be_judged(
    rows: list[Record], gap: int, more: int
) -> None:
    short, long = measured(rows, gap), measured(rows, gap + more)
    assert (long.false_alarms.episodes or 0) <= (short.false_alarms.episodes or 0)
    assert short.event_series is not None
    assert long.event_series is not None
    assert long.event_series.total <= short.event_series.total


@FEW
@given(RECORDS, st.data())
def test_one_more_false_alarm_begins_joins_or_merges_episodes(
    rows: list[Record], data: st.DataObject
) -> None:
    quiet = [place for place, (label, verdict, *_) in enumerate(rows) if label == verdict == 0]
    if not quiet:
        return
    place = data.draw(st.sampled_from(quiet))
    more = [(0, 1, *row[2:]) if i == place else row for i, row in enumerate(rows)]
    before, after = (measured(each).false_alarms for each in (rows, more))
    assert after.alarms == before.alarms + 1
    assert abs((after.episodes or 0) - (before.episodes or 0)) <= 1


@FEW
@given(RECORDS, st.integers(0, 200))
def test_right_verdicts_raise_no_false_alarm_and_find_and_name_every_event(
    rows: list[Record], gap: int
) -> None:
    result = measured([(label, label, time, series) for label, _, time, series in rows], gap)
    assert result.false_alarms.alarms == 0
    for found in (result.events, result.event_series):
        assert found is not None
        assert found.named == found.found == found.total


def test_the_result_is_plain_json() -> None:
    content = dataclasses.asdict(drawn(("..ss", "s..s")))
    assert json.loads(json.dumps(content, allow_nan=False))["series"]["r0"]["alarms"] == 1
