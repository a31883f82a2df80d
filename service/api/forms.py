"""Bodies that ask for a change: short JSON, read within the limits and checked."""

from __future__ import annotations

from typing import Any, TypeVar

import pydantic
from starlette.requests import Request

from models import Fault
from service.runtime.state import state_of
from service.web import body
from service.web.middleware import RequestInfo
from service.web.problems import MALFORMED_BODY, UNSUPPORTED_MEDIA_TYPE, Problem, invalid_records

__all__ = ["Form", "described", "read"]

_JSON = frozenset({"application/json", ""})


class Form(pydantic.BaseModel):
    """What a client fills in; nothing else may stand in it."""

    model_config = pydantic.ConfigDict(
        use_attribute_docstrings=True, extra="forbid", strict=True, allow_inf_nan=False
    )


F = TypeVar("F", bound=Form)


async def read(request: Request, kind: type[F]) -> tuple[F, bytes]:
    """Read and check a body.

    Returns:
        What it says, and its bytes.

    Raises:
        Problem: it is too long, too slow, no JSON, or not this form.
    """
    state = state_of(request)
    headers = RequestInfo.of(request.scope).headers
    media = headers.get(b"content-type", b"").split(b";")[0].strip().lower().decode("latin-1")
    if media not in _JSON or headers.get(b"content-encoding", b"identity") != b"identity":
        raise Problem(UNSUPPORTED_MEDIA_TYPE, "Send application/json, not compressed.")
    content = await body.read(
        request.receive,
        headers,
        state.budget,
        limit=state.settings.max_body_bytes,
        seconds=state.settings.body_seconds,
    )
    try:
        return kind.model_validate_json(content), bytes(content)
    except pydantic.ValidationError as error:
        raise _refusal(error) from error
    finally:
        state.budget.release(len(content))


def described(kind: type[Form]) -> dict[str, Any]:
    """The form as a route's `openapi_extra`."""
    schema = kind.model_json_schema(ref_template="#/components/schemas/{model}")
    properties, record = schema["properties"], {"$ref": "#/components/schemas/Record"}
    if "records" in properties:
        properties["records"]["items"] = record
    if "record" in properties:
        properties["record"] = record
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _refusal(error: pydantic.ValidationError) -> Problem:
    errors = error.errors(include_input=False, include_url=False)
    if errors[0]["type"] == "json_invalid":
        return Problem(MALFORMED_BODY, "The body is not JSON.")
    faults: list[Fault] = []
    for each in errors:
        place = each["loc"]
        index = next((part for part in place if isinstance(part, int)), None)
        name = next((part for part in reversed(place) if isinstance(part, str)), None)
        faults.append(Fault(index, name, each["msg"], "something else"))
    return invalid_records(faults)
