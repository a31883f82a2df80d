"""Forms: short JSON bodies that request a change, read within the limits and validated."""

from __future__ import annotations

from typing import Any, ClassVar, TypeVar

import pydantic
from starlette.requests import Request

from service.formats.json_text import check_unique, without_bom
from service.runtime.state import state_of
from service.web import body
from service.web.middleware import RequestInfo
from service.web.problems import MALFORMED_BODY, UNSUPPORTED_MEDIA_TYPE, Problem, invalid_records
from service.web.validation import faults_of

__all__ = ["Form", "described", "read"]

_JSON = frozenset({"application/json", ""})


class Form(pydantic.BaseModel):
    """A JSON object of a client; unknown members are refused.

    Attributes:
        max_bytes: of its JSON, where the settings allow more: to validate takes much more memory.
    """

    max_bytes: ClassVar[int] = 1 << 40
    model_config = pydantic.ConfigDict(
        use_attribute_docstrings=True, extra="forbid", strict=True, allow_inf_nan=False
    )


F = TypeVar("F", bound=Form)


async def read(request: Request, form: type[F]) -> tuple[F, bytes]:
    """Read and validate a body.

    Returns:
        The form, and the body.

    Raises:
        Problem: it is too long, too slow, no JSON, or not this form.
        RecordError: it has two lists of records.
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
        limit=min(state.settings.max_body_bytes, form.max_bytes),
        seconds=state.settings.body_seconds,
    )
    try:
        read = form.model_validate_json(without_bom(content))
        check_unique(without_bom(content), "records")
        return read, bytes(content)
    except pydantic.ValidationError as error:
        raise _problem(error) from error
    finally:
        state.budget.release(len(content))


def described(form: type[Form]) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads a form."""
    schema = form.model_json_schema(ref_template="#/components/schemas/{model}")
    properties, record = schema["properties"], {"$ref": "#/components/schemas/Record"}
    if "records" in properties:
        properties["records"]["items"] = record
    if "record" in properties:
        properties["record"] = record
    return {"requestBody": {"required": True, "content": {"application/json": {"schema": schema}}}}


def _problem(error: pydantic.ValidationError) -> Problem:
    errors = error.errors(include_url=False)
    if errors[0]["type"] == "json_invalid":
        return Problem(MALFORMED_BODY, "The body is not JSON.")
    return invalid_records(faults_of(errors))
