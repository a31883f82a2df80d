"""What the database of classes and profiles holds, and its errors; needs no database library."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Annotated, Any

import pydantic

from models.profile import Profile

__all__ = [
    "AwayError",
    "ConflictError",
    "Feedback",
    "NoSuchRevisionError",
    "RepeatedError",
    "RevisionEntry",
    "Snapshot",
    "StoreError",
    "StoredClass",
    "StoredProfile",
    "SupportRecord",
    "UnusableError",
]

_DOCUMENTED = pydantic.ConfigDict(use_attribute_docstrings=True, extra="forbid")
"""Of the entities that are sent: OpenAPI shows them as they are written here."""

_Profiles = Annotated[dict[str, Any], pydantic.Field(exclude_if=lambda changed: not changed)]


@dataclass(frozen=True, slots=True)
class SupportRecord:
    """One of the records that a class is known from."""

    __pydantic_config__ = _DOCUMENTED

    id: int  # its number within the class, never used again
    record: dict[str, Any]


@dataclass(frozen=True, slots=True)
class StoredClass:
    """A class as the database keeps it.

    Attributes:
        name: of an enrolled class, or of a hidden class of a bundle.
        good: whether it is good traffic.
        severity: perceived severity (ITU-T X.733) of its records.
        description: for people.
        records: its support records; empty for a hidden class of a bundle.
        next_id: of the next support record.
        hidden: whether the class is out of use.
    """

    name: str
    good: bool = False
    severity: str = "major"
    description: str = ""
    records: tuple[SupportRecord, ...] = ()
    next_id: int = 1
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class StoredProfile:
    """What the database keeps of a site.

    Attributes:
        site: its name.
        revision: that made it what it is.
        profile: None while it is being learned, and where the records were refused.
        learn: records to learn from, while it is being learned.
        force: whether to learn from records that stay faulty.
        refused: why the records were refused, empty otherwise.
    """

    site: str
    revision: int
    profile: Profile | None = None
    learn: int = 0
    force: bool = False
    refused: str = ""


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All classes at one revision, in the order of enrolment, and all profiles by site."""

    revision: int
    classes: Mapping[str, StoredClass]
    profiles: Mapping[str, StoredProfile] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RevisionEntry:
    """A change of the classes, or of the profiles."""

    __pydantic_config__ = _DOCUMENTED

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
    profiles_before: _Profiles = field(default_factory=dict)
    """Each site whose profile changed, as it was."""
    profiles_after: _Profiles = field(default_factory=dict)
    """The same as it is since."""


@dataclass(frozen=True, slots=True)
class Feedback:
    """A correction of a verdict by an operator.

    Attributes:
        id: grows with every correction.
        at: when it arrived.
        who: first digits of the SHA-256 of the key.
        request_id: of the request that brought it.
        bundle: version of the bundle that was served then.
        record: as it was sent.
        verdict: label that the record got; None if the operator did not say.
        true_label: label that it should have got.
        note: for people.
    """

    id: int
    at: datetime
    who: str | None
    request_id: str
    bundle: str
    record: dict[str, Any]
    verdict: str | None
    true_label: str
    note: str


class StoreError(Exception):
    """The database cannot do this; the message is one line."""


class AwayError(StoreError):
    """The database cannot be reached, or does not answer in time."""


class UnusableError(StoreError):
    """The database must not be used as it is; the message says what to do."""


class ConflictError(StoreError):
    """Another change was committed first.

    Attributes:
        revision: the newest one.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"the classes are at revision {revision} by now")
        self.revision = revision


class RepeatedError(StoreError):
    """A change with this idempotency key is committed already."""


class NoSuchRevisionError(StoreError):
    """There is no such revision."""
