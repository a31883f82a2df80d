"""What the database of classes holds, and how it may fail; without the libraries that it needs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

import msgspec

__all__ = [
    "AwayError",
    "ConflictError",
    "Feedback",
    "NoSuchRevisionError",
    "RepeatedError",
    "Revision",
    "Snapshot",
    "StoreError",
    "Stored",
    "Support",
    "UnusableError",
]


class Support(msgspec.Struct, frozen=True):
    """One of the records that a class is known from.

    Attributes:
        id: its number within the class, which is never used again.
        record: as it was sent.
    """

    id: int
    record: dict[str, Any]


class Stored(msgspec.Struct, frozen=True):
    """What is kept of a class.

    Attributes:
        name: of an enrolled class, or of one of a bundle's that is hidden.
        good: whether it is good traffic.
        severity: perceived severity (ITU-T X.733) of its records.
        description: for people.
        records: that it is known from; a hidden class has none.
        next_id: of the next record.
        hidden: whether a class of a bundle is out of use.
    """

    name: str
    good: bool = False
    severity: str = "major"
    description: str = ""
    records: tuple[Support, ...] = ()
    next_id: int = 1
    hidden: bool = False


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All classes at one revision, in the order in which they came."""

    revision: int
    classes: Mapping[str, Stored]


class Revision(msgspec.Struct, frozen=True):
    """A change.

    Attributes:
        revision: its number, from 1.
        at: when it was made.
        action: what it was, in a word.
        who: made it: first digits of a key's hash.
        request_id: of the request that asked for it.
        before: each class that changed, as it was; None where there was none.
        after: the same as it is since.
    """

    revision: int
    at: datetime
    action: str
    who: str | None
    request_id: str
    before: dict[str, Stored | None]
    after: dict[str, Stored | None]


class Feedback(msgspec.Struct, frozen=True):
    """What an operator says of a record.

    Attributes:
        id: its number.
        at: when it was said.
        who: said it: first digits of a key's hash.
        request_id: of the request that brought it.
        bundle: version of the bundle that was served then.
        record: as it was sent.
        verdict: that it got, where that was told.
        true_label: that it should have got.
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
    """The database does not do what is asked; the message is one line."""


class AwayError(StoreError):
    """The database cannot be reached, or does not answer in time."""


class UnusableError(StoreError):
    """The database is there, but must not be used as it is; the message says what to do."""


class ConflictError(StoreError):
    """Others have changed the classes since.

    Attributes:
        revision: the newest one.
    """

    def __init__(self, revision: int) -> None:
        super().__init__(f"the classes are at revision {revision} by now")
        self.revision = revision


class RepeatedError(StoreError):
    """A change with this idempotency key was made before."""


class NoSuchRevisionError(StoreError):
    """There was no such revision."""
