"""Classes at run time, over HTTP and against a real database."""

from __future__ import annotations

import hashlib
import sqlite3
import threading
import time
import unicodedata
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np
import pytest
from starlette.testclient import TestClient

from models import Bundle, Model, Reference
from models.reference import REFERENCE
from service.api import classes as routes
from service.classes import sqlite
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, StoredClass
from service.runtime import class_sync
from tests.support.databases import KINDS, Postgres, url_of

pytestmark = pytest.mark.xdist_group("postgresql")
KEY = "an admin key"
ADMIN = {"X-API-Key": KEY}
Json = dict[str, Any]
Serve = Callable[..., TestClient]


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request, tmp_path / "state" / "classes.sqlite")


@pytest.fixture
def start(bundle: Path, serve: Serve, database: str) -> Serve:
    """Start an application on the test's database; every request has the admin key."""

    def start(folder: Path | None = None, **settings: Any) -> TestClient:
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        options = {"admin_keys": digest, "database_url": database} | settings
        client = serve(folder or bundle, **options)
        client.headers.update(ADMIN)
        return client

    return start


@pytest.fixture
def desk(start: Serve) -> TestClient:
    return start()


@pytest.fixture
def measured(bundle: Path, tmp_path: Path, good: Json, down: Json) -> Path:
    """A bundle with calibration records: forty of good traffic and ten links that are down."""
    read = Bundle.read(bundle)
    schema = Model(read).schema
    records = [good | {"cpu load": 12.5 + i / 100} for i in range(40)]
    records += [down | {"cpu load": 3 + i / 100} for i in range(10)]
    labels = np.array([0] * 40 + [1] * 10, np.int16)
    files = {**read.files, REFERENCE: Reference(schema.encode(records), labels).to_bytes()}
    content = read.manifest.model_dump(exclude={"version", "files", "format"})
    Bundle.make(files, **content).write(tmp_path / "measured")
    return tmp_path / "measured"


@pytest.fixture
def odd(unknown: Json) -> Json:
    """A record that no class of the bundle accepts."""
    return unknown


def labels(client: TestClient, *records: Json) -> list[str]:
    response = client.post("/classify", json={"records": list(records)})
    assert response.status_code == 200, response.text
    return [each["label"] for each in response.json()["results"]]


def enrol(client: TestClient, name: str, *records: Json, query: str = "", **more: Any) -> Any:
    body = {"name": name, "records": list(records)} | more
    return client.post(f"/classes{query}", json=body)


def test_a_class_is_learned_from_one_record_and_known_at_once(
    desk: TestClient, odd: Json, good: Json, down: Json
) -> None:
    assert labels(desk, odd) == ["unknown"]
    response = enrol(desk, "half_down", odd, description="seen on Tuesday")
    assert response.status_code == 201
    content = response.json()
    assert content["revision"] == 1
    assert content["class"] | {"radius": 0} == {
        "name": "half_down",
        "good": False,
        "severity": "major",
        "description": "seen on Tuesday",
        "source": "enrolled",
        "state": "active",
        "records": 1,
        "radius": 0,
    }
    assert labels(desk, odd, good, down) == ["half_down", "normal", "link-down"]
    answer = desk.post("/classify", json={"records": [odd]})
    assert answer.headers["faultcube-revision"] == "1"
    [result] = answer.json()["results"]
    assert (result["label"], result["good"], result["distance"]) == ("half_down", False, 0)
    assert desk.get("/readyz").json()["revision"] == 1


def test_what_is_learned_outlives_the_service(start: Serve, odd: Json) -> None:
    client = start()
    assert enrol(client, "odd", odd).status_code == 201
    client.__exit__(None, None, None)
    assert labels(start(), odd) == ["odd"]


def test_classes_are_listed_and_shown(desk: TestClient, odd: Json) -> None:
    enrol(desk, "odd", odd, good=True)
    content = desk.get("/classes").json()
    assert content["revision"] == 1
    assert [(each["name"], each["source"], each["severity"]) for each in content["classes"]] == [
        ("normal", "bundle", "none"),
        ("link-down", "bundle", "critical"),
        ("overload", "bundle", "major"),
        ("odd", "enrolled", "none"),
    ]
    shown = desk.get("/classes/odd").json()
    assert shown["support"] == [{"id": 1, "record": odd}]
    assert next(iter(shown["distances"])) == "link-down"
    assert {*shown["distances"]} == {"normal", "link-down", "overload"}
    assert "support" not in desk.get("/classes/normal").json()
    assert desk.get("/classes/none such").status_code == 404


def test_records_are_added_and_deleted(desk: TestClient, odd: Json) -> None:
    enrol(desk, "odd", odd)
    more = [odd | {"cpu load": 71.0}, odd | {"cpu load": 72.0}]
    response = desk.put("/classes/odd", json={"records": more, "severity": "minor"})
    assert (response.status_code, response.json()["class"]["records"]) == (200, 3)
    assert response.json()["report"]["spread"] > 0
    assert desk.delete("/classes/odd/records/2").json()["class"]["records"] == 2
    shown = desk.get("/classes/odd").json()
    assert [each["id"] for each in shown["support"]] == [1, 3]
    assert shown["severity"] == "minor"
    desk.put("/classes/odd", json={"records": more[:1]})
    assert [each["id"] for each in desk.get("/classes/odd").json()["support"]] == [1, 3, 4]
    assert desk.delete("/classes/odd/records/2").status_code == 404
    assert desk.delete("/classes/odd").json() == {"revision": 5}
    assert desk.get("/classes/odd").status_code == 404
    assert labels(desk, odd) == ["unknown"]


def test_the_last_record_stays(desk: TestClient, odd: Json) -> None:
    enrol(desk, "odd", odd)
    response = desk.delete("/classes/odd/records/1")
    assert (response.status_code, response.json()["reason"]) == (409, "full")


def test_a_class_of_the_bundle_is_hidden_and_shown_but_never_deleted(
    desk: TestClient, down: Json, odd: Json
) -> None:
    refused = desk.delete("/classes/link-down")
    assert (refused.status_code, refused.json()["reason"]) == (409, "class_of_bundle")
    assert desk.put("/classes/link-down", json={"records": [odd]}).status_code == 409
    assert desk.put("/classes/normal", json={"hidden": True}).status_code == 409
    assert desk.put("/classes/link-down", json={"hidden": True}).status_code == 200
    assert labels(desk, down) == ["unknown"]
    states = {each["name"]: each["state"] for each in desk.get("/classes").json()["classes"]}
    assert states == {"normal": "active", "link-down": "hidden", "overload": "active"}
    assert desk.put("/classes/link-down", json={"hidden": False}).status_code == 200
    assert labels(desk, down) == ["link-down"]


@pytest.mark.parametrize(
    "name",
    ["", "a" * 201, " a", "a/b", ".", "..", "a\u202eb", "a\x07", "unknown", "UNKNOWN", 3, None],
)
def test_a_name_that_is_none_is_refused(desk: TestClient, odd: Json, name: Any) -> None:
    response = enrol(desk, name, odd)
    assert (response.status_code, response.json()["reason"]) == (422, "unfit")
    assert response.json()["errors"][0]["field"] == "name"
    assert "Input" not in response.text


@pytest.mark.parametrize("name", ["Cable break", "Überlast", "U\u0308berlast", "100 % (?#)", "..."])
def test_a_class_of_any_name_is_found_at_its_address(
    desk: TestClient, odd: Json, name: str
) -> None:
    assert enrol(desk, name, odd).status_code == 201
    kept = unicodedata.normalize("NFC", name)
    assert labels(desk, odd) == [kept]
    address = f"/classes/{quote(name)}"
    assert desk.get(address).json()["name"] == kept
    assert desk.put(address, json={"severity": "minor"}).status_code == 200
    assert desk.delete(address).status_code == 200
    assert desk.get(address).status_code == 404


def test_classes_of_an_older_database_are_served_whatever_they_are_called(
    desk: TestClient, odd: Json
) -> None:
    enrol(desk, "odd", odd)
    state = desk.app.state.faultcube  # type: ignore[attr-defined]
    snapshot, base = state.enrolment.snapshot, state.enrolment.base
    stored = snapshot.classes["odd"]
    old = {name: replace(stored, name=name) for name in ("..", "Normal", "Unknown")}
    enrolment = Enrolment.of(base, replace(snapshot, classes=old))
    assert not enrolment.parked
    assert enrolment.model.names[-3:] == ["..", "Normal", "Unknown"]


def test_a_name_is_taken_once(desk: TestClient, odd: Json) -> None:
    assert enrol(desk, "odd", odd).status_code == 201
    for name in ("odd", "link-down", "Odd", "LINK-DOWN", "Normal"):
        response = enrol(desk, name, odd, query="?force=true")
        assert (response.status_code, response.json()["reason"]) == (409, "name_taken")


def test_a_record_that_does_not_fit_is_named_with_its_field(desk: TestClient, odd: Json) -> None:
    response = enrol(desk, "odd", odd, odd | {"cpu load": "high"})
    assert response.status_code == 422
    assert response.json()["errors"] == [
        {"record": 1, "field": "cpu load", "expected": "a finite number (%)", "got": "a string"}
    ]


@pytest.mark.parametrize(
    ("body", "status"),
    [
        (b"", 400),
        (b"{", 400),
        (b"\xff", 400),
        (b"[]", 422),
        (b'{"name": "a"}', 422),
        (b'{"name": "a", "records": []}', 422),
        (b'{"name": "a", "records": [1]}', 422),
        (b'{"name": "a", "records": [{}], "colour": 1}', 422),
        (b'{"name": "a", "records": [{"cpu load": NaN}]}', 422),
    ],
)
def test_a_body_that_is_no_class_is_refused(desk: TestClient, body: bytes, status: int) -> None:
    response = desk.post("/classes", content=body, headers={"Content-Type": "application/json"})
    assert response.status_code == status, response.text
    assert desk.get("/classes").json()["revision"] == 0


def test_without_an_admin_key_nothing_changes(bundle: Path, serve: Serve, odd: Json) -> None:
    client = serve(bundle)
    refused = enrol(client, "odd", odd)
    assert refused.status_code == 403
    assert "FAULTCUBE_ADMIN_KEYS" in refused.json()["detail"]
    assert client.get("/classes").json()["revision"] == 0
    assert client.get("/revisions").json() == {"revisions": []}


def test_a_dry_run_tells_and_changes_nothing(
    start: Serve, measured: Path, odd: Json, good: Json, down: Json
) -> None:
    client = start(measured)
    assert labels(client, *[down] * 3, *[good] * 4, odd)[-1] == "unknown"
    response = enrol(client, "odd", odd, query="?dry_run=true")
    assert response.status_code == 200
    content = response.json()
    assert content["dry_run"] is True
    report = content["report"]
    assert report["records"] == 1
    assert report["spread"] is None
    assert report["nearest"]["name"] == "link-down"
    assert report["calibration"] == {"records": 50, "changed": 0, "taken": {}}
    assert report["recent"] == {"records": 8, "changed": 1, "taken": {"unknown": 1}}
    assert report["radius"] == pytest.approx(0.1, abs=1e-5)
    assert client.get("/classes").json()["revision"] == 0
    assert labels(client, odd) == ["unknown"]


def test_a_class_that_would_swallow_another_is_refused_unless_forced(
    start: Serve, measured: Path, good: Json
) -> None:
    client = start(measured)
    same = [good | {"cpu load": 12.5 + i / 100} for i in range(50)]
    refused = enrol(client, "again", *same)
    content = refused.json()
    assert (refused.status_code, content["reason"]) == (409, "swallows")
    assert content["report"]["swallowed"]["normal"] > 0.1
    assert content["report"]["calibration"]["taken"]["normal"] > 4
    assert client.get("/classes").json()["revision"] == 0
    assert enrol(client, "again", *same, query="?force=true").status_code == 201


def test_an_enrolled_class_is_not_swallowed_either(start: Serve, odd: Json) -> None:
    client = start()
    enrol(client, "first", odd, odd | {"cpu load": 68.0})
    refused = enrol(client, "second", odd)
    assert (refused.status_code, refused.json()["reason"]) == (409, "swallows")
    assert refused.json()["report"]["swallowed"] == {"first": 0.5}


def test_records_that_contradict_each_other_are_refused_unless_forced(
    desk: TestClient, down: Json, good: Json
) -> None:
    refused = enrol(desk, "mixed", down, good)
    content = refused.json()
    assert (refused.status_code, content["reason"]) == (422, "contradictory")
    assert content["report"]["spread"] > content["report"]["nearest"]["distance"]
    assert f"{content['report']['spread']:.4f}" in content["detail"]
    assert enrol(desk, "mixed", down, good, query="?force=true").status_code == 201
    # What decides as it did before needs no force again.
    unchanged = desk.put("/classes/mixed", json={})
    assert (unchanged.status_code, unchanged.json()["revision"]) == (200, 1)
    assert desk.put("/classes/mixed", json={"description": "both"}).status_code == 200
    assert desk.put("/classes/mixed", json={"hidden": True}).status_code == 200
    assert desk.put("/classes/mixed", json={"hidden": False}).status_code == 422
    assert desk.put("/classes/mixed?force=true", json={"hidden": False}).status_code == 200
    assert desk.put("/classes/mixed", json={"records": [good]}).status_code == 422


def test_a_full_store_says_so(start: Serve, odd: Json, monkeypatch: pytest.MonkeyPatch) -> None:
    client = start(max_classes=1)
    assert enrol(client, "odd", odd).status_code == 201
    refused = enrol(client, "more", odd | {"cpu load": 30.0})
    assert (refused.status_code, refused.json()["reason"]) == (409, "full")
    assert client.put("/classes/odd", json={"records": [odd] * 100}).status_code == 409
    monkeypatch.setattr(routes, "_MAX_TOTAL_RECORDS", 1)
    assert client.put("/classes/odd", json={"records": [odd]}).status_code == 409


def test_an_idempotency_key_makes_a_change_once(desk: TestClient, odd: Json) -> None:
    desk.headers["Idempotency-Key"] = "k-1"
    first = enrol(desk, "odd", odd)
    again = enrol(desk, "odd", odd)
    assert (first.status_code, again.status_code) == (201, 201)
    assert first.json() == again.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"
    other = enrol(desk, "other", odd)
    assert (other.status_code, other.json()["reason"]) == (409, "key_reused")
    assert desk.get("/classes").json()["revision"] == 1


def test_who_has_seen_an_earlier_revision_is_told(desk: TestClient, odd: Json) -> None:
    enrol(desk, "odd", odd)
    for seen in ("0", '"0"'):
        refused = desk.delete("/classes/odd", headers={"If-Match": seen})
        assert (refused.status_code, refused.json()["reason"]) == (409, "outdated")
    assert desk.delete("/classes/odd", headers={"If-Match": '"1"'}).status_code == 200
    refused = desk.delete("/classes/odd", headers={"If-Match": "x"})
    assert (refused.status_code, refused.json()["errors"][0]["field"]) == (422, "If-Match")


def test_any_revision_matches_a_star(desk: TestClient, odd: Json) -> None:
    desk.headers["If-Match"] = "*"
    assert enrol(desk, "odd", odd).status_code == 201
    assert desk.delete("/classes/odd").status_code == 200


def test_every_change_is_kept_and_can_be_undone(desk: TestClient, odd: Json, down: Json) -> None:
    enrol(desk, "odd", odd)
    desk.put("/classes/link-down", json={"hidden": True})
    desk.delete("/classes/odd")
    history = desk.get("/revisions").json()["revisions"]
    assert [(each["revision"], each["action"]) for each in history] == [
        (3, "delete"),
        (2, "hide"),
        (1, "enrol"),
    ]
    assert history[0]["before"]["odd"]["records"] == [{"id": 1, "record": odd}]
    assert history[0]["after"] == {"odd": None}
    assert history[0]["who"] == hashlib.sha256(KEY.encode()).hexdigest()[:8]
    assert history[0]["request_id"]
    assert datetime.fromisoformat(history[0]["at"]).tzinfo is not None
    [second] = desk.get("/revisions?most=1&before=3").json()["revisions"]
    assert second["revision"] == 2
    assert desk.post("/classes/revert/1").json()["revision"] == 4
    assert labels(desk, odd, down) == ["odd", "link-down"]
    assert desk.post("/classes/revert/0").json()["revision"] == 5
    assert labels(desk, odd, down) == ["unknown", "link-down"]
    assert desk.post("/classes/revert/0").json()["revision"] == 5
    assert desk.post("/classes/revert/99").status_code == 404


def test_changes_at_the_same_time_lose_nothing(desk: TestClient, odd: Json) -> None:
    names = [f"c{i}" for i in range(24)]

    def one(name: str) -> int:
        code: int = enrol(desk, name, odd, query="?force=true").status_code
        return code

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(one, names)) == {201}
    content = desk.get("/classes").json()
    assert content["revision"] == 24
    assert {*names} <= {each["name"] for each in content["classes"]}


@pytest.mark.alone
def test_another_replica_sees_a_change_within_a_second(start: Serve, odd: Json) -> None:
    one, other = start(), start()
    enrol(one, "odd", odd)
    began = time.monotonic()
    while labels(other, odd) != ["odd"]:
        assert time.monotonic() - began < 1
        time.sleep(0.02)
    assert other.get("/readyz").json()["revision"] == 1
    assert enrol(other, "next", odd | {"cpu load": 20.0}).json()["revision"] == 2


def test_a_request_is_answered_by_one_set_of_classes(desk: TestClient, odd: Json) -> None:
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            enrol(desk, "odd", odd)
            desk.delete("/classes/odd")

    thread = threading.Thread(target=change)
    thread.start()
    seen = set()
    try:
        for _ in range(60):
            answer = desk.post("/classify", json={"records": [odd] * 3000})
            [label] = {each["label"] for each in answer.json()["results"]}
            assert (label == "odd") == (int(answer.headers["faultcube-revision"]) % 2 == 1)
            seen.add(label)
    finally:
        ended.set()
        thread.join()
    assert seen == {"odd", "unknown"}


def test_after_a_swap_centroids_are_made_anew_and_what_does_not_fit_is_parked(
    start: Serve, bundle: Path, make_bundle: Callable[..., Path], odd: Json
) -> None:
    client = start()
    enrol(client, "odd", odd)
    client.__exit__(None, None, None)
    fields = Bundle.read(bundle).manifest.fields
    narrow = make_bundle(fields[:4], [{k: odd[k] for k in list(odd)[:4]}])
    client = start(narrow)
    [parked] = [e for e in client.get("/classes").json()["classes"] if e["name"] == "odd"]
    assert parked["state"] == "parked"
    assert "vendor" in parked["reason"]
    client.__exit__(None, None, None)
    assert labels(start(), odd) == ["odd"]


def test_while_the_database_is_away_classification_goes_on(
    start: Serve, odd: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = start()
    enrol(client, "odd", odd)
    store = client.app.state.faultcube.store  # type: ignore[attr-defined]

    def away(*_args: object, **_options: object) -> Any:
        raise AwayError("it is away")

    with monkeypatch.context() as patch:
        for name in ("read", "revision", "history", "add_feedback", "answered"):
            patch.setattr(store, name, away)
        deadline = time.monotonic() + 5
        while client.get("/readyz").json()["status"] != "degraded":
            assert time.monotonic() < deadline
            time.sleep(0.02)
        assert client.get("/readyz").status_code == 200
        assert labels(client, odd) == ["odd"]
        refused = enrol(client, "more", odd)
        assert (refused.status_code, refused.json()["reason"]) == (503, "store_away")
        assert refused.headers["retry-after"]
        assert client.get("/revisions").status_code == 503
        body = {"record": odd, "true_label": "odd"}
        assert client.post("/feedback", json=body).status_code == 503
        assert "faultcube_store_up 0.0" in client.get("/metrics").text
    while client.get("/readyz").json()["status"] != "ready":
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert "faultcube_store_up 1.0" in client.get("/metrics").text


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
def test_while_the_disk_of_the_database_is_full_the_service_is_degraded(
    start: Serve, odd: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(class_sync, "_PROBE_SECONDS", 0.0)
    client = start()
    enrol(client, "odd", odd)
    with monkeypatch.context() as patch:
        patch.setattr(sqlite, "_connect", full(sqlite._connect))
        client.app.state.faultcube.store.close()  # type: ignore[attr-defined]  # opened anew, full
        wait_for_status(client, "degraded")
        response = client.get("/readyz")
        assert response.status_code == 200
        assert "No change can be stored (" in response.json()["detail"]
        assert "make room on its disk" in response.json()["detail"]
        assert labels(client, odd) == ["odd"]
        text = client.get("/metrics").text
        assert "faultcube_store_writable 0.0" in text
        assert "faultcube_store_up 1.0" in text
    client.app.state.faultcube.store.close()  # type: ignore[attr-defined]
    wait_for_status(client, "ready")
    assert "faultcube_store_writable 1.0" in client.get("/metrics").text


def full(connect: Callable[[Path], sqlite3.Connection]) -> Callable[[Path], sqlite3.Connection]:
    """Connect to databases that may not grow."""

    def connected(path: Path) -> sqlite3.Connection:
        connection = connect(path)
        connection.execute("PRAGMA max_page_count = 1")
        return connection

    return connected


def wait_for_status(client: TestClient, status: str) -> None:
    deadline = time.monotonic() + 10
    while client.get("/readyz").json()["status"] != status:
        assert time.monotonic() < deadline
        time.sleep(0.02)


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_database_that_stops_and_comes_again_is_noticed(
    start: Serve, server: Postgres, odd: Json
) -> None:
    client = start()
    assert enrol(client, "odd", odd).status_code == 201

    def wait_for(status: str) -> None:
        deadline = time.monotonic() + 20
        while client.get("/readyz").json()["status"] != status:
            assert time.monotonic() < deadline
            time.sleep(0.05)

    server.stop()
    try:
        wait_for("degraded")
        assert labels(client, odd) == ["odd"]
        assert enrol(client, "more", odd).status_code == 503
    finally:
        server.start()
    wait_for("ready")
    assert enrol(client, "more", odd, query="?force=true").status_code == 201


@pytest.mark.parametrize("database", ["postgresql"], indirect=True)
def test_a_service_that_starts_without_its_database_finds_it_later(
    start: Serve, server: Postgres, odd: Json
) -> None:
    client = start()
    enrol(client, "odd", odd)
    client.__exit__(None, None, None)
    server.stop()
    try:
        client = start()
        assert client.get("/readyz").json()["status"] == "degraded"
        assert labels(client, odd) == ["unknown"]
    finally:
        server.start()
    deadline = time.monotonic() + 20
    while labels(client, odd) != ["odd"]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_feedback_is_kept(desk: TestClient, odd: Json) -> None:
    body = {"record": odd, "verdict": "unknown", "true_label": "odd", "note": "a colleague"}
    assert desk.post("/feedback", json=body).json() == {"id": 1}
    assert desk.post("/feedback", json={"record": odd, "true_label": "odd"}).status_code == 201
    store = desk.app.state.faultcube.store  # type: ignore[attr-defined]
    first, second = store.feedback()
    assert (first.record, first.verdict, first.true_label) == (odd, "unknown", "odd")
    assert (first.note, second.note, second.verdict) == ("a colleague", "", None)
    bad = desk.post("/feedback", json={"record": odd | {"x": 1}, "true_label": "odd"})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "x")
    assert desk.post("/feedback", json={"record": odd, "true_label": "unknown"}).status_code == 422


def test_metrics_tell_of_classes(desk: TestClient, odd: Json) -> None:
    enrol(desk, "odd", odd)
    labels(desk, odd)
    text = desk.get("/metrics").text
    assert "faultcube_classes_revision 1.0" in text
    assert "faultcube_enrolled_classes 1.0" in text
    assert 'faultcube_verdicts_total{label="odd"} 1.0' in text


def test_a_method_that_is_not_taken_is_answered_with_those_that_are(desk: TestClient) -> None:
    refused = desk.patch("/classes/odd")
    assert (refused.status_code, refused.headers["allow"]) == (405, "DELETE, GET, HEAD, PUT")


@pytest.mark.parametrize("body", [{}, {"records": None}, {"hidden": None, "severity": None}])
def test_an_amendment_of_nothing_changes_nothing(desk: TestClient, odd: Json, body: Json) -> None:
    enrol(desk, "odd", odd)
    for name in ("odd", "normal"):
        response = desk.put(f"/classes/{name}", json=body)
        assert (response.status_code, response.json()["revision"]) == (200, 1)
        assert response.json()["class"]["name"] == name


def test_an_enrolled_class_is_hidden_and_shown(desk: TestClient, odd: Json) -> None:
    enrol(desk, "odd", odd)
    assert desk.put("/classes/odd", json={"hidden": True}).json()["class"]["state"] == "hidden"
    assert labels(desk, odd) == ["unknown"]
    assert desk.put("/classes/odd", json={"hidden": False}).json()["class"]["state"] == "active"
    assert labels(desk, odd) == ["odd"]


def test_a_class_that_was_hidden_in_an_earlier_bundle_does_not_block_its_name(
    desk: TestClient, odd: Json
) -> None:
    store = desk.app.state.faultcube.store  # type: ignore[attr-defined]
    assert store is not None
    gone = {"gone": StoredClass("gone")}  # as a class of a bundle is hidden
    store.commit(store.revision(), gone, action="hide", who=None, request_id="r")
    deadline = time.monotonic() + 5
    while desk.get("/classes").json()["revision"] != 1:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert enrol(desk, "gone", odd).status_code == 201
    assert labels(desk, odd) == ["gone"]


@pytest.mark.parametrize(
    ("method", "path", "known"),
    [
        ("POST", "/classes?dryrun=true", "dry_run, force"),
        ("GET", "/incidents?statu=open", "class, cursor, key, "),
        ("GET", "/revisions?mots=1", "before, most"),
        ("DELETE", "/classes/taught?dry_run=true", ""),
        ("POST", "/classes/revert/0?dry_run=true", ""),
    ],
)
def test_a_parameter_that_is_not_known_is_refused(
    desk: TestClient, odd: Json, method: str, path: str, known: str
) -> None:
    taught = desk.post("/classes", json={"name": "taught", "records": [odd]})
    body = {"name": "odd", "records": [odd]} if path.startswith("/classes?") else None
    response = desk.request(method, path, json=body)
    assert (response.status_code, response.json()["reason"]) == (422, "unfit")
    [error] = response.json()["errors"]
    assert error["got"] == "a parameter not known"
    assert error["expected"].startswith(f"only {known}" if known else "no parameter")
    assert desk.get("/classes").json()["revision"] == taught.json()["revision"]
