"""Base of the JSON responses: a pydantic model is sent as it is documented in OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, TypeVar, get_type_hints

import msgspec
import pydantic
from pydantic.json_schema import SkipJsonSchema
from starlette.responses import Response

__all__ = ["Absent", "Omittable", "ResponseModel", "Rounded", "Share", "model_of"]

T = TypeVar("T")

Absent = SkipJsonSchema[None]
"""None, which OpenAPI documents as an absent key or parameter, never as null."""
Omittable = Annotated[T | Absent, pydantic.Field(exclude_if=lambda value: value is None)]
"""Type of a key that is absent, never null, when it does not apply."""
Rounded = Annotated[float, pydantic.PlainSerializer(lambda value: round(value, 6))]
Share = Annotated[float, pydantic.Field(ge=0, le=1)]


def _without_defaults(schema: dict[str, Any]) -> None:
    for described in schema["properties"].values():
        described.pop("default", None)


class ResponseModel(pydantic.BaseModel):
    """A JSON response, or a part of one."""

    model_config = pydantic.ConfigDict(
        use_attribute_docstrings=True, extra="forbid", json_schema_extra=_without_defaults
    )

    def content(self) -> bytes:
        """Return the JSON that is sent."""
        # msgspec and pydantic write large floats differently (1e16, 1e+16); clients compare bodies.
        return msgspec.json.encode(self.model_dump(by_alias=True))

    def response(self, status: int = 200) -> Response:
        """Return the HTTP response."""
        return Response(self.content(), status, media_type="application/json")


def model_of(struct: type[msgspec.Struct], **types: Any) -> type[ResponseModel]:
    """Return the model that documents a struct, which is sent as it is.

    Args:
        struct: its annotations hold the descriptions, as `pydantic.Field`.
        types: of fields whose annotation pydantic does not know.
    """
    hints = get_type_hints(struct, include_extras=True) | types
    fields: dict[str, Any] = {
        field.name: (hints[field.name], ... if field.required else field.default)
        for field in msgspec.structs.fields(struct)
    }
    return pydantic.create_model(
        struct.__name__,
        __base__=ResponseModel,
        __doc__=struct.__doc__,
        # There is no source to look for docstrings in, and the search would parse whole files.
        __cls_kwargs__={"use_attribute_docstrings": False},
        **fields,
    )
