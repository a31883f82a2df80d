"""What the live page asks for over HTTP; streams over real sockets are in test_connection.py."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator
from starlette.testclient import TestClient
from starlette.types import Message

from service.app import create_app
from service.live.kept import Taken
from service.runtime.state import State
from service.settings import Settings

ROOT = Path(__file__).parents[3]
Json = dict[str, Any]
Serve = Callable[..., TestClient]


@pytest.fixture(scope="module")
def client() -> Iterator[TestClient]:
    """A service of the bundle that ships, which has seen two devices and its own examples."""
    with TestClient(create_app(Settings(bundle=ROOT / "models/iosxr"))) as client:
        state = state_of(client)
        while client.get("/readyz").status_code != 200:
            pass
        assert state.live is not None
        model = state.served.model
        matrix = np.repeat(model.schema.encode(model.examples), 300, axis=0)
        keys = ["leaf1", "leaf2 / Te0/0?"] * (len(matrix) // 2)
        times = np.arange(1.8e9, 1.8e9 + len(matrix))
        none = np.zeros(len(matrix), np.bool_)
        decisions = model.decide(matrix)
        state.live.take(Taken(model, keys, times, matrix, decisions, none, ~none))
        state.live.step()
        yield client


def state_of(client: TestClient) -> State:
    state: State = client.app.state.faultcube  # type: ignore[attr-defined]
    return state


@pytest.mark.parametrize(
    ("path", "route"),
    [
        ("/live/scene", "/live/scene"),
        ("/live/devices", "/live/devices"),
        ("/live/devices/leaf1", "/live/devices/{key}"),
        ("/live/records", "/live/records"),
        ("/live/records/300", "/live/records/{n}"),
        ("/live/records/1199", "/live/records/{n}"),
        ("/live/health", "/live/health"),
        ("/live/drift", "/live/drift"),
        ("/session", "/session"),
    ],
)
def test_an_answer_is_what_the_document_says(client: TestClient, path: str, route: str) -> None:
    document = client.get("/openapi.json").json()
    answer = client.get(path)
    assert answer.status_code == 200
    content = document["paths"][route]["get"]["responses"]["200"]["content"]
    schema = content["application/json"]["schema"] | {"components": document["components"]}
    Draft202012Validator(schema).validate(answer.json())


def test_a_device_is_found_by_its_key_whatever_is_in_it(client: TestClient) -> None:
    for key, escaped in (("leaf1", "leaf1"), ("leaf2 / Te0/0?", "leaf2%20%2F%20Te0%2F0%3F")):
        device = client.get(f"/live/devices/{escaped}").json()
        assert (device["key"], len(device["history"])) == (key, 600)
        assert device["drivers"]
    missing = client.get("/live/devices/leaf3")
    assert (missing.status_code, missing.json()["reason"]) == (404, "not_kept")


def test_a_record_is_found_by_its_number_and_as_classify_explains_it(client: TestClient) -> None:
    [record] = client.get("/live/records?limit=1").json()["records"]
    shown = client.get(f"/live/records/{record['n']}").json()
    assert shown.items() >= record.items()
    sent = {"records": [shown["record"]], "distances": True, "explain": True}
    [verdict] = client.post("/classify", json=sent).json()["results"]
    assert (shown["label"], shown["good"]) == (verdict["label"], verdict["good"])
    assert shown["explanation"] == verdict["explanation"]
    assert shown["distances"] == pytest.approx(verdict["distances"], abs=1e-5)


@pytest.mark.parametrize(
    ("path", "status", "reason"),
    [
        ("/live/records/0", 404, "not_kept"),
        ("/live/records/123456789", 404, "not_kept"),
        (f"/live/records/{1 << 70}", 422, "unfit"),
        ("/live/records/-1", 422, "unfit"),
        ("/live/records/x", 422, "unfit"),
        ("/live/records?limit=0", 422, "unfit"),
        ("/live/records?limit=999999", 422, "unfit"),
        ("/live/nothing", 404, "no_such_path"),
    ],
)
def test_what_is_not_there_is_a_problem(
    client: TestClient, path: str, status: int, reason: str
) -> None:
    answer = client.get(path)
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)


def test_before_a_bundle_is_loaded_there_is_no_scene(serve: Serve, tmp_path: Path) -> None:
    client = serve(tmp_path)
    answer = client.get("/live/scene")
    assert (answer.status_code, answer.json()["reason"]) == (503, "not_ready")
    assert client.get("/live/health").json()["ready"] is False
    assert client.get("/live/devices").json()["devices"] == []
    assert client.get("/live/records").json()["records"] == []


def test_long_answers_are_compressed_and_none_is_kept_by_a_cache(client: TestClient) -> None:
    plain = client.get("/live/records", headers={"Accept-Encoding": "identity"})
    with client.stream("GET", "/live/records", headers={"Accept-Encoding": "gzip"}) as packed:
        raw = b"".join(packed.iter_raw())
    assert gzip.decompress(raw) == plain.content
    assert len(raw) < len(plain.content) / 3
    for answer in (plain, client.get("/live/health")):
        assert answer.headers["cache-control"] == "no-store"


def test_several_workers_say_that_each_knows_its_own(bundle: Path) -> None:
    live = create_app(Settings(bundle=bundle, workers=2)).state.faultcube.live
    assert live.health_now().alone is False


class Stream:
    """Calls an application for its events as a server does."""

    def __init__(self, client: TestClient, method: str = "GET", last: bytes = b"") -> None:
        self.app, self.sent = client.app, list[Message]()
        headers = [(b"last-event-id", last)] if last else []
        self.scope = {
            "type": "http",
            "method": method,
            "path": "/live/events",
            "query_string": b"",
            "headers": headers,
        }
        self.gone = asyncio.Event()

    async def run(self) -> None:
        async def receive() -> Message:
            await self.gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Message) -> None:
            self.sent.append(message)

        await self.app(self.scope, receive, send)

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self.sent)


def test_a_stream_lasts_until_its_client_leaves(serve: Serve, bundle: Path) -> None:
    client = serve(bundle)
    live = state_of(client).live
    assert live is not None

    async def look() -> Stream:
        stream = Stream(client)
        running = asyncio.ensure_future(stream.run())
        while not live.hub.viewers:
            await asyncio.sleep(0.01)
        while b"event: health" not in stream.body:
            await asyncio.sleep(0.01)
        assert not running.done()
        stream.gone.set()
        await asyncio.wait_for(running, 10)
        return stream

    stream = asyncio.run(look())
    headers = dict(stream.sent[0]["headers"])
    assert headers[b"content-type"] == b"text/event-stream; charset=utf-8"
    assert headers[b"x-accel-buffering"] == b"no"
    assert headers[b"cache-control"] == b"no-store"
    assert stream.body.startswith(b"retry: 2000\n\n")
    assert live.hub.viewers == 0
    metrics = client.get("/metrics").text
    assert 'faultcube_requests_total{route="/live/events",status="200"} 1.0' in metrics
    assert 'faultcube_request_seconds_count{route="/live/events"}' not in metrics


def test_a_stream_of_the_process_before_begins_anew(client: TestClient) -> None:
    async def look() -> bytes:
        stream = Stream(client, last=b"deadbeef-17")
        stream.gone.set()
        await stream.run()
        return stream.body

    assert b"event: reset\n" in asyncio.run(look())


def test_one_viewer_too_many_is_told_to_come_later(serve: Serve, bundle: Path) -> None:
    client = serve(bundle, live_viewers=1)

    async def look() -> list[Message]:
        first, second = Stream(client), Stream(client)
        running = asyncio.ensure_future(first.run())
        while not first.sent:
            await asyncio.sleep(0.01)
        await second.run()
        first.gone.set()
        await running
        return second.sent

    [start, _] = asyncio.run(look())
    assert start["status"] == 503
    assert dict(start["headers"])[b"retry-after"] == b"10"


def test_a_head_request_of_events_ends(client: TestClient) -> None:
    stream = Stream(client, "HEAD")
    asyncio.run(asyncio.wait_for(stream.run(), 10))
    assert stream.sent[0]["status"] == 200


def test_records_of_requests_come_to_a_viewer(
    serve: Serve, bundle: Path, down: Json, good: Json
) -> None:
    client = serve(bundle)
    live = state_of(client).live
    assert live is not None

    async def look() -> bytes:
        stream = Stream(client)
        running = asyncio.ensure_future(stream.run())
        while not live.room:
            await asyncio.sleep(0.01)
        await asyncio.to_thread(client.post, "/classify", json={"records": [good, down]})
        while b"event: records" not in stream.body:
            await asyncio.sleep(0.01)
        stream.gone.set()
        await running
        return stream.body

    body = asyncio.run(look())
    assert b'"label":"link-down"' in body
    assert b'"left_out":0' in body
    assert len(client.get("/live/records").json()["records"]) == 2
