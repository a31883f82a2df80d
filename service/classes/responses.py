"""Classes and their changes, as the service sends them."""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

import pydantic

from models.decision import distances_between
from service.classes.enrolment import Enrolment
from service.classes.entities import RevisionEntry, SupportRecord
from service.classes.preview import Report, RoundedShare
from service.classes.profile_responses import ListedProfile, Tried
from service.web.response_model import Omittable, ResponseModel

__all__ = ["Changed", "ClassDetail", "ClassList", "History", "ListedClass"]


class ListedClass(ResponseModel):
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
    records: int
    """How many records it is known from."""
    reason: Omittable[str] = None
    """Why it is parked."""
    radius: Omittable[RoundedShare] = None
    """Largest distance at which it accepts a record; of an active class."""

    @classmethod
    def of(cls, enrolment: Enrolment, name: str, **more: Any) -> Self:
        """Describe a class of `enrolment.names`.

        Args:
            enrolment: all classes.
            name: of the class.
            more: other fields.
        """
        stored = enrolment.stored(name)
        trained = {entry.name: entry for entry in enrolment.base.manifest.classes}.get(name)
        described: Any = stored or trained
        reason = enrolment.parked.get(name) if stored else None
        radius = None
        state: Literal["active", "hidden", "parked"] = "hidden" if reason is None else "parked"
        if reason is None and name in (names := enrolment.model.names):
            state, radius = "active", float(enrolment.model.rule.radii[names.index(name)])
        return cls(
            name=name,
            good=described.good,
            severity=described.severity,
            description=stored.description if stored else "",
            source="enrolled" if stored else "bundle",
            state=state,
            records=len(stored.records) if stored else described.records,
            reason=reason,
            radius=radius,
            **more,
        )


class ClassList(ResponseModel):
    """The classes at one revision."""

    revision: int
    """Counts the changes; every answer's header `Faultcube-Revision` names the one it used."""
    classes: list[ListedClass]


class AtRevision(ResponseModel):
    """First of two bases of `ClassDetail`, so that the revision is sent first."""

    revision: int


class ClassDetail(ListedClass, AtRevision):
    """A class with all that is known of it."""

    distances: dict[str, RoundedShare]
    """To every other class that decides, the nearest first."""
    support: Omittable[list[SupportRecord]] = None
    """Of an enrolled class."""

    @classmethod
    def of(cls, enrolment: Enrolment, name: str, **more: Any) -> Self:
        """Describe a class of `enrolment.names`, with its support and its distances."""
        stored = enrolment.stored(name)
        return super().of(
            enrolment,
            name,
            revision=enrolment.snapshot.revision,
            distances=_distances(enrolment, name),
            support=stored and stored.records,
            **more,
        )


class Changed(ResponseModel):
    """What was changed, or with `dry_run` would be."""

    model_config = pydantic.ConfigDict(populate_by_name=True)

    revision: int
    """Of classes and profiles, from now on."""
    dry_run: Omittable[bool] = None
    """True when nothing was changed."""
    described: Annotated[Omittable[ListedClass], pydantic.Field(alias="class")] = None
    report: Omittable[Report] = None
    profile: Omittable[ListedProfile] = None
    trial: Omittable[Tried] = None


class History(ResponseModel):
    """Changes of classes and profiles, the latest first."""

    revisions: list[RevisionEntry]


def _distances(enrolment: Enrolment, name: str) -> dict[str, float]:
    names, centroids = enrolment.model.names, enrolment.model.rule.centroids
    if name not in names:
        return {}
    distances = distances_between(centroids[[names.index(name)]], centroids)[0].tolist()
    pairs = sorted(zip(distances, names, strict=True))
    return {other: distance for distance, other in pairs if other != name}
