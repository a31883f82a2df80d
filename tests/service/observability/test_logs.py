from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from service.observability.logs import RequestLog, configure
from service.settings import Settings
from service.web.middleware import RequestInfo

SECRET = "s3cr3t-value"


@pytest.fixture
def root_logger() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)


def requests(caplog: pytest.LogCaptureFixture) -> list[dict[str, Any]]:
    return [vars(record) for record in caplog.records if record.getMessage() == "request"]


def test_a_request_is_one_line_without_its_content(
    bundle: Path,
    serve: Callable[..., TestClient],
    caplog: pytest.LogCaptureFixture,
    good: dict[str, Any],
) -> None:
    client = serve(bundle, log_requests="all")
    caplog.set_level(logging.DEBUG)
    caplog.clear()
    client.post("/classify", json={"records": [good | {"vendor": SECRET}] * 3})
    (line,) = requests(caplog)
    assert (line["method"], line["path"], line["status"]) == ("POST", "/classify", 200)
    assert line["records"] == 3
    assert line["duration_ms"] > 0
    assert not [record for record in caplog.records if SECRET in str(vars(record))
                and record.name.startswith("service")]  # fmt: skip


def test_a_refused_request_is_logged_without_a_count(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    client.post("/classify", json={"records": [{"cpu load": SECRET}]})
    (line,) = requests(caplog)
    assert line["status"] == 422
    assert "records" not in line
    assert SECRET not in str(line)


def test_request_lines_can_be_switched_off(
    bundle: Path, serve: Callable[..., TestClient], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    serve(bundle, log_requests="none").get("/nothing")
    assert not requests(caplog)


def test_what_succeeds_is_not_logged_unless_asked_for(
    client: TestClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    caplog.clear()
    client.get("/livez")
    assert not requests(caplog)
    client.get("/nothing")
    assert len(requests(caplog)) == 1


def test_a_flood_of_failures_is_no_flood_of_lines(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    watch = RequestLog("failed", lambda: now)
    scope = {"method": "GET", "path": "/"}
    RequestInfo({}, "x").attach(scope)
    for _ in range(500):
        watch(scope, 503, 0.001)
    written = len(requests(caplog))
    assert written < 100
    now = 1.5
    watch(scope, 503, 0.001)
    assert len(requests(caplog)) == written + 1
    (more,) = [r for r in caplog.records if r.getMessage() == "requests not logged"]
    assert vars(more)["number"] == 500 - written


def fail(record: dict[str, str]) -> None:
    raise ValueError(f"broken {len(record)}")


@pytest.mark.parametrize("which", ["failed", "all"])
def test_a_failed_change_counts_once(caplog: pytest.LogCaptureFixture, which: str) -> None:
    caplog.set_level(logging.INFO)
    now = 0.0
    watch = RequestLog(which, lambda: now)
    scope = {"method": "POST", "path": "/classes"}
    RequestInfo({}, "x", is_change=True).attach(scope)
    for _ in range(70):
        watch(scope, 503, 0.001)
    changes = [r for r in caplog.records if r.getMessage() == "change"]
    assert len(changes) == (70 if which == "all" else 50)
    now = 1.5
    watch(scope, 503, 0.001)
    left_out = [vars(r)["number"] for r in caplog.records if "not logged" in r.getMessage()]
    assert left_out == ([] if which == "all" else [20])


@pytest.mark.usefixtures("root_logger")
def test_json_logs_are_one_object_a_line_for_us_and_for_uvicorn(
    capsys: pytest.CaptureFixture[str],
) -> None:
    configure(Settings(log_format="auto"))
    logging.getLogger("service.x").info("request", extra={"status": 200})
    logging.getLogger("uvicorn.error").info("Started [%d]", 5, extra={"color_message": "\x1b"})
    try:
        fail({})
    except ValueError:
        logging.getLogger("uvicorn.error").exception("Exception in ASGI application\n")
    logging.getLogger("service.x").debug("unseen")
    ours, theirs, failure = map(json.loads, capsys.readouterr().err.splitlines())
    assert ours == {
        "event": "request",
        "status": 200,
        "level": "info",
        "logger": "service.x",
        "timestamp": ours["timestamp"],
    }
    assert ours["timestamp"].endswith("Z")
    assert theirs["event"] == "Started [5]"
    assert "color_message" not in theirs
    assert "ValueError: broken" in failure["exception"]


@pytest.mark.usefixtures("root_logger")
def test_console_logs_show_no_local_variables(capsys: pytest.CaptureFixture[str]) -> None:
    configure(Settings(log_format="console"))
    try:
        fail({"field": SECRET})
    except ValueError:
        logging.getLogger("uvicorn.error").exception("failed")
    text = capsys.readouterr().err
    assert "failed" in text
    assert "ValueError" in text
    assert SECRET not in text
