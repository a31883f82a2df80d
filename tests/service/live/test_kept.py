from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from models import Model
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.live.kept import Kept, Taken
from service.live.scene import Scene
from tests.service.live.conftest import START, Record, Take, scene_of


@pytest.fixture
def kept(scene: Scene) -> Kept:
    kept = Kept(100)
    kept.serve(scene)
    return kept


def test_records_are_drawn_where_their_embedding_is(
    kept: Kept, scene: Scene, take: Take, good: Record, down: Record
) -> None:
    numbers = kept.add(take([good, down], times=[0, 1.23456]), START)
    one, other = kept.records(numbers)
    assert (one.label, one.good, one.key, other.time) == ("normal", True, None, START + 1.235)
    matrix = scene.served.model.schema.encode([good, down])
    np.testing.assert_allclose([one.position, other.position], scene.positions(matrix), atol=1e-4)


def test_devices_have_the_state_of_their_latest_record(
    kept: Kept, take: Take, good: Record, down: Record, unknown: Record
) -> None:
    records = [good, down, unknown, good, down]
    taken = take(
        records,
        keys=["a", "b", "c", "d", "e"],
        learning=[False, False, False, True, False],
        usable=[True, True, True, True, False],
    )
    kept.add(taken, START)
    shown = {d.key: (d.state, d.label, d.severity) for d in kept.known({})}
    assert shown == {
        "a": ("good", "normal", None),
        "b": ("fault", "link-down", "critical"),
        "c": ("unknown", "unknown", "indeterminate"),
        "d": ("learning", "normal", None),
        "e": ("insufficient", "link-down", None),
    }
    assert [d.key for d in kept.known({}, "b")] == ["b"]
    assert kept.known({}, "z") == []


def test_a_device_has_the_incident_that_it_takes_part_in(
    kept: Kept, take: Take, down: Record
) -> None:
    kept.add(take([down, down], keys=["a", "b"]), START)
    kept.changed({}, set(), 0)
    assert kept.changed({"a": "i1"}, {"a", "not here"}, 0)[0].incident == "i1"
    assert [d.incident for d in kept.known({"b": "i2"})] == [None, "i2"]


def test_an_hour_of_a_device_is_its_verdicts(
    kept: Kept, take: Take, good: Record, down: Record
) -> None:
    numbers = kept.add(take([good, down, good], keys=["a", "a", "b"], times=[0, 5, 5]), START)
    history = kept.history("a")
    assert [(h.n, h.time, h.label, h.state) for h in history] == [
        (int(numbers[0]), START, "normal", "good"),
        (int(numbers[1]), START + 5, "link-down", "fault"),
    ]
    assert kept.history("z") == []


def test_of_many_records_bad_ones_are_drawn_first_and_good_ones_at_steps(
    kept: Kept, take: Take, good: Record, down: Record
) -> None:
    records = [down if at % 20 == 0 else good for at in range(100)]
    numbers = kept.add(take(records), START)
    chosen = kept.choose(numbers, 25)
    shown = kept.records(chosen)
    assert len(shown) == 25
    assert sum(record.label == "link-down" for record in shown) == 5
    assert [record.n for record in shown] == sorted(record.n for record in shown)
    assert shown[-1].n > 95
    few = kept.choose(numbers, 3)
    assert [record.label for record in kept.records(few)] == ["link-down"] * 3


def test_records_that_say_nothing_are_not_drawn(kept: Kept, take: Take, down: Record) -> None:
    taken = take([down, down, down], keys=["a", "b", "c"], learning=[True, False, False],
                 usable=[True, False, True])  # fmt: skip
    numbers = kept.add(taken, START)
    assert [record.key for record in kept.records(kept.choose(numbers, 10))] == ["c"]


def test_another_revision_draws_the_same_records_in_its_own_axes(
    kept: Kept, take: Take, model: Model, good: Record, unknown: Record
) -> None:
    numbers = kept.add(take([good]), START)
    [before] = kept.records(numbers)
    stored = StoredClass("jitter", records=(SupportRecord(0, unknown),))
    kept.serve(scene_of(model, Snapshot(1, {"jitter": stored})))
    [after] = kept.records(numbers)
    assert after.n == before.n
    assert after.position != before.position  # the centre has moved


def test_another_bundle_forgets_records_and_takes_none_of_the_one_before(
    kept: Kept, take: Take, good: Record
) -> None:
    numbers = kept.add(take([good], keys=["a"]), START)
    shipped = Model.load(Path(__file__).parents[3] / "models/iosxr")
    kept.serve(scene_of(shipped))
    assert kept.records(numbers) == []
    assert not len(kept.add(take([good], keys=["b"]), START))
    assert [device.key for device in kept.known({})] == ["a"]
    matrix = shipped.schema.encode(shipped.examples)
    taken = Taken(shipped, (), np.zeros(4), matrix, shipped.decide(matrix))
    assert len(kept.records(kept.add(taken, START))) == 4


def test_before_there_is_a_model_nothing_is_kept(take: Take, good: Record) -> None:
    kept = Kept(10)
    assert not len(kept.add(take([good], keys=["a"]), START))
    assert kept.latest(10) == []
    assert kept.matrix([1]) is None


def test_records_are_embedded_once(
    kept: Kept, take: Take, good: Record, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedded: list[int] = []
    positions = Scene.positions

    def count(scene: Scene, matrix: np.ndarray) -> np.ndarray:
        embedded.append(len(matrix))
        return positions(scene, matrix)

    monkeypatch.setattr(Scene, "positions", count)
    numbers = kept.add(take([good] * 700), START)
    assert embedded == []
    kept.records(numbers[:600])
    kept.latest(700)
    kept.latest(700)
    assert embedded == [500, 100, 100]


def test_records_of_one_model_are_taken_together(take: Take, good: Record, down: Record) -> None:
    parts = [take([good], keys=["a"]), take([down, good], keys=["b", "c"])]
    [joined] = Taken.joined(parts)
    assert joined.keys == ["a", "b", "c"]
    assert len(joined.matrix) == len(joined.decisions.nearest) == len(joined.times) == 3
    assert joined.usable is not None
    assert Taken.joined([]) == []
