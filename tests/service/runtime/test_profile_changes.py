from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.fuzz.toy import FIELDS, GOOD
from models import Model, RecordError
from service.classes.database import Store
from service.classes.entities import StoredProfile
from service.observability.metrics import Metrics
from service.runtime.class_changes import Change, ChangeRequest, ClassEditor
from service.runtime.profile_changes import ProfileLearner, in_training_units, learn_from
from service.runtime.state import State
from service.settings import Settings
from service.web import problems
from service.web.problems import Problem

REQUEST = ChangeRequest(who=None, request_id="r")
LOADS = [90.0 + 4 * (i % 5 - 2) for i in range(200)]


@pytest.fixture
def state(make_bundle: Callable[..., Path], tmp_path: Path) -> Iterator[State]:
    """It serves a bundle that knows a spread, with a database that holds nothing."""
    fields = (FIELDS[0].model_copy(update={"spread": 2.0}), *FIELDS[1:])
    made = State(Settings(bundle=make_bundle(fields)), Metrics(), Model.load, time.perf_counter)
    made.refresh()
    made.classes.open(f"sqlite:///{tmp_path / 'classes.db'}")
    yield made
    assert made.store is not None
    made.store.close()


def learn(state: State, editor: ClassEditor) -> None:
    records = [GOOD | {"cpu load": load} for load in LOADS]
    matrix = state.enrolment.base.schema.encode(records)
    editor.apply(REQUEST, lambda now: learn_from(now, "north", matrix, force=False))


def begin(editor: ClassEditor, **options: Any) -> None:
    stored = StoredProfile("north", **{"revision": 1, "learn": 100} | options)
    editor.apply(REQUEST, lambda _: Change("learn", profiles={"north": stored}))


def offer(state: State, **more: Any) -> None:
    records = [GOOD | {"cpu load": load} | more for load in LOADS]
    state.served.sites["north"].offer(state.enrolment.base.schema.encode(records))


def test_a_profile_is_learned_and_served(state: State, editor: ClassEditor) -> None:
    learn(state, editor)
    site = state.served.sites["north"]
    assert site.header[1] == b"north@1"
    assert state.served.revision == 1
    with pytest.raises(Problem, match="Nothing was learned: 1 records are too few") as caught:
        learn_from(state.enrolment, "north", np.zeros((1, 5), np.float32), force=True)
    assert caught.value.kind is problems.NOT_LEARNED


def test_records_are_brought_to_the_units_of_the_training(
    state: State, editor: ClassEditor
) -> None:
    learn(state, editor)
    usual: dict[str, Any] = GOOD | {"cpu load": 90.0}
    (kept,) = in_training_units(state.enrolment, [usual], "north")
    assert kept["cpu load"] == pytest.approx(12.5, abs=1e-5)
    assert {**kept, "cpu load": 0} == {**usual, "cpu load": 0}
    assert in_training_units(state.enrolment, [usual], None) == [usual]
    with pytest.raises(Problem, match="no profile of 'south'"):
        in_training_units(state.enrolment, [usual], "south")
    with pytest.raises(RecordError):
        in_training_units(state.enrolment, [{"cpu load": "high"}], "north")


def test_a_site_is_finished_when_its_records_have_come(
    state: State, editor: ClassEditor, store: Store
) -> None:
    begin(editor)
    learner = ProfileLearner(state, editor)
    learner.step()
    assert store.revision() == 1
    offer(state)
    learner.step()
    stored = store.read().profiles["north"]
    assert (stored.revision, stored.learn) == (2, 0)
    assert stored.profile is not None
    assert (stored.profile.records, stored.profile.levels["cpu load"].typical) == (100, 90)
    assert state.served.sites["north"].header[1] == b"north@2"
    learner.step()
    assert store.revision() == 2


def test_a_site_that_stays_faulty_is_refused_unless_forced(
    state: State, editor: ClassEditor, store: Store
) -> None:
    learner = ProfileLearner(state, editor)
    begin(editor)
    offer(state, **{"link up": False})
    learner.step()
    assert "100% of these records" in store.read().profiles["north"].refused
    begin(editor, force=True, revision=3)
    offer(state, **{"link up": False})
    learner.step()
    assert store.read().profiles["north"].profile is not None


def test_a_site_that_another_process_has_finished_is_left_alone(
    state: State, editor: ClassEditor, store: Store
) -> None:
    begin(editor)
    offer(state)
    other = replace(store.read().profiles["north"], learn=0, refused="by another one")
    store.commit(1, {}, profiles={"north": other}, action="refused", who=None, request_id="r")
    ProfileLearner(state, editor).step()
    assert store.read().profiles == {"north": other}
    assert store.revision() == 2
