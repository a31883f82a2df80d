"""What answers look like, for the OpenAPI document; nothing is validated when one is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic
from pydantic.json_schema import SkipJsonSchema

from models import Calibration, Class, Field

__all__ = [
    "About",
    "Activated",
    "Alive",
    "Classified",
    "Embedded",
    "Error",
    "Problem",
    "Ready",
    "Shelved",
]

Absent = SkipJsonSchema[None]
"""Marks a key that is left out, never null, when it does not apply."""

Share = Annotated[float, pydantic.Field(ge=0, le=1)]


def _without_defaults(schema: dict[str, Any]) -> None:
    for described in schema["properties"].values():
        described.pop("default", None)


class _Answer(pydantic.BaseModel):
    model_config = pydantic.ConfigDict(
        use_attribute_docstrings=True, extra="forbid", json_schema_extra=_without_defaults
    )


class BundleName(_Answer):
    """The bundle that gave the answer."""

    name: str
    """The model's name."""
    version: str
    """Hash of all that the bundle holds."""


class Verdict(_Answer):
    """What the model says of one record."""

    label: str
    """The class that accepts the record, or `unknown`."""
    good: bool
    """True only for good traffic."""
    distance: Share
    """Squared distance to the nearest class, as a share of the largest there can be."""
    confidence: Share
    """Calibrated probability that the nearest class is the right one of those known."""
    nearest: str | Absent = None
    """The nearest class; only when the label is `unknown`."""
    distances: dict[str, Share] | Absent = None
    """The distance to every class; only when asked for."""


class Error(_Answer):
    """One fault of a request."""

    record: int | Absent = None
    """Index of the record, from 0; absent when the body itself is meant."""
    field: str | Absent = None
    """Name of the field or key; absent when the record as a whole is meant."""
    expected: str
    """What the schema asks for."""
    got: str
    """The kind of thing that was there instead."""


class Misfit(_Answer):
    """Stands in the place of a record that does not fit, with `on_invalid=report`."""

    error: Error


class Classified(_Answer):
    """A verdict for each record, in order."""

    bundle: BundleName
    results: list[Verdict | Misfit]


class Embedded(_Answer):
    """A point of the unit cube for each record, in order."""

    bundle: BundleName
    embeddings: list[list[Share] | Misfit]
    """As many numbers for each record as the model has dimensions."""


class About(_Answer):
    """The model that is served."""

    name: str
    version: str
    """Hash of all that the bundle holds."""
    created: datetime
    about: str
    """What it was trained on, and what that may be used for."""
    dimensions: int
    """How many numbers an embedding has."""
    fields: list[Field]
    """What a record holds."""
    classes: list[Class]
    """The clusters, each with its centroid and radius."""
    calibration: Calibration
    metrics: dict[str, Any]
    """What was measured on records that the model had never seen."""


class Alive(_Answer):
    """The process answers."""

    status: Literal["alive"]


class Ready(_Answer):
    """A verified bundle is served."""

    bundle: BundleName


class OnShelf(_Answer):
    """One bundle at hand."""

    folder: str
    """Its name in the folder that is watched."""
    served: bool
    """Whether it answers now."""
    name: str | Absent = None
    """The model's name."""
    version: str | Absent = None
    """Hash of all that the bundle holds."""
    created: datetime | Absent = None
    refused: str | Absent = None
    """Why it cannot be served."""


class Shelved(_Answer):
    """The bundles at hand."""

    models: list[OnShelf]


class Activated(_Answer):
    """The bundle that is served now."""

    bundle: BundleName
    previous: str | None
    """The version that was served before."""


class Problem(_Answer):
    """Why a request is not answered (RFC 9457). No value that was sent is ever repeated."""

    type: Literal["about:blank"]
    title: str
    """The status in words."""
    status: int
    """The HTTP status code."""
    detail: str
    """What is wrong, for a person."""
    reason: str
    """What is wrong, for a program."""
    request_id: str
    """The header `X-Request-ID` of the answer, which the log names too."""
    errors: Annotated[list[Error], pydantic.Field(max_length=10)] | Absent = None
    """With 422: the first faults."""
