"""The OpenAPI document of the bundle that is loaded, and Swagger UI without the internet."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

from fastapi import APIRouter
from fastapi.openapi.docs import get_swagger_ui_html
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, Response

from models import Field, Model
from models.schema import LARGEST
from service.api.schemas import Problem
from service.scoring.explain import MAX_EXPLAINED
from service.web.problems import FORBIDDEN, MEDIA_TYPE, Kind, documented
from service.web.response_model import ResponseModel

__all__ = ["ARROW", "answers", "complete", "exchange", "record_schema", "router"]

router = APIRouter(include_in_schema=False)

ARROW: Final = "application/vnd.apache.arrow.stream"
_INLINE = re.compile(rb"<script>(.*?)</script>", re.DOTALL)
_REF: Final = "#/components/schemas/{model}"
_CHOICES: Final = {
    "on_invalid": (
        ("strict", "report"),
        "Whether a record that does not fit rejects the request, or is reported in its position.",
    ),
    "extra": (
        ("strict", "ignore"),
        "Whether a field that the schema does not have makes a record invalid, or is ignored.",
    ),
}
"""Query parameters of every route that reads records."""
_SITE: Final = (
    "Site that the records are from: they are adapted by its profile, which the header "
    "`Faultcube-Profile` names. Without it, records are taken as they are."
)
_OPTIONS: Final = {
    "distances": "Whether verdicts list the distance to every class.",
    "explain": "Whether verdicts list the fields that drove them. "
    f"At most {MAX_EXPLAINED} records, of a bundle that holds calibration records; not in Arrow.",
}
"""Query parameters and members of the body that add to a verdict."""
_MAX_EXAMPLES = 12
"""Values of an open category that are shown."""


@router.get("/docs")
async def docs() -> HTMLResponse:
    """Swagger UI; its addresses are relative, so that it works behind a proxy's prefix."""
    page = get_swagger_ui_html(
        openapi_url="openapi.json",
        title="Faultcube",
        swagger_js_url="docs/swagger-ui-bundle.js",
        swagger_css_url="docs/swagger-ui.css",
        swagger_favicon_url="docs/favicon-32x32.png",
        # Without this, Swagger UI sends the document's address to a validator on the internet.
        swagger_ui_parameters={"validatorUrl": None, "displayRequestDuration": True},
    )
    page.headers.update(_secured(bytes(page.body)))
    return page


@router.get("/docs/swagger-ui-bundle.js")
@router.get("/docs/swagger-ui.css")
@router.get("/docs/favicon-32x32.png")
async def resource(request: Request) -> Response:
    """Swagger UI's program, style sheet and icon."""
    name = request.url.path.rpartition("/")[2]
    path = resources.files("fastapi_swagger.resources") / name
    return FileResponse(str(path), headers={"Cache-Control": "max-age=86400"})


def _secured(page: bytes) -> dict[str, str]:
    """Return headers that allow a page what it needs, and nothing else."""
    digests = [hashlib.sha256(script).digest() for script in _INLINE.findall(page)]
    scripts = " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
    policy = (
        f"default-src 'none'; script-src 'self' {scripts}; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data:; connect-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
        "form-action 'none'"
    )
    return {
        "Content-Security-Policy": policy,
        "X-Frame-Options": "DENY",
        "Referrer-Policy": "no-referrer",
    }


def answers(model: type[ResponseModel], *kinds: Kind) -> dict[str, Any]:
    """Return a route's arguments that document its responses: a model, and kinds of problems."""
    return {
        "response_model": model,
        "response_description": model.__doc__ or "",
        "responses": documented(*kinds),
    }


def exchange(*, distances: bool = False) -> dict[str, Any]:
    """Return the `openapi_extra` of a route that reads records.

    Args:
        distances: whether the route has the options of verdicts, `distances` and `explain`.
    """
    choices = [
        _parameter(name, {"type": "string", "enum": list(values), "default": "strict"}, meaning)
        for name, (values, meaning) in _CHOICES.items()
    ]
    flag = {"type": "boolean", "default": False}
    options = _OPTIONS if distances else {}
    flags = [_parameter(name, flag, meaning) for name, meaning in options.items()]
    members = {name: flag | {"description": meaning} for name, meaning in options.items()}
    site = _parameter("site", {"type": "string", "minLength": 1}, _SITE)
    return {"parameters": [*choices, *flags, site]} | _request_body(members)


def _parameter(name: str, schema: Mapping[str, Any], meaning: str) -> dict[str, Any]:
    return {"name": name, "in": "query", "schema": schema, "description": meaning}


def _request_body(members: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    records = {
        "type": "array",
        "minItems": 1,
        "items": {"$ref": _REF.format(model="Record")},
        "description": "The records, in the order in which they are answered.",
    }
    schema = {
        "type": "object",
        "properties": {"records": records, **members},
        "required": ["records"],
        "additionalProperties": False,
    }
    arrow = {
        "type": "string",
        "format": "binary",
        "description": "An Arrow stream with a column for each field; the answer is one too.",
    }
    content = {"application/json": {"schema": schema}, ARROW: {"schema": arrow}}
    return {"requestBody": {"required": True, "content": content}}


def complete(document: dict[str, Any], model: Model | None, max_records: int) -> dict[str, Any]:
    """Add to the routes' document what depends on the loaded bundle.

    Args:
        document: as FastAPI makes it of the routes; it is changed.
        model: the loaded model, or None.
        max_records: of a request.
    """
    schemas = document["components"]["schemas"]
    problem = Problem.model_json_schema(ref_template=_REF)
    schemas |= problem.pop("$defs") | {"Problem": problem}
    schemas["Record"] = record_schema(model.schema.fields if model else ())
    key = {"type": "apiKey", "in": "header", "name": "X-API-Key"}
    document["components"]["securitySchemes"] = {"key": key}
    for path in document["paths"].values():
        for operation in path.values():
            # What changes something needs a key; what reads may need one, as it is set up.
            changes = _is_forbidden(operation["responses"].get("403", {}))
            operation["security"] = [{"key": []}] if changes else [{}, {"key": []}]
            body = operation.get("requestBody")
            if body and {ARROW, "application/json"} <= body["content"].keys():
                operation["responses"]["200"]["content"][ARROW] = {
                    "schema": {"type": "string", "format": "binary"}
                }
                content = body["content"]["application/json"]
                content["schema"]["properties"]["records"]["maxItems"] = max_records
                if model:
                    content["example"] = {"records": model.examples[:1]}
    return document


def _is_forbidden(response: Mapping[str, Any]) -> bool:
    """Return whether a response is of a route that only an admin key opens."""
    reason = response.get("content", {}).get(MEDIA_TYPE, {}).get("example", {}).get("reason")
    return bool(reason == FORBIDDEN.reason)


def record_schema(fields: tuple[Field, ...]) -> dict[str, Any]:
    """Return the JSON schema of a record; of any object while there are no fields."""
    if not fields:
        return {"type": "object", "description": "Its fields are shown once a bundle is loaded."}
    return {
        "type": "object",
        "description": "One network-status record, raw, in the units given here.",
        "properties": {field.name: _property(field) for field in fields},
        "required": [field.name for field in fields if field.required],
        "additionalProperties": False,
    }


def _property(field: Field) -> dict[str, Any]:
    kind = {"boolean": "boolean", "category": "string"}.get(field.kind, "number")
    described: dict[str, Any] = {
        "type": kind if field.required else [kind, "null"],
        "description": _description(field),
    }
    if kind == "number":
        described |= {"minimum": -LARGEST, "maximum": LARGEST}
    if field.categories and not field.open:
        described["enum"] = [*field.categories, *([] if field.required else [None])]
    elif field.categories:
        described["examples"] = list(field.categories[:_MAX_EXAMPLES])
    return described


def _description(field: Field) -> str:
    text = field.kind.capitalize()
    if field.open:
        text += " of any value"
    if field.unit != "1" and field.kind not in {"boolean", "category"}:
        text += f" in {field.unit}"
    if field.typical is not None:
        text += f"; typically {_typical(field.typical)} in good traffic"
    return text + ("." if field.required else "; may be missing.")


def _typical(value: bool | float | str) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return value if isinstance(value, str) else f"{value:g}"
