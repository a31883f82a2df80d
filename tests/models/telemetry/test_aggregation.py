"""Aggregates over the series of a key."""

from __future__ import annotations

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given

from tests.support.feeds import feed_of

WAYS = ("sum", "mean", "min", "max", "std")
FIELDS = "\n".join(
    f'[[fields]]\nname = "{way}"\nmetric = "load"\naggregate = "{way}"' for way in WAYS
)
BELOW = '[[fields]]\nname = "below"\nmetric = "load"\naggregate = "share_below"\nbelow = 3.0'
VALUES = st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=9)


@given(st.lists(VALUES, min_size=1, max_size=4))
def test_aggregates_are_those_of_numpy(keys: list[list[float]]) -> None:
    feed = feed_of(f"{FIELDS}\n{BELOW}")
    feed.add(*(
        ("load", {"device": f"{number}", "port": f"{port}"}, 0, value)
        for number, values in enumerate(keys)
        for port, value in enumerate(values)
    ))  # fmt: skip
    feed.finish()
    for row, values in enumerate(keys):
        deviation = np.std(values, ddof=1) if len(values) > 1 else 0
        expected = [sum(values), np.mean(values), min(values), max(values), deviation]
        got = feed.records.matrix[row]
        assert got[:5] == pytest.approx(expected, rel=1e-9, abs=1e-6)
        assert got[5] == pytest.approx(np.mean(np.array(values) < 3))


def test_a_key_without_series_for_a_field_has_its_absent_value_or_none() -> None:
    feed = feed_of(f'{FIELDS}\n[[fields]]\nname = "x"\nmetric = "x"\nabsent = 7.0\n'
                   '[[fields]]\nname = "y"\nmetric = "y"')  # fmt: skip
    feed.add(("load", {"device": "a"}, 0, 1.0))
    feed.finish()
    assert feed.values("x") == [7]
    assert np.isnan(feed.values("y")[0])
    assert feed.records.sufficient.tolist() == [True]


def test_states_become_numbers_and_unknown_ones_are_missing() -> None:
    feed = feed_of(
        '[[fields]]\nname = "up"\nmetric = "oper"\nkind = "state"\nstates = { 1 = 1, 2 = 0 }'
    )
    for number, value in enumerate((1.0, 2.0, 7.0)):
        feed.add(("oper", {"device": "a"}, 5 * number, value))
    feed.finish()
    assert np.array_equal(feed.values(), [1, 0, np.nan], equal_nan=True)


@pytest.mark.parametrize(
    "states",
    [
        {"1": 0, "2": 1, "up": 0, "down": 1},
        {"up": 0, "down": 1},
        {"1": 5, "up": 0, "down": 1},
        {"0": 1, "1": 0, "up": 0, "down": 1, "odd": 7},
    ],
)
def test_every_state_means_what_the_mapping_says_as_text_and_as_a_number(
    states: dict[str, float],
) -> None:
    listed = ", ".join(f'"{text}" = {meant}' for text, meant in states.items())
    feed = feed_of(f'[[fields]]\nname = "x"\nmetric = "x"\nkind = "state"\nstates = {{ {listed} }}')
    for at, text in enumerate(states):
        sent = feed.assembler.mapping.number("x", text)
        feed.add(("x", {"device": "a"}, 5 * at, sent))
    feed.finish()
    assert feed.values() == [*states.values()]


def test_one_text_may_mean_opposite_things_in_two_fields() -> None:
    rule = '[[fields]]\nname = "{0}"\nmetric = "oper"\ntags = {{ port = "{0}" }}\n{1}'
    states = 'kind = "state"\nstates = { UP = %d, DOWN = %d }'
    feed = feed_of(
        "\n".join(
            [
                rule.format("a", states % (1, 0)),
                rule.format("b", states % (0, 1)),
                rule.format("c", ""),
            ]
        )
    )
    sent = [feed.assembler.mapping.number("oper", text) for text in ("UP", "DOWN")]
    for at, value in enumerate([*sent, 1.0]):
        feed.add(*(("oper", {"device": "d", "port": port}, 5 * at, value) for port in "abc"))
    feed.finish()
    assert feed.values("a") == [1, 0, 1]
    assert feed.values("b") == [0, 1, 1]
    # Text says nothing to a field of numbers.
    assert np.array_equal(feed.values("c"), [np.nan, np.nan, 1], equal_nan=True)


def test_text_says_nothing_to_a_counter_either() -> None:
    states = 'kind = "state"\nstates = { up = 1 }'
    feed = feed_of(
        f'[[fields]]\nname = "a"\nmetric = "x"\ntags = {{ port = "a" }}\n{states}\n'
        '[[fields]]\nname = "b"\nmetric = "x"\ntags = { port = "b" }\nkind = "counter"'
    )
    for at, value in enumerate([10.0, 20.0, feed.assembler.mapping.number("x", "up"), 40.0]):
        feed.add(("x", {"device": "d", "port": "b"}, 5 * at, value))
    feed.finish()
    assert np.array_equal(feed.values("b"), [np.nan, 2, np.nan, 2], equal_nan=True)


def test_values_too_large_to_add_are_missing() -> None:
    feed = feed_of(FIELDS)
    feed.add(*(("load", {"device": "a", "port": port}, 0, 1e308) for port in "12"))
    feed.finish()
    assert np.isnan(feed.values("sum")[0])
    assert feed.values("max") == [1e308]
