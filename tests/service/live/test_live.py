from __future__ import annotations

import asyncio
import json
import threading
import time
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import msgspec
import pytest

from models import Model
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.formats.chunk import Chunk
from service.live.hub import Viewer
from service.live.live import Live
from service.observability.drift import Drifts
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from tests.service.live.conftest import START, Around, Record, Take
from tests.support.bundles import put_bundle


def serve(live: Live, model: Model, snapshot: Snapshot | None = None) -> ServedModel:
    snapshot = snapshot or Snapshot(0, {})
    enrolment = Enrolment.of(model, snapshot)
    served = ServedModel(enrolment.model, 100, revision=snapshot.revision)
    live.serve(served, enrolment)
    return served


def scored(model: Model, records: list[Record]) -> Scored:
    matrix = model.schema.encode(records)
    decisions = model.decide(matrix)
    return Scored(Chunk(matrix), matrix, decisions, model.labels(decisions))


@pytest.fixture
def live(around: Around, model: Model) -> Live:
    live = around.live()
    serve(live, model)
    live.step()
    return live


Watching = Callable[[Viewer], Coroutine[Any, Any, None]]


def watch(live: Live, work: Watching) -> None:
    """Look at a live page that has shown nothing yet."""

    async def run() -> None:
        viewer = live.hub.join()
        await told(live, viewer)
        await work(viewer)

    asyncio.run(run())


async def told(live: Live, viewer: Viewer) -> list[tuple[str, dict[str, Any]]]:
    """Take a step in another thread, and return the events that come of it."""
    await asyncio.to_thread(live.step)
    await asyncio.sleep(0)
    viewer.put([b"end"], 0)
    content = (await viewer.next() or b"").decode().removesuffix("end")
    events = []
    for frame in content.split("\n\n"):
        fields = dict(line.split(": ", 1) for line in frame.split("\n") if ": " in line)
        if "event" in fields:
            events.append((fields["event"], json.loads(fields["data"])))
    return events


def named(events: list[tuple[str, dict[str, Any]]], name: str) -> list[dict[str, Any]]:
    return [data for each, data in events if each == name]


def test_while_nobody_looks_no_record_of_a_request_is_wanted(live: Live) -> None:
    live.step()
    assert live.room == 0


def test_records_of_requests_are_drawn_while_somebody_looks(
    live: Live, model: Model, good: Record, down: Record, around: Around
) -> None:
    async def work(viewer: Viewer) -> None:
        assert live.room == 100
        live.offer(model, scored(model, [good, down]))
        assert live.room == 98
        around.counters.records += 5
        [data] = named(await told(live, viewer), "records")
        assert [r["label"] for r in data["records"]] == ["normal", "link-down"]
        assert {r["key"] for r in data["records"]} == {None}
        assert data["left_out"] == 3
        assert live.room == 100

    watch(live, work)


def test_of_a_large_chunk_a_few_records_are_taken(
    live: Live, model: Model, good: Record, around: Around
) -> None:
    async def work(viewer: Viewer) -> None:
        live.offer(model, scored(model, [good] * 1000))
        around.counters.records += 1000
        [data] = named(await told(live, viewer), "records")
        assert (len(data["records"]), data["left_out"]) == (8, 992)

    watch(live, work)


def test_an_event_has_100_records_at_most(
    live: Live, take: Take, good: Record, down: Record
) -> None:
    async def work(viewer: Viewer) -> None:
        live.take(take([good] * 299 + [down], keys=[f"d{n}" for n in range(300)]))
        [data] = named(await told(live, viewer), "records")
        assert (len(data["records"]), data["left_out"]) == (100, 200)
        assert [r["key"] for r in data["records"] if not r["good"]] == ["d299"]

    watch(live, work)


def test_devices_are_kept_whether_or_not_somebody_looks(
    live: Live, take: Take, good: Record, down: Record
) -> None:
    live.take(take([good, down], keys=["r1", "r2"], times=[0, 1]))
    live.take(take([good], keys=["r2"], times=[6]))
    live.step()
    shown = live.devices()
    assert [(d.key, d.state, d.since) for d in shown.devices] == [
        ("r1", "good", START),
        ("r2", "good", START + 6),
    ]
    assert (shown.total, shown.time, shown.kept_seconds) == (7, START, 3600)
    device = live.device("r2")
    assert device is not None
    assert [h.label for h in device.history] == ["link-down", "normal"]
    assert live.device("r3") is None
    assert [r.key for r in live.records(10).records] == ["r1", "r2", "r2"]
    assert len(live.records(2).records) == 2


def test_a_device_that_changes_is_told_at_once_with_its_incident(
    live: Live, take: Take, down: Record, around: Around
) -> None:
    async def work(viewer: Viewer) -> None:
        live.take(take([down], keys=["r1"]))
        events = await told(live, viewer) + await told(live, viewer)
        [data] = named(events, "devices")
        assert [(d["key"], d["incident"]) for d in data["devices"]] == [("r1", None)]
        around.members = {"r1": "0123"}
        live.tell_incident("0123", "open", "opened")
        events = await told(live, viewer) + await told(live, viewer)
        assert named(events, "devices")[0]["devices"][0]["incident"] == "0123"
        assert named(events, "incident") == [{"id": "0123", "status": "open", "kind": "opened"}]
        around.members = {}
        events = await told(live, viewer) + await told(live, viewer)
        assert named(events, "devices")[0]["devices"][0]["incident"] is None
        assert named(await told(live, viewer) + await told(live, viewer), "devices") == []

    watch(live, work)


@pytest.mark.parametrize(("interval", "seconds"), [(5.0, 30.0), (60.0, 180.0)])
def test_a_device_that_sends_nothing_becomes_silent(
    live: Live, take: Take, good: Record, around: Around, interval: float, seconds: float
) -> None:
    around.interval = interval

    async def work(viewer: Viewer) -> None:
        live.take(take([good], keys=["r1"], times=[-1e6]))  # of a recording, long ago
        await told(live, viewer)
        around.now += seconds - 1
        assert live.devices().devices[0].state == "good"
        around.now += 2
        events = await told(live, viewer) + await told(live, viewer)
        assert named(events, "devices")[0]["devices"][0]["state"] == "silent"
        assert live.devices().devices[0].state == "silent"

    watch(live, work)


def test_another_model_is_told_and_drawn(live: Live, model: Model, unknown: Record) -> None:
    async def work(viewer: Viewer) -> None:
        stored = StoredClass("jitter", records=(SupportRecord(0, unknown),))
        serve(live, model, Snapshot(5, {"jitter": stored}))
        [data] = named(await told(live, viewer), "model")
        assert data == {"version": model.manifest.version, "revision": 5}
        scene = live.scene()
        assert scene is not None
        assert (scene.revision, scene.classes[-1].name) == (5, "jitter")
        assert named(await told(live, viewer), "model") == []

    watch(live, work)


def test_who_looks_before_there_is_a_model_is_told_of_the_first(
    around: Around, model: Model
) -> None:
    live = around.live()

    async def work(viewer: Viewer) -> None:
        assert named(await told(live, viewer), "model") == []
        serve(live, model)
        version = model.manifest.version
        assert named(await told(live, viewer), "model") == [{"version": version, "revision": 0}]

    watch(live, work)


def test_a_scene_is_there_as_soon_as_there_is_a_model(around: Around, model: Model) -> None:
    live = around.live()
    assert live.scene() is None
    live.step()
    serve(live, model)
    assert live.scene() is not None


def test_health_is_told_every_two_seconds_and_kept_every_five(live: Live) -> None:
    async def work(viewer: Viewer) -> None:
        events = [event for _ in range(8) for event in await told(live, viewer)]
        health = named(events, "health")
        assert len(health) == 2
        now = live.health()
        fields = msgspec.to_builtins(now)
        history = fields.pop("history")
        assert fields.keys() == health[0].keys() == history[0].keys()
        assert (now.queue_requests, now.queue_points, now.viewers) == (3, 2, 1)
        assert (now.store, now.ready, now.alone) == ("memory", True, True)

    watch(live, work)
    for _ in range(200):
        live._ticks = 0
        live.step()
    assert len(live.health().history) == 180


def test_a_step_that_fails_ends_nothing(
    live: Live, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    steps = []

    def fail() -> None:
        steps.append(1)
        raise RuntimeError

    monkeypatch.setattr("service.live.live._TICK_SECONDS", 0.001)
    monkeypatch.setattr(live, "step", fail)
    stop = threading.Event()
    thread = threading.Thread(target=live.run, args=[stop])
    thread.start()
    end = time.monotonic() + 10
    while len(steps) < 3 and time.monotonic() < end:
        time.sleep(0.001)
    stop.set()
    thread.join(10)
    assert len(steps) >= 3
    assert "the live page failed" in caplog.text


def test_what_waits_is_bounded(live: Live, take: Take, good: Record) -> None:
    one = take([good], keys=["r1"])
    for _ in range(20_000):
        live.take(one)
        live.tell_incident("0123", "open", "updated")
    assert len(live._keyed) == len(live._told) == 10_000


def test_drift_is_kept_each_minute_for_a_day_and_begins_anew_with_a_bundle(
    around: Around, live: Live, bundle: Path, tmp_path: Path
) -> None:
    def pass_minutes(number: int) -> None:
        for _ in range(120 * number):
            live.step()

    pass_minutes(1)
    nothing = live.drift()
    assert (nothing.records, nothing.mean, nothing.history) == (0, None, [])
    around.drift = 600, Drifts(0.05, 0.2)
    pass_minutes(2)
    around.drift = 700, Drifts(0.3, 0.6)
    kept = live.drift()
    assert [(then.records, then.mean, then.largest) for then in kept.history] == [
        (600, 0.05, 0.2)
    ] * 2
    assert (kept.records, kept.mean, kept.largest) == (700, 0.3, 0.6)
    put_bundle(bundle, tmp_path / "other", day=1)
    serve(live, Model.load(tmp_path / "other"))
    live.step()
    assert live.drift().history == []
