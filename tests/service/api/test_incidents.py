from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from service.classes.entities import AwayError
from service.incidents.incident import Change
from service.runtime.judging import judge
from service.runtime.state import State

KEY = "an admin key"
ADMIN = {"X-API-Key": KEY}
DIGEST = hashlib.sha256(KEY.encode()).hexdigest()
Json = dict[str, Any]
Serve = Callable[..., TestClient]


@pytest.fixture
def desk(bundle: Path, serve: Serve, tmp_path: Path) -> TestClient:
    """A client of a service that has a database."""
    return serve(bundle, admin_keys=DIGEST, database_url=f"sqlite:///{tmp_path / 'c.sqlite'}")


def state_of(client: TestClient) -> State:
    state: State = client.app.state.faultcube  # type: ignore[attr-defined]
    return state


def happen(client: TestClient, start: float = 1000, **records: list[Json]) -> list[Change]:
    """Let records of keys arrive, five seconds apart."""
    state = state_of(client)
    rows = sorted(
        (start + 5 * i, key, i) for key, given in records.items() for i in range(len(given))
    )
    matrix = state.served.model.schema.encode([records[key][i] for _, key, i in rows])
    times = np.array([time for time, *_ in rows])
    _, judged = judge(state.served, times, [key for _, key, _ in rows], matrix)
    return state.incidents.observe(judged)


def test_an_incident_is_shown_with_all_that_is_known_of_it(
    desk: TestClient, down: Json, good: Json
) -> None:
    happen(desk, r1=[good, down, down, good, good, good, good])
    [found] = desk.get("/incidents").json()["incidents"]
    assert (found["label"], found["root"], found["status"]) == ("link-down", "r1", "closed")
    shown = desk.get(f"/incidents/{found['id']}").json()
    assert found.items() <= shown.items()
    assert shown["first"] == "1970-01-01T00:16:45Z"
    assert [(m["key"], m["records"], m["active"]) for m in shown["members"]] == [("r1", 1, False)]
    assert [(e["key"], e["label"]) for e in shown["evidence"]] == [("r1", "link-down")]
    assert shown["records"][0]["record"] == down | {"error rate": None}
    assert [(h["kind"], h["sequence"]) for h in shown["history"]] == [("opened", 1), ("closed", 2)]


def test_incidents_are_filtered_and_paged(
    desk: TestClient, down: Json, overload: Json, good: Json
) -> None:
    for i in range(5):
        happen(desk, 1000 * (i + 1), **{f"r{i}": [down] * 2 + [good] * 4})
    happen(desk, 9000, r9=[overload, overload])
    ids, cursor = [], None
    while True:
        page = desk.get(
            "/incidents", params={"most": 2, "cursor": cursor} if cursor else {"most": 2}
        )
        ids += [each["id"] for each in page.json()["incidents"]]
        cursor = page.json().get("next")
        if cursor is None:
            break
    assert len(ids) == len(set(ids)) == 6

    def roots(**params: str) -> list[str]:
        return [each["root"] for each in desk.get("/incidents", params=params).json()["incidents"]]

    assert roots(status="open") == ["r9"]
    assert roots(**{"class": "overload"}) == ["r9"]
    assert roots(key="r3") == ["r3"]
    assert roots(since="1970-01-01T01:20:00Z") == ["r9", "r4"]


@pytest.mark.parametrize(
    "params",
    [
        {"status": "odd"},
        {"most": "0"},
        {"cursor": "x"},
        {"cursor": "0" * 31},
        {"since": "x"},
        {"since": "0.5"},
    ],
)
def test_a_filter_that_means_nothing_is_refused(desk: TestClient, params: dict[str, str]) -> None:
    assert desk.get("/incidents", params=params).status_code == 422


def test_an_incident_that_is_not_there_is_not_found(desk: TestClient) -> None:
    for method, path in [
        ("GET", ""), ("POST", "/acknowledge"), ("POST", "/close"), ("POST", "/new-normal"),
        ("POST", "/not-a-fault"),
    ]:  # fmt: skip
        answer = desk.request(method, f"/incidents/{'0' * 16}{path}", headers=ADMIN)
        assert (answer.status_code, answer.json()["reason"]) == (404, "no_such_incident")


def test_people_acknowledge_comment_and_close_and_the_history_says_who(
    desk: TestClient, down: Json
) -> None:
    [opened] = happen(desk, r1=[down, down])
    path = f"/incidents/{opened.incident.id}"
    assert desk.post(f"{path}/acknowledge", headers=ADMIN).json()["acknowledged_by"] == DIGEST[:8]
    said = desk.post(f"{path}/comment", json={"text": "on my way"}, headers=ADMIN).json()
    assert [(c["who"], c["text"]) for c in said["comments"]] == [(DIGEST[:8], "on my way")]
    closed = desk.post(f"{path}/close", headers=ADMIN).json()
    assert closed["status"] == "closed"
    assert [(h["kind"], h.get("who")) for h in closed["history"]] == [
        ("opened", None),
        ("acknowledged", DIGEST[:8]),
        ("commented", DIGEST[:8]),
        ("closed", DIGEST[:8]),
        ("closed", None),
    ]
    assert happen(desk, 1010, r1=[down, down]) == []


def test_without_the_key_nothing_is_changed(desk: TestClient, down: Json) -> None:
    [opened] = happen(desk, r1=[down, down])
    for deed in ("acknowledge", "close", "new-normal", "not-a-fault", "comment", "teach"):
        answer = desk.post(f"/incidents/{opened.incident.id}/{deed}", json={})
        assert answer.status_code == 401
    assert len(desk.get(f"/incidents/{opened.incident.id}").json()["history"]) == 1


def test_a_repeated_change_is_made_once(desk: TestClient, down: Json) -> None:
    [opened] = happen(desk, r1=[down, down])
    path, headers = f"/incidents/{opened.incident.id}/comment", ADMIN | {"Idempotency-Key": "k"}
    first = desk.post(path, json={"text": "a"}, headers=headers)
    again = desk.post(path, json={"text": "a"}, headers=headers)
    assert again.json() == first.json()
    assert again.headers["Idempotency-Replayed"] == "true"
    other = desk.post(path, json={"text": "b"}, headers=headers)
    assert (other.status_code, other.json()["reason"]) == (409, "key_reused")


def test_what_was_no_fault_becomes_feedback_and_is_closed(desk: TestClient, down: Json) -> None:
    [opened] = happen(desk, r1=[down, down, down])
    answer = desk.post(f"/incidents/{opened.incident.id}/not-a-fault", headers=ADMIN)
    assert answer.json()["status"] == "closed"
    store = state_of(desk).store
    assert store is not None
    kept = store.feedback()
    assert [(f.true_label, f.verdict, f.note) for f in kept] == [
        ("normal", "link-down", f"incident {opened.incident.id}")
    ] * 2
    assert kept[0].record == down | {"error rate": None}


def test_feedback_that_a_database_lost_is_written_by_the_repeat(
    desk: TestClient, down: Json, monkeypatch: pytest.MonkeyPatch
) -> None:
    [opened] = happen(desk, r1=[down, down, down])
    store = state_of(desk).store
    assert store is not None
    complete = store.complete_feedback

    def failing(note: str, rows: Sequence[Mapping[str, Any]]) -> None:
        complete(note, rows[:1])
        raise AwayError("away")

    monkeypatch.setattr(store, "complete_feedback", failing)
    path, headers = f"/incidents/{opened.incident.id}/not-a-fault", ADMIN | {"Idempotency-Key": "k"}
    assert desk.post(path, headers=headers).status_code == 503
    assert len(store.feedback()) == 1
    monkeypatch.setattr(store, "complete_feedback", complete)
    for _ in range(2):
        answer = desk.post(path, headers=headers)
        assert (answer.status_code, answer.headers["Idempotency-Replayed"]) == (200, "true")
        assert len(store.feedback()) == 2


def test_an_incident_of_an_unknown_kind_teaches_a_class(desk: TestClient, unknown: Json) -> None:
    [opened] = happen(desk, r1=[unknown] * 8)
    assert opened.incident.label == "unknown"
    path = f"/incidents/{opened.incident.id}/teach"
    tried = desk.post(path, params={"dry_run": True}, json={"name": "odd"}, headers=ADMIN)
    assert tried.json()["dry_run"] is True
    headers = ADMIN | {"Idempotency-Key": "k"}
    taught = desk.post(path, json={"name": "odd", "severity": "minor"}, headers=headers)
    assert (taught.status_code, taught.json()["class"]["severity"]) == (201, "minor")
    again = desk.post(path, json={"name": "odd", "severity": "minor"}, headers=headers)
    assert again.headers["Idempotency-Replayed"] == "true"
    history = desk.get(f"/incidents/{opened.incident.id}").json()["history"]
    assert [(h["kind"], h["note"]) for h in history[1:]] == [("taught", "odd")]
    assert happen(desk, 2000, r2=[unknown, unknown])[-1].incident.label == "odd"
    taken = desk.post(path, json={"name": "odd"}, headers=ADMIN)
    assert (taken.status_code, taken.json()["reason"]) == (409, "name_taken")


def test_what_was_looked_at_is_taught_and_not_what_came_meanwhile(
    desk: TestClient, unknown: Json
) -> None:
    [opened] = happen(desk, r1=[unknown] * 8)
    path = f"/incidents/{opened.incident.id}/teach"
    shown = desk.get(f"/incidents/{opened.incident.id}").json()["records"]
    places = [0, len(shown) - 1]
    taught = desk.post(path, json={"name": "odd", "records": [*places, 0]}, headers=ADMIN)
    assert (taught.status_code, taught.json()["class"]["records"]) == (201, 2)
    for wrong in ([len(shown)], [-1], [], [0.5]):
        body = {"name": "even", "records": wrong}
        assert desk.post(path, json=body, headers=ADMIN).status_code == 422


def test_the_new_normal_is_learned_again(desk: TestClient, down: Json) -> None:
    [opened] = happen(desk, r1=[down, down])
    renewed: list[str] = []
    state_of(desk).incidents.on_renew = renewed.extend
    answer = desk.post(f"/incidents/{opened.incident.id}/new-normal", headers=ADMIN)
    assert (answer.json()["status"], renewed) == ("closed", ["r1"])


def test_what_alertmanager_has_told_is_acknowledged(desk: TestClient, down: Json) -> None:
    [opened] = happen(desk, r1=[down, down])
    message = {
        "version": "4",
        "receiver": "night shift",
        "status": "firing",
        "alerts": [
            {"status": "firing", "labels": {"incident": opened.incident.id, "alertname": "x"}},
            {"status": "firing", "labels": {"alertname": "of another program"}},
            {"status": "firing"},
        ],
    }
    for expected in ([opened.incident.id], []):
        answer = desk.post("/incidents/alertmanager/webhook", json=message, headers=ADMIN)
        assert answer.json() == {"acknowledged": expected}
    shown = desk.get(f"/incidents/{opened.incident.id}").json()
    assert shown["acknowledged_by"] == "alertmanager night shift"


def test_without_a_database_incidents_are_in_memory_and_say_so(
    bundle: Path, serve: Serve, down: Json, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))  # where no other test has made one
    client = serve(bundle)
    happen(client, r1=[down, down])
    found = client.get("/incidents").json()
    assert (found["kept"], len(found["incidents"])) == ("memory", 1)
