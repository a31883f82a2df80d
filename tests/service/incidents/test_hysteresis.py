from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.incidents.hysteresis import Hysteresis, KeyState


def states(marks: str, rule: Hysteresis | None = None, step: float = 5) -> str:
    """The state after each record, "." while it is closed."""
    state, rule = KeyState(), rule or Hysteresis()
    shown = ""
    for i, mark in enumerate(marks):
        state.step("" if mark == "." else mark, step * i, rule)
        shown += {"": ".", "unknown": "?"}.get(state.label, state.label)
    return shown


@pytest.mark.parametrize(
    ("marks", "expected"),
    [
        ("..A...", "......"),
        ("..A.A.", "....AA"),
        ("..A..A", "......"),
        ("AA....", ".AAAA."),
        ("AA...A...A...", ".AAAAAAAAAAAA"),
        ("AAB....", ".AAAAA."),
        ("AABBAA", ".AABBA"),
        ("AABAB....", ".AAABBBB."),
        ("AB.", "..."),
        ("ABC", "..?"),
        ("ABCC", "..?C"),
    ],
)
def test_a_state_opens_changes_and_closes_by_its_last_records(marks: str, expected: str) -> None:
    assert states(marks) == expected


def test_a_state_opens_only_after_the_least_duration() -> None:
    assert states("AAAAA", Hysteresis(least_seconds=15)) == "...AA"


def test_a_flapping_state_needs_more_good_records_each_time() -> None:
    assert states("AA....AA........", Hysteresis()) == ".AAAA..AAAAAAAA."
    calm = Hysteresis(flap_seconds=9)
    assert states("AA....AA........", calm) == ".AAAA..AAAA....."


def test_a_key_that_was_silent_for_long_starts_anew() -> None:
    assert states("A.A", Hysteresis(forget_seconds=100), step=200) == "..."


def test_the_time_of_the_first_bad_record_is_kept() -> None:
    state = KeyState()
    for time, label in [(0, ""), (5, "A"), (10, ""), (15, "A")]:
        change = state.step(label, time, Hysteresis())
    assert (change, state.since) == ("opened", 5)


@given(st.text("AB.", max_size=60))
def test_every_open_is_followed_by_a_close_before_the_next_and_good_records_end_all(
    marks: str,
) -> None:
    state, rule = KeyState(), Hysteresis()
    is_open = False
    for i, mark in enumerate(marks + "." * 16):
        match state.step("" if mark == "." else mark, 5 * i, rule):
            case "opened":
                assert not is_open
                is_open = True
            case "closed":
                assert is_open
                is_open = False
            case "changed":
                assert is_open
    assert not is_open
    assert not state.label
