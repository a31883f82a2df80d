from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
import sqlalchemy as sa

from service.classes.entities import StoredClass, SupportRecord
from service.classes.tables import METADATA, PlacedClass, classes, feedback, revisions

NOON = datetime(2026, 1, 2, 12, tzinfo=UTC)
FAN = StoredClass("fan", records=(SupportRecord(4, {"rpm": 0.0, "state": None}),), next_id=5)


@pytest.fixture
def connection() -> Iterator[sa.Connection]:
    """To a database in memory that has the tables, and nothing in them."""
    engine = sa.create_engine("sqlite://")
    METADATA.create_all(engine)
    with engine.connect() as made:
        yield made
    engine.dispose()


def revision(number: int, **more: Any) -> dict[str, Any]:
    nothing: dict[str, Any] = {"before": {}, "after": {}, "answer": b""}
    kept = {"revision": number, "at": NOON, "action": "enrol", "who": None, "request_id": "r"}
    return kept | nothing | more


def correction(**more: Any) -> dict[str, Any]:
    kept = {"at": NOON, "who": None, "request_id": "r", "bundle": "b", "record": {"a": 1}}
    return kept | {"verdict": None, "true_label": "fan", "note": ""} | more


def test_a_class_is_kept_as_json_and_read_as_it_was(connection: sa.Connection) -> None:
    connection.execute(sa.insert(classes), {"name": "fan", "place": 3, "document": FAN})
    assert connection.execute(sa.select(classes)).one() == ("fan", 3, FAN)
    raw = connection.exec_driver_sql("SELECT document FROM classes").scalar_one()
    assert raw.startswith('{"name":"fan"')


def test_changes_are_kept_with_the_places_of_the_classes(connection: sa.Connection) -> None:
    before, after = {"fan": None}, {"fan": PlacedClass(3, FAN)}
    connection.execute(sa.insert(revisions), revision(1, before=before, after=after))
    row = connection.execute(sa.select(revisions.c.before, revisions.c.after)).one()
    assert row == (before, after)


@pytest.mark.parametrize("text", ["zero \x00", '"quotes" and \\u0000', "ü \U0001f600", ""])
def test_any_text_is_kept_without_a_zero_character(text: str, connection: sa.Connection) -> None:
    connection.execute(sa.insert(feedback), correction(note=text))
    assert connection.execute(sa.select(feedback.c.note)).scalar_one() == text
    raw = connection.exec_driver_sql("SELECT note FROM feedback").scalar_one()
    assert "\x00" not in raw


def test_no_text_is_not_empty_text(connection: sa.Connection) -> None:
    connection.execute(sa.insert(feedback), correction(who=None, verdict=""))
    row = connection.execute(sa.select(feedback.c.who, feedback.c.verdict)).one()
    assert row == (None, "")


def test_a_time_is_kept_in_utc(connection: sa.Connection) -> None:
    there = NOON.astimezone(timezone(timedelta(hours=5, minutes=30)))
    connection.execute(sa.insert(revisions), revision(1, at=there))
    read = connection.execute(sa.select(revisions.c.at)).scalar_one()
    assert (read, read.utcoffset()) == (NOON, timedelta(0))
    raw = connection.exec_driver_sql("SELECT at FROM revisions").scalar_one()
    assert raw.startswith("2026-01-02 12:00:00")


def test_a_key_is_there_once_and_many_changes_have_none(connection: sa.Connection) -> None:
    connection.execute(sa.insert(revisions), [revision(1), revision(2)])
    connection.execute(sa.insert(revisions), revision(3, idempotency_key="k"))
    with pytest.raises(sa.exc.IntegrityError):
        connection.execute(sa.insert(revisions), revision(4, idempotency_key="k"))


def test_the_id_of_feedback_is_never_used_again(connection: sa.Connection) -> None:
    connection.execute(sa.insert(feedback), [correction(), correction()])
    connection.execute(sa.delete(feedback))
    connection.execute(sa.insert(feedback), correction())
    assert connection.execute(sa.select(feedback.c.id)).scalars().all() == [3]
