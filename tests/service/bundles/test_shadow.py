from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from prometheus_client.parser import text_string_to_metric_families
from starlette.testclient import TestClient

from models import Bundle, BundleError, Field, Model
from service.bundles.shadow import UNFIT, Shadow
from service.classes.enrolment import Enrolment
from service.classes.entities import Snapshot, StoredClass, SupportRecord
from service.observability.counters import Counters, ProcessReport, ProcessStatus
from service.observability.exposition import Exposition
from service.offline.enrolled import with_classes

Record = dict[str, Any]
Serve = Callable[..., TestClient]
KEY = "an admin key"


class Clock:
    """Seconds that pass when they are told to; every look at the folder is due."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        self.now += 0.001
        return self.now


class Answering:
    """A model that answers, and offers its answers to a shadow."""

    def __init__(self, shadow: Shadow, model: Model) -> None:
        self.model, self.offer = model, shadow.against(model)

    def __call__(self, *records: Record) -> None:
        matrix = self.model.schema.encode(records)
        decisions = self.model.decide(matrix)
        words = [*self.model.names, "unknown"]
        unknown = len(words) - 1
        labels = [words[n] for n in np.where(decisions.accepted, decisions.nearest, unknown)]
        self.offer(matrix, labels, decisions)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def model(bundle: Path) -> Model:
    return Model.load(bundle)


Rework = Callable[..., Path]


@pytest.fixture
def rework(bundle: Path, tmp_path: Path) -> Rework:
    """Write another version of the toy bundle, with changes to its manifest."""

    def write(folder: str = "shadow", **changes: Any) -> Path:
        read = Bundle.read(bundle)
        content = read.manifest.model_dump(exclude={"version", "files", "format"})
        for each in content["classes"]:
            each.update(changes.get(each["name"], {}))
        content["about"] = changes.get("about", "another")
        Bundle.make(read.files, **content).write(tmp_path / folder)
        return tmp_path / folder

    return write


def shadow_of(folder: Path, clock: Clock, tally: Counters | None = None) -> Shadow:
    return Shadow(Model.load, folder, clock, Counters() if tally is None else tally)


def settle(shadow: Shadow, clock: Clock) -> None:
    """Let it look at its folder, and compare all that waits."""
    clock.now += 10
    shadow.step()
    while shadow._waiting:
        shadow.step()


def test_a_bundle_agrees_with_itself(
    bundle: Path, model: Model, clock: Clock, good: Record, down: Record, unknown: Record
) -> None:
    shadow = shadow_of(bundle, clock)
    answer = Answering(shadow, model)
    settle(shadow, clock)
    answer(good, down, good)
    answer(unknown)
    settle(shadow, clock)
    name = {"name": "toy", "version": model.manifest.version}
    assert shadow.describe(records=True) == {
        "bundle": name,
        "against": name,
        "missing": [],
        "unused": [],
        "records": 4,
        "skipped": 0,
        "agreement": 1,
        "classes": [
            {"label": "normal", "records": 2, "agreement": 1, "shadow": {"normal": 2}},
            {"label": "link-down", "records": 1, "agreement": 1, "shadow": {"link-down": 1}},
            {"label": "unknown", "records": 1, "agreement": 1, "shadow": {"unknown": 1}},
        ],
        "disagreements": [],
    }


def test_classes_that_were_enrolled_are_known_to_it_too(
    bundle: Path, clock: Clock, model: Model, unknown: Record
) -> None:
    snapshot = Snapshot(1, {"fire": StoredClass("fire", records=(SupportRecord(1, unknown),))})
    tally = Counters()
    shadow = shadow_of(bundle, clock, tally)
    settle(shadow, clock)
    none = Snapshot(0, {})
    for known, label in [(none, "unknown"), (snapshot, "fire"), (none, "unknown")]:
        answering = Answering(shadow, Enrolment.of(model, known).model)
        answering.offer = shadow.against(answering.model, partial(with_classes, snapshot=known))
        settle(shadow, clock)
        answering(unknown)
        settle(shadow, clock)
        [counts] = tally.shadow.values()
        assert counts[label, label] >= 1
        assert sum(n for (one, other), n in counts.items() if one != other) == 0


def test_each_pair_of_labels_is_counted_and_examples_are_kept(
    rework: Rework, model: Model, clock: Clock, good: Record, down: Record, overload: Record
) -> None:
    folder = rework(**{"link-down": {"name": "cut"}, "overload": {"radius": 0.0}})
    shadow = shadow_of(folder, clock)
    answer = Answering(shadow, model)
    settle(shadow, clock)
    odd = overload | {"cpu load": 90.1, "vendor": "c"}
    answer(*[good] * 6, down, down)
    answer(odd)
    settle(shadow, clock)
    told = shadow.describe(records=True)
    assert (told["records"], told["agreement"]) == (9, pytest.approx(6 / 9))
    assert {each["label"]: each["shadow"] for each in told["classes"]} == {
        "normal": {"normal": 6},
        "link-down": {"cut": 2},
        "overload": {"unknown": 1},
    }
    assert [each["agreement"] for each in told["classes"]] == [1, 0, 0]
    newest, *rest = told["disagreements"]
    assert [newest["label"], newest["shadow_label"]] == ["overload", "unknown"]
    assert newest["distance"] == newest["shadow_distance"] > 0
    assert 0 <= newest["confidence"] <= 1
    assert newest["record"] == odd | {"vendor": "(not seen in training)"}
    assert [each["record"] for each in rest] == [down, down]
    shown = shadow.describe()["disagreements"]
    assert len(shown) == 3
    assert not any("record" in each for each in shown)


def test_examples_are_the_newest_and_few(
    rework: Rework, model: Model, clock: Clock, down: Record
) -> None:
    shadow = shadow_of(rework(**{"link-down": {"name": "cut"}}), clock)
    answer = Answering(shadow, model)
    settle(shadow, clock)
    for number in range(30):
        answer(*[down | {"cpu load": float(number)}] * 20)
        settle(shadow, clock)
    answer(down | {"cpu load": 5.5})
    settle(shadow, clock)
    told = shadow.describe(records=True)
    assert told["records"] == 601
    loads = [each["record"]["cpu load"] for each in told["disagreements"]]
    assert loads == [5.5, *[29.0] * 19]


def test_what_it_has_no_time_for_is_skipped_and_counted(
    bundle: Path, model: Model, clock: Clock, good: Record
) -> None:
    shadow = shadow_of(bundle, clock)
    answer = Answering(shadow, model)
    settle(shadow, clock)
    for _ in range(300):
        answer(*[good] * 100)
    waiting = sum(len(labels) for _, _, labels, _ in shadow._waiting)
    assert waiting == 20_000
    settle(shadow, clock)
    answer(good)
    settle(shadow, clock)
    told = shadow.describe()
    assert (told["records"], told["skipped"]) == (20_001, 10_000)


def test_a_piece_of_something_large_does_not_keep_all_of_it(
    bundle: Path, model: Model, clock: Clock, good: Record
) -> None:
    shadow = shadow_of(bundle, clock)
    offer = shadow.against(model)
    settle(shadow, clock)
    large = model.schema.encode([good] * 1000)
    offer(large[:1], ["normal"], model.decide(large[:1]))
    assert shadow._waiting[0][1].base is None


def test_a_large_piece_is_compared_in_parts(
    bundle: Path, model: Model, clock: Clock, good: Record
) -> None:
    sizes = []

    class Watched(Model):
        def decide(self, matrix: Any) -> Any:
            sizes.append(len(matrix))
            return super().decide(matrix)

    shadow = Shadow(Watched.load, bundle, clock, Counters())
    answer = Answering(shadow, model)
    settle(shadow, clock)
    sizes.clear()
    answer(*[good] * 1200)
    settle(shadow, clock)
    assert sizes == [500, 500, 200]
    assert shadow.describe()["agreement"] == 1


def test_nothing_waits_while_there_is_no_shadow_and_it_is_loaded_once_it_is_there(
    rework: Rework, model: Model, clock: Clock, tmp_path: Path, good: Record
) -> None:
    shadow = shadow_of(tmp_path / "shadow", clock)
    answer = Answering(shadow, model)
    answer(good)
    settle(shadow, clock)
    answer(good)
    assert not shadow._waiting
    told = shadow.describe()
    assert "manifest.json cannot be read" in told["refused"]
    assert "bundle" not in told
    assert (told["records"], told["agreement"]) == (0, None)
    rework()
    settle(shadow, clock)
    answer(good)
    settle(shadow, clock)
    told = shadow.describe()
    assert "refused" not in told
    assert (told["records"], told["agreement"]) == (1, 1)


def test_a_bad_bundle_is_refused_once_and_tried_again_when_a_file_of_it_changes(
    rework: Rework, model: Model, clock: Clock, caplog: pytest.LogCaptureFixture, good: Record
) -> None:
    folder = rework()
    whole = (folder / "encoder.onnx").read_bytes()
    (folder / "encoder.onnx").write_bytes(whole[:100])
    shadow = shadow_of(folder, clock)
    answer = Answering(shadow, model)
    for _ in range(3):
        settle(shadow, clock)
    assert "encoder.onnx was altered" in shadow.describe()["refused"]
    assert [each.message for each in caplog.records] == ["shadow refused"]
    (folder / "encoder.onnx").write_bytes(whole)
    settle(shadow, clock)
    answer(good)
    settle(shadow, clock)
    assert shadow.describe()["records"] == 1
    (folder / "encoder.onnx").write_bytes(b"")
    settle(shadow, clock)
    assert "encoder.onnx was altered" in shadow.describe()["refused"]


def test_the_folder_is_looked_at_now_and_then(rework: Rework, clock: Clock, model: Model) -> None:
    loads = []

    def load(folder: Path) -> Model:
        loads.append(folder)
        raise BundleError(folder, "no")

    folder = rework()
    shadow = Shadow(load, folder, clock, Counters())
    shadow.against(model)
    shadow.step()
    (folder / "note").write_text("")
    shadow.step()
    assert len(loads) == 1
    settle(shadow, clock)
    settle(shadow, clock)
    assert len(loads) == 2


@pytest.mark.parametrize("where", ["loading", "deciding"])
def test_whatever_goes_wrong_in_it_is_told_and_compares_no_more(
    bundle: Path,
    model: Model,
    clock: Clock,
    good: Record,
    where: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Broken(Model):
        def decide(self, _matrix: Any) -> Any:
            raise ZeroDivisionError

    def load(folder: Path) -> Model:
        if where == "loading":
            raise ZeroDivisionError
        return Broken.load(folder)

    shadow = Shadow(load, bundle, clock, Counters())
    answer = Answering(shadow, model)
    stop = threading.Event()
    thread = threading.Thread(target=shadow.run, args=[stop])
    thread.start()
    try:
        eventually(lambda: shadow._loaded is not None or shadow.refused is not None)
        answer(good)
        eventually(lambda: shadow.refused is not None)
        assert shadow.describe()["refused"] == "unexpected ZeroDivisionError; the log says more"
        answer(good)
        assert not shadow._waiting
    finally:
        stop.set()
        thread.join(2)
    assert not thread.is_alive()
    assert [each.message for each in caplog.records].count("shadow failed") == 1


def test_counts_start_anew_with_another_bundle_and_go_on_when_the_old_one_is_back(
    rework: Rework, bundle: Path, model: Model, clock: Clock, down: Record
) -> None:
    other = Model.load(rework("other", **{"link-down": {"name": "cut"}}))
    shadow = shadow_of(bundle, clock)
    first = Answering(shadow, model)
    settle(shadow, clock)
    first(down)
    settle(shadow, clock)
    second = Answering(shadow, other)
    settle(shadow, clock)
    assert shadow.describe()["against"]["version"] == other.manifest.version
    assert shadow.describe()["agreement"] is None
    second(down, down)
    first(down)  # a request that has begun before the swap
    settle(shadow, clock)
    told = shadow.describe()
    assert (told["records"], told["agreement"]) == (2, 0)
    assert len(told["disagreements"]) == 2
    shadow.against(model)
    settle(shadow, clock)
    told = shadow.describe()
    assert (told["records"], told["agreement"], told["disagreements"]) == (2, 1, [])


def test_another_shadow_starts_anew(
    rework: Rework, model: Model, clock: Clock, tmp_path: Path, down: Record
) -> None:
    link = tmp_path / "link"
    link.symlink_to(rework("a"))
    shadow = shadow_of(link, clock)
    answer = Answering(shadow, model)
    settle(shadow, clock)
    answer(down)
    settle(shadow, clock)
    before = shadow.describe()
    link.unlink()
    link.symlink_to(rework("b", about="yet another"))
    settle(shadow, clock)
    after = shadow.describe()
    assert before["bundle"] != after["bundle"]
    assert (before["records"], after["records"]) == (1, 0)


# Schemas.


def known(model: Model, name: str, /, **changes: Any) -> Field:
    return Field(**(model.schema[name].model_dump() | changes))


@pytest.fixture
def compare(
    make_bundle: Callable[..., Path], model: Model, clock: Clock
) -> Callable[..., tuple[Shadow, Answering]]:
    """A shadow with a schema of its own; its examples are those of the toy, cut to that."""

    def build(*fields: Field, examples: list[Record]) -> tuple[Shadow, Answering]:
        shadow = shadow_of(make_bundle(fields, examples), clock)
        answer = Answering(shadow, model)
        settle(shadow, clock)
        return shadow, answer

    return build


Compare = Callable[..., tuple[Shadow, Answering]]


def test_fields_are_found_by_name_and_categories_by_text(
    compare: Compare, model: Model, clock: Clock, good: Record, down: Record, overload: Record
) -> None:
    # The graph's first three columns decide, so they stay where they are.
    fields = (
        known(model, "cpu load", kind="counter"),
        known(model, "error rate"),
        known(model, "link up"),
        known(model, "vendor", categories=("x", "b", "acme")),
        Field(name="new", kind="gauge", required=False),
        known(model, "state", categories=("busy", "idle")),
    )
    shadow, answer = compare(*fields, examples=[good, down, overload])
    seen = []
    assert shadow._loaded
    decide = shadow._loaded.decide
    shadow._loaded.decide = lambda matrix: (seen.append(matrix), decide(matrix))[1]  # type: ignore[func-returns-value, method-assign]
    answer(good, down, overload | {"vendor": "nobody"}, good | {"vendor": None})
    settle(shadow, clock)
    nan = np.nan
    expected = [
        [12.5, 0, 1, 2, nan, 1],
        [3, nan, 0, 2, nan, 0],
        [97, 40.5, 1, -1, nan, 0],
        [12.5, 0, 1, nan, nan, 1],
    ]
    np.testing.assert_array_equal(seen[0], np.array(expected, np.float32))
    told = shadow.describe()
    assert (told["records"], told["agreement"]) == (4, 1)
    assert (told["missing"], told["unused"]) == (["new"], [])


def test_what_it_would_not_take_is_unfit(
    compare: Compare, model: Model, clock: Clock, good: Record, down: Record, overload: Record
) -> None:
    fields = (
        known(model, "cpu load"),
        known(model, "error rate", required=True),
        known(model, "link up"),
        known(model, "state", categories=("idle",)),
    )
    examples = [
        {name: each[name] for name in ("cpu load", "error rate", "link up", "state")}
        | {"error rate": each["error rate"] or 0.0, "state": "idle"}
        for each in (good, down, overload)
    ]
    shadow, answer = compare(*fields, examples=examples)
    answer(good, down, overload, good | {"error rate": None})
    settle(shadow, clock)
    told = shadow.describe(records=True)
    assert told["unused"] == ["vendor"]
    assert {each["label"]: each["shadow"] for each in told["classes"]} == {
        "normal": {"normal": 1, UNFIT: 1},
        "link-down": {UNFIT: 1},
        "overload": {UNFIT: 1},
    }
    assert not any("shadow_distance" in each for each in told["disagreements"])


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "another"}, "needs the field 'another', which the bundle that answers has not"),
        ({"kind": "gauge"}, "the field 'link up' is a gauge to it, and a boolean to the bundle"),
    ],
)
def test_a_schema_that_cannot_be_served_from_this_one_is_refused(
    compare: Compare,
    model: Model,
    clock: Clock,
    good: Record,
    caplog: pytest.LogCaptureFixture,
    change: Record,
    reason: str,
) -> None:
    field = known(model, "link up", **({"typical": None} | change))
    example = {field.name: True if field.kind == "boolean" else 1.0}
    shadow, answer = compare(field, examples=[example] * 3)
    answer(good)
    settle(shadow, clock)
    told = shadow.describe()
    assert reason in told["refused"]
    assert (told["records"], told["agreement"]) == (0, None)
    assert [each.message for each in caplog.records].count("shadow refused") == 1
    assert shadow._loaded
    own = Answering(shadow, shadow._loaded)  # after a swap it may do
    settle(shadow, clock)
    own(example)
    settle(shadow, clock)
    told = shadow.describe()
    assert "refused" not in told
    assert told["agreement"] == 1


# What is counted.


def test_workers_are_counted_together() -> None:
    a, b = Counters(), Counters()
    a.count_shadow(("1", "2"), {("x", "x"): 3, ("x", "y"): 1})
    b.count_shadow(("1", "2"), {("x", "x"): 2})
    b.count_shadow(("1", "3"), {("x", "x"): 9})
    b.skip_shadow(("1", "2"), 5)
    a.add(ProcessReport.decoded(ProcessReport(b).encoded()).counters)
    assert a.shadow == {("1", "2"): {("x", "x"): 5, ("x", "y"): 1}, ("1", "3"): {("x", "x"): 9}}
    assert a.shadow_skipped == {("1", "2"): 5}
    assert b.shadow[("1", "2")] == {("x", "x"): 2}


def test_an_answer_is_of_all_workers(bundle: Path, model: Model, clock: Clock) -> None:
    together = Counters()
    versions = model.manifest.version, model.manifest.version
    together.count_shadow(versions, {("normal", "normal"): 7})
    shadow = Shadow(Model.load, bundle, clock, Counters(), lambda: together)
    shadow.against(model)
    settle(shadow, clock)
    assert shadow.describe()["records"] == 7


def test_neither_many_bundles_nor_many_labels_make_it_grow_without_end() -> None:
    tally = Counters()
    for number in range(50):
        versions = "served", str(number)
        tally.count_shadow(versions, {("a", "a"): 1})
        tally.skip_shadow(versions, 2)
    assert len(tally.shadow) == 10
    assert tally.shadow[("served", "49")] == {("a", "a"): 1}
    assert sum(found[("a", "a")] for found in tally.shadow.values()) == 50
    assert sum(tally.shadow_skipped.values()) == 100
    pairs = {(str(n), str(n + n % 2)): 1 for n in range(3000)}
    tally.count_shadow(("served", "many"), pairs)
    found = tally.shadow[("served", "many")]
    assert len(found) == 1002
    assert sum(found.values()) == 3000
    assert sum(number for (a, b), number in found.items() if a == b) == 1500


def samples_of(text: str) -> dict[tuple[str, tuple[str, ...]], float]:
    return {
        (sample.name, tuple(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_prometheus_is_told_of_all_bundles_together() -> None:
    tally = Counters()
    tally.count_shadow(("1", "2"), {("x", "x"): 3, ("x", "y"): 1})
    tally.count_shadow(("2", "3"), {("x", "x"): 3, ("z", "y"): 4})
    tally.skip_shadow(("1", "2"), 5)
    text = Exposition(tally, [ProcessStatus()], (0, None)).text().decode()
    told = samples_of(text)
    assert {key: n for key, n in told.items() if key[0].startswith("faultcube_shadow")} == {
        ("faultcube_shadow_records_total", ("x", "x")): 6,
        ("faultcube_shadow_records_total", ("x", "y")): 1,
        ("faultcube_shadow_records_total", ("z", "y")): 4,
        ("faultcube_shadow_agreed_total", ("x",)): 6,
        ("faultcube_shadow_agreed_total", ("z",)): 0,
        ("faultcube_shadow_skipped_total", ()): 5,
    }
    if shutil.which("promtool"):
        lint = subprocess.run(
            ["promtool", "check", "metrics"],
            input=text,
            text=True,
            capture_output=True,
            check=False,
        )
        assert (lint.returncode, lint.stdout, lint.stderr) == (0, "", "")


# The service.


def eventually(is_so: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not is_so():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_without_a_shadow_it_is_said_how_to_have_one(shared: TestClient) -> None:
    response = shared.get("/models/shadow")
    assert (response.status_code, response.json()["reason"]) == (404, "no_such_bundle")
    assert "FAULTCUBE_SHADOW" in response.json()["detail"]


def tensors(record: Record) -> Record:
    """The record as the Open Inference Protocol has it."""
    kinds = {float: "FP64", bool: "BOOL", str: "BYTES"}
    return {
        "inputs": [
            {"name": name, "shape": [1], "datatype": kinds[type(value)], "data": [value]}
            for name, value in record.items()
        ]
    }


def test_all_that_is_answered_is_compared_and_the_answer_is_as_documented(
    bundle: Path, rework: Rework, serve: Serve, good: Record, overload: Record
) -> None:
    folder = rework(overload={"name": "busy"})
    digest = hashlib.sha256(KEY.encode()).hexdigest()
    client = serve(bundle, shadow=folder, admin_keys=digest)

    def told(**headers: str) -> Record:
        answer: Record = client.get("/models/shadow", headers=headers).json()
        return answer

    eventually(lambda: "bundle" in told())
    client.post("/classify", json={"records": [good, overload]})
    assert client.post("/v2/models/toy/infer", json=tensors(good)).status_code == 200
    eventually(lambda: told()["records"] == 3)
    answer = told(**{"X-API-Key": KEY})
    assert answer["agreement"] == pytest.approx(2 / 3)
    assert answer["against"] == client.get("/readyz").json()["bundle"]
    assert answer["disagreements"][0]["record"] == overload
    for without in (told(), told(**{"X-API-Key": "none"})):
        assert "record" not in without["disagreements"][0]
    document = client.get("/openapi.json").json()
    described = document["paths"]["/models/shadow"]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    whole = {"components": document["components"], **schema}
    for each in (answer, told()):
        jsonschema.Draft202012Validator(whole).validate(each)
    samples = samples_of(client.get("/metrics").text)
    assert samples["faultcube_shadow_records_total", ("overload", "busy")] == 1
    assert samples["faultcube_shadow_agreed_total", ("normal",)] == 2
    assert samples["faultcube_shadow_agreed_total", ("unknown",)] == 0
    assert samples["faultcube_shadow_skipped_total", ()] == 0


def test_a_refused_shadow_touches_no_traffic(
    bundle: Path, tmp_path: Path, serve: Serve, good: Record
) -> None:
    client = serve(bundle, shadow=tmp_path / "nowhere")
    eventually(lambda: "refused" in client.get("/models/shadow").json())
    response = client.post("/classify", json={"records": [good]})
    assert response.json()["results"][0]["label"] == "normal"
    document = client.get("/openapi.json").json()
    described = document["paths"]["/models/shadow"]["get"]["responses"]["200"]
    schema = described["content"]["application/json"]["schema"]
    whole = json.loads(json.dumps({"components": document["components"], **schema}))
    jsonschema.Draft202012Validator(whole).validate(client.get("/models/shadow").json())
