from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import FrozenInstanceError
from datetime import UTC, datetime

import msgspec
import pydantic
import pytest

from service.classes import entities
from service.classes.entities import (
    ConflictError,
    RevisionEntry,
    StoredClass,
    StoreError,
    SupportRecord,
)

FAN = StoredClass(
    "fan",
    good=True,
    severity="minor",
    description="it stands still",
    records=(SupportRecord(4, {"rpm": 0.0, "on": True, "state": "ü", "load": None}),),
    next_id=5,
    hidden=True,
)


def test_a_class_comes_back_from_the_json_that_is_stored() -> None:
    document = msgspec.json.encode(FAN)
    assert msgspec.json.decode(document, type=StoredClass) == FAN
    assert json.loads(document) == {
        "name": "fan",
        "good": True,
        "severity": "minor",
        "description": "it stands still",
        "records": [{"id": 4, "record": {"rpm": 0.0, "on": True, "state": "ü", "load": None}}],
        "next_id": 5,
        "hidden": True,
    }


def test_a_class_that_was_stored_without_later_attributes_is_read() -> None:
    assert msgspec.json.decode('{"name": "fan"}', type=StoredClass) == StoredClass(
        "fan", good=False, severity="major", description="", records=(), next_id=1, hidden=False
    )


@pytest.mark.parametrize(
    "document", ['{"good": true}', '{"name": 1}', '{"name": "", "records": 0}']
)
def test_what_is_no_class_is_not_read(document: str) -> None:
    with pytest.raises(msgspec.ValidationError):
        msgspec.json.decode(document, type=StoredClass)


def test_classes_of_two_revisions_can_share_a_class() -> None:
    with pytest.raises(FrozenInstanceError):
        FAN.hidden = False  # type: ignore[misc]


def test_a_support_record_that_is_sent_has_no_other_keys() -> None:
    adapter = pydantic.TypeAdapter(SupportRecord)
    assert adapter.validate_python({"id": 1, "record": {}}) == SupportRecord(1, {})
    with pytest.raises(pydantic.ValidationError, match="more"):
        adapter.validate_python({"id": 1, "record": {}, "more": 2})


def test_a_change_is_documented_and_sent_as_it_is_kept() -> None:
    adapter = pydantic.TypeAdapter(RevisionEntry)
    properties = adapter.json_schema()["properties"]
    assert properties["who"]["description"] == "First digits of the SHA-256 of the key."
    at = datetime(2026, 1, 2, tzinfo=UTC)
    entry = RevisionEntry(3, at, "enrol", None, "r", {"fan": None}, {"fan": {"name": "fan"}})
    assert adapter.validate_json(adapter.dump_json(entry)) == entry


def test_every_error_is_one_of_the_store_and_a_conflict_names_the_newest_revision() -> None:
    errors = [getattr(entities, name) for name in entities.__all__ if name.endswith("Error")]
    assert len(errors) == 6
    assert all(issubclass(error, StoreError) for error in errors)
    conflict = ConflictError(7)
    assert (conflict.revision, str(conflict)) == (7, "the classes are at revision 7 by now")


def test_no_database_library_is_needed() -> None:
    program = (
        "import sys, service.classes.entities; print({'sqlalchemy', 'psycopg'} & {*sys.modules})"
    )
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=120
    )
    assert ran.stdout == "set()\n"
