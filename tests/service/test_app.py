from __future__ import annotations

import asyncio
import json
import logging
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import anyio
import pytest
from starlette.testclient import TestClient
from starlette.types import Message

import service
from models import Model
from service.app import create_app
from service.settings import Settings
from service.web.problems import MEDIA_TYPE

SERVICE = Path(service.__file__).parent


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("POST", "/", 405),
        ("GET", "/page/nothing.js", 404),
        ("DELETE", "/live/events", 405),
        ("GET", "/nothing/s3cr3t", 404),
        ("POST", "/classify/", 404),
        ("GET", "/classify", 405),
        ("DELETE", "/readyz", 405),
    ],
)
def test_a_path_or_method_that_does_not_exist_is_a_problem(
    shared: TestClient, method: str, path: str, status: int
) -> None:
    response = shared.request(method, path)
    assert response.status_code == status == response.json()["status"]
    assert response.headers["content-type"] == MEDIA_TYPE
    assert "s3cr3t" not in response.text
    assert ("allow" in response.headers) == (status == 405)


@pytest.mark.parametrize(
    "path",
    [
        "/livez",
        "/readyz",
        "/models",
        "/metrics",
        "/docs",
        "/openapi.json",
        "/v2",
        "/no/such",
        "/embed",
    ],
)
def test_head_is_answered_as_get_without_the_body(shared: TestClient, path: str) -> None:
    get, head = shared.get(path), shared.head(path)
    assert head.status_code == get.status_code
    assert not head.content or get.status_code == 405
    volatile = {"x-request-id", "content-length"}  # of a problem, and of what counts requests
    assert {k: v for k, v in head.headers.items() if k not in volatile} == {
        k: v for k, v in get.headers.items() if k not in volatile
    }
    if path == "/livez":
        assert head.headers["content-length"] == str(len(get.content))


def test_head_is_counted_by_its_route_and_needs_the_key_that_get_needs(
    bundle: Path, serve: Callable[..., TestClient]
) -> None:
    client = serve(bundle, read_keys="a" * 64)
    assert client.head("/models").status_code == 401
    assert client.head("/livez").status_code == 200
    count = 'faultcube_requests_total{route="/livez",status="200"} 1.0'
    assert count in client.app.state.faultcube.metrics.text().decode()  # type: ignore[attr-defined]


def test_the_methods_of_a_path_are_listed_with_head(shared: TestClient) -> None:
    response = shared.delete("/classes")
    assert response.headers["allow"] == "GET, HEAD, POST"


def test_a_defect_is_a_problem_that_tells_nothing(
    client: TestClient, good: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("s3cr3t")

    monkeypatch.setattr(Model, "decide", fail)
    response = client.post("/classify", json={"records": [good]})
    assert response.status_code == 500
    assert response.headers["content-type"] == MEDIA_TYPE
    assert response.json()["reason"] == "broken"
    assert "s3cr3t" not in response.text
    assert (
        'faultcube_requests_total{route="/classify",status="500"} 1.0'
        in client.get("/metrics").text
    )


def call(app: Callable[..., Any], messages: list[Message], hang: bool = False) -> list[Message]:
    """Call an application as a server does, with these messages as its body."""
    scope = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": "/classify",
        "raw_path": b"/classify",
        "query_string": b"",
        "root_path": "",
        "headers": [],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
    }
    sent: list[Message] = []

    async def receive() -> Message:
        if not messages and hang:
            await anyio.sleep_forever()
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    anyio.run(app, scope, receive, send)
    return sent


def chunk(size: int) -> Message:
    return {"type": "http.request", "body": b" " * size, "more_body": True}


def test_a_client_that_goes_away_causes_no_error(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    call(client.app, [chunk(10), {"type": "http.disconnect"}])
    assert not [record for record in caplog.records if record.levelno > logging.INFO]
    assert vars(caplog.records[-1])["status"] == 499


def test_a_body_that_is_too_long_is_let_in_to_its_end_but_not_kept(
    bundle: Path, serve: Callable[..., TestClient]
) -> None:
    client = serve(bundle, max_body_bytes=1024)
    messages = [chunk(1000), chunk(100), chunk(100), {**chunk(100), "more_body": False}]
    sent = call(client.app, messages)
    assert sent[0]["status"] == 413
    assert not messages


def test_a_body_without_end_is_not_let_in_for_long(
    bundle: Path, serve: Callable[..., TestClient]
) -> None:
    client = serve(bundle, max_body_bytes=1024)
    sent = call(client.app, [chunk(2000)], hang=True)
    assert sent[0]["status"] == 413


def test_a_body_that_does_not_arrive_is_not_waited_for(
    bundle: Path, serve: Callable[..., TestClient]
) -> None:
    client = serve(bundle, body_seconds=0.05)
    sent = call(client.app, [chunk(10)], hang=True)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]


def test_durations_come_from_the_clock_that_is_given(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    app = create_app(Settings(bundle=bundle, log_requests="all"), clock=iter(range(100)).__next__)
    TestClient(app).get("/livez")
    (line,) = [vars(record) for record in caplog.records if record.getMessage() == "request"]
    assert line["duration_ms"] == 1000


def test_neither_training_nor_its_libraries_are_ever_loaded(bundle: Path) -> None:
    program = """
import json, sys, time
from pathlib import Path
from starlette.testclient import TestClient
from service.app import create_app
from service.settings import Settings
folder = Path(sys.argv[1])
with TestClient(create_app(Settings(bundle=folder))) as client:
    while client.get("/readyz").status_code != 200:
        time.sleep(0.01)
    answer = client.post("/classify", content=(folder / "examples.json").read_bytes())
    assert answer.status_code == 200
print(json.dumps(sorted({name.partition(".")[0] for name in sys.modules})))
"""
    done = subprocess.run(
        [sys.executable, "-c", program, str(bundle)], capture_output=True, text=True, check=True
    )
    assert not {"torch", "sklearn", "training", "onnx"} & set(json.loads(done.stdout))


def test_a_request_of_one_record_passes_no_more_files_than_it_did(
    bundle: Path, good: dict[str, Any]
) -> None:
    app = create_app(Settings(bundle=bundle))
    app.state.faultcube.refresh()
    body = json.dumps({"records": [good]}).encode()
    scope = {
        "type": "http",
        "method": "POST",
        "path": "/classify",
        "query_string": b"",
        "headers": [(b"content-type", b"application/json")],
    }
    files: set[str] = set()
    statuses: list[int] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": body}

    async def send(message: Message) -> None:
        if "status" in message:
            statuses.append(message["status"])

    def note(frame: FrameType, event: str, _argument: object) -> None:
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.is_relative_to(SERVICE):
            files.add(str(path.relative_to(SERVICE)))

    async def ask() -> None:
        sys.setprofile(note)
        try:
            await app(dict(scope), receive, send)
        finally:
            sys.setprofile(None)

    asyncio.run(ask())
    assert statuses == [200]
    assert "api/classify.py" in files
    assert len(files) <= 16, sorted(files)
