from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.incidents.correlation import Patience
from service.incidents.engine import Engine
from service.incidents.hysteresis import Hysteresis
from service.incidents.incident import MAX_KEPT, Change, Judged
from tests.support.incidents import ROLES, drawn, part


def run(judged: Judged, patience: Patience | None = None) -> tuple[Engine, list[Change]]:
    engine = Engine(ROLES, patience=patience)
    return engine, engine.observe(judged)


def told(changes: list[Change]) -> list[tuple[str, str, str | None]]:
    """Kind, label and root of all changes but updates."""
    return [(c.kind, c.incident.label, c.incident.root) for c in changes if c.kind != "updated"]


def test_a_fault_opens_an_incident_at_its_key_and_closes_it_when_it_is_good_again() -> None:
    _, changes = run(drawn(a="..CCC....."))
    assert told(changes) == [("opened", "clear", "a"), ("closed", "clear", "a")]
    opened, closed = (change.incident for change in changes)
    assert (opened.first, opened.told, opened.severity) == (1010, 1015, "critical")
    assert (closed.last, closed.ended, closed.status) == (1020, 1040, "closed")
    assert closed.id == opened.id
    assert closed.counts == {"clear": 2}
    assert [change.incident.sequence for change in changes] == [1, 2]


def test_good_records_leave_no_state_behind() -> None:
    engine, changes = run(drawn(a="...", b="....C" + "." * 30))
    assert changes == []
    assert engine.states == {}


def test_echoes_join_the_newest_incident_whose_root_fits() -> None:
    _, changes = run(drawn(a="CCCCCCCC....", b="..CCCCCC....", c="....eeee....", d="..ee........"))
    assert told(changes)[:2] == [("opened", "clear", "a"), ("opened", "clear", "b")]
    last = {c.incident.root: c.incident for c in changes}
    assert [*last["a"].members] == ["a"]
    assert [*last["b"].members] == ["b", "d", "c"]
    assert last["b"].members["c"].labels == ["clear_elsewhere"]


def test_an_echo_of_another_cause_joins_the_newest_incident_with_a_root() -> None:
    _, changes = run(drawn(a="XXXXXX.....", b="..ee.......", c="...??......"))
    assert told(changes) == [("opened", "crash", "a"), ("closed", "crash", "a")]
    assert [*changes[-1].incident.members] == ["a", "b", "c"]


def test_clears_seconds_apart_on_two_routers_are_two_incidents() -> None:
    _, changes = run(drawn(a="CCCC....", b=".CCCC..."))
    opened = [c.incident for c in changes if c.kind == "opened"]
    assert [(i.root, i.told) for i in opened] == [("a", 1005), ("b", 1010)]


def test_a_key_that_echoed_one_incident_can_be_the_root_of_the_next() -> None:
    _, changes = run(drawn(a="CCCCCCCCCC....", b="..eeeCCCCC...."))
    assert told(changes)[:2] == [("opened", "clear", "a"), ("opened", "clear", "b")]
    closed = next(c.incident for c in changes if c.kind == "closed" and c.incident.root == "a")
    assert not closed.members["b"].active
    assert closed.members["b"].records < 4


def test_a_fault_that_shows_at_two_ends_is_one_incident() -> None:
    _, changes = run(drawn(a=".FFFFFF....", b="..FFFFFF....", c=".....?e?...."))
    assert told(changes) == [("opened", "flap", "a"), ("closed", "flap", "a")]
    assert [*changes[-1].incident.members] == ["a", "b", "c"]


def test_of_many_that_join_at_once_only_the_first_of_each_label_is_told() -> None:
    others = {f"k{i:02}": "...eeee...." for i in range(50)} | {"z": "....??....."}
    _, changes = run(drawn(1000, a="CCCCCC.....", **others))
    assert [(c.kind, c.key) for c in changes] == [
        ("opened", "a"),
        ("updated", "k00"),
        ("updated", "z"),
        ("closed", None),
    ]
    assert len(changes[-1].incident.members) == 52


def test_echoes_that_come_first_wait_for_their_root() -> None:
    _, changes = run(drawn(a="eeeeeee....", b="...CCCC....", c="eeeeeee...."))
    assert told(changes)[0] == ("opened", "clear", "b")
    assert changes[0].incident.first == 1000
    assert [*changes[0].incident.members] == ["a", "c", "b"]
    assert {c.incident.id for c in changes} == {changes[0].incident.id}


def test_echoes_without_a_root_are_told_late_and_take_their_root_even_then() -> None:
    _, changes = run(drawn(a="eeeeeeeeeeee....", b=".........CCC...."))
    assert told(changes) == [
        ("opened", "clear", None),
        ("rooted", "clear", "b"),
        ("closed", "clear", "b"),
    ]
    assert changes[0].incident.told == 1030
    assert changes[0].incident.severity == "warning"
    assert changes[-1].incident.severity == "critical"


def test_a_short_echo_of_nothing_is_told_to_nobody() -> None:
    engine, changes = run(drawn(a="eee......", b="...??...."))
    assert changes == []
    assert engine.dropped == 2
    assert engine.incidents == {}


def test_unknown_points_that_are_near_are_one_incident_and_others_another() -> None:
    _, changes = run(drawn(a="?" * 9, b="." + "?" * 8, c="!" * 9))
    opened = [c.incident for c in changes if c.kind == "opened"]
    assert [(i.label, i.root, [*i.members]) for i in opened] == [
        ("unknown", None, ["a", "b"]),
        ("unknown", None, ["c"]),
    ]
    assert {i.severity for i in opened} == {"indeterminate"}


def test_unknown_that_becomes_known_gives_the_incident_its_root() -> None:
    _, changes = run(drawn(a="???????CCC...."))
    assert told(changes) == [
        ("opened", "unknown", None),
        ("rooted", "clear", "a"),
        ("closed", "clear", "a"),
    ]


def test_another_fault_of_the_same_key_is_an_incident_of_its_own() -> None:
    _, changes = run(drawn(a="FFFCCCFFF....", b="..FFFFFFF...."))
    assert [t for t in told(changes) if t[0] == "opened"] == [
        ("opened", "flap", "a"),
        ("opened", "clear", "a"),
    ]
    assert len({c.incident.id for c in changes}) == 2


def test_a_key_that_fails_again_while_others_echo_still_is_a_new_incident() -> None:
    _, changes = run(drawn(a="CCC....CCC....", b="..eeeeeeeee...."))
    assert [t for t in told(changes) if t[0] == "opened"] == [("opened", "clear", "a")] * 2


def test_another_way_to_show_the_same_is_told() -> None:
    _, changes = run(drawn(a="?" * 20, b="C" * 20), Patience(update_seconds=30))
    _, moved = run(drawn(a="?" * 10 + "!" * 10, b="C" * 20), Patience(update_seconds=30))
    assert len(moved) == len(changes) + 1
    assert moved[-1].kind == "updated"
    assert "in another way" in moved[-1].note


def test_an_incident_that_stands_is_stale_and_takes_no_more_members() -> None:
    engine, changes = run(drawn(a="F" * 30, b=" " * 24 + "FFFF"), Patience(stale_seconds=100))
    assert told(changes) == [
        ("opened", "flap", "a"),
        ("stale", "flap", "a"),
        ("opened", "flap", "b"),
    ]
    assert len(engine.incidents) == 2


def test_after_a_clock_was_set_back_incidents_go_on_and_end_at_once() -> None:
    engine = Engine(ROLES)
    opened = engine.observe(drawn(8200, a="CCC", b="..C"))
    assert told(opened) == [("opened", "clear", "a")]
    engine.set_back(1000)
    later = engine.observe(drawn(1000, a="CC......", b="C.......", c="..XX...."))
    assert told(later) == [
        ("opened", "clear", "b"),
        ("opened", "crash", "c"),
        ("closed", "clear", "b"),
        ("closed", "clear", "a"),
        ("closed", "crash", "c"),
    ]
    assert engine.late == 0
    assert not any(change.kind == "stale" for change in later)
    assert engine.incidents == {}


def test_a_fault_that_cannot_last_is_renewed_and_settles_instead_of_closing() -> None:
    engine, changes = run(drawn(a="L" * 40 + "....."), Patience(settle_seconds=100))
    assert [change.kind for change in changes] == ["opened", "renewed", "settled"]
    assert changes[1].time == 1100
    assert [i.status for i in engine.incidents.values()] == ["settled"]


def test_a_fault_that_can_last_never_settles() -> None:
    _, changes = run(drawn(a="X" * 40 + "....."), Patience(settle_seconds=100))
    assert [c.kind for c in changes] == ["opened", "closed"]


def test_a_closed_incident_does_not_open_again_by_the_same_trouble() -> None:
    engine, changes = run(drawn(a="XXXX"))
    closed = engine.close(changes[0].incident.id, 1020, "known work")
    assert (closed.kind, closed.note, closed.incident.status) == ("closed", "known work", "closed")
    assert engine.observe(drawn(1020, a="XXXX....")) == []
    assert told(engine.observe(drawn(1060, a="XX"))) == [("opened", "crash", "a")]


def test_records_that_say_nothing_neither_open_nor_close() -> None:
    judged = drawn(a="CCCCCC......")
    learning = np.array([True] * 4 + [False] * 2 + [True] * 3 + [False] * 3)
    engine, changes = run(replace(judged, skipped=learning))
    assert told(changes) == [("opened", "clear", "a")]
    assert changes[0].time == 1025
    assert engine.incidents


def test_a_record_before_the_last_one_of_its_key_is_left_out_and_counted() -> None:
    engine, _ = run(drawn(a="CC"))
    assert engine.observe(drawn(900, a="....")) == []
    assert engine.late == 4


def test_evidence_is_asked_for_only_of_records_that_tell_something() -> None:
    asked: list[int] = []

    def explain(row: int) -> list[dict[str, object]]:
        asked.append(row)
        return [{"field": "rpm"}]

    judged = replace(drawn(a="." * 10 + "C" * 30 + "." * 9), evidence=explain)
    _, changes = run(judged)
    assert asked == [11]
    assert changes[0].incident.evidence[0].fields == [{"field": "rpm"}]


def test_the_first_records_of_an_incident_are_kept_as_they_are() -> None:
    engine, _ = run(drawn(a=".C" + "C" * 40))
    (incident,) = engine.incidents.values()
    assert [kept.record for kept in incident.records] == [{"mark": "C"}] * MAX_KEPT
    assert incident.records[0].time == 1010


PICTURES = st.lists(st.text("...CeFXL?! ", max_size=40), min_size=1, max_size=4).map(
    lambda marks: drawn(1000, **{f"k{i}": text for i, text in enumerate(marks)})
)
QUICK = Patience(root_seconds=15, stale_seconds=60, settle_seconds=50, update_seconds=10)


@given(PICTURES, st.data())
def test_any_split_into_batches_with_a_restart_between_makes_the_same_changes(
    judged: Judged, data: st.DataObject
) -> None:
    _, whole = run(judged, QUICK)
    engine = Engine(ROLES, patience=QUICK)
    start, found = 0, []
    while start < len(judged):
        end = data.draw(st.integers(start + 1, len(judged)))
        found += engine.observe(part(judged, slice(start, end)))
        snapshot = engine.snapshot()
        engine = Engine(ROLES, patience=QUICK)
        engine.restore(snapshot)
        start = end
    assert found == whole


@given(PICTURES)
def test_every_incident_is_opened_first_and_closed_last_and_counts_its_changes(
    judged: Judged,
) -> None:
    engine, changes = run(judged, QUICK)
    by_id: dict[str, list[Change]] = {}
    for change in changes:
        by_id.setdefault(change.incident.id, []).append(change)
    for each in by_id.values():
        kinds = [change.kind for change in each]
        assert kinds[0] == "opened"
        assert kinds.count("opened") == 1
        assert "closed" not in kinds[:-1]
        assert [change.incident.sequence for change in each] == [*range(1, len(each) + 1)]
    assert {i for i, each in by_id.items() if each[-1].kind != "closed"} == {
        i.id for i in engine.incidents.values() if i.status != "pending"
    }
    # Each key in trouble is an active member of the incident that it is in, and of no other.
    active = {
        (key, i.id) for i in engine.incidents.values() for key, m in i.members.items() if m.active
    }
    assert active == {*engine._correlation.where.items()}


def test_what_is_no_snapshot_is_refused() -> None:
    with pytest.raises(ValueError, match="no snapshot of incidents"):
        Engine(ROLES).restore(b"\x00")


def test_a_bundle_of_another_width_goes_on_with_the_incidents_of_the_one_before() -> None:
    engine = Engine(ROLES)
    assert "opened" in kinds(engine.observe(drawn(1000, a="CCC", b="???")))
    wider = drawn(1015, a="C" * 20, b="?" * 20)
    wider = replace(wider, embeddings=np.full((len(wider), 5), 0.1, np.float32))
    assert "updated" in kinds(engine.observe(wider))
    assert "closed" in kinds(engine.observe(drawn(1115, a="....", b="....")))


def kinds(changes: list[Change]) -> list[str]:
    return [change.kind for change in changes]


@pytest.mark.parametrize("mark", ["?", "e"])
def test_who_shows_an_echo_and_then_nothing_any_more_is_told_of_and_takes_no_later_fault(
    mark: str,
) -> None:
    silent = f"{mark * 3}" + " " * 400
    engine, changes = run(drawn(a=silent, b="." * 200 + "XXXX......"), Patience(stale_seconds=600))
    label = "unknown" if mark == "?" else "clear"
    assert told(changes) == [
        ("opened", label, None),
        ("stale", label, None),
        ("opened", "crash", "b"),
        ("closed", "crash", "b"),
    ]
    opened = changes[0].incident
    assert (opened.first, opened.told, opened.names["key"]) == (1000, 1030, "a")
    assert [each.fields for each in opened.evidence] == [[{"field": "rpm"}]]
    assert [*engine.incidents] == [opened.id]


def test_who_was_getting_well_and_then_says_nothing_is_forgotten_untold() -> None:
    engine, changes = run(drawn(a="??..", b="." * 300), Patience(stale_seconds=600))
    assert (changes, engine.incidents, engine.dropped) == ([], {}, 1)
    assert engine._correlation.where == {}


@pytest.mark.parametrize("step", [301, 600, 86_400])
def test_keys_that_are_polled_rarely_get_into_trouble_and_out_of_it(step: int) -> None:
    judged = drawn(0, a="XXXX......")
    judged = replace(judged, times=judged.times / 5 * step)
    assert Engine(ROLES).observe(judged) == []
    engine = Engine(ROLES)
    engine.expect(step)
    changes = engine.observe(judged)
    assert kinds(changes) == ["opened", "stale", "closed"]  # it stood for three records
    assert [change.time for change in changes] == [step, 4 * step, 7 * step]
    engine.expect(5)
    assert engine.hysteresis == Hysteresis()
