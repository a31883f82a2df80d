from __future__ import annotations

import json

import pytest
from starlette.exceptions import HTTPException

from models import Fault
from service.web import problems
from service.web.problems import (
    MEDIA_TYPE,
    Broken,
    NotReady,
    Problem,
    Unfit,
    WrongMethod,
    problem_of,
)


def every_kind(kind: type[Problem] = Problem) -> list[type[Problem]]:
    return [child for near in kind.__subclasses__() for child in (near, *every_kind(near))]


def test_every_problem_has_a_reason_of_its_own_and_stands_in_the_drawing() -> None:
    kinds = every_kind()
    assert len({kind.reason for kind in kinds}) == len(kinds)
    for kind in kinds:
        assert f" {kind.__name__} " in (problems.__doc__ or "")
        assert str(kind.status) in (problems.__doc__ or "")


def test_a_problem_is_sent_as_rfc_9457_asks() -> None:
    response = NotReady("Not yet.", retry_seconds=3).response("id-1")
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
    assert isinstance(problem, Broken)
    assert "value" not in str(problem)


@pytest.mark.parametrize(("code", "status"), [(404, 404), (405, 405), (418, 400)])
def test_the_frameworks_refusals_become_problems(code: int, status: int) -> None:
    assert problem_of(HTTPException(code, "detail")).status == status


def test_a_wrong_method_is_told_the_right_one() -> None:
    problem = problem_of(HTTPException(405, headers={"Allow": "POST"}))
    assert isinstance(problem, WrongMethod)
    assert problem.response("id-1").headers["allow"] == "POST"


def test_each_fault_has_its_place() -> None:
    problem = Unfit.of([Fault(3, "a", "a number", "a string"), Fault(4, None, "an object", "null")])
    assert problem.document()["errors"] == [
        {"record": 3, "field": "a", "expected": "a number", "got": "a string"},
        {"record": 4, "expected": "an object", "got": "null"},
    ]
    assert str(problem) == "record 3, field 'a': expected a number, got a string"


@pytest.mark.parametrize("char", ["a", '"', "\\", "\n", "\x00", "é", "\N{GRINNING FACE}", "\u202e"])
def test_an_answer_stays_under_8_kb_whatever_the_names_are(char: str) -> None:
    faults = [Fault(10**9, char * 1000, char * 5000, "a string")] * 50
    body = bytes(Unfit.of(faults).response("id-1").body)
    errors = json.loads(body)["errors"]
    assert len(body) < 8000
    assert 1 <= len(errors) <= 10
    assert all(len(error["field"]) == 100 and error["field"].isprintable() for error in errors)
    if char == "a":
        assert len(errors) == 10
