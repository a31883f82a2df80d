from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Model, Reference
from models.decision import distances_between
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.classes.preview import Report, preview

Record = dict[str, Any]


@pytest.fixture
def model(bundle: Path) -> Model:
    return Model.load(bundle)


def enrolment(model: Model, **classes: list[Record]) -> Enrolment:
    stored = {
        name: StoredClass(name, records=tuple(SupportRecord(1, record) for record in records))
        for name, records in classes.items()
    }
    return Enrolment.of(model, Snapshot(len(stored), stored))


def report(model: Model, *records: Record, recent: tuple[Record, ...] = ()) -> Report:
    """Preview a class that is the first one."""
    before, after = enrolment(model), enrolment(model, new=list(records))
    return preview(before, after, "new", model.schema.encode(recent))


def test_every_other_class_is_listed_the_nearest_first(model: Model, unknown: Record) -> None:
    made = report(model, unknown)
    assert next(iter(made.distances)) == made.nearest.name == "link-down"
    assert {*made.distances} == {"normal", "link-down", "overload"}
    assert [*made.distances.values()] == sorted(made.distances.values())
    expected = distances_between(model.embed([unknown]), model.rule.centroids)[0, 1]
    assert made.nearest.distance == pytest.approx(float(expected), abs=1e-6)


def test_records_that_contradict_each_other_lie_wider_than_to_the_nearest_class(
    model: Model, good: Record, down: Record, unknown: Record
) -> None:
    made = report(model, good, down)
    points = model.embed([good, down])
    # Of two records, the mean of the others is the other.
    expected = float(distances_between(points[:1], points[1:])[0, 0])
    assert made.spread == pytest.approx(expected, abs=1e-5)
    assert expected > made.nearest.distance
    assert report(model, unknown).spread is None
    assert report(model, unknown, unknown).spread == pytest.approx(0, abs=1e-6)


def test_recent_traffic_that_it_takes_over_is_counted_by_its_label(
    model: Model, unknown: Record, good: Record
) -> None:
    made = report(model, unknown, recent=(unknown, good, unknown))
    assert (made.recent.records, made.recent.changed, made.recent.taken) == (3, 2, {"unknown": 2})
    assert report(model, unknown).recent.records == 0


def test_the_calibration_records_are_compared_if_there_are_any(
    model: Model, unknown: Record, good: Record
) -> None:
    assert report(model, unknown).calibration is None
    records = model.schema.encode([unknown, good, good])
    model.reference = Reference(records, np.zeros(3, np.int16))
    made = report(model, unknown).calibration
    assert made is not None
    assert (made.records, made.changed, made.taken) == (3, 1, {"unknown": 1})


def test_a_class_that_takes_half_of_another_swallows_it(model: Model, unknown: Record) -> None:
    first = [unknown, unknown | {"cpu load": 68.0}]
    before = enrolment(model, first=first)
    after = enrolment(model, first=first, second=[unknown])
    none = model.schema.encode([])
    assert preview(before, after, "second", none).swallowed == {"first": 0.5}
    more = [*first, unknown | {"cpu load": 68.0}]
    before = enrolment(model, first=more)
    after = enrolment(model, first=more, second=[unknown])
    assert preview(before, after, "second", none).swallowed == {}


@pytest.mark.parametrize(("taken", "swallowed"), [(1, {}), (3, {"normal": 0.15})])
def test_of_good_traffic_a_tenth_is_enough(
    taken: int, swallowed: dict[str, float], model: Model, good: Record
) -> None:
    edge = good | {"cpu load": 42.0}
    records = model.schema.encode([edge] * taken + [good] * (20 - taken))
    model.reference = Reference(records, np.zeros(20, np.int16))
    assert model.labels(model.decide(records)) == ["normal"] * 20
    assert report(model, edge).swallowed == pytest.approx(swallowed)


def test_an_amended_class_does_not_swallow_itself(model: Model, unknown: Record) -> None:
    before = enrolment(model, first=[unknown])
    after = enrolment(model, first=[unknown, unknown])
    made = preview(before, after, "first", model.schema.encode([unknown]))
    assert (made.records, made.swallowed, made.recent.changed) == (2, {}, 0)
    assert "first" not in made.distances
