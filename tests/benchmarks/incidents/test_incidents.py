from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.incidents.__main__ import total_of
from benchmarks.incidents.measure import Outcome, matched, replay
from benchmarks.incidents.runs import Event, roles_of, runs_of
from models import Model
from service.incidents.hysteresis import Hysteresis
from service.incidents.incident import Incident
from training.recipe import Recipe

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def outcomes() -> list[Outcome]:
    """Of the shipped model on the runs that it was in part trained on."""
    recipe = Recipe.read(ROOT / "training/iosxr.toml", {})
    runs = runs_of(recipe, Model.load(ROOT / "models/iosxr"))
    return [replay(run, roles_of(recipe), Hysteresis()) for run in runs]


def test_every_injected_event_is_one_incident_with_its_cause_and_root_and_none_is_false(
    outcomes: list[Outcome],
) -> None:
    assert [(o.run.name, len(o.run.events)) for o in outcomes] == [
        ("bgpclear_first", 11),
        ("bgpclear_second", 8),
        ("portflap_first", 4),
    ]
    _, _, _, incidents, events, found, median, _, false, outside, share = total_of(outcomes)
    assert (incidents, events, found) == ("23", "23", "23 of 23")
    assert float(median) <= 6
    assert (false, outside, share) == ("0.00", "0", "1.00")


def test_a_clear_has_one_root_and_a_flap_the_two_ends_of_its_link(outcomes: list[Outcome]) -> None:
    assert outcomes[0].run.events[0] == Event("bgp_clear", frozenset({"leaf1"}), 1498754414)
    assert {event.roots for event in outcomes[2].run.events} == {frozenset({"spine2", "leaf3"})}


def incident(label: str, root: str, told: float) -> Incident:
    return Incident("0", label, "major", told, told, root=root, told=told)


def test_events_get_the_earliest_incident_each_and_none_that_came_before_or_much_later() -> None:
    events = [Event("cut", frozenset("ab"), 100), Event("cut", frozenset("ab"), 150)]
    opened = [
        incident("cut", "a", 90),
        incident("cut", "b", 160),
        incident("cut", "a", 170),
        incident("cut", "c", 110),
        incident("slow", "a", 110),
    ]
    assert sorted(filter(None, matched(events, opened))) == [1, 2]
    assert matched(events, opened[:1]) == [None, None]
    assert matched(events, [incident("cut", "a", 401)]) == [None, None]
