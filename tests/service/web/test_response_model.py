from __future__ import annotations

import json
from typing import Annotated, Any

import jsonschema
import msgspec
import pydantic
import pytest

from service.web.response_model import Omittable, ResponseModel, Rounded, Share, model_of

_Texts = Omittable[list[str]]


class Answer(ResponseModel):
    """What somebody asked for."""

    count: int
    """How many."""
    why: Omittable[str] = None
    """Only if there is a reason."""
    mean: float | None = None


class Point(msgspec.Struct, omit_defaults=True):
    """A place."""

    name: Annotated[str, pydantic.Field(description="What it is called.")]
    share: Share
    note: Annotated[Omittable[str], pydantic.Field(description="If there is one.")] = None
    more: list[bytes] | None = None


def test_what_does_not_apply_is_absent_and_what_is_unknown_is_null() -> None:
    assert json.loads(Answer(count=1).content()) == {"count": 1, "mean": None}
    assert json.loads(Answer(count=1, why="", mean=0).content()) == {
        "count": 1,
        "why": "",
        "mean": 0,
    }


def test_a_key_that_may_be_absent_is_never_documented_as_null_nor_with_a_default() -> None:
    schema = Answer.model_json_schema()
    assert schema["required"] == ["count"]
    assert schema["properties"]["why"] == {
        "type": "string",
        "title": "Why",
        "description": "Only if there is a reason.",
    }
    assert {"type": "null"} in schema["properties"]["mean"]["anyOf"]
    assert "default" not in schema["properties"]["mean"]


@pytest.mark.parametrize("number", [1e16, 1e17, 1.5e300, 5e-324, 0.1])
def test_numbers_are_written_as_msgspec_writes_them(number: float) -> None:
    assert Answer(count=0, mean=number).content() == msgspec.json.encode(
        {"count": 0, "mean": number}
    )


def test_a_rounded_number_has_six_digits() -> None:
    class Measured(ResponseModel):
        value: Rounded

    assert Measured(value=2 / 3).content() == b'{"value":0.666667}'


def test_an_answer_has_nothing_that_is_not_documented() -> None:
    with pytest.raises(pydantic.ValidationError, match="Extra inputs"):
        Answer(count=1, other=2)  # type: ignore[call-arg]
    assert Answer.model_json_schema()["additionalProperties"] is False


def test_a_response_is_the_content_as_json_with_its_status() -> None:
    answer = Answer(count=3)
    first, second = answer.response(), answer.response(201)
    assert (first.status_code, second.status_code) == (200, 201)
    assert first.body == answer.content()
    assert first.headers["content-type"] == "application/json"


@pytest.mark.parametrize(
    "point", [Point("a", 0.5), Point("b", 1.0, note="x"), Point("c", 0.0, more=[b"x"])]
)
def test_the_model_of_a_struct_takes_what_the_struct_is_sent_as(point: Point) -> None:
    model = model_of(Point, more=_Texts)
    sent = msgspec.json.encode(point)
    jsonschema.Draft202012Validator(model.model_json_schema()).validate(json.loads(sent))
    assert model.model_validate_json(sent).content() == sent


def test_the_model_of_a_struct_documents_it() -> None:
    schema: dict[str, Any] = model_of(Point, more=_Texts).model_json_schema()
    assert (schema["title"], schema["description"]) == ("Point", "A place.")
    assert schema["required"] == ["name", "share"]
    assert schema["properties"]["name"]["description"] == "What it is called."
    share = schema["properties"]["share"]
    assert (share["minimum"], share["maximum"]) == (0, 1)
    assert schema["properties"]["more"]["items"] == {"type": "string"}
