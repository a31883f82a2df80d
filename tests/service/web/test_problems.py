from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from models import FieldError
from service.web import problems
from service.web.problems import (
    INTERNAL_ERROR,
    MEDIA_TYPE,
    METHOD_NOT_ALLOWED,
    Kind,
    invalid_records,
    not_ready,
    problem_of,
)

KINDS = {name: kind for name, kind in vars(problems).items() if isinstance(kind, Kind)}


def test_every_kind_of_problem_has_a_reason_of_its_own_and_is_offered() -> None:
    assert len({kind.reason for kind in KINDS.values()}) == len(KINDS) == 34
    assert KINDS.keys() <= set(problems.__all__)


def test_statuses_and_reasons_are_a_public_contract() -> None:
    assert {(kind.status, kind.reason) for kind in KINDS.values()} == {
        (400, "malformed"),
        (400, "not_ingesting"),
        (400, "refused"),
        (400, "unreadable"),
        (401, "unauthorized"),
        (403, "cross_site"),
        (403, "forbidden"),
        (404, "no_such_bundle"),
        (404, "no_such_class"),
        (404, "no_such_incident"),
        (404, "no_such_path"),
        (404, "no_such_profile"),
        (404, "not_kept"),
        (405, "wrong_method"),
        (408, "too_slow"),
        (409, "class_of_bundle"),
        (409, "full"),
        (409, "key_reused"),
        (409, "name_taken"),
        (409, "not_activated"),
        (409, "not_learned"),
        (409, "outdated"),
        (409, "profile_needed"),
        (409, "swallows"),
        (413, "too_large"),
        (415, "unspoken"),
        (422, "contradictory"),
        (422, "unfit"),
        (431, "head_too_large"),
        (499, "disconnected"),
        (500, "broken"),
        (503, "not_ready"),
        (503, "overloaded"),
        (503, "store_away"),
    }


def test_a_problem_is_sent_as_rfc_9457_asks() -> None:
    response = not_ready("Not yet.", retry_seconds=3).response("id-1")
    assert response.media_type == MEDIA_TYPE
    assert response.headers["retry-after"] == "3"
    assert json.loads(bytes(response.body)) == {
        "type": "about:blank",
        "title": "Service Unavailable",
        "status": 503,
        "detail": "Not yet.",
        "reason": "not_ready",
        "request_id": "id-1",
    }


def test_what_was_raised_by_mistake_is_not_told() -> None:
    problem = problem_of(ValueError("the sender's value"))
    assert problem.kind is INTERNAL_ERROR
    assert "value" not in str(problem)


@pytest.mark.parametrize(("code", "status"), [(404, 404), (405, 405), (418, 400)])
def test_the_frameworks_refusals_become_problems(code: int, status: int) -> None:
    assert problem_of(HTTPException(code, "detail")).status == status


def test_a_wrong_method_is_told_the_right_one() -> None:
    problem = problem_of(HTTPException(405, headers={"Allow": "POST"}))
    assert problem.kind is METHOD_NOT_ALLOWED
    assert problem.response("id-1").headers["allow"] == "POST"


def test_each_fault_has_its_place() -> None:
    problem = invalid_records(
        [FieldError(3, "a", "a number", "a string"), FieldError(4, None, "an object", "null")]
    )
    assert problem.document()["errors"] == [
        {"record": 3, "field": "a", "expected": "a number", "got": "a string"},
        {"record": 4, "expected": "an object", "got": "null"},
    ]
    assert str(problem) == "record 3, field 'a': expected a number, got a string"


@pytest.mark.parametrize("char", ["a", '"', "\\", "\n", "\x00", "é", "\N{GRINNING FACE}", "\u202e"])
def test_an_answer_stays_under_8_kb_whatever_the_names_are(char: str) -> None:
    faults = [FieldError(10**9, char * 1000, char * 5000, "a string")] * 50
    body = bytes(invalid_records(faults).response("id-1").body)
    errors = json.loads(body)["errors"]
    assert len(body) < 8000
    assert 1 <= len(errors) <= 10
    assert all(len(error["field"]) == 100 and error["field"].isprintable() for error in errors)
    if char == "a":
        assert len(errors) == 10
