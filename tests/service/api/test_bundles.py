from __future__ import annotations

import hashlib
import json
import shutil
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import Bundle, Model
from models.signature import new_key, sign
from service.app import create_app
from service.bundles.repository import POINTER
from service.settings import Settings
from tests.support.bundles import put_looping_bundle

KEY = "an admin key"
ADMIN = {"X-API-Key": KEY}
Serve = Callable[..., TestClient]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for bundles."""
    folder = tmp_path / "bundles"
    folder.mkdir()
    return folder


@pytest.fixture
def shelve(folder: Path, bundle: Path) -> Callable[..., str]:
    """Put a bundle into the folder, as another version; gives the version."""

    def put(name: str, *, year: int = 2025, good: bool = True) -> str:
        read = Bundle.read(bundle)
        content = read.manifest.model_dump(exclude={"version", "files", "format"})
        content["about"] = name
        content["created"] = content["created"].replace(year=year)
        made = Bundle.make(read.files, **content)
        made.write(folder / name)
        if not good:
            (folder / name / "encoder.onnx").write_bytes(b"spoilt")
        return made.manifest.version

    return put


def served(client: TestClient) -> str | None:
    response = client.get("/readyz")
    version: str | None = response.json().get("bundle", {}).get("version")
    return version


def wait_for(client: TestClient, version: str) -> None:
    deadline = time.monotonic() + 20
    while served(client) != version:
        assert time.monotonic() < deadline, client.get("/models").text
        time.sleep(0.05)


@pytest.fixture
def start(folder: Path, serve: Serve) -> Callable[..., TestClient]:
    def start() -> TestClient:
        return serve(folder, admin_keys=hashlib.sha256(KEY.encode()).hexdigest())

    return start


def test_the_newest_bundle_is_served_and_a_newer_one_takes_over(
    start: Serve, shelve: Callable[..., str]
) -> None:
    shelve("old", year=2023)
    first = shelve("first", year=2024)
    client = start()
    assert served(client) == first
    second = shelve("second", year=2025)
    wait_for(client, second)
    metrics = client.get("/metrics").text
    assert "faultcube_bundle_swaps_total 1.0" in metrics
    assert f'version="{second}"' in metrics
    assert f'version="{first}"' not in metrics


def test_a_bad_bundle_is_refused_and_counted_while_the_old_one_serves(
    start: Serve, shelve: Callable[..., str], good: dict[str, Any]
) -> None:
    version = shelve("good", year=2024)
    client = start()
    shelve("bad", year=2025, good=False)
    deadline = time.monotonic() + 20
    while "faultcube_bundle_refused_total 1.0" not in client.get("/metrics").text:
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert served(client) == version
    assert client.post("/classify", json={"records": [good]}).status_code == 200
    bad, fine = client.get("/models").json()["models"]
    assert bad["state"] == "refused"
    assert "encoder.onnx was altered" in bad["reason"]
    assert (bad["served"], fine["served"]) == (False, True)


def test_of_copies_only_the_one_that_was_loaded_is_served(
    start: Serve, shelve: Callable[..., str], folder: Path
) -> None:
    shelve("original")
    client = start()
    shutil.copytree(folder / "original", folder / "copy")
    (folder / "copy" / "encoder.onnx").write_bytes(b"spoilt")
    copy, original = client.get("/models").json()["models"]
    assert (copy["served"], copy["state"]) == (False, "idle")
    assert "its own files were not verified" in copy["reason"]
    assert (original["served"], original["state"]) == (True, "served")


def test_a_bundle_that_never_ends_is_refused_while_a_newer_one_is_served(
    folder: Path, bundle: Path, shelve: Callable[..., str]
) -> None:
    first = shelve("good", year=2024)
    settings = Settings(
        bundle=folder, bundle_seconds=6, admin_keys=hashlib.sha256(KEY.encode()).hexdigest()
    )
    with TestClient(create_app(settings)) as client:
        wait_for(client, first)
        put_looping_bundle(bundle, folder / "endless", day=1)
        deadline = time.monotonic() + 60
        while "it took too long: more than 6 s" not in client.get("/models").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert served(client) == first
        assert "faultcube_bundle_refused_total 1.0" in client.get("/metrics").text
        response = client.post("/models/endless/activate", headers=ADMIN)
        assert response.status_code == 409
        assert "endless is refused: it took too long" in response.json()["detail"]
        wait_for(client, shelve("newer", year=2026))


def test_with_trusted_keys_only_signed_bundles_are_served_shadowed_or_activated(
    folder: Path, shelve: Callable[..., str], tmp_path: Path
) -> None:
    key = tmp_path / "fleet.key"
    settings = Settings(
        bundle=folder,
        shadow=folder / "unsigned",
        admin_keys=hashlib.sha256(KEY.encode()).hexdigest(),
        trusted_keys=new_key(key),
    )
    shelve("unsigned", year=2026)
    first = shelve("signed", year=2024)
    sign(folder / "signed", key)
    with TestClient(create_app(settings)) as client:
        wait_for(client, first)
        good, bad = client.get("/models").json()["models"]
        assert (good["state"], bad["state"]) == ("served", "refused")
        assert bad["reason"] == "it is not signed: there is no manifest.sig"
        assert "faultcube_bundle_refused_total 1.0" in client.get("/metrics").text
        response = client.post("/models/unsigned/activate", headers=ADMIN)
        assert response.status_code == 409
        assert "unsigned is refused: it is not signed" in response.json()["detail"]
        deadline = time.monotonic() + 20
        while "it is not signed" not in client.get("/models/shadow").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert served(client) == first
        sign(folder / "unsigned", key)
        wait_for(client, bad["version"])


@pytest.fixture
def follow(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[], TestClient]:
    """Serve the bundles of the folder as if it were one of an object store."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    settings = Settings(
        bundles_from=f"file://{folder}",
        bundles_poll_seconds=0.1,
        admin_keys=hashlib.sha256(KEY.encode()).hexdigest(),
    )
    return lambda: TestClient(create_app(settings, load=Model.load))


def test_the_bundles_of_an_object_store_are_followed(
    follow: Callable[[], TestClient], shelve: Callable[..., str], folder: Path
) -> None:
    first = shelve("first", year=2024)
    with follow() as client:
        wait_for(client, first)
        assert "faultcube_bundle_refused_total 0.0" in client.get("/metrics").text
        second = shelve("second", year=2025)
        wait_for(client, second)
        shelve("bad", year=2026, good=False)
        deadline = time.monotonic() + 20
        while len(client.get("/models").json()["models"]) < 3:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        bad, *_ = client.get("/models").json()["models"]
        assert bad == {
            "folder": "bad",
            "served": False,
            "state": "refused",
            "reason": "encoder.onnx was altered or cut off: its SHA-256 is not the manifest's",
        }
        assert "faultcube_bundle_refused_total 1.0" in client.get("/metrics").text
        assert "faultcube_bundle_source_up 1.0" in client.get("/metrics").text

        response = client.post(f"/models/{first}/activate", headers=ADMIN)
        assert (response.status_code, response.json()["reason"]) == (409, "not_activated")
        assert f"the bundles are those of file://{folder}" in response.json()["detail"]
        (folder / POINTER).write_text(f"{first}\n")
        wait_for(client, first)


def test_what_is_altered_in_an_object_store_while_it_is_served_is_told(
    follow: Callable[[], TestClient], shelve: Callable[..., str], folder: Path
) -> None:
    version = shelve("one")
    with follow() as client:
        wait_for(client, version)
        (folder / "one/encoder.onnx").write_bytes(b"spoilt")
        deadline = time.monotonic() + 20
        while "in the object store now" not in client.get("/models").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        (entry,) = client.get("/models").json()["models"]
        assert (entry["state"], entry["version"]) == ("served", version)
        assert entry["reason"].startswith("it is the newest; what is in the object store now is")
    with follow() as client:
        wait_for(client, version)


def test_an_object_store_that_is_away_is_told_and_does_no_harm(
    follow: Callable[[], TestClient], shelve: Callable[..., str], folder: Path
) -> None:
    with follow() as client:
        deadline = time.monotonic() + 20
        while "cannot be followed" not in client.get("/readyz").text:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        refused = client.get("/readyz")
        assert refused.status_code == 503
        assert f"The bundles of file://{folder} cannot be followed: " in refused.json()["detail"]
        version = shelve("one")
        wait_for(client, version)
        assert client.get("/readyz").json()["status"] == "ready"
        folder.rename(folder.with_name("away"))
        while (ready := client.get("/readyz").json())["status"] == "ready":
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert ready["status"] == "degraded"
        assert "it cannot be listed" in ready["detail"]
        assert "faultcube_bundle_source_up 0.0" in client.get("/metrics").text
        assert served(client) == version
    with follow() as client:
        wait_for(client, version)
        assert client.get("/readyz").json()["status"] == "degraded"


def test_at_the_start_an_older_bundle_stands_in_for_a_bad_one(
    start: Serve, shelve: Callable[..., str]
) -> None:
    version = shelve("good", year=2024)
    shelve("bad", year=2025, good=False)
    wait_for(start(), version)  # it is tried after the bad one


def test_an_activated_bundle_is_served_until_it_is_rolled_back(
    start: Serve, shelve: Callable[..., str], folder: Path
) -> None:
    old, new = shelve("old", year=2024), shelve("new", year=2025)
    client = start()
    response = client.post(f"/models/{old}/activate", headers=ADMIN)
    assert response.json() == {"bundle": {"name": "toy", "version": old}, "previous": new}
    assert served(client) == old
    assert served(start()) == old, "the choice outlives a restart"
    client.post(f"/models/{response.json()['previous'][:6]}/activate", headers=ADMIN)
    assert served(client) == new
    (folder / POINTER).write_text("old\n")
    wait_for(client, old)


def test_activating_the_bundle_that_is_served_pins_it_and_the_list_says_so(
    start: Serve, shelve: Callable[..., str], folder: Path
) -> None:
    shelve("old", year=2023)
    version = shelve("served", year=2024)
    client = start()

    def pinned() -> dict[str, bool]:
        listed = client.get("/models").json()["models"]
        return {each["folder"]: each["pinned"] for each in listed if "pinned" in each}

    assert pinned() == {}
    response = client.post(f"/models/{version}/activate", headers=ADMIN)
    assert response.json() == {"bundle": {"name": "toy", "version": version}, "previous": version}
    assert (folder / POINTER).read_text() == "served\n"
    assert pinned() == {"served": True}
    shelve("newer", year=2025)
    shelve("spoilt", year=2026, good=False)
    client.app.state.faultcube.refresh()  # type: ignore[attr-defined]
    assert served(client) == version
    assert served(start()) == version
    assert pinned() == {"served": True}
    (folder / POINTER).write_text("spoilt\n")
    assert pinned() == {"spoilt": True}
    (folder / POINTER).write_text("nothing\n")
    assert pinned() == {}
    (folder / POINTER).write_text(f"{version}\n")
    assert pinned() == {"served": True}


def test_without_an_admin_key_nothing_can_be_changed(
    folder: Path, serve: Serve, shelve: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "service.audit")
    old, new = shelve("old", year=2024), shelve("new", year=2025)
    client = serve(folder)
    response = client.post(f"/models/{old}/activate", headers=ADMIN)
    assert (response.status_code, response.json()["reason"]) == (403, "forbidden")
    assert "FAULTCUBE_ADMIN_KEYS" in response.json()["detail"]
    keyed = serve(folder, admin_keys="a" * 64)
    assert keyed.post(f"/models/{old}/activate").status_code == 401
    assert keyed.post(f"/models/{old}/activate", headers=ADMIN).status_code == 401
    assert served(client) == served(keyed) == new
    assert not (folder / POINTER).exists()
    lines = [vars(record) for record in caplog.records if record.name == "service.audit"]
    assert [line["status"] for line in lines] == [403, 401, 401]


def test_a_change_is_written_to_the_audit_log_with_its_key(
    start: Serve, shelve: Callable[..., str], caplog: pytest.LogCaptureFixture
) -> None:
    version = shelve("one")
    client = start()
    caplog.set_level("INFO")
    client.post(f"/models/{version}/activate", headers=ADMIN | {"X-Request-ID": "change-7"})
    (line,) = [vars(record) for record in caplog.records if record.name == "service.audit"]
    assert (line["request_id"], line["status"]) == ("change-7", 200)
    assert line["path"] == f"/models/{version}/activate"
    assert line["key"] == hashlib.sha256(KEY.encode()).hexdigest()[:8]


@pytest.mark.parametrize(
    ("wanted", "status", "reason"),
    [("nothing", 404, "no_such_bundle"), ("bad", 409, "not_activated")],
)
def test_what_cannot_be_activated_changes_nothing(
    start: Serve, shelve: Callable[..., str], folder: Path, wanted: str, status: int, reason: str
) -> None:
    version = shelve("good", year=2024)
    shelve("bad", year=2023, good=False)
    client = start()
    response = client.post(f"/models/{wanted}/activate", headers=ADMIN)
    assert (response.status_code, response.json()["reason"]) == (status, reason)
    assert served(client) == version
    assert not (folder / POINTER).exists()


@pytest.mark.parametrize("pinned", [False, True])
def test_what_is_verified_and_cannot_be_served_leaves_the_pointer(
    start: Serve,
    shelve: Callable[..., str],
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    *,
    pinned: bool,
) -> None:
    old = shelve("old", year=2024)
    client = start()
    if pinned:
        assert client.post("/models/old/activate", headers=ADMIN).status_code == 200

    def fail(*_args: object, **_kwargs: object) -> None:
        raise ValueError("no room")

    shelve("other", year=2023)
    monkeypatch.setattr("service.runtime.state.Drift.of", fail)
    response = client.post("/models/other/activate", headers=ADMIN)
    assert (response.status_code, response.json()["reason"]) == (409, "not_activated")
    assert "other is refused: unexpected ValueError" in response.json()["detail"]
    assert served(client) == old
    pointer = folder / POINTER
    assert (pointer.read_text() if pointer.exists() else None) == ("old\n" if pinned else None)


def test_one_bundle_by_itself_has_no_other_to_choose(bundle: Path, serve: Serve) -> None:
    client = serve(bundle, admin_keys=hashlib.sha256(KEY.encode()).hexdigest())
    version = served(client)
    assert [each["served"] for each in client.get("/models").json()["models"]] == [True]
    response = client.post(f"/models/{version}/activate", headers=ADMIN)
    assert response.json()["reason"] == "not_activated"


def test_an_empty_folder_is_not_ready_until_a_bundle_comes(
    start: Serve, shelve: Callable[..., str]
) -> None:
    client = start()
    assert client.get("/readyz").status_code == 503
    assert client.get("/models").json() == {"models": []}
    wait_for(client, shelve("one"))


def test_a_hundred_swaps_under_load_fail_no_request_and_mix_no_bundles(
    start: Serve, shelve: Callable[..., str], folder: Path, good: dict[str, Any]
) -> None:
    versions = [shelve("even", year=2024), shelve("odd", year=2025)]
    shelve("bad", year=2023, good=False)
    client = start()
    bodies = [json.dumps({"records": [good] * number}).encode() for number in (1, 9_000)]
    done, answers = threading.Event(), list[tuple[int, str, str]]()

    def load(body: bytes) -> None:
        while not done.is_set():
            response = client.post("/classify", content=body)
            version = response.json().get("bundle", {}).get("version", "")
            head = response.headers.get("faultcube-bundle", "")
            answers.append((response.status_code, version, head))

    threads = [threading.Thread(target=load, args=[body]) for body in bodies for _ in range(2)]
    for thread in threads:
        thread.start()
    for number in range(100):
        client.post(f"/models/{versions[number % 2]}/activate", headers=ADMIN)
        if number % 10 == 0:
            client.post("/models/bad/activate", headers=ADMIN)
            shutil.copytree(folder / "bad", folder / f"bad-{number}")
    done.set()
    for thread in threads:
        thread.join()
    assert {status for status, _, _ in answers} == {200}
    assert {version for _, version, _ in answers} == set(versions)
    assert all(head == f"toy/{version}" for _, version, head in answers)
