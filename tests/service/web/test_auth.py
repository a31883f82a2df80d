from __future__ import annotations

import base64
import hashlib
import json
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.settings import Settings, SettingsError
from service.web.auth import PROBES, Keys, KeysError, new_key

READ, ADMIN = "read-key", "admin-key"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


@pytest.fixture
def guarded(bundle: Path, serve: Callable[..., TestClient]) -> TestClient:
    return serve(bundle, read_keys=digest(READ), admin_keys=digest(ADMIN))


@pytest.mark.parametrize(
    "path", ["/classify", "/embed", "/model", "/metrics", "/docs", "/openapi.json", "/nothing"]
)
def test_with_a_read_key_nothing_but_a_probe_is_answered_without_one(
    guarded: TestClient, path: str
) -> None:
    response = guarded.get(path)
    assert (response.status_code, response.json()["reason"]) == (401, "unauthorized")
    assert "Bearer" in response.headers["www-authenticate"]
    assert guarded.post(path, content=b"x" * 100).status_code == 401
    for probe in PROBES & {"/livez", "/readyz"}:
        assert guarded.get(probe).status_code == 200


@pytest.mark.parametrize("key", [READ, ADMIN])
@pytest.mark.parametrize("form", ["Bearer {}", "bearer {}", "X", "Basic"])
def test_a_key_is_taken_in_each_form_that_clients_know(
    guarded: TestClient, key: str, form: str, good: dict[str, Any]
) -> None:
    if form == "X":
        headers = {"X-API-Key": key}
    elif form == "Basic":
        headers = {"Authorization": "Basic " + base64.b64encode(f"me:{key}".encode()).decode()}
    else:
        headers = {"Authorization": form.format(key)}
    assert guarded.post("/classify", json={"records": [good]}, headers=headers).status_code == 200
    assert guarded.get("/metrics", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "headers",
    [
        {"Authorization": "Bearer wrong"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic wrong!"},
        {"Authorization": f"Digest {READ}"},
        {"X-API-Key": ""},
        {"X-API-Key": digest(READ)},
        {"Authorization": "Bearer " + "x" * 8000},
    ],
)
def test_a_wrong_key_is_refused_and_never_repeated(
    guarded: TestClient, headers: dict[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    response = guarded.get("/model", headers=headers)
    assert response.status_code == 401
    assert "wrong" not in response.text + str([vars(record) for record in caplog.records
                                               if record.name.startswith("service")])  # fmt: skip
    metrics = guarded.get("/metrics", headers={"X-API-Key": READ}).text
    assert 'faultcube_rejected_requests_total{reason="unauthorized"}' in metrics


def test_a_file_of_keys_is_read_with_remarks(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# ours\nread {digest('a')}  # the poller\n\nadmin {digest('b')}\n")
    keys = Keys.of(read=digest("c"), file=file)
    for key, kind in (("a", "read"), ("b", "read"), ("c", "read"), ("b", "admin")):
        found = keys.check(kind, {b"x-api-key": key.encode()})  # type: ignore[arg-type]
        assert found == digest(key)[:8]
    assert digest("a") not in repr(keys)
    assert bytes.fromhex(digest("a")) not in repr(keys).encode()


@pytest.mark.parametrize("text", ["abc", "read", "write " + "a" * 64, "read " + "g" * 64, "\0"])
def test_keys_that_cannot_be_used_are_refused_in_one_line(tmp_path: Path, text: str) -> None:
    file = tmp_path / "keys"
    file.write_text(text)
    with pytest.raises(KeysError, match="line 1"):
        Keys.of(file=file)
    with pytest.raises(SettingsError):
        Settings.read(keys_file=file)
    with pytest.raises(KeysError, match="FAULTCUBE_READ_KEYS"):
        Keys.of(read="a-plain-key")
    with pytest.raises(KeysError, match="cannot be read"):
        Keys.of(file=tmp_path / "gone")


@pytest.mark.parametrize(("method", "path"), [("GET", "/classes"), ("POST", "/classes/revert/0")])
def test_the_browser_does_not_ask_for_a_key_in_place_of_the_page(
    guarded: TestClient, method: str, path: str
) -> None:
    for accept, challenges in (
        ("application/json", ["Bearer"]),  # as the page's scripts send it
        ("text/html,*/*", ["Bearer", "Basic realm=faultcube"]),
    ):
        headers = {"Accept": accept} | ({"X-API-Key": READ} if method == "POST" else {})
        refused = guarded.request(method, path, headers=headers)
        assert refused.status_code == 401
        assert refused.headers.get_list("www-authenticate") == challenges


def test_a_new_key_opens_what_its_hash_is_set_for() -> None:
    key, hashed = new_key()
    assert hashed == digest(key)
    assert len(key) >= 40
    Keys.of(admin=hashed).check("admin", {b"x-api-key": key.encode()})


def test_an_error_and_its_line_in_the_log_name_the_request(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    for headers, expected in (
        ({"X-Request-ID": "poller-7:42"}, "poller-7:42"),
        ({"traceparent": f"00-{'ab' * 16}-{'cd' * 8}-01"}, "ab" * 16),
        ({"X-Request-ID": 'bad "name"'}, None),
        ({"traceparent": f"00-{'0' * 32}-{'cd' * 8}-01"}, None),
        ({}, None),
    ):
        caplog.clear()
        response = client.post("/classify", content=b"{", headers=headers)
        name = response.headers["x-request-id"]
        assert response.json()["request_id"] == name
        assert vars(caplog.records[-1])["request_id"] == name
        assert name == expected if expected else name.isprintable() and '"' not in name
    names = {client.get("/livez").headers["x-request-id"] for _ in range(20)}
    assert len(names) == 20
    assert json.loads(client.get("/nothing").content)["request_id"]
