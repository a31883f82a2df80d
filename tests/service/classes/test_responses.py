from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from models import Model
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.classes.responses import Changed, ClassDetail, ListedClass

Record = dict[str, Any]


@pytest.fixture(scope="module")
def model(bundle: Path) -> Model:
    return Model.load(bundle)


@pytest.fixture
def enrolment(model: Model, unknown: Record) -> Enrolment:
    support = (SupportRecord(3, unknown),)
    entries = [
        StoredClass("jitter", severity="minor", description="it trembles", records=support),
        StoredClass("asleep", records=support, hidden=True),
        StoredClass("odd", records=(SupportRecord(1, {"rpm": 1}), SupportRecord(2, {"rpm": 2}))),
        StoredClass("overload", hidden=True),
    ]
    return Enrolment.of(model, Snapshot(6, {entry.name: entry for entry in entries}))


def sent(model: ListedClass | Changed) -> Any:
    return json.loads(model.content())


def test_a_class_of_the_bundle_is_described_by_its_manifest(enrolment: Enrolment) -> None:
    assert sent(ListedClass.of(enrolment, "normal")) == {
        "name": "normal",
        "good": True,
        "severity": "none",
        "description": "",
        "source": "bundle",
        "state": "active",
        "records": 100,
        "radius": 0.05,
    }


def test_an_enrolled_class_is_described_as_it_is_stored(enrolment: Enrolment) -> None:
    made = sent(ListedClass.of(enrolment, "jitter"))
    assert made.pop("radius") == pytest.approx(enrolment.model.rule.radii[-1], abs=1e-6)
    assert made == {
        "name": "jitter",
        "good": False,
        "severity": "minor",
        "description": "it trembles",
        "source": "enrolled",
        "state": "active",
        "records": 1,
    }


@pytest.mark.parametrize(
    ("name", "source", "records"), [("asleep", "enrolled", 1), ("overload", "bundle", 100)]
)
def test_a_hidden_class_has_no_radius(
    name: str, source: str, records: int, enrolment: Enrolment
) -> None:
    made = sent(ListedClass.of(enrolment, name))
    assert (made["state"], made["source"], made["records"]) == ("hidden", source, records)
    assert {"radius", "reason"}.isdisjoint(made)


def test_a_parked_class_says_why(enrolment: Enrolment) -> None:
    made = sent(ListedClass.of(enrolment, "odd"))
    assert (made["state"], made["source"], made["records"]) == ("parked", "enrolled", 2)
    assert made["reason"] == enrolment.parked["odd"]
    assert "radius" not in made


def test_a_class_of_the_bundle_is_not_parked_for_an_enrolled_one_of_its_name(
    model: Model, unknown: Record
) -> None:
    twin = StoredClass("normal", records=(SupportRecord(1, unknown),))
    made = ListedClass.of(Enrolment.of(model, Snapshot(1, {"normal": twin})), "normal")
    assert (made.state, made.source) == ("parked", "enrolled")
    assert made.reason == "the bundle has a class of this name itself"


def test_in_full_the_revision_comes_first_and_distances_from_the_nearest_on(
    enrolment: Enrolment, unknown: Record
) -> None:
    made = sent(ClassDetail.of(enrolment, "jitter"))
    assert (next(iter(made)), made["revision"]) == ("revision", 6)
    assert made["support"] == [{"id": 3, "record": unknown}]
    assert [*made["distances"]] == ["link-down", "normal"]
    assert [*made["distances"].values()] == sorted(made["distances"].values())


def test_in_full_a_class_that_does_not_decide_has_no_distances(enrolment: Enrolment) -> None:
    assert sent(ClassDetail.of(enrolment, "odd"))["distances"] == {}
    made = sent(ClassDetail.of(enrolment, "overload"))
    assert made["distances"] == {}
    assert "support" not in made


def test_a_change_names_its_class_and_leaves_out_what_does_not_apply(enrolment: Enrolment) -> None:
    assert sent(Changed(revision=7)) == {"revision": 7}
    described = ListedClass.of(enrolment, "jitter")
    made = sent(Changed(revision=7, dry_run=True, described=described))
    assert made == {"revision": 7, "dry_run": True, "class": sent(described)}
