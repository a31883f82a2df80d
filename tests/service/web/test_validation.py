from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic
import pytest
from pydantic_core import PydanticCustomError

from models import FieldError
from service.web.validation import faults_of


def _even(number: int) -> int:
    if number % 2:
        raise PydanticCustomError("even", "an even number")
    return number


def _small(number: int) -> int:
    if number > 9:
        raise ValueError("a small number")
    return number


class Order(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(extra="forbid", strict=True, allow_inf_nan=False)

    flag: bool = False
    even: Annotated[int, pydantic.AfterValidator(_even), pydantic.AfterValidator(_small)] = 0
    share: Annotated[float, pydantic.Field(ge=0, lt=1)] = 0.0
    many: Annotated[int, pydantic.Field(gt=0, le=5)] = 1
    level: Literal["low", "high"] = "low"
    name: Annotated[str, pydantic.Field(min_length=1, max_length=5)] = "a"
    code: Annotated[str, pydantic.Field(pattern="^[a-f]$")] = "a"
    items: Annotated[list[dict[str, Any]], pydantic.Field(min_length=1, max_length=2)] = [{}]
    since: datetime | None = None
    link: pydantic.HttpUrl | None = None


def faults(**values: object) -> list[FieldError]:
    with pytest.raises(pydantic.ValidationError) as refusal:
        Order.model_validate_json(pydantic.TypeAdapter(dict[str, Any]).dump_json(values))
    return faults_of(refusal.value.errors())


@pytest.mark.parametrize(
    ("field", "value", "expected", "got"),
    [
        ("flag", "yes", "true or false", "a string"),
        ("even", 3, "an even number", "something else"),
        ("even", 12, "a small number", "something else"),
        ("even", 2.5, "a whole number", "a number"),
        ("share", -1, "a number of at least 0", "something else"),
        ("share", 1, "a number less than 1", "something else"),
        ("many", 0, "a number greater than 0", "something else"),
        ("many", 6, "a number of at most 5", "something else"),
        ("level", "none", "'low' or 'high'", "something else"),
        ("name", "", "at least 1 characters", "something else"),
        ("name", "abcdef", "at most 5 characters", "something else"),
        ("name", 1, "text", "a number"),
        ("code", "g", "text of the form ^[a-f]$", "something else"),
        ("items", [], "at least 1 entries", "something else"),
        ("items", {}, "a list", "an object"),
        ("since", "soon", "a date and a time", "something else"),
        ("link", "://", "another value", "something else"),
        ("other", 1, "only keys that are known", "a key that is not known"),
    ],
)
def test_what_is_wrong_is_said_in_plain_words(
    field: str, value: object, expected: str, got: str
) -> None:
    assert faults(**{field: value}) == [FieldError(None, field, expected, got)]


def test_a_record_is_named_by_its_place() -> None:
    assert faults(items=[{}, 5]) == [FieldError(1, "items", "an object", "a number")]


def test_a_parameter_is_named_and_not_the_type_that_was_tried() -> None:
    tried = {"type": "string_pattern_mismatch", "ctx": {"pattern": "^a$"}, "input": "b"}
    for loc in (("header", "If-Match", "constrained-str"), ("header", "If-Match")):
        assert faults_of([tried | {"loc": loc}]) == [
            FieldError(None, "If-Match", "text of the form ^a$", "something else")
        ]


def test_what_is_missing_is_named() -> None:
    missing = {"type": "missing", "loc": ("query", "most"), "input": None}
    assert faults_of([missing]) == [FieldError(None, "most", "a value", "nothing")]
