"""A person signs in with a browser: what the cookie opens, and for whom."""

from __future__ import annotations

import base64
import hashlib
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.api import session as module
from service.app import create_app
from service.settings import Settings
from service.web import session

READ, ADMIN = "read-key", "admin-key"
Serve = Callable[..., TestClient]


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_WRONG_SECONDS", 0)


@pytest.fixture
def guarded(bundle: Path, serve: Serve, tmp_path: Path) -> TestClient:
    database = f"sqlite:///{tmp_path / 'classes.sqlite'}"
    return serve(bundle, read_keys=digest(READ), admin_keys=digest(ADMIN), database_url=database)


def sign_in(client: TestClient, key: str, **headers: str) -> Any:
    return client.post("/session", json={"key": key}, headers=headers)


def test_without_keys_reading_is_open_and_changing_off(client: TestClient) -> None:
    assert client.get("/session").json() == {"read": "open", "change": "off"}
    assert sign_in(client, "anything").status_code == 401


@pytest.mark.parametrize(("key", "change"), [(READ, "needed"), (ADMIN, "granted")])
def test_a_cookie_opens_what_its_key_opens(guarded: TestClient, key: str, change: str) -> None:
    assert guarded.get("/session").json() == {"read": "needed", "change": "needed"}
    assert guarded.get("/live/devices").status_code == 401
    answer = sign_in(guarded, key)
    assert answer.json() == {"read": "granted", "change": change} == guarded.get("/session").json()
    assert guarded.get("/live/devices").status_code == 200
    assert guarded.post("/classify", json={"records": []}).status_code == 422
    reverted = guarded.post("/classes/revert/0").status_code
    assert reverted == (200 if key == ADMIN else 401)
    assert guarded.delete("/session").json() == {"read": "needed", "change": "needed"}
    assert guarded.get("/live/devices").status_code == 401


def test_the_cookie_is_for_this_service_alone(guarded: TestClient) -> None:
    answer = sign_in(guarded, READ)
    attributes = answer.headers["set-cookie"].lower().split("; ")
    assert {"httponly", "samesite=strict", "path=/", "max-age=43200"} <= set(attributes)
    assert "secure" not in attributes
    secure = guarded.post("https://testserver/session", json={"key": READ})
    assert "secure" in secure.headers["set-cookie"].lower().split("; ")


def test_behind_a_prefix_the_cookie_is_for_what_is_under_it(guarded: TestClient) -> None:
    behind = TestClient(guarded.app, root_path="/faultcube")
    assert behind.get("/faultcube/").status_code == 200
    answer = behind.post("/faultcube/session", json={"key": READ})
    assert "Path=/faultcube" in answer.headers["set-cookie"]


def test_a_wrong_key_is_refused_without_a_browsers_own_question(
    guarded: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for answer in (sign_in(guarded, "wrong-key"), guarded.get("/live/scene")):
        assert answer.status_code == 401
        assert answer.headers.get_list("www-authenticate") == ["Bearer"]
    assert "wrong-key" not in str([vars(line) for line in caplog.records
                                   if line.name.startswith("service")])  # fmt: skip
    assert "set-cookie" not in answer.headers


def test_who_has_shown_no_key_yet_sends_little(guarded: TestClient) -> None:
    refused = guarded.post("/session", content=b'{"x":[' + b"[]," * 5000 + b"[]]}")
    assert (refused.status_code, refused.json()["reason"]) == (413, "too_large")


def test_elsewhere_a_browser_is_asked_for_a_password(guarded: TestClient) -> None:
    refused = guarded.get("/docs")
    assert refused.headers.get_list("www-authenticate") == ["Bearer", "Basic realm=faultcube"]


def test_many_wrong_keys_at_once_are_refused_at_once(
    guarded: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Locked:
        def locked(self) -> bool:
            return True

    monkeypatch.setattr(module, "_wrong", Locked())
    refused = sign_in(guarded, "wrong")
    assert (refused.status_code, refused.json()["reason"]) == (503, "overloaded")
    assert sign_in(guarded, READ).status_code == 200


@pytest.mark.parametrize(
    ("body", "media", "status"),
    [
        (b'{"key": "a", "more": 1}', "application/json", 422),
        (b'{"key": ""}', "application/json", 422),
        (b'{"key": 5}', "application/json", 422),
        (b"[", "application/json", 400),
        (b'{"key": "read-key"}', "text/plain", 415),
        (b"key=read-key", "application/x-www-form-urlencoded", 415),
    ],
)
def test_what_is_no_sign_in_is_refused(
    guarded: TestClient, body: bytes, media: str, status: int
) -> None:
    answer = guarded.post("/session", content=body, headers={"Content-Type": media})
    assert answer.status_code == status


CROSS = [
    {"Sec-Fetch-Site": "cross-site", "Origin": "http://evil.example"},
    {"Origin": "http://evil.example"},
    {"Origin": "null"},
]
CHANGES = [
    ("POST", "/session"),
    ("DELETE", "/session"),
    ("POST", "/classes"),
    ("POST", "/classes/revert/0"),
    ("POST", "/feedback"),
    ("POST", "/models/abcd/activate"),
    ("POST", "/incidents/0123456789abcdef/close"),
    ("POST", "/profiles/site"),
    ("POST", "/ingest/telegraf"),
    ("POST", "/classify"),
]


@pytest.fixture(scope="module")
def open_to_all(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestClient]:
    database = f"sqlite:///{tmp_path_factory.mktemp('session') / 'classes.sqlite'}"
    settings = Settings(bundle=bundle, admin_keys=digest(ADMIN), database_url=database)
    with TestClient(create_app(settings)) as client:
        yield client


@pytest.mark.parametrize("headers", CROSS, ids=str)
@pytest.mark.parametrize(("method", "path"), CHANGES)
@pytest.mark.parametrize("credential", ["cookie", "basic", "bearer"])
def test_a_page_of_another_site_changes_nothing_whatever_the_browser_sends_with_it(
    open_to_all: TestClient, method: str, path: str, credential: str, headers: dict[str, str]
) -> None:
    basic = base64.b64encode(f"me:{ADMIN}".encode()).decode()
    given = {
        "cookie": {"Cookie": f"faultcube={session.value_of(ADMIN)}"},
        "basic": {"Authorization": f"Basic {basic}"},
        "bearer": {"Authorization": f"Bearer {ADMIN}"},
    }[credential]
    answer = open_to_all.request(method, path, headers=headers | given)
    assert (answer.status_code, answer.json()["reason"]) == (403, "cross_site")


def test_the_services_own_page_may_change_things(guarded: TestClient) -> None:
    own = {"Sec-Fetch-Site": "same-origin", "Origin": "http://testserver"}
    assert sign_in(guarded, ADMIN, **own).status_code == 200
    assert guarded.post("/classes/revert/0", headers=own).status_code == 200
    assert guarded.get("/session", headers=CROSS[0]).status_code == 200


def test_a_changed_key_ends_its_sessions(bundle: Path, serve: Serve, guarded: TestClient) -> None:
    sign_in(guarded, READ)
    other = serve(bundle, read_keys=digest("another"))
    other.cookies = guarded.cookies
    assert other.get("/live/devices").status_code == 401
