from __future__ import annotations

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import Annotated, Any

import pydantic
import pytest
from starlette.requests import Request
from starlette.types import Message

from models import RecordError
from service.api import forms
from service.api.forms import Form
from service.web.body import ByteBudget
from service.web.middleware import RequestInfo
from service.web.problems import (
    BODY_TOO_LARGE,
    INVALID_RECORDS,
    MALFORMED_BODY,
    UNSUPPORTED_MEDIA_TYPE,
    Problem,
)
from tests.support.problems import raises

LIMIT = 100


class Order(Form):
    """What somebody wants."""

    name: Annotated[str, pydantic.Field(max_length=5)]
    """Of the thing."""
    records: Annotated[list[dict[str, Any]], pydantic.Field(default_factory=list)]
    share: float = 0.5


class Sender:
    """Sends bodies to a service that has room for one and a half."""

    def __init__(self) -> None:
        self.budget = ByteBudget(LIMIT * 3 // 2)

    def send(self, body: bytes, **headers: str) -> tuple[Order, bytes]:
        settings = SimpleNamespace(max_body_bytes=LIMIT, body_seconds=5.0)
        state = SimpleNamespace(faultcube=SimpleNamespace(budget=self.budget, settings=settings))
        scope = {"type": "http", "app": SimpleNamespace(state=state)}
        named = {name.replace("_", "-").encode(): each.encode() for name, each in headers.items()}
        RequestInfo(named, "id-1").attach(scope)

        async def receive() -> Message:
            return {"type": "http.request", "body": body}

        return asyncio.run(forms.read(Request(scope, receive), Order))


@pytest.fixture
def sender() -> Sender:
    return Sender()


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"content_type": "application/json"},
        {"content_type": "Application/JSON ; charset=utf-8", "content_encoding": "identity"},
    ],
)
def test_a_form_comes_with_the_body_that_was_sent(sender: Sender, headers: dict[str, str]) -> None:
    body = b'{"name": "a", "share": 1}'
    form, content = sender.send(body, **headers)
    assert form.model_dump() == {"name": "a", "records": [], "share": 1.0}
    assert content == body


@pytest.mark.parametrize(
    "headers",
    [
        {"content_type": "text/plain"},
        {"content_type": "application/json-patch+json"},
        {"content_encoding": "gzip"},
    ],
)
def test_any_other_media_type_is_refused(sender: Sender, headers: dict[str, str]) -> None:
    with raises(UNSUPPORTED_MEDIA_TYPE, "application/json"):
        sender.send(b'{"name": "a"}', **headers)


@pytest.mark.parametrize("body", [b"", b"{", b"name=a", b'{"name": "\xff"}', b'{"name": "a"} x'])
def test_what_is_not_json_is_refused(sender: Sender, body: bytes) -> None:
    with raises(MALFORMED_BODY, "not JSON"):
        sender.send(body)


def test_a_body_that_is_too_long_is_refused(sender: Sender) -> None:
    with raises(BODY_TOO_LARGE):
        sender.send(b'{"name": "a"}'.ljust(LIMIT + 1))
    assert sender.send(b'{"name": "a"}'.ljust(LIMIT))[0].name == "a"


@pytest.mark.parametrize(
    ("body", "place"),
    [
        (b"[]", {}),
        (b"{}", {"field": "name"}),
        (b'{"name": 1}', {"field": "name"}),
        (b'{"name": "a", "share": "1"}', {"field": "share"}),
        (b'{"name": "a", "share": NaN}', {"field": "share"}),
        (b'{"name": "s3cr3t"}', {"field": "name"}),
        (b'{"name": "a", "other": "s3cr3t"}', {"field": "other"}),
        (b'{"name": "a", "records": [{}, "s3cr3t"]}', {"record": 1, "field": "records"}),
    ],
)
def test_what_does_not_fit_is_named_and_never_repeated(
    sender: Sender, body: bytes, place: dict[str, Any]
) -> None:
    with raises(INVALID_RECORDS) as refusal:
        sender.send(body)
    (error,) = refusal.value.members["errors"]
    assert {key: error[key] for key in ("record", "field") if key in error} == place
    assert "s3cr3t" not in str(refusal.value.document())
    assert "nput" not in error["expected"]


def test_no_bytes_stay_held_whatever_becomes_of_a_body(sender: Sender) -> None:
    for body in (b'{"name": "a"}', b"{", b"{}", b" " * (LIMIT + 1)):
        with suppress(Problem):
            sender.send(body)
        assert sender.budget.held == 0


def test_a_form_is_documented_with_the_bundles_own_record() -> None:
    class Single(Form):
        record: dict[str, Any]

    reference = {"$ref": "#/components/schemas/Record"}
    body = forms.described(Order)["requestBody"]
    schema = body["content"]["application/json"]["schema"]
    assert body["required"]
    assert schema["properties"]["records"]["items"] == reference
    assert schema["properties"]["name"]["description"] == "Of the thing."
    assert schema["additionalProperties"] is False
    single = forms.described(Single)["requestBody"]["content"]["application/json"]["schema"]
    assert single["properties"] == {"record": reference}


def test_a_byte_order_mark_is_no_part_of_a_form(sender: Sender) -> None:
    assert sender.send(b'\xef\xbb\xbf{"name": "a"}')[0].name == "a"


def test_a_form_with_two_lists_of_records_is_refused(sender: Sender) -> None:
    with pytest.raises(RecordError, match="a second one"):
        sender.send(b'{"name": "a", "records": [{}], "records": []}')
