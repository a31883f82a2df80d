from __future__ import annotations

import numpy as np
import pytest

from benchmarks.fuzz.toy import toy_bundle
from models import Bundle, Model, Reference
from models.reference import REFERENCE
from service.live import detail
from service.live.kept import Kept, Taken
from tests.service.live.conftest import START, Record, scene_of


@pytest.fixture
def explained(good: Record) -> Model:
    """The toy model with a record of good traffic, so that it can explain."""
    bundle = toy_bundle()
    matrix = Model(bundle).schema.encode([good])
    files = {**bundle.files, REFERENCE: Reference(matrix, np.zeros(1, np.int16)).to_bytes()}
    content = bundle.manifest.model_dump(exclude={"version", "files", "format"})
    return Model(Bundle.make(files, **content))


def keeping(model: Model, records: list[Record], key: str) -> tuple[Kept, list[int]]:
    kept = Kept(10)
    kept.serve(scene_of(model))
    matrix = model.schema.encode(records)
    times = np.arange(START, START + len(records))
    nothing = np.zeros(len(records), np.bool_)
    keys = [key] * len(records)
    taken = Taken(model, keys, times, matrix, model.decide(matrix), nothing, ~nothing)
    return kept, kept.add(taken, START).tolist()


def test_a_record_is_shown_with_what_drove_its_verdict(
    explained: Model, good: Record, down: Record
) -> None:
    kept, numbers = keeping(explained, [good, down], "r1")
    shown = detail.record(kept, numbers[1])
    assert shown is not None
    assert (shown.n, shown.key, shown.label) == (numbers[1], "r1", "link-down")
    assert shown.record == down
    assert shown.distances.keys() == {"normal", "link-down", "overload"}
    assert shown.nearest == "link-down"
    assert shown.class_position == scene_of(explained).classes[1].position
    assert shown.explanation is not None
    assert shown.explanation[0].field == "link up"


def test_an_unknown_record_has_the_class_that_is_nearest(explained: Model, unknown: Record) -> None:
    kept, [number] = keeping(explained, [unknown], "r1")
    shown = detail.record(kept, number)
    assert shown is not None
    assert (shown.label, shown.nearest) == ("unknown", "link-down")


def test_a_bundle_that_cannot_explain_shows_no_drivers(model: Model, down: Record) -> None:
    kept, [number] = keeping(model, [down], "r1")
    shown, device = detail.record(kept, number), detail.device(kept, "r1", {})
    assert shown is not None
    assert device is not None
    assert shown.explanation is None
    assert (device.explained, device.drivers) == (0, [])


def test_a_device_has_the_fields_that_drove_its_faults_most_often(
    explained: Model, good: Record, down: Record, overload: Record
) -> None:
    kept, numbers = keeping(explained, [down, overload, good, down, down], "r1")
    device = detail.device(kept, "r1", {"r1": "i1"})
    assert device is not None
    assert (device.key, device.incident, device.explained) == ("r1", "i1", 4)
    first = device.drivers[0]
    assert (first.field, first.count, first.value, first.typical) == ("link up", 3, False, True)
    assert {driver.field for driver in device.drivers} > {"link up"}
    assert [each.n for each in device.history] == numbers


def test_no_more_records_are_explained_than_is_quick(explained: Model, down: Record) -> None:
    kept, _ = keeping(explained, [down] * 40, "r1")
    device = detail.device(kept, "r1", {})
    assert device is not None
    assert device.explained == 16
    assert len(device.history) == 40


def test_what_is_not_kept_is_not_shown(model: Model, good: Record) -> None:
    kept, [number] = keeping(model, [good], "r1")
    assert detail.record(kept, number + 1) is None
    assert detail.record(kept, 0) is None
    assert detail.device(kept, "r2", {}) is None
