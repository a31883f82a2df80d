"""Changes of classes and profiles at run time: planned, previewed, committed, and served.

A change is planned on the classes and profiles of one revision and committed as the next one. If
another change was committed meanwhile, it is planned again on what that one left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from models.profile import ProfileTrial
from service.classes.enrolment import Enrolment
from service.classes.entities import (
    AwayError,
    ConflictError,
    RepeatedError,
    Snapshot,
    StoredClass,
    StoredProfile,
)
from service.classes.preview import Report, preview
from service.classes.profile_responses import ListedProfile, Tried
from service.classes.responses import Changed, ListedClass
from service.runtime.state import State
from service.web import problems
from service.web.problems import Problem

if TYPE_CHECKING:
    from service.classes.database import Store

__all__ = ["Change", "ChangeRequest", "ClassEditor", "Outcome", "Plan", "describe"]

_ATTEMPTS = 20

K = TypeVar("K", bound=ListedClass)


@dataclass(frozen=True, slots=True)
class Change:
    """A planned change.

    Attributes:
        action: one word for the history.
        after: new state of each class that changes; None deletes it.
        name: of the class to describe and preview, if it is one.
        status: of the response.
        profiles: new state of each profile that changes, by site; None deletes it.
        trial: what a new profile does to the records that it was learned from.
    """

    action: str
    after: Mapping[str, StoredClass | None] = field(default_factory=dict)
    name: str | None = None
    status: int = 200
    profiles: Mapping[str, StoredProfile | None] = field(default_factory=dict)
    trial: ProfileTrial | None = None

    def __bool__(self) -> bool:
        return bool(self.after or self.profiles)


Plan = Callable[[Enrolment], Change]
"""Plans a change of the classes and profiles that it is given, or raises why it is refused."""


@dataclass(frozen=True, slots=True)
class ChangeRequest:
    """Who requests a change, and how.

    Attributes:
        who: first digits of the SHA-256 of the key.
        request_id: of the request.
        dry_run: whether to preview the change only.
        force: whether to make it although it swallows another class or contradicts itself.
        revision: that the client has seen; the change is refused if there is a later one.
        key: Idempotency-Key.
        digest: of the request that the key belongs to.
    """

    who: str | None
    request_id: str
    dry_run: bool = False
    force: bool = False
    revision: int | None = None
    key: str | None = None
    digest: str = ""


class Outcome(NamedTuple):
    """Response to a change: status, JSON, and whether an earlier request got it already."""

    status: int
    content: bytes
    replayed: bool = False


class ClassEditor:
    """Changes the classes of one application.

    Args:
        state: of the application.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._lock = threading.Lock()

    def apply(self, request: ChangeRequest, plan: Plan) -> Outcome:
        """Make a change.

        Raises:
            Problem: it is refused, or the database is away; nothing was changed.
        """
        store = self.state.store
        if store is None:
            raise Problem(problems.DATABASE_UNAVAILABLE, "There is no database of classes.")
        try:
            with self._lock:
                if (replay := _replay(store, request)) is not None:
                    return replay
                for _ in range(_ATTEMPTS):
                    with suppress(ConflictError):
                        return self._attempt(store, request, plan)
        except RepeatedError as error:
            if (replay := _replay(store, request)) is not None:
                return replay
            why = "Another request with this Idempotency-Key is under way."
            raise Problem(problems.OUTDATED, why) from error
        except AwayError as error:
            why = f"Nothing was changed: the database of classes is away ({error})."
            raise Problem(problems.DATABASE_UNAVAILABLE, why) from error
        raise Problem(problems.OUTDATED, "Others change the classes all the time; send this again.")

    def _attempt(self, store: Store, request: ChangeRequest, plan: Plan) -> Outcome:
        """Raise ConflictError if another change is committed meanwhile."""
        snapshot = store.read()
        if request.revision not in {None, snapshot.revision}:
            why = f"The classes are at revision {snapshot.revision} by now."
            raise Problem(problems.OUTDATED, why)
        current = self.state.enrolment
        before = Enrolment.of(current.base, snapshot, current)
        change = plan(before)
        after = Enrolment.of(before.base, _changed(snapshot, change), before)
        report = None
        if change.name is not None and change.name in after.enrolled:
            report = preview(before, after, change.name, self.state.recent())
        response = _response(after, change, report)
        if request.dry_run:
            response.revision, response.dry_run = snapshot.revision, True
            return Outcome(200, response.content())
        if not change:
            response.report = None
            return Outcome(change.status, response.content())
        if report is not None and not request.force and _decides_otherwise(before, after, report):
            _check(report)
        content = response.content()
        try:
            store.commit(
                snapshot.revision,
                change.after,
                action=change.action,
                who=request.who,
                request_id=request.request_id,
                profiles=change.profiles,
                key=None if request.key is None else (request.key, request.digest),
                answer=b"%d %b" % (change.status, content),
            )
        except AwayError as error:
            raise Problem(
                problems.DATABASE_UNAVAILABLE,
                f"The database went away ({error}), so the change may be made or not: "
                "see GET /revisions when it is back.",
            ) from error
        self.state.adopt(after.snapshot)
        return Outcome(change.status, content)


def describe(enrolment: Enrolment, name: str, model: type[K]) -> K:
    """Describe a class.

    Raises:
        Problem: there is none.
    """
    if name not in enrolment.names:
        raise Problem(problems.NO_SUCH_CLASS, f"There is no class {name!r}.")
    return model.of(enrolment, name)


def _replay(store: Store, request: ChangeRequest) -> Outcome | None:
    """Return the outcome of an earlier request with the same idempotency key."""
    if request.key is None or (answered := store.answered(request.key)) is None:
        return None
    digest, answer = answered
    if digest != request.digest:
        raise Problem(problems.KEY_REUSED, "This Idempotency-Key was sent with another request.")
    status, _, content = answer.partition(b" ")
    return Outcome(int(status), content, replayed=True)


def _changed(snapshot: Snapshot, change: Change) -> Snapshot:
    classes = {**snapshot.classes, **change.after}
    profiles = {**snapshot.profiles, **change.profiles}
    return Snapshot(
        snapshot.revision + bool(change),
        {name: stored for name, stored in classes.items() if stored is not None},
        {site: stored for site, stored in profiles.items() if stored is not None},
    )


def _response(after: Enrolment, change: Change, report: Report | None) -> Changed:
    described = None
    if change.name is not None and (
        change.name in after.base.names or change.name in after.snapshot.classes
    ):
        described = describe(after, change.name, ListedClass)
    learned = [stored for stored in change.profiles.values() if stored is not None]
    profile = ListedProfile.of(learned[0], after.base.schema) if len(learned) == 1 else None
    return Changed(
        revision=after.snapshot.revision,
        described=described,
        report=report,
        profile=profile,
        trial=Tried.of(change.trial) if change.trial else None,
    )


def _decides_otherwise(before: Enrolment, after: Enrolment, report: Report) -> bool:
    """Return whether a class answers other records than before: else nothing is to be forced."""
    name = report.name
    if name not in before.enrolled:
        return True
    was, is_ = before.snapshot.classes[name], after.snapshot.classes[name]
    return (was.records, was.good) != (is_.records, is_.good)


def _check(report: Report) -> None:
    """Raise the problem of a class that swallows another class, or contradicts itself."""
    name, distance = report.nearest.name, report.nearest.distance
    if report.spread is not None and report.spread > distance:
        raise Problem(
            problems.CONTRADICTORY,
            f"The records lie {report.spread:.4f} from each other, and the class {name!r} only "
            f"{distance:.4f} from them: they belong to different classes. Enrol them apart, or "
            "add ?force=true.",
            report=report,
        )
    if report.swallowed:
        shares = ", ".join(f"{share:.0%} of {other}" for other, share in report.swallowed.items())
        raise Problem(
            problems.CLASS_OVERLAP,
            f"The class would take over what others answer: {shares}. Choose other records, or "
            "add ?force=true.",
            report=report,
        )
