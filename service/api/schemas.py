"""What answers look like, for the OpenAPI document; nothing is validated when one is sent."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic
from pydantic.json_schema import SkipJsonSchema

from models import Calibration, Class, Field

__all__ = [
    "About",
    "Absent",
    "Activated",
    "Alive",
    "Changed",
    "Classified",
    "Embedded",
    "Error",
    "History",
    "Known",
    "KnownClass",
    "KnownInFull",
    "Noted",
    "OnShelf",
    "Problem",
    "Ready",
    "Shadowed",
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


class Driver(_Answer):
    """One field that holds a record away from good traffic."""

    field: str
    """Its name."""
    value: bool | float | str | None
    """As the model reads it; null where it is missing, or a category that is not known."""
    typical: bool | float | str | None
    """What it typically is in good traffic; null where it is missing there."""
    unit: str | Absent = None
    """Of both; absent when the field has none."""
    share: Share
    """How much nearer to good traffic the record is with the typical value, of all fields' sum."""


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
    explanation: Annotated[list[Driver], pydantic.Field(max_length=10)] | Absent = None
    """The fields that drove the verdict, the strongest first; only when asked for."""


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

    status: Literal["ready", "degraded"]
    """Degraded while the database of classes is away: those last known decide."""
    bundle: BundleName
    revision: int
    """Of the enrolled classes that are served."""
    detail: str | Absent = None
    """Why it is degraded."""


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
    pinned: bool | Absent = None
    """True for the one that the folder's file `current` names: a newer one does not replace it."""


class Shelved(_Answer):
    """The bundles at hand."""

    models: list[OnShelf]


class ShadowClass(_Answer):
    """What the shadow says of records that were answered with one label."""

    label: str
    records: int
    agreement: Share
    """Share of them to which the shadow gives the same label."""
    shadow: dict[str, int]
    """Records by the shadow's label; `(unfit)` where they do not fit its schema."""


class Disagreement(_Answer):
    """A record of which the shadow says something else."""

    time: datetime
    label: str
    """What was answered."""
    distance: Share
    confidence: Share
    shadow_label: str
    """What the shadow says; `(unfit)` when the record does not fit its schema."""
    shadow_distance: Share | Absent = None
    shadow_confidence: Share | Absent = None
    record: dict[str, Any] | Absent = None
    """The record as the model was given it; only with an admin key."""


class Shadowed(_Answer):
    """How a second bundle compares with the one that answers."""

    bundle: BundleName | Absent = None
    """The second bundle, the shadow; absent while it is loading or refused."""
    against: BundleName | Absent = None
    """The bundle that answers; counts start anew when either changes."""
    refused: str | Absent = None
    """Why nothing is compared."""
    missing: list[str] | Absent = None
    """Fields that only the shadow has; it is told that they are missing."""
    unused: list[str] | Absent = None
    """Fields that the shadow has not; after a switch, records that hold them would be refused."""
    records: int
    """How many both have decided on, in all workers."""
    skipped: int
    """How many the shadow had no time for."""
    agreement: Share | None
    """Share of the records to which both give the same label; null when there are none."""
    classes: list[ShadowClass]
    """By the label that was answered."""
    disagreements: Annotated[list[Disagreement], pydantic.Field(max_length=20)]
    """The last ones in the process that answers, the newest first."""


class Activated(_Answer):
    """The bundle that is served now."""

    bundle: BundleName
    previous: str | None
    """The version that was served before."""


class KnownClass(_Answer):
    """A class."""

    name: str
    good: bool
    severity: str
    """Perceived severity (ITU-T X.733) of its records."""
    description: str
    source: Literal["bundle", "enrolled"]
    """Whether the model was trained on it, or it was enrolled since."""
    state: Literal["active", "hidden", "parked"]
    """Only an active one decides."""
    reason: str | Absent = None
    """Why it is parked."""
    records: int
    """How many records it is known from."""
    radius: Share | Absent = None
    """Largest distance at which it accepts a record; of an active class."""


class Known(_Answer):
    """The classes at one revision."""

    revision: int
    """Counts the changes; every answer's header `Faultcube-Revision` names the one it used."""
    classes: list[KnownClass]


class SupportRecord(_Answer):
    """One of the records that a class is known from."""

    id: int
    record: dict[str, Any]


class KnownInFull(KnownClass):
    """A class with all that is known of it."""

    revision: int
    distances: dict[str, Share]
    """To every other class that decides, the nearest first."""
    support: list[SupportRecord] | Absent = None
    """Of an enrolled class."""


class Neighbour(_Answer):
    """Another class, and how far it is."""

    name: str
    distance: Share


class Relabelled(_Answer):
    """What becomes of some records."""

    records: int
    """How many were looked at."""
    changed: int
    """How many get another label."""
    taken: dict[str, int]
    """How many the class takes over, by the label they have now."""


class Report(_Answer):
    """What a class does, or would do, to the others."""

    name: str
    records: int
    """How many it is known from."""
    radius: Share
    """How far it reaches."""
    spread: float | None
    """Mean distance of its records from the mean of the others; null of a single one."""
    nearest: Neighbour
    distances: dict[str, Share]
    """To every other class, the nearest first."""
    calibration: Relabelled | None
    """Of the bundle's calibration records; null when it has none."""
    recent: Relabelled
    """Of the most recent traffic."""
    swallowed: dict[str, Share]
    """Share of what others answer that it takes over, where that is half or more, or a tenth of
    good traffic."""


class Changed(_Answer):
    """What was changed, or with `dry_run` would be."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    revision: int
    """Of the classes, from now on."""
    dry_run: bool | Absent = None
    """True when nothing was changed."""
    known: Annotated[KnownClass | Absent, pydantic.Field(alias="class")] = None
    report: Report | Absent = None


class RevisionEntry(_Answer):
    """A change of the classes."""

    revision: int
    at: datetime
    action: str
    who: str | None
    """First digits of the SHA-256 of the key."""
    request_id: str
    before: dict[str, Any]
    """Each class that changed, as it was; null where there was none."""
    after: dict[str, Any]
    """The same as it is since."""


class History(_Answer):
    """Changes of the classes, the latest first."""

    revisions: list[RevisionEntry]


class Noted(_Answer):
    """Feedback that is kept."""

    id: int


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
    report: Report | Absent = None
    """Of a class that is refused for what it would do."""
