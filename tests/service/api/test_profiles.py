"""Profiles of sites, over HTTP and against a real database."""

from __future__ import annotations

import hashlib
import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from starlette.testclient import TestClient

from benchmarks.fuzz.toy import FIELDS, GOOD, toy_bundle
from models import Field
from service.classes.entities import AwayError
from tests.support.bundles import put_bundle
from tests.support.databases import KINDS, url_of

pytestmark = pytest.mark.xdist_group("postgresql")
KEY = "an admin key"
Json = dict[str, Any]
Serve = Callable[..., TestClient]
MOVING = (
    FIELDS[0].model_copy(update={"spread": 2.0}),
    FIELDS[1].model_copy(update={"spread": 0.0}),
    *FIELDS[2:],
)
"""The toy's fields, with what a profile needs to know of the training."""
USUAL = GOOD | {"cpu load": 90.0}
"""Good traffic of another network: an overload, to a model that does not know the network."""
HALF = USUAL | {"link up": False, "cpu load": 190.0}


@pytest.fixture(params=KINDS)
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return url_of(request, tmp_path / "state" / "classes.sqlite")


def bundle_of(folder: Path, fields: tuple[Field, ...] = MOVING) -> Path:
    toy_bundle(fields).write(folder)
    return folder


@pytest.fixture
def start(tmp_path: Path, serve: Serve, database: str) -> Serve:
    """Start an application on the test's database; every request has the admin key."""

    def start(folder: Path | None = None, **settings: Any) -> TestClient:
        digest = hashlib.sha256(KEY.encode()).hexdigest()
        options = {"admin_keys": digest, "database_url": database} | settings
        client = serve(folder or bundle_of(tmp_path / f"b{time.monotonic_ns()}"), **options)
        client.headers.update({"X-API-Key": KEY})
        return client

    return start


@pytest.fixture
def desk(start: Serve) -> TestClient:
    return start()


def records(count: int = 200, **more: Any) -> list[Json]:
    """Records of a network whose load is four times as high and moves twice as much."""
    return [USUAL | {"cpu load": 90.0 + 4 * (i % 5 - 2)} | more for i in range(count)]


def learn(client: TestClient, site: str = "north", query: str = "", **body: Any) -> Any:
    return client.post(f"/profiles/{site}{query}", json=body or {"records": records()})


def ask(
    client: TestClient, *records: Json, query: str = "?site=north", path: str = "classify"
) -> Any:
    return client.post(f"/{path}{query}", json={"records": list(records)})


def labels(client: TestClient, *records: Json, query: str = "?site=north") -> list[str]:
    response = ask(client, *records, query=query)
    assert response.status_code == 200, response.text
    return [each["label"] for each in response.json()["results"]]


def wait_for(look: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not look():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_site_is_understood_once_its_profile_is_learned(desk: TestClient) -> None:
    assert labels(desk, USUAL, query="") == ["overload"] or labels(desk, USUAL, query="") == [
        "unknown"
    ]
    response = learn(desk)
    assert response.status_code == 200, response.text
    content = response.json()
    assert content["revision"] == 1
    assert content["profile"] == {
        "site": "north", "state": "active", "revision": 1, "records": 200, "adapted": 2
    }  # fmt: skip
    assert content["trial"]["after"] == {"normal": 200}
    assert content["trial"]["odd"] == 0
    assert "normal" not in content["trial"]["before"]
    answer = ask(desk, USUAL, USUAL | {"link up": False, "error rate": None})
    assert [each["label"] for each in answer.json()["results"]] == ["normal", "link-down"]
    assert answer.headers["faultcube-profile"] == "north@1"
    assert answer.headers["faultcube-revision"] == "1"


def test_without_a_site_nothing_is_changed(desk: TestClient) -> None:
    before = ask(desk, USUAL, GOOD, query="")
    learn(desk)
    after = ask(desk, USUAL, GOOD, query="")
    assert after.content == before.content
    assert "faultcube-profile" not in after.headers


def test_embeddings_tensors_arrow_and_explanations_are_adapted_too(desk: TestClient) -> None:
    learn(desk)
    good = ask(desk, GOOD, path="embed", query="").json()["embeddings"]
    answer = ask(desk, USUAL, path="embed")
    np.testing.assert_allclose(answer.json()["embeddings"], good, atol=1e-5)
    assert answer.headers["faultcube-profile"] == "north@1"

    body = io.BytesIO()
    pl.DataFrame([USUAL]).write_ipc_stream(body)
    head = {"Content-Type": "application/vnd.apache.arrow.stream"}
    stream = desk.post("/classify?site=north", content=body.getvalue(), headers=head)
    assert pl.read_ipc_stream(stream.content)["label"].to_list() == ["normal"]

    row = [90.0, 0.0, 1.0, 0.0, 0.0]
    tensor = {"name": "records", "datatype": "FP32", "shape": [1, 5], "data": row}
    answer = desk.post("/v2/models/toy/infer?site=north", json={"inputs": [tensor]})
    assert answer.json()["outputs"][0]["data"] == ["normal"]


def test_bad_records_are_still_reported_in_their_place(desk: TestClient) -> None:
    learn(desk)
    answer = ask(desk, {"cpu load": "high"}, USUAL, query="?site=north&on_invalid=report")
    wrong, right = answer.json()["results"]
    assert (wrong["error"]["record"], right["label"]) == (0, "normal")


@pytest.mark.parametrize("path", ["classify", "embed"])
def test_a_site_that_nobody_has_heard_of_is_a_problem(desk: TestClient, path: str) -> None:
    answer = ask(desk, USUAL, path=path)
    assert (answer.status_code, answer.json()["reason"]) == (404, "no_such_profile")
    assert "POST /profiles/{site} learns one" in answer.json()["detail"]
    assert ask(desk, USUAL, path=path, query="?site=").status_code == 422


def test_a_site_learns_from_the_traffic_to_come(desk: TestClient) -> None:
    response = learn(desk, learn=150)
    assert response.json()["profile"]["state"] == "learning"
    answer = ask(desk, *records(100))
    assert answer.headers["faultcube-profile"] == "learning"
    assert "normal" not in {each["label"] for each in answer.json()["results"]}
    known = desk.get("/profiles/north").json()
    assert (known["state"], known["learn"], known["collected"]) == ("learning", 150, 100)
    ask(desk, *records(100))
    wait_for(lambda: desk.get("/profiles/north").json()["state"] == "active")
    known = desk.get("/profiles/north").json()
    assert (known["records"], known["revision"]) == (150, 2)
    assert labels(desk, USUAL) == ["normal"]
    [learned, asked] = desk.get("/revisions").json()["revisions"]
    assert (asked["action"], learned["action"]) == ("learn", "learned")
    assert learned["profiles_before"]["north"]["learn"] == 150
    assert learned["profiles_after"]["north"]["profile"]["records"] == 150


def test_traffic_that_stays_faulty_is_not_learned_and_the_reason_is_kept(desk: TestClient) -> None:
    learn(desk, learn=100)
    ask(desk, *records(100, **{"link up": False}))
    wait_for(lambda: desk.get("/profiles/north").json()["state"] == "refused")
    known = desk.get("/profiles/north").json()
    assert "100% of these records would still be called other than good" in known["reason"]
    assert ask(desk, USUAL).headers["faultcube-profile"] == "none"


def test_records_of_no_use_are_refused_in_a_line(desk: TestClient) -> None:
    few = learn(desk, records=records(99))
    assert (few.status_code, few.json()["reason"]) == (409, "not_learned")
    assert "99 records are too few" in few.json()["detail"]
    odd = records(100, **{"link up": False})
    assert learn(desk, records=odd).json()["reason"] == "not_learned"
    assert desk.get("/profiles").json() == {"revision": 0, "profiles": []}
    assert learn(desk, query="?force=true", records=odd).status_code == 200


@pytest.mark.parametrize(
    "body",
    [{}, {"records": [GOOD] * 100, "learn": 100}, {"learn": 99}, {"records": [{"cpu load": 1}]}],
)
def test_a_lesson_is_records_or_a_number(desk: TestClient, body: Json) -> None:
    answer = desk.post("/profiles/north", json=body)
    assert (answer.status_code, answer.json()["reason"]) == (422, "unfit")


def test_a_bundle_without_spreads_takes_no_profile(start: Serve, tmp_path: Path) -> None:
    client = start(bundle_of(tmp_path / "old", FIELDS))
    answer = learn(client)
    assert answer.json()["reason"] == "not_learned"
    assert "a profile would change nothing" in answer.json()["detail"]


def test_a_dry_run_says_what_would_be(desk: TestClient) -> None:
    content = learn(desk, query="?dry_run=true").json()
    assert (content["revision"], content["dry_run"]) == (0, True)
    assert content["trial"]["after"] == {"normal": 200}
    assert desk.get("/profiles").json()["profiles"] == []


def test_a_profile_is_shown_beside_the_training(desk: TestClient) -> None:
    learn(desk)
    known = desk.get("/profiles/north").json()
    load, errors = known["fields"]
    assert (load["field"], load["typical"], load["training"]) == ("cpu load", 90, 12.5)
    assert load["ratio"] == pytest.approx(2 / load["spread"])
    assert (errors["field"], errors["ratio"]) == ("error rate", 1)
    assert (known["unchanged"], known["unused"], known["moved"]) == ([], [], [])
    [listed] = desk.get("/profiles").json()["profiles"]
    assert listed == {name: known[name] for name in listed}


def test_a_profile_that_the_site_has_left_behind_is_seen(desk: TestClient) -> None:
    learn(desk)
    for _ in range(20):
        ask(desk, *records(10))
    assert desk.get("/profiles/north").json()["moved"] == []
    for _ in range(20):
        ask(desk, *records(10, **{"cpu load": 300.0}))
    assert desk.get("/profiles/north").json()["moved"] == ["cpu load"]


def test_profiles_are_undone_and_classes_stay(desk: TestClient) -> None:
    learn(desk)
    learn(desk, records=records(120))
    cable = {"name": "half", "records": [HALF]}
    assert desk.post("/classes?site=north&force=true", json=cable).status_code == 201
    assert desk.delete("/profiles/north").json() == {"revision": 4}
    assert ask(desk, USUAL).status_code == 404
    assert desk.get("/profiles/north").json()["reason"] == "no_such_profile"
    assert desk.delete("/profiles/north").status_code == 404
    assert desk.post("/profiles/revert/1").json()["revision"] == 5
    assert desk.get("/profiles/north").json()["records"] == 200
    assert ask(desk, USUAL).headers["faultcube-profile"] == "north@1"
    assert "half" in [known["name"] for known in desk.get("/classes").json()["classes"]]
    assert desk.post("/classes/revert/2").json()["revision"] == 6
    assert "half" not in [known["name"] for known in desk.get("/classes").json()["classes"]]
    assert labels(desk, USUAL) == ["normal"]
    answer = desk.post("/profiles/revert/99")
    assert (answer.status_code, answer.json()["reason"]) == (404, "no_such_profile")


def test_a_class_is_kept_in_the_units_of_the_training(desk: TestClient) -> None:
    learn(desk)
    strange = USUAL | {"link up": False, "cpu load": 90 + 57.5 * 2 / 1.0}
    form = {"name": "half", "records": [strange]}
    assert desk.post("/classes?site=gone", json=form).json()["reason"] == "no_such_profile"
    assert desk.post("/classes?site=north", json=form).status_code == 201
    assert labels(desk, strange) == ["half"]
    [support] = desk.get("/classes/half").json()["support"]
    scale = 2 / desk.get("/profiles/north").json()["fields"][0]["spread"]
    assert support["record"]["cpu load"] == pytest.approx(12.5 + 115 * scale, rel=1e-5)
    assert support["record"] | {"cpu load": 0} == strange | {"cpu load": 0}


def test_feedback_is_kept_in_the_units_of_the_training(start: Serve) -> None:
    client = start()
    learn(client)
    said = {"record": USUAL, "true_label": "normal"}
    assert client.post("/feedback?site=north", json=said).status_code == 201
    state = client.app.state.faultcube  # type: ignore[attr-defined]
    [entry] = state.store.feedback()
    assert entry.record["cpu load"] == pytest.approx(12.5, abs=1e-4)
    assert client.post("/feedback?site=gone", json=said).status_code == 404


def test_a_revision_that_others_have_left_and_a_key_sent_twice(desk: TestClient) -> None:
    first = learn(desk)
    outdated = desk.post("/profiles/south", json={"learn": 100}, headers={"If-Match": '"0"'})
    assert (outdated.status_code, outdated.json()["reason"]) == (409, "outdated")
    key = {"Idempotency-Key": "k"}
    one = desk.post("/profiles/south", json={"learn": 100}, headers=key)
    two = desk.post("/profiles/south", json={"learn": 100}, headers=key)
    assert one.content == two.content
    assert two.headers["idempotency-replayed"] == "true"
    assert one.json()["revision"] == first.json()["revision"] + 1 == 2


def test_only_an_admin_changes_profiles(desk: TestClient) -> None:
    del desk.headers["X-API-Key"]
    assert learn(desk).status_code == 401
    assert desk.delete("/profiles/north").status_code == 401
    assert desk.post("/profiles/revert/0").status_code == 401
    assert desk.get("/profiles").status_code == 200


@pytest.mark.parametrize("site", [" a", "x" * 201, "a%E2%80%AEb"])
def test_a_site_has_a_plain_name(desk: TestClient, site: str) -> None:
    answer = desk.post(f"/profiles/{site}", json={"learn": 100})
    assert (answer.status_code, answer.json()["reason"]) == (422, "unfit")


def test_there_is_an_end_to_sites(desk: TestClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("service.api.profiles._MAX_LEARNING", 1)
    monkeypatch.setattr("service.api.profiles._MAX_SITES", 2)
    assert learn(desk, "a", learn=100).status_code == 200
    full = learn(desk, "b", learn=100)
    assert (full.status_code, full.json()["reason"]) == (409, "full")
    assert learn(desk, "b").status_code == 200
    assert learn(desk, "c").json()["reason"] == "full"
    assert learn(desk, "b").status_code == 200


def test_replicas_share_profiles_and_they_outlive_a_service(start: Serve) -> None:
    one, two = start(), start()
    learn(one)
    wait_for(lambda: ask(two, USUAL).status_code == 200)
    assert labels(two, USUAL) == ["normal"]
    for client in (one, two):
        client.__exit__(None, None, None)
    assert labels(start(), USUAL) == ["normal"]


def test_one_replica_learns_and_the_other_takes_it_over(start: Serve) -> None:
    one, two = start(), start()
    learn(one, learn=100)
    wait_for(lambda: ask(two, USUAL).status_code == 200)
    ask(one, *records(100))
    ask(two, *records(99))
    for client in (one, two):
        wait_for(lambda client=client: labels(client, USUAL) == ["normal"])  # type: ignore[misc]
    assert one.get("/revisions").json()["revisions"][0]["revision"] == 2


def test_another_bundle_takes_the_levels_of_the_fields_that_it_has(
    start: Serve, tmp_path: Path
) -> None:
    client = start()
    learn(client)
    client.__exit__(None, None, None)
    other = (
        MOVING[0].model_copy(update={"typical": 50.0, "spread": 4.0}),
        MOVING[1].model_copy(update={"unit": "errors/min"}),
        MOVING[2],
        MOVING[3],
        Field(name="sessions", kind="gauge", required=False, typical=3.0, spread=1.0),
    )
    toy = toy_bundle(
        other, [{"cpu load": 1.0, "error rate": 0.0, "link up": True, "state": "idle"}]
    )
    toy.write(tmp_path / "other")
    known = start(tmp_path / "other").get("/profiles/north").json()
    assert [(row["field"], row["training"]) for row in known["fields"]] == [("cpu load", 50)]
    assert known["unchanged"] == ["error rate", "sessions"]
    assert known["unused"] == ["error rate"]


def test_while_the_database_is_away_the_last_profiles_serve(
    desk: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    learn(desk)
    store = desk.app.state.faultcube.store  # type: ignore[attr-defined]

    def away(*_: object, **__: object) -> None:
        raise AwayError("gone")

    for name in ("read", "commit", "revision", "at"):
        monkeypatch.setattr(store, name, away)
    assert labels(desk, USUAL) == ["normal"]
    answer = learn(desk)
    assert (answer.status_code, answer.json()["reason"]) == (503, "store_away")
    assert desk.post("/profiles/revert/0").status_code == 503


def test_without_a_database_there_are_no_profiles(
    desk: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(desk.app.state.faultcube.classes, "store", None)  # type: ignore[attr-defined]
    for answer in (learn(desk), desk.post("/profiles/revert/0")):
        assert (answer.status_code, answer.json()["reason"]) == (503, "store_away")
        assert "no database" in answer.json()["detail"]
    assert desk.get("/profiles").json() == {"revision": 0, "profiles": []}
    assert ask(desk, GOOD).json()["reason"] == "no_such_profile"


@pytest.fixture
def of_sites(tmp_path: Path, start: Serve) -> TestClient:
    """Serve a bundle that was trained on adapted records."""
    put_bundle(bundle_of(tmp_path / "plain"), tmp_path / "adapted", adapted=True)
    return start(tmp_path / "adapted")


@pytest.mark.parametrize("path", ["classify", "embed"])
def test_a_bundle_of_sites_takes_no_records_of_none(of_sites: TestClient, path: str) -> None:
    refused = of_sites.post(f"/{path}", json={"records": [USUAL]})
    assert refused.status_code == 409
    assert refused.json()["reason"] == "profile_needed"
    assert "?site=NAME" in refused.json()["detail"]
    learn(of_sites)
    assert ask(of_sites, USUAL, path=path).status_code == 200


def test_a_bundle_of_sites_learns_classes_and_corrections_of_sites_only(
    of_sites: TestClient,
) -> None:
    body = {"name": "half", "records": [HALF]}
    assert of_sites.post("/classes", json=body).json()["reason"] == "profile_needed"
    correction = {"record": USUAL, "true_label": "normal"}
    assert of_sites.post("/feedback", json=correction).json()["reason"] == "profile_needed"


def test_a_site_of_any_name_is_found_at_its_address_and_told_in_the_header(start: Serve) -> None:
    client = start()
    assert learn(client, "K%C3%B6ln%20S%C3%BCd").status_code == 200
    assert client.get("/profiles/Ko%CC%88ln%20S%C3%BCd").json()["site"] == "Köln Süd"
    answer = ask(client, USUAL, query="?site=Ko%CC%88ln+S%C3%BCd")
    assert answer.status_code == 200
    assert answer.headers["faultcube-profile"] == "K%C3%B6ln%20S%C3%BCd@1"
