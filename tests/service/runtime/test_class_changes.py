from __future__ import annotations

import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models import Model
from service.classes.database import Store
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, StoredClass, SupportRecord
from service.classes.responses import ListedClass
from service.observability.metrics import Metrics
from service.runtime.class_changes import Change, ChangeRequest, ClassEditor, Plan, describe
from service.runtime.state import State
from service.settings import Settings
from service.web import problems
from service.web.problems import Problem

Record = dict[str, Any]
REQUEST = ChangeRequest(who=None, request_id="r")


@pytest.fixture
def state(bundle: Path, tmp_path: Path) -> Iterator[State]:
    """It serves the bundle, with a database that holds nothing."""
    made = State(Settings(bundle=bundle), Metrics(), Model.load, time.perf_counter)
    made.refresh()
    made.classes.open(f"sqlite:///{tmp_path / 'classes.db'}")
    assert made.store is not None
    yield made
    made.store.close()


def entry(name: str, *records: Record) -> StoredClass:
    support = tuple(SupportRecord(number, record) for number, record in enumerate(records, 1))
    return StoredClass(name, records=support)


def enrol(name: str, *records: Record) -> Plan:
    return lambda _: Change("enrol", {name: entry(name, *records)}, name=name, status=201)


def put(store: Store, name: str) -> None:
    """Change the classes behind the editor's back."""
    new = StoredClass(name, hidden=True)
    store.commit(store.revision(), {name: new}, action="hide", who=None, request_id="other")


def test_a_change_is_committed_as_the_next_revision_and_served(
    editor: ClassEditor, state: State, store: Store, unknown: Record
) -> None:
    outcome = editor.apply(REQUEST, enrol("jitter", unknown))
    content = json.loads(outcome.content)
    assert (outcome.status, outcome.replayed) == (201, False)
    assert (content["revision"], content["class"]["name"]) == (1, "jitter")
    assert content["report"]["nearest"]["name"] == "link-down"
    assert [*store.read().classes] == ["jitter"]
    assert (state.served.revision, state.served.model.names[-1]) == (1, "jitter")


def test_after_a_conflict_the_change_is_planned_on_what_the_other_one_left(
    editor: ClassEditor, store: Store, unknown: Record
) -> None:
    seen: list[list[str]] = []

    def plan(enrolment: Enrolment) -> Change:
        seen.append([*enrolment.snapshot.classes])
        if len(seen) == 1:
            put(store, "other")
        return enrol("jitter", unknown)(enrolment)

    outcome = editor.apply(REQUEST, plan)
    assert seen == [[], ["other"]]
    assert json.loads(outcome.content)["revision"] == store.revision() == 2
    assert [*store.read().classes] == ["other", "jitter"]


def test_a_change_that_always_conflicts_is_given_up(
    editor: ClassEditor, store: Store, unknown: Record
) -> None:
    def plan(enrolment: Enrolment) -> Change:
        put(store, "other")
        return enrol("jitter", unknown)(enrolment)

    with pytest.raises(Problem, match="Others change the classes all the time") as caught:
        editor.apply(REQUEST, plan)
    assert caught.value.kind is problems.OUTDATED
    assert [*store.read().classes] == ["other"]


def test_a_dry_run_tells_what_would_be_and_commits_nothing(
    editor: ClassEditor, state: State, store: Store, down: Record, good: Record
) -> None:
    request = ChangeRequest(who=None, request_id="r", dry_run=True, key="k", digest="d")
    outcome = editor.apply(request, enrol("mixed", down, good))  # it would be refused
    content = json.loads(outcome.content)
    assert (outcome.status, content["revision"], content["dry_run"]) == (200, 0, True)
    assert content["report"]["spread"] > content["report"]["nearest"]["distance"]
    assert (store.revision(), store.answered("k"), state.served.revision) == (0, None, 0)


def test_a_key_gets_the_same_answer_again_and_changes_nothing(
    editor: ClassEditor, store: Store, unknown: Record, down: Record
) -> None:
    request = ChangeRequest(who=None, request_id="r", key="k", digest="d")
    first = editor.apply(request, enrol("jitter", unknown))
    again = editor.apply(request, enrol("another", down))
    assert (again.status, again.content, again.replayed) == (201, first.content, True)
    assert store.revision() == 1
    other = ChangeRequest(who=None, request_id="r", key="k", digest="of another request")
    with pytest.raises(Problem, match="with another request") as caught:
        editor.apply(other, enrol("jitter", unknown))
    assert caught.value.kind is problems.KEY_REUSED


def test_who_has_seen_an_earlier_revision_is_refused(
    editor: ClassEditor, store: Store, unknown: Record
) -> None:
    put(store, "other")
    with pytest.raises(Problem, match="at revision 1 by now") as caught:
        editor.apply(ChangeRequest(None, "r", revision=0), enrol("jitter", unknown))
    assert (caught.value.kind, store.revision()) == (problems.OUTDATED, 1)
    assert (
        editor.apply(ChangeRequest(None, "r", revision=1), enrol("jitter", unknown)).status == 201
    )


def test_a_contradiction_is_refused_unless_forced(
    editor: ClassEditor, store: Store, down: Record, good: Record
) -> None:
    with pytest.raises(Problem, match="they belong to different classes") as caught:
        editor.apply(REQUEST, enrol("mixed", down, good))
    assert caught.value.kind is problems.CONTRADICTORY
    assert caught.value.members["report"].name == "mixed"
    assert store.revision() == 0
    forced = ChangeRequest(who=None, request_id="r", force=True)
    assert editor.apply(forced, enrol("mixed", down, good)).status == 201


def test_a_class_that_would_swallow_another_is_refused(
    editor: ClassEditor, store: Store, unknown: Record
) -> None:
    editor.apply(REQUEST, enrol("first", unknown, unknown | {"cpu load": 68.0}))
    with pytest.raises(Problem, match=r"would take over .*: 50% of first\.") as caught:
        editor.apply(REQUEST, enrol("second", unknown))
    assert (caught.value.kind, store.revision()) == (problems.CLASS_OVERLAP, 1)


def test_a_change_of_nothing_is_no_revision(
    editor: ClassEditor, store: Store, unknown: Record
) -> None:
    editor.apply(REQUEST, enrol("jitter", unknown))
    outcome = editor.apply(REQUEST, lambda _: Change("amend", {}, name="jitter"))
    content = json.loads(outcome.content)
    assert (outcome.status, content["revision"], content["class"]["name"]) == (200, 1, "jitter")
    assert (store.revision(), "report" in content) == (1, False)


@pytest.mark.parametrize(
    ("method", "told"),
    [("read", "Nothing was changed"), ("commit", "the change may be made or not")],
)
def test_while_the_database_is_away_it_is_told_whether_something_was_changed(
    method: str,
    told: str,
    editor: ClassEditor,
    state: State,
    store: Store,
    unknown: Record,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise AwayError("no answer")

    monkeypatch.setattr(store, method, fail)
    with pytest.raises(Problem, match=told) as caught:
        editor.apply(REQUEST, enrol("jitter", unknown))
    assert caught.value.kind is problems.DATABASE_UNAVAILABLE
    assert state.served.revision == 0


def test_without_a_database_nothing_can_be_changed(bundle: Path, unknown: Record) -> None:
    state = State(Settings(bundle=bundle), Metrics(), Model.load, time.perf_counter)
    with pytest.raises(Problem, match="There is no database of classes"):
        ClassEditor(state).apply(REQUEST, enrol("jitter", unknown))


def test_only_a_class_that_is_known_is_described(state: State) -> None:
    assert describe(state.enrolment, "normal", ListedClass).source == "bundle"
    with pytest.raises(Problem, match="There is no class 'jitter'") as caught:
        describe(state.enrolment, "jitter", ListedClass)
    assert caught.value.kind is problems.NO_SUCH_CLASS
