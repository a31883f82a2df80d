from __future__ import annotations

import threading
import time
from pathlib import Path

import numpy as np
import pytest

from models import Model
from models.schema import Matrix
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.formats.chunk import Chunk
from service.observability.metrics import Metrics
from service.runtime.state import State
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.settings import Settings
from service.web.problems import Problem
from tests.support.bundles import put_bundle

Record = dict[str, object]


@pytest.fixture
def root(tmp_path: Path, bundle: Path) -> Path:
    folder = tmp_path / "bundles"
    put_bundle(bundle, folder / "first")
    return folder


@pytest.fixture
def state(root: Path) -> State:
    return State(Settings(bundle=root), Metrics(), Model.load, time.perf_counter)


def jitter(revision: int, record: Record) -> Snapshot:
    stored = StoredClass("jitter", records=(SupportRecord(0, record),))
    return Snapshot(revision, {"jitter": stored})


def test_before_a_bundle_is_loaded_everything_is_a_problem_that_says_so(state: State) -> None:
    assert state.loaded is None
    for ask in (lambda: state.served, lambda: state.enrolment, state.recent):
        with pytest.raises(Problem, match="still loading"):
            ask()


def observe(served: ServedModel, matrix: Matrix) -> None:
    """Show records to the observers, as if they had been answered."""
    decisions = served.model.decide(matrix)
    scored = Scored(Chunk(matrix), matrix, decisions, served.model.labels(decisions))
    for observer in served.observers:
        observer(scored)


def test_a_bundle_is_served_with_the_classes_that_came_before_it(
    state: State, unknown: Record
) -> None:
    state.adopt(jitter(4, unknown))
    assert state.loaded is None
    state.refresh()
    assert (state.served.revision, state.served.model.names[-1]) == (4, "jitter")


def test_classes_that_come_later_change_the_model_and_keep_the_bundle_and_recent_records(
    state: State, unknown: Record, good: Record
) -> None:
    state.refresh()
    before, matrix = state.served, state.enrolment.base.schema.encode([good])
    observe(before, matrix)
    state.adopt(jitter(1, unknown))
    assert (before.revision, state.served.revision) == (0, 1)
    assert state.served.version == before.version
    assert "jitter" not in before.model.names
    assert "jitter" in state.served.model.names
    np.testing.assert_array_equal(state.recent(), matrix)
    assert state.metrics.counters.swaps == 0


def test_another_bundle_takes_the_classes_over_and_starts_with_no_recent_records(
    state: State, root: Path, bundle: Path, unknown: Record, good: Record
) -> None:
    state.refresh()
    state.adopt(jitter(1, unknown))
    observe(state.served, state.enrolment.base.schema.encode([good]))
    version = put_bundle(bundle, root / "second", day=1)
    state.refresh()
    assert (state.served.version, state.served.revision) == (version, 1)
    assert "jitter" in state.served.model.names
    assert len(state.recent()) == 0
    assert state.metrics.counters.swaps == 1


def test_a_bundle_that_loads_slowly_does_not_hold_up_the_classes(
    root: Path, bundle: Path, unknown: Record
) -> None:
    loading, go_on = threading.Event(), threading.Event()

    def load(folder: Path) -> Model:
        if folder.name == "second":
            loading.set()
            assert go_on.wait(20)
        return Model.load(folder)

    state = State(Settings(bundle=root), Metrics(), load, time.perf_counter)
    state.refresh()
    version = put_bundle(bundle, root / "second", day=1)
    thread = threading.Thread(target=state.refresh)
    thread.start()
    assert loading.wait(20)
    state.adopt(jitter(1, unknown))
    assert state.served.revision == 1
    go_on.set()
    thread.join(20)
    assert (state.served.version, state.served.revision) == (version, 1)


@pytest.mark.parametrize("what", ["Drift.of", "Enrolment.of", "ServedModel", "Sites.of"])
def test_a_bundle_that_cannot_be_swapped_in_leaves_no_part_of_it(
    state: State,
    root: Path,
    bundle: Path,
    unknown: Record,
    good: Record,
    monkeypatch: pytest.MonkeyPatch,
    what: str,
) -> None:
    state.refresh()
    state.adopt(jitter(1, unknown))
    before, enrolment = state.served, state.enrolment
    observe(before, enrolment.base.schema.encode([good]))
    drift, recent = state.metrics.drift, state.recent()

    def fail(*_args: object, **_kwargs: object) -> None:
        raise ValueError("no room")

    monkeypatch.setattr(f"service.runtime.state.{what}", fail)
    put_bundle(bundle, root / "second", day=1)
    state.refresh()
    assert "second" in state.loader.refused
    assert (state.served, state.enrolment, state.metrics.drift) == (before, enrolment, drift)
    np.testing.assert_array_equal(state.recent(), recent)
    monkeypatch.undo()
    state.adopt(jitter(2, good))
    assert (state.served.version, state.served.revision) == (before.version, 2)


@pytest.mark.alone
def test_all_its_threads_end_soon_after_they_are_told_to(
    root: Path, bundle: Path, tmp_path: Path
) -> None:
    database = f"sqlite:///{tmp_path / 'classes.sqlite'}"
    settings = Settings(bundle=root, shadow=bundle, database_url=database)
    before = set(threading.enumerate())
    state = State(settings, Metrics(), Model.load, time.perf_counter)
    end = state.follow()
    threads = set(threading.enumerate()) - before
    assert {thread.name for thread in threads} == {
        "bundles",
        "classes",
        "ingestion",
        "live",
        "shadow",
    }
    assert all(thread.daemon for thread in threads)
    assert state.settled.wait(20)
    start = time.monotonic()
    end()
    assert time.monotonic() - start < 1
    assert not any(thread.is_alive() for thread in threads)


def test_the_live_page_sees_records_of_requests_while_it_wants_them(
    state: State, good: Record
) -> None:
    state.refresh()
    live, matrix = state.live, state.enrolment.base.schema.encode([good])
    assert live is not None
    live.step()
    observe(state.served, matrix)
    live.room = 1
    observe(state.served, matrix)
    observe(state.served, matrix)
    live.step()
    assert len(live.records(10).records) == 1
    served, decisions = state.served, state.served.model.decide(matrix)
    assembled = Scored(Chunk(matrix), matrix, decisions, ["normal"], assembled=True)
    live.room = 1
    for observer in served.observers:
        observer(assembled)
    live.step()
    assert len(live.records(10).records) == 1


def test_without_the_page_nobody_observes_for_it(bundle: Path) -> None:
    def observers(page: str) -> int:
        settings = Settings(bundle=bundle, page=page)  # type: ignore[arg-type]
        state = State(settings, Metrics(), Model.load, time.perf_counter)
        state.refresh()
        assert (state.live is None) == (page == "off")
        return len(state.served.observers)

    assert observers("on") - observers("off") == 1


def test_the_live_page_is_told_what_is_kept_where(root: Path, tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'classes.sqlite'}"
    for database, store in (("", "memory"), (url, "ok")):
        settings = Settings(bundle=root, database_url=database)
        state = State(settings, Metrics(), Model.load, time.perf_counter)
        state.classes.open(database or None)
        assert state.live is not None
        assert state.live.health_now().store == store
        if state.store is not None:
            state.classes.away = "gone"
            assert state.live.health_now().store == "away"
            state.store.close()
