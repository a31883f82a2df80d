from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import Model

Record = dict[str, Any]


def test_verdicts_come_in_the_order_of_the_records(
    shared: TestClient, good: Record, down: Record, overload: Record, unknown: Record
) -> None:
    records = [overload, good, unknown, down, good]
    results = shared.post("/classify", json={"records": records}).json()["results"]
    labels = ["overload", "normal", "unknown", "link-down", "normal"]
    assert [result["label"] for result in results] == labels
    assert [result["good"] for result in results] == [False, True, False, False, True]


def test_the_nearest_class_is_named_only_of_an_unknown_record(
    shared: TestClient, good: Record, unknown: Record
) -> None:
    known, far = shared.post("/classify", json={"records": [good, unknown]}).json()["results"]
    assert set(known) == {"label", "good", "distance", "confidence"}
    assert far["nearest"] == "link-down"
    assert 0 <= known["distance"] < 0.05 < far["distance"] <= 1


def test_all_distances_are_told_only_on_request(shared: TestClient, good: Record) -> None:
    def ask(**options: bool) -> Record:
        result = shared.post("/classify", json={"records": [good]} | options).json()["results"][0]
        assert isinstance(result, dict)
        return result

    assert "distances" not in ask()
    assert "distances" not in ask(distances=False)
    asked = ask(distances=True)
    assert list(asked["distances"]) == ["normal", "link-down", "overload"]
    assert asked["distance"] == min(asked["distances"].values())


def test_the_answer_names_the_bundle(shared: TestClient, bundle: Path, good: Record) -> None:
    manifest = Model.load(bundle).manifest
    answer = shared.post("/classify", json={"records": [good]}).json()
    assert answer["bundle"] == {"name": "toy", "version": manifest.version}


def test_a_missing_value_may_be_null_or_left_out(shared: TestClient, down: Record) -> None:
    without = {name: value for name, value in down.items() if value is not None}
    results = shared.post("/classify", json={"records": [down, without]}).json()["results"]
    assert results[0] == results[1]


def test_an_open_category_takes_a_value_it_was_not_trained_on(
    shared: TestClient, good: Record
) -> None:
    body = {"records": [good | {"vendor": "somebody new"}]}
    assert shared.post("/classify", json=body).json()["results"][0]["label"] == "normal"


def test_answers_are_the_models_own(
    shared: TestClient, bundle: Path, good: Record, unknown: Record
) -> None:
    verdicts = Model.load(bundle).classify([good, unknown], distances=True)
    body = {"records": [good, unknown], "distances": True}
    results = shared.post("/classify", json=body).json()["results"]
    for verdict, result in zip(verdicts, results, strict=True):
        assert verdict.label == result["label"]
        assert verdict.nearest == result.get("nearest")
        assert verdict.distances == pytest.approx(result["distances"])
        assert verdict.confidence == pytest.approx(result["confidence"])


def test_the_bundles_examples_are_a_ready_body(shared: TestClient, bundle: Path) -> None:
    response = shared.post("/classify", content=(bundle / "examples.json").read_bytes())
    labels = [result["label"] for result in response.json()["results"]]
    assert labels == ["normal", "link-down", "overload"]


def test_a_body_may_hold_as_many_records_as_are_allowed(shared: TestClient, good: Record) -> None:
    response = shared.post("/classify", content=json.dumps({"records": [good] * 50}))
    assert len(response.json()["results"]) == 50
