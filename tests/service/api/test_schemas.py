from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import jsonschema
import msgspec
import pydantic
import pytest

from models import FieldError
from service.api import schemas
from service.formats.errors import entry_of
from service.scoring import explain, writers
from service.web.problems import invalid_records
from service.web.response_model import ResponseModel

DRIVER = explain.Driver(field="cpu load", value=97.0, typical=12.5, unit="%", share=0.9)
MISSING = explain.Driver(field="link up", value=None, typical=True, share=0.1)


def validate(value: object, model: type[ResponseModel]) -> None:
    jsonschema.Draft202012Validator(model.model_json_schema()).validate(value)


@pytest.mark.parametrize(
    "verdict",
    [
        writers.Verdict("normal", True, 0.0, 1.0),
        writers.Verdict("unknown", False, 0.5, 0.25, nearest="normal"),
        writers.Verdict("down", False, 1.0, 0.5, distances={"normal": 0.5, "down": 1.0}),
        writers.Verdict("down", False, 0.5, 0.5, explanation=[DRIVER, MISSING]),
        writers.Verdict("down", False, 0.5, 0.5, explanation=[]),
    ],
)
def test_verdicts_are_documented_as_they_are_sent(verdict: writers.Verdict) -> None:
    sent = json.loads(msgspec.json.encode(verdict))
    bundle = {"name": "toy", "version": "abc"}
    error = {"error": entry_of(FieldError(1, "a", "a number", "null"))}
    validate({"bundle": bundle, "results": [sent, error]}, schemas.Classified)


@pytest.mark.parametrize(
    "change",
    [
        {"distance": 1.5},
        {"nearest": None},
        {"explanation": None},
        {"explanation": [msgspec.to_builtins(DRIVER)] * 11},
        {"other": 1},
    ],
)
def test_verdicts_are_documented_no_looser_than_they_are(change: dict[str, Any]) -> None:
    verdict = {"label": "normal", "good": True, "distance": 0.0, "confidence": 1.0}
    validate(verdict, schemas.Verdict)
    with pytest.raises(jsonschema.ValidationError):
        validate(verdict | change, schemas.Verdict)


@pytest.mark.parametrize(
    "fault",
    [
        FieldError(0, "a", "a number", "null"),
        FieldError(3, None, "an object", "null"),
        FieldError(None, "records", "a list", "null"),
        FieldError(None, None, "an object", "null"),
    ],
)
def test_an_error_is_sent_the_same_by_every_route(fault: FieldError) -> None:
    entry = entry_of(fault)
    validate(entry, schemas.Error)
    assert json.loads(schemas.Error(**entry).content()) == entry


def test_a_problem_is_documented_as_it_is_sent() -> None:
    faults = [FieldError(at, "a", "a number", "null") for at in range(11)]
    sent = json.loads(bytes(invalid_records(faults).response("id-1").body))
    validate(sent, schemas.Problem)
    with pytest.raises(jsonschema.ValidationError):
        validate(sent | {"errors": [*sent["errors"], *sent["errors"]]}, schemas.Problem)


def test_only_a_degraded_service_says_why() -> None:
    bundle = schemas.BundleName(name="toy", version="abc")
    ready = schemas.Ready(status="ready", bundle=bundle, revision=0)
    assert "detail" not in json.loads(ready.content())
    with pytest.raises(pydantic.ValidationError):
        schemas.Ready(status="fine", bundle=bundle, revision=0)  # type: ignore[arg-type]


def test_a_shadow_without_records_agrees_neither_more_nor_less() -> None:
    compared = schemas.Shadowed(records=0, skipped=0, agreement=None, classes=[], disagreements=[])
    assert json.loads(compared.content()) == {
        "records": 0,
        "skipped": 0,
        "agreement": None,
        "classes": [],
        "disagreements": [],
    }


def test_a_disagreement_shows_its_record_only_where_it_is_given() -> None:
    said = schemas.Disagreement(
        time=datetime(2026, 1, 1, tzinfo=UTC),
        label="normal",
        distance=0.0,
        confidence=1.0,
        shadow_label="(unfit)",
    )
    assert set(json.loads(said.content())) == {
        "time", "label", "distance", "confidence", "shadow_label",
    }  # fmt: skip
    shown = said.model_copy(update={"record": {"error rate": None}})
    assert json.loads(shown.content())["record"] == {"error rate": None}
