from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import Bundle, Model
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot, StoredClass, SupportRecord

Record = dict[str, Any]
TRAINED = ["normal", "link-down", "overload"]


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle)


def stored(name: str, *records: Record, **more: Any) -> StoredClass:
    support = tuple(SupportRecord(number, record) for number, record in enumerate(records, 1))
    return StoredClass(name, records=support, next_id=len(support) + 1, **more)


def snapshot(*entries: StoredClass, revision: int = 1) -> Snapshot:
    return Snapshot(revision, {entry.name: entry for entry in entries})


def test_without_classes_the_model_is_that_of_the_bundle(model: Model) -> None:
    made = Enrolment.of(model, snapshot())
    assert made.model is model
    assert (made.names, made.enrolled, made.parked) == (TRAINED, {}, {})


def test_support_records_become_a_centroid_behind_those_of_the_bundle(
    model: Model, unknown: Record, good: Record
) -> None:
    made = Enrolment.of(model, snapshot(stored("jitter", unknown, good, good=True)))
    assert made.names == made.model.names == [*TRAINED, "jitter"]
    assert made.model.good[-1]
    expected = model.embed([unknown, good])
    np.testing.assert_array_equal(made.enrolled["jitter"].points, expected)
    np.testing.assert_allclose(made.model.rule.centroids[-1], expected.mean(axis=0), rtol=1e-6)


def test_unchanged_classes_are_not_embedded_again_and_keep_their_order(
    model: Model, unknown: Record, down: Record
) -> None:
    first, second = stored("first", unknown), stored("second", unknown)
    before = Enrolment.of(model, snapshot(first, second))
    after = Enrolment.of(model, snapshot(stored("first", unknown, down), second), before)
    assert after.enrolled["second"] is before.enrolled["second"]
    assert len(after.enrolled["first"].points) == 2
    assert [*after.enrolled] == ["first", "second"]


def test_another_model_embeds_every_class_anew(model: Model, bundle: Path, unknown: Record) -> None:
    jitter = stored("jitter", unknown)
    before = Enrolment.of(model, snapshot(jitter))
    other = Model.load(bundle)
    after = Enrolment.of(other, snapshot(jitter), before)
    assert after.base is other
    assert after.enrolled["jitter"] is not before.enrolled["jitter"]


def test_a_class_that_does_not_fit_the_bundle_is_parked_and_the_others_decide(
    model: Model, unknown: Record
) -> None:
    entries = [
        stored("overload", unknown),
        stored("odd", {"rpm": 1.0}),
        stored("jitter", unknown),
    ]
    made = Enrolment.of(model, snapshot(*entries))
    assert made.parked["overload"] == "the bundle has a class of this name itself"
    assert made.parked["odd"].startswith("its records do not fit this bundle: record 0")
    assert made.model.names == [*TRAINED, "jitter"]
    assert made.names == [*TRAINED, "odd", "jitter"]


def test_a_hidden_class_is_known_and_does_not_decide(model: Model, unknown: Record) -> None:
    hidden = StoredClass("overload", hidden=True)
    made = Enrolment.of(model, snapshot(hidden, stored("jitter", unknown, hidden=True)))
    assert made.model.names == ["normal", "link-down"]
    assert (made.names, made.enrolled) == ([*TRAINED, "jitter"], {})
    assert made.stored("overload") is None
    assert made.stored("jitter") == made.snapshot.classes["jitter"]


def test_a_hidden_class_that_this_bundle_has_not_changes_nothing(model: Model) -> None:
    made = Enrolment.of(model, snapshot(StoredClass("of another bundle", hidden=True)))
    assert made.model is model
    assert made.names == TRAINED


def test_to_hide_a_parked_class_hides_nothing_of_the_bundle(model: Model, unknown: Record) -> None:
    for name in ("overload", "normal"):
        made = Enrolment.of(model, snapshot(stored(name, unknown, hidden=True)))
        assert made.model is model
        assert made.names == TRAINED


def test_a_class_that_the_bundle_carries_keeps_its_few_records_and_can_be_hidden(
    bundle: Path, unknown: Record
) -> None:
    read = Bundle.read(bundle)
    *others, last = read.manifest.classes
    carried = last.model_copy(update={"enrolled": True, "records": 3})
    manifest = read.manifest.model_copy(update={"classes": (*others, carried)})
    model = Model(Bundle(manifest, read.files))
    made = Enrolment.of(model, snapshot(stored("jitter", unknown), stored("overload", unknown)))
    assert made.model.rule.support is not None
    assert made.model.rule.support.tolist() == [np.inf, np.inf, 3, 1]
    assert made.parked["overload"] == "the bundle has a class of this name itself"
    hidden = Enrolment.of(model, snapshot(StoredClass("overload", hidden=True)))
    assert hidden.model.names == TRAINED[:2]
    assert hidden.model.rule.support is None
