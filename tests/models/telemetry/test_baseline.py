"""Baselines: learned from the first records, followed, and learned anew."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from models.telemetry.baseline import medians
from tests.support.feeds import GAUGE, Feed, feed_of

A = {"device": "a"}
RELATED = f'{GAUGE}\nrelation = "baseline"'
EACH = f"""
{GAUGE}
relation = "each"
aggregate = "sum"
absent = 0.0
[[fields]]
name = "least"
metric = "load"
relation = "each"
aggregate = "min"
active = 5.0
absent = 0.0
"""


def fed(fields: str, *values: float, head: str = "learn = 3") -> Feed:
    feed = feed_of(fields, head)
    for number, value in enumerate(values):
        feed.add(("load", A, 5 * number, value))
    return feed


def test_the_first_records_are_held_until_their_median_is_known() -> None:
    feed = fed(RELATED, 10, 30, 20)
    assert feed.values() == []
    feed.add(("load", A, 15, 40.0))
    assert feed.values() == [-0.5, 0.5, 0]
    feed.finish()
    assert feed.values() == [-0.5, 0.5, 0, 1]
    assert feed.records.learning.tolist() == [True, True, True, False]


def test_without_a_relation_nothing_is_learned_and_nothing_held() -> None:
    feed = fed(GAUGE, 10, 20)
    assert feed.values() == [10]
    assert not feed.records.learning.any()


def test_the_end_releases_records_that_are_held() -> None:
    feed = fed(RELATED, 10, 30)
    feed.finish()
    assert feed.values() == [-0.5, 0.5]
    assert feed.records.learning.all()


def test_a_small_baseline_does_not_make_a_large_field() -> None:
    feed = fed(f"{RELATED}\nfloor = 4", 0.5, 0.5, 0.5, 8.5)
    feed.finish()
    assert feed.values()[3] == 2


def test_a_field_is_clipped() -> None:
    feed = fed(f"{RELATED}\nclip = 3", 1, 1, 1, 100, -100)
    feed.finish()
    assert feed.values()[3:] == [3, -3]


def test_series_are_related_to_their_own_medians() -> None:
    feed = feed_of(EACH, "learn = 3")
    ports = [A | {"port": port} for port in "123"]
    for time in (0, 5, 10):
        feed.add(
            *(("load", port, time, value) for port, value in zip(ports, (10, 20, 1), strict=True))
        )
    feed.add(*(("load", port, 15, value) for port, value in zip(ports, (5, 20, 0), strict=True)))
    feed.finish()
    assert feed.values()[3] == 25 / 31 - 1
    assert feed.values("least")[3] == -0.5  # the third port is not active


def test_a_series_that_comes_later_is_left_out_until_the_baseline_is_renewed() -> None:
    feed = feed_of(EACH, "learn = 2")
    old, new = A | {"port": "1"}, A | {"port": "2"}
    for time in (0, 5, 10):
        feed.add(("load", old, time, 10.0))
    for time in (15, 20):
        feed.add(("load", old, time, 20.0), ("load", new, time, 1000.0))
    assert feed.values() == [0, 0, 0, 1]
    feed.assembler.renew([0])
    for time in (25, 30, 35):
        feed.add(("load", old, time, 20.0), ("load", new, time, 2000.0))
    feed.finish()
    assert feed.values()[4:] == [1020 / 1520 - 1] + [2020 / 1520 - 1] * 3
    assert feed.records.learning.tolist() == [True] * 2 + [False] * 2 + [True] * 2 + [False] * 2


def test_without_an_active_series_a_field_is_absent() -> None:
    feed = fed(EACH, 1, 1, 1, 7)
    feed.finish()
    assert feed.values("least") == [0, 0, 0, 0]
    assert feed.values() == [0, 0, 0, 6]


def following(fields: str, learn: int, below: float = np.inf) -> Feed:
    """A feed whose baselines move half way towards records with a field below a limit."""
    feed = feed_of(fields, f"learn = {learn}\nfollow = 0.5")
    feed.assembler.judge_by(lambda records: records.matrix[:, 0] < below)
    return feed


def test_a_baseline_follows_good_records() -> None:
    feed = following(RELATED, 3)
    for time, value in enumerate((10.0, 10, 10, 20, 20)):
        feed.add(("load", A, 5 * time, value))
    feed.finish()
    assert feed.values() == [0, 0, 0, 1, 5 / 15]


def test_a_baseline_does_not_follow_a_fault() -> None:
    feed = following(RELATED, 3, below=0.9)
    for time, value in enumerate((10.0, 10, 10, 20, 20, 12, 12)):
        feed.add(("load", A, 5 * time, value))
    feed.finish()
    assert feed.values() == [0, 0, 0, 1, 1, 2 / 10, 1 / 11]


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(1, 100), min_size=4, max_size=12), st.data())
def test_what_is_followed_does_not_depend_on_bodies(
    values: list[float], data: st.DataObject
) -> None:
    points = [("load", A, 5.0 * time, value) for time, value in enumerate(values)]
    one, many = following(RELATED, 3, below=0.5), following(RELATED, 3, below=0.5)
    one.add(*points)
    while points:
        size = data.draw(st.integers(1, len(points)))
        many.add(*points[:size])
        points = points[size:]
    one.finish()
    many.finish()
    assert one.values() == many.values()


def test_medians_of_series_follow_too_and_a_new_series_joins() -> None:
    feed = following(EACH, 2)
    old, new = A | {"port": "1"}, A | {"port": "2"}
    for time in (0, 5):
        feed.add(("load", old, time, 10.0))
    for time in (10, 15):
        feed.add(("load", old, time, 20.0), ("load", new, time, 60.0))
    feed.finish()
    assert feed.values() == [0, 0, 1, 80 / 75 - 1]


def test_rates_of_counters_are_related_and_followed() -> None:
    feed = following(f'{GAUGE}\nkind = "counter"\nrelation = "each"\naggregate = "max"', 3)
    for time, value in ((0, 0.0), (5, 50.0), (10, 100.0), (15, 200.0), (20, 300.0)):
        feed.add(("load", A, time, value))
    feed.finish()
    assert np.array_equal(feed.values(), [np.nan, 0, 0, 1, 20 / 15 - 1], equal_nan=True)


def test_a_key_that_begins_anew_learns_anew() -> None:
    feed = fed(RELATED, 10, 10, head="learn = 3\nforget = 60")
    for time in (100, 105, 110, 115):
        feed.add(("load", A, time, time - 60.0))
    feed.finish()
    assert feed.values() == [0, 0, -1 / 9, 0, 1 / 9, 10 / 45]
    assert feed.records.learning.tolist() == [True] * 5 + [False]


@given(st.lists(st.tuples(st.integers(0, 3), st.floats(-9, 9, width=32)), min_size=1))
def test_medians_are_those_of_numpy(pairs: list[tuple[int, float]]) -> None:
    groups, values = (np.array(column) for column in zip(*pairs, strict=True))
    which, middle = medians(groups, values)
    assert which.tolist() == sorted(set(groups.tolist()))
    assert middle.tolist() == [np.median(values[groups == group]) for group in which]
