"""Responses of the service, as they are documented; hot ones are sent as msgspec structs."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any, Literal

import pydantic

from models import Calibration, Class, Field
from service.classes.preview import Report
from service.runtime.bundle_loader import FolderState
from service.scoring import explain, writers
from service.web.response_model import Omittable, ResponseModel, Share, model_of

__all__ = [
    "About",
    "Activated",
    "Alive",
    "BundleList",
    "BundleName",
    "Classified",
    "Embedded",
    "Error",
    "ListedBundle",
    "Noted",
    "Problem",
    "Ready",
    "Shadowed",
]


class BundleName(ResponseModel):
    """The bundle that gave the answer."""

    name: str
    """The model's name."""
    version: str
    """Hash of all that the bundle holds."""


Driver = model_of(explain.Driver)
_Drivers = Annotated[list[Driver], pydantic.Field(max_length=10)]  # type: ignore[valid-type]
_Explanation = Annotated[
    Omittable[_Drivers],
    pydantic.Field(
        description="The fields that drove the verdict, the strongest first; only when asked for."
    ),
]
Verdict = model_of(writers.Verdict, explanation=_Explanation)


class Error(ResponseModel):
    """One fault of a request."""

    record: Omittable[int] = None
    """Index of the record, from 0; absent when the body itself is meant."""
    field: Omittable[str] = None
    """Name of the field or key; absent when the record as a whole is meant."""
    expected: str
    """What the schema asks for."""
    got: str
    """The kind of thing that was there instead."""


class Misfit(ResponseModel):
    """Stands in the place of a record that does not fit, with `on_invalid=report`."""

    error: Error


class Classified(ResponseModel):
    """A verdict for each record, in order."""

    bundle: BundleName
    results: list[Verdict | Misfit]  # type: ignore[valid-type]


class Embedded(ResponseModel):
    """A point of the unit cube for each record, in order."""

    bundle: BundleName
    embeddings: list[list[Share] | Misfit]
    """As many numbers for each record as the model has dimensions."""


class About(ResponseModel):
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


class Alive(ResponseModel):
    """The process answers."""

    status: Literal["alive"]


class Ready(ResponseModel):
    """A verified bundle is served."""

    status: Literal["ready", "degraded"]
    """Degraded while the database of classes is away, and those last known decide, or while it
    cannot be written, and no change is taken."""
    bundle: BundleName
    revision: int
    """Of the enrolled classes that are served."""
    detail: Omittable[str] = None
    """Why it is degraded."""


class ListedBundle(ResponseModel):
    """One bundle at hand."""

    folder: str
    """Its name in the folder that is watched."""
    served: bool
    """Whether it answers now; of folders with the same version, only the one it was loaded from."""
    state: FolderState
    """`served`; `pending`: to be served, once its files are at rest and it is loaded; `idle`: not
    chosen; `refused`: it cannot be served."""
    reason: str
    """Why it is in this state."""
    name: Omittable[str] = None
    """The model's name."""
    version: Omittable[str] = None
    """Hash of all that the bundle holds."""
    created: Omittable[datetime] = None
    pinned: Omittable[bool] = None
    """True for the one that the folder's file `current` names: a newer one does not replace it."""


class BundleList(ResponseModel):
    """The bundles at hand."""

    models: list[ListedBundle]


class ShadowClass(ResponseModel):
    """What the shadow says of records that were answered with one label."""

    label: str
    records: int
    agreement: Share
    """Share of them to which the shadow gives the same label."""
    shadow: dict[str, int]
    """Records by the shadow's label; `(unfit)` where they do not fit its schema."""


class Disagreement(ResponseModel):
    """A record of which the shadow says something else."""

    time: datetime
    label: str
    """What was answered."""
    distance: Share
    confidence: Share
    shadow_label: str
    """What the shadow says; `(unfit)` when the record does not fit its schema."""
    shadow_distance: Omittable[Share] = None
    shadow_confidence: Omittable[Share] = None
    record: Omittable[dict[str, Any]] = None
    """The record as the model was given it; only with an admin key."""


class Shadowed(ResponseModel):
    """How a second bundle compares with the one that answers."""

    bundle: Omittable[BundleName] = None
    """The second bundle, the shadow; absent while it is loading or refused."""
    against: Omittable[BundleName] = None
    """The bundle that answers; counts start anew when either changes."""
    refused: Omittable[str] = None
    """Why nothing is compared."""
    missing: Omittable[list[str]] = None
    """Fields that only the shadow has; it treats them as missing."""
    unused: Omittable[list[str]] = None
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


class Activated(ResponseModel):
    """The bundle that is served now."""

    bundle: BundleName
    previous: str | None
    """The version that was served before."""


class Noted(ResponseModel):
    """Feedback that is kept."""

    id: int


class Problem(ResponseModel):
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
    errors: Omittable[Annotated[list[Error], pydantic.Field(max_length=10)]] = None
    """With 422: the first faults."""
    report: Omittable[Report] = None
    """Of a class that is refused for what it would do."""
