"""What databases and the memory have in common."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from service.classes.database import Store
from service.incidents.engine import Engine
from service.incidents.incident import Change
from service.incidents.memory import MAX_CLOSED, MemoryStore
from service.incidents.storage import (
    MAX_COMMENTS,
    Checkpoint,
    NoSuchIncidentError,
    Note,
    People,
    Query,
    RepeatedNoteError,
    Storage,
    Written,
)
from service.incidents.store import IncidentStore
from tests.support.databases import KINDS, url_of
from tests.support.incidents import ROLES, drawn

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)


@pytest.fixture(params=["memory", *KINDS])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Storage]:
    """A storage that holds nothing."""
    if request.param == "memory":
        yield MemoryStore()
        return
    with closing(Store(url_of(request, tmp_path / "classes.sqlite"))) as store:
        store.prepare()
        yield IncidentStore(store)


def changes_of(**pictures: str) -> list[Change]:
    return Engine(ROLES).observe(drawn(1000, **pictures))


def write(storage: Storage, changes: list[Change], *targets: str) -> list[Change]:
    return storage.commit(Written(NOON, changes, targets)).changes


def note(incident: Change, deed: str = "commented", **more: str) -> Note:
    return Note(incident.incident.id, deed, NOON, "12ab", "call-7", **more)  # type: ignore[arg-type]


def test_an_incident_reads_back_as_it_was_written_last(storage: Storage) -> None:
    changes = changes_of(a="..CCC.....", b="..eeee....")
    assert write(storage, changes) == changes
    assert storage.get(changes[0].incident.id).incident == changes[-1].incident
    entries = storage.history(changes[0].incident.id)
    assert [(e.sequence, e.kind, e.time, e.key, e.note) for e in entries] == [
        (c.incident.sequence, c.kind, c.time, c.key, c.note) for c in changes
    ]
    assert {e.at for e in entries} == {NOON}


def test_an_incident_that_is_not_there_is_an_error(storage: Storage) -> None:
    with pytest.raises(NoSuchIncidentError):
        storage.get("0")
    with pytest.raises(NoSuchIncidentError):
        storage.commit(Written(NOON, note=Note("0", "acknowledged", NOON, None)))
    assert storage.history("0") == []


def test_changes_that_come_again_are_applied_once(storage: Storage) -> None:
    changes = changes_of(a="..CCC.....", b="..eeee....")
    write(storage, changes[:2], "t")
    assert write(storage, changes, "t") == changes[2:]
    assert write(storage, changes, "t") == []
    assert len(storage.history(changes[0].incident.id)) == len(changes)


def test_incidents_are_found_latest_first_and_page_by_page(storage: Storage) -> None:
    changes = changes_of(a="XX..........", b="...FF.......", c=".....CC.....", d=".....ee.....")
    write(storage, changes)
    a, b, c = (each.incident.id for each in changes if each.kind == "opened")

    def ids(**query: object) -> list[str]:
        return [found.incident.id for found in storage.find(Query(**query))]  # type: ignore[arg-type]

    assert ids() == [c, b, a]
    assert ids(status="closed") == [c, b, a]
    assert ids(status="open") == []
    assert ids(label="flap") == [b]
    assert ids(key="d") == [c]
    assert ids(key="nobody") == []
    assert ids(since=1025) == [c]
    first = storage.find(Query(limit=2))
    last = first[-1].incident
    assert ids(before=(last.first, last.id)) == [a]


def test_what_people_do_is_kept_beside_what_records_make(storage: Storage) -> None:
    changes = changes_of(a="XX")
    write(storage, changes)
    for each in [
        note(changes[0], text="on my way"),
        note(changes[0], "acknowledged"),
        replace(note(changes[0], "acknowledged"), who="34cd"),
    ]:
        storage.commit(Written(NOON, note=each))
    stored = storage.get(changes[0].incident.id)
    assert stored.incident == changes[0].incident
    assert (stored.people.acknowledged, stored.people.by) == (NOON, "12ab")
    assert [(c.who, c.text) for c in stored.people.comments] == [("12ab", "on my way")]
    assert [(e.kind, e.who, e.request_id) for e in storage.history(changes[0].incident.id)] == [
        ("opened", None, None),
        ("commented", "12ab", "call-7"),
        ("acknowledged", "12ab", "call-7"),
        ("acknowledged", "34cd", "call-7"),
    ]


def test_a_note_with_a_key_is_kept_once(storage: Storage) -> None:
    changes = changes_of(a="XX")
    write(storage, changes)
    written = Written(NOON, note=note(changes[0], text="hello", key="k"))
    storage.commit(written)
    for text, same in [("hello", True), ("goodbye", False)]:
        with pytest.raises(RepeatedNoteError) as caught:
            storage.commit(Written(NOON, note=note(changes[0], text=text, key="k")))
        assert caught.value.same is same
    assert len(storage.get(changes[0].incident.id).people.comments) == 1


def test_comments_are_bounded() -> None:
    people = People()
    for _ in range(MAX_COMMENTS + 1):
        people = people.after(Note("0", "commented", NOON, None, text="x"))
    assert len(people.comments) == MAX_COMMENTS


def test_an_incident_that_a_person_closed_stays_closed_when_its_records_come_again(
    storage: Storage,
) -> None:
    engine = Engine(ROLES)
    changes = engine.observe(drawn(a="XX"))
    write(storage, changes)
    closed = engine.close(changes[0].incident.id, 1010, "by hand")
    storage.commit(Written(NOON, [closed], note=note(closed, "closed")))
    again = storage.commit(Written(NOON, changes_of(a="XX", b="ee")))
    assert again.changes == []
    assert again.closed_by_hand == {closed.incident.id}


def test_who_observes_learns_at_the_next_checkpoint_what_a_person_closed(storage: Storage) -> None:
    """Nothing else changed: the person used another process."""
    engine = Engine(ROLES)
    changes = engine.observe(drawn(a="XX"))
    write(storage, changes)
    still_open = [incident.copy() for incident in engine.incidents.values()]
    closed = engine.close(changes[0].incident.id, 1010, "by hand")
    storage.commit(Written(NOON, [closed], note=note(closed, "closed")))
    assert storage.commit(Written(NOON, refreshed=still_open)).closed_by_hand == {still_open[0].id}


def test_closed_incidents_are_forgotten_some_time_after_the_last_word(storage: Storage) -> None:
    engine = Engine(ROLES)
    write(storage, engine.observe(drawn(a="XX......", b="......XX")), "t")
    states = {stored.incident.status for stored in storage.find(Query())}
    assert states == {"closed", "open"}
    [closed] = storage.find(Query(status="closed"))
    late = NOON + timedelta(hours=2)
    comment = Note(closed.incident.id, "commented", late, None, text="why?")
    storage.commit(Written(late, note=comment))
    for before, left in [(late, 2), (late + timedelta(seconds=1), 1)]:
        storage.commit(Written(late, forget_before=before))
        assert len(storage.find(Query())) == left
    assert storage.history(closed.incident.id) == []
    assert [stored.incident.status for stored in storage.find(Query())] == ["open"]
    assert [*storage.find(Query(key="a"))] == []


def test_a_checkpoint_is_written_with_the_changes_or_not_at_all(storage: Storage) -> None:
    assert storage.checkpoint("ingest") is None
    changes = changes_of(a="XX")
    checkpoint = Checkpoint("ingest", 7, b"\x00state")
    storage.commit(Written(NOON, changes, checkpoint=checkpoint, engine=b"\x01"))
    assert storage.checkpoint("ingest") == (checkpoint, b"\x01")
    refused = Written(
        NOON,
        changes_of(b="XX"),
        checkpoint=replace(checkpoint, position=8),
        note=Note("0", "closed", NOON, None),
    )
    with pytest.raises(NoSuchIncidentError):
        storage.commit(refused)
    assert storage.checkpoint("ingest") == (checkpoint, b"\x01")
    assert len(storage.find(Query())) == 1


def test_an_open_incident_is_refreshed_without_a_change(storage: Storage) -> None:
    engine = Engine(ROLES)
    changes = engine.observe(drawn(a="XXXXX"))
    write(storage, changes, "t")
    storage.commit(Written(NOON, refreshed=[*engine.incidents.values()]))
    kept = storage.get(changes[0].incident.id).incident
    assert (kept.counts, kept.last, kept.sequence) == ({"crash": 4}, 1020, 1)
    write(storage, engine.observe(drawn(1025, a="....")), "t")
    storage.commit(Written(NOON, refreshed=[kept]))
    assert storage.get(kept.id).incident.status == "closed"


def test_a_target_is_told_each_state_once_and_the_close_last(storage: Storage) -> None:
    changes = changes_of(a="CCCCCCC....", b="..eeeee....")
    assert [c.kind for c in changes] == ["opened", "updated", "closed"]
    write(storage, changes[:1], "t", "u")
    [due] = storage.due("t", None, 10)
    assert (due.incident, due.sent) == (changes[0].incident, 0)
    write(storage, changes[1:2], "t", "u")
    storage.sent("t", [due.incident], 100)
    [due] = storage.due("t", None, 10)
    assert (due.incident.sequence, due.sent) == (2, 1)
    storage.sent("t", [due.incident], 110)
    assert storage.due("t", None, 10) == []
    assert storage.due("t", 110, 10) == []
    assert [due.sent for due in storage.due("t", 111, 10)] == [2]
    write(storage, changes[2:], "t", "u")
    [due] = storage.due("t", None, 10)
    assert (due.incident.status, due.sent) == ("closed", 2)
    assert (storage.waiting("t"), storage.waiting("u")) == (1, 1)
    storage.sent("t", [due.incident], 120)
    assert storage.due("t", 1000, 10) == []
    assert (storage.waiting("t"), storage.waiting("u")) == (0, 1)


def test_what_a_target_may_have_been_told_is_noted_before_it_is(storage: Storage) -> None:
    changes = changes_of(a="CC", b="XX")
    write(storage, changes, "t", "u")
    told = [changes[0].incident]
    storage.tried("t", told, 100)
    tried = {due.incident.id: due.tried for due in storage.due("t", None, 10)}
    assert tried == {changes[0].incident.id: True, changes[1].incident.id: False}
    assert not any(due.tried for due in storage.due("u", None, 10))
    storage.tried("t", told, 0)
    assert not any(due.tried for due in storage.due("t", None, 10))
    storage.sent("t", told, 110)
    storage.tried("t", told, 0)
    assert [due.sent for due in storage.due("t", 111, 10)] == [0, 1]


def test_a_target_that_was_never_told_of_an_incident_is_not_told_of_its_close(
    storage: Storage,
) -> None:
    changes = changes_of(a="CC....")
    write(storage, changes[:1])
    write(storage, changes[1:], "new")
    assert storage.due("new", None, 10) == []


def test_the_memory_keeps_the_last_closed_incidents() -> None:
    storage = MemoryStore()
    for start in range(0, 100 * (MAX_CLOSED + 5), 100):
        storage.commit(Written(NOON, Engine(ROLES).observe(drawn(start, a="XX...."))))
    found = storage.find(Query(limit=2 * MAX_CLOSED))
    assert len(found) == MAX_CLOSED
    assert found[-1].incident.first == 500


def test_the_memory_keeps_one_that_stood_for_long_when_it_closes() -> None:
    storage, long = MemoryStore(), changes_of(a="XX....")
    storage.commit(Written(NOON, long[:1], {"t"}))
    for start in range(10_000, 10_000 + 100 * (MAX_CLOSED + 5), 100):
        storage.commit(Written(NOON, Engine(ROLES).observe(drawn(start, b="XX...."))))
    storage.tried("t", [long[0].incident], 1)
    storage.commit(Written(NOON, long[1:], {"t"}))
    assert storage.get(long[0].incident.id).incident.status == "closed"
    assert [due.incident.status for due in storage.due("t", None, 10)] == ["closed"]


def test_an_incident_that_ended_in_another_process_is_told_to_who_refreshes_it(
    storage: Storage,
) -> None:
    [opened] = changes_of(a="CC")
    write(storage, [opened])
    ended = opened.incident.copy()
    ended.status, ended.sequence = "closed", opened.incident.sequence + 1
    told = Note(opened.incident.id, "acknowledged", NOON, "12ab")
    storage.commit(Written(NOON, [Change.of("closed", 1100, ended)], note=told))
    committed = storage.commit(Written(NOON, refreshed=[opened.incident]))
    assert committed.closed_by_hand == {opened.incident.id}


def test_pages_go_by_the_beginning_that_incidents_have_by_now(storage: Storage) -> None:
    changes = [*changes_of(a="CC"), *Engine(ROLES).observe(drawn(1010, b="CC"))]
    write(storage, changes)
    earlier = changes[1].incident.copy()
    earlier.first = 900
    storage.commit(Written(NOON, refreshed=[earlier]))
    seen, before = [], None
    while found := storage.find(Query(limit=1, before=before)):
        seen.append(found[0].incident.members.keys() & {"a", "b"})
        before = found[0].incident.first, found[0].incident.id
    assert seen == [{"a"}, {"b"}]


def test_a_key_of_any_length_is_kept(storage: Storage) -> None:
    key = "".join(chr(ord("A") + (7 * at * at + at // 3) % 50) for at in range(4000))
    changes = changes_of(**{key: "CC"})
    write(storage, changes)
    assert [*storage.get(changes[0].incident.id).incident.members] == [key]


def test_one_process_at_a_time_may_tell_a_target(storage: Storage) -> None:
    if isinstance(storage, MemoryStore):
        assert storage.acquire_lease("t", "any", 100, 130)
        return
    assert storage.acquire_lease("t", "one", 100, 130)
    assert storage.acquire_lease("u", "two", 100, 130)
    assert not storage.acquire_lease("t", "two", 129, 159)
    assert storage.acquire_lease("t", "one", 129, 159)
    assert not storage.acquire_lease("t", "two", 130, 160)
    assert storage.acquire_lease("t", "two", 160, 190)
    assert not storage.acquire_lease("t", "one", 161, 191)
