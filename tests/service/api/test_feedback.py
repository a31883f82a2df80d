from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import Bundle
from service.classes.database import Store

KEY = "an admin key"
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
Json = dict[str, Any]
Serve = Callable[..., TestClient]


@pytest.fixture
def desk(bundle: Path, serve: Serve, tmp_path: Path) -> TestClient:
    """A client whose every request has the admin key."""
    client = serve(
        bundle, admin_keys=DIGEST, database_url=f"sqlite:///{tmp_path / 'classes.sqlite'}"
    )
    client.headers["X-API-Key"] = KEY
    return client


def store_of(client: TestClient) -> Store:
    store: Store = client.app.state.faultcube.store  # type: ignore[attr-defined]
    return store


def test_what_is_kept_says_who_said_it_in_which_request_about_which_bundle(
    desk: TestClient, good: Json, bundle: Path
) -> None:
    answer = desk.post(
        "/feedback",
        json={"record": good, "true_label": "odd"},
        headers={"X-Request-ID": "call-7"},
    )
    assert (answer.status_code, answer.json()) == (201, {"id": 1})
    (kept,) = store_of(desk).feedback()
    assert (kept.who, kept.request_id) == (DIGEST[:8], "call-7")
    assert kept.bundle == Bundle.read(bundle).manifest.version


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("true_label", None),
        ("true_label", ""),
        ("true_label", "a/b"),
        ("true_label", "x" * 201),
        ("true_label", "Normal"),
        ("true_label", "unknown"),
        ("verdict", "x" * 256),
        ("note", "x" * 1001),
        ("note", None),
        ("record", []),
        ("cpu load", 1.0),
    ],
)
def test_what_does_not_fit_is_named_and_not_kept(
    desk: TestClient, good: Json, field: str, value: object
) -> None:
    answer = desk.post("/feedback", json={"record": good, "true_label": "odd"} | {field: value})
    assert answer.status_code == 422
    assert [error["field"] for error in answer.json()["errors"]] == [field]
    assert store_of(desk).feedback() == []


def test_a_record_that_the_model_could_not_read_is_not_kept(desk: TestClient, good: Json) -> None:
    answer = desk.post(
        "/feedback", json={"record": good | {"link up": "s3cr3t"}, "true_label": "odd"}
    )
    (error,) = answer.json()["errors"]
    assert (error["field"], error["got"]) == ("link up", "a string")
    assert "s3cr3t" not in answer.text
    assert store_of(desk).feedback() == []


def test_nothing_is_kept_of_somebody_without_the_key(desk: TestClient, good: Json) -> None:
    desk.headers["X-API-Key"] = "another key"
    answer = desk.post("/feedback", json={"record": good, "true_label": "odd"})
    assert (answer.status_code, answer.json()["reason"]) == (401, "unauthorized")
    assert store_of(desk).feedback() == []


def test_without_a_database_nothing_is_taken(
    desk: TestClient, good: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk.app.state.faultcube.classes, "store", None)  # type: ignore[attr-defined]
    answer = desk.post("/feedback", json={"record": good, "true_label": "odd"})
    assert (answer.status_code, answer.json()["reason"]) == (503, "store_away")
    assert "no database" in answer.json()["detail"]
