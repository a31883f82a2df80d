"""Changes of the classes at run time: looked at, made durable, and served.

A change is worked out on the classes of one revision, tried in the model's space, and committed as
the next revision, unless others were quicker: then it is worked out again on what they left.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import msgspec

from models.decision import distances_between
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, ConflictError, RepeatedError, Snapshot, Stored
from service.classes.preview import Preview, preview
from service.runtime.state import State
from service.web.problems import (
    CLASS_OVERLAP,
    CONTRADICTORY,
    DATABASE_UNAVAILABLE,
    KEY_REUSED,
    NO_SUCH_CLASS,
    OUTDATED,
    Problem,
)

if TYPE_CHECKING:
    from service.classes.database import Store

__all__ = ["Caller", "Catalogue", "Change", "describe"]

_ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class Change:
    """A change that is asked for.

    Attributes:
        action: one word for the history.
        after: each class that changes as it is then; None where it is gone.
        name: of the class whose place in the space changes, where there is one.
    """

    action: str
    after: Mapping[str, Stored | None]
    name: str | None = None


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks for a change, and how.

    Attributes:
        who: first digits of the key's hash.
        request_id: of the request.
        dry_run: whether only to say what would happen.
        force: whether to do it although it swallows another class or contradicts itself.
        revision: that the caller has seen; the change is refused when there is a later one.
        key: Idempotency-Key, and the digest of the request.
    """

    who: str | None
    request_id: str
    dry_run: bool = False
    force: bool = False
    revision: int | None = None
    key: tuple[str, str] | None = None


class Catalogue:
    """Changes the classes of one application.

    Args:
        state: of the application.
    """

    def __init__(self, state: State) -> None:
        self.state = state
        self._lock = threading.Lock()

    def change(
        self, caller: Caller, work_out: Callable[[Enrolment], Change], status: int = 200
    ) -> tuple[int, bytes, bool]:
        """Make a change.

        Args:
            caller: who asks for it.
            work_out: the change on the classes as they are; it raises what is_supported against it.
            status: of the answer.

        Returns:
            Status and content of the answer, and whether it was given before.

        Raises:
            Problem: it is refused, or the database is away; nothing was changed.
        """
        store = self.state.store
        if store is None:
            raise Problem(DATABASE_UNAVAILABLE, "There is no database of classes.")
        try:
            with self._lock:
                return self._answered(store, caller) or self._change(
                    store, caller, work_out, status
                )
        except RepeatedError as error:
            if (answer := self._answered(store, caller)) is None:
                raise Problem(
                    OUTDATED, "Another request with this Idempotency-Key is under way."
                ) from error
            return answer
        except AwayError as error:
            raise Problem(
                DATABASE_UNAVAILABLE,
                f"Nothing was changed: the database of classes is away ({error}).",
            ) from error

    def _change(
        self, store: Store, caller: Caller, work_out: Callable[[Enrolment], Change], status: int
    ) -> tuple[int, bytes, bool]:
        for _ in range(_ATTEMPTS):
            snapshot = store.read()
            if caller.revision not in {None, snapshot.revision}:
                raise Problem(OUTDATED, f"The classes are at revision {snapshot.revision} by now.")
            current = self.state.enrolment
            before = Enrolment.of(current.base, snapshot, current)
            change = work_out(before)
            after = Enrolment.of(before.base, _changed(snapshot, change.after), before)
            report = self._report(before, after, change)
            if caller.dry_run:
                content = _answer(before.snapshot.revision, after, change, report, dry_run=True)
                return 200, content, False
            if report is not None and not caller.force:
                _check(report)
            if not change.after:
                return status, _answer(snapshot.revision, before, change, None), False
            content = _answer(after.snapshot.revision, after, change, report)
            try:
                store.commit(
                    snapshot.revision,
                    change.after,
                    action=change.action,
                    who=caller.who,
                    request_id=caller.request_id,
                    key=caller.key,
                    answer=b"%d %b" % (status, content),
                )
            except ConflictError:
                continue
            except AwayError as error:
                why = f"The database went away ({error}), so the change may be made or not"
                raise Problem(
                    DATABASE_UNAVAILABLE, f"{why}: see GET /revisions when it is back."
                ) from error
            self.state.adopt(after.snapshot)
            return status, content, False
        raise Problem(OUTDATED, "Others change the classes all the time; send this again.")

    def _answered(self, store: Store, caller: Caller) -> tuple[int, bytes, bool] | None:
        if caller.key is None or (found := store.answered(caller.key[0])) is None:
            return None
        digest, answer = found
        if digest != caller.key[1]:
            raise Problem(KEY_REUSED, "This Idempotency-Key was sent with another request.")
        status, _, content = answer.partition(b" ")
        return int(status), content, True

    def _report(self, before: Enrolment, after: Enrolment, change: Change) -> Preview | None:
        if change.name is None or change.name not in after.enrolled:
            return None
        return preview(before, after, change.name, self.state.recent())


def describe(enrolment: Enrolment, name: str, *, whole: bool = False) -> dict[str, Any]:
    """A class as it is told of.

    Args:
        enrolment: the classes.
        name: of one of them.
        whole: with its support records, and its distance to every other class.

    Raises:
        NoSuchClass: there is none.
    """
    stored = enrolment.snapshot.classes.get(name)
    known = {each.name: each for each in enrolment.base.manifest.classes}.get(name)
    if known is None and (stored is None or not stored.records):
        raise Problem(NO_SUCH_CLASS, f"There is no class {name!r}.")
    rule, names = enrolment.model.rule, enrolment.model.names
    own = stored if stored is not None and stored.records else None
    content: dict[str, Any] = {"name": name}
    for key in ("good", "severity"):
        content[key] = getattr(own or known, key)
    content["description"] = own.description if own else ""
    content["source"] = "enrolled" if own else "bundle"
    content["state"] = "active"
    content["records"] = len(own.records) if own else known.records if known else 0
    if own and name in enrolment.parked:
        content |= {"state": "parked", "reason": enrolment.parked[name]}
    elif name not in names:
        content["state"] = "hidden"
    else:
        content["radius"] = round(float(rule.radii[names.index(name)]), 6)
    if whole:
        content["distances"] = _distances(enrolment, name)
        if own:
            content["support"] = [{"id": each.id, "record": each.record} for each in own.records]
    return content


def _distances(enrolment: Enrolment, name: str) -> dict[str, float]:
    names, centroids = enrolment.model.names, enrolment.model.rule.centroids
    if name not in names:
        return {}
    place = names.index(name)
    distances = distances_between(centroids[[place]], centroids)[0].tolist()
    found = sorted(zip(distances, names, strict=True))
    return {other: round(distance, 6) for distance, other in found if other != name}


def _changed(snapshot: Snapshot, after: Mapping[str, Stored | None]) -> Snapshot:
    classes = {**snapshot.classes, **after}
    kept = {name: stored for name, stored in classes.items() if stored is not None}
    return Snapshot(snapshot.revision + bool(after), kept)


def _answer(
    revision: int,
    after: Enrolment,
    change: Change,
    report: Preview | None,
    *,
    dry_run: bool = False,
) -> bytes:
    content: dict[str, Any] = {"revision": revision}
    if dry_run:
        content["dry_run"] = True
    if change.name is not None and (
        change.name in after.base.names or change.name in after.snapshot.classes
    ):
        content["class"] = describe(after, change.name)
    if report is not None:
        content["report"] = report.as_json()
    return msgspec.json.encode(content)


def _check(report: Preview) -> None:
    """Refuse what would harm.

    Raises:
        Problem: it swallows another class, or contradicts itself.
    """
    name, distance = report.nearest
    if report.contradicts:
        raise Problem(
            CONTRADICTORY,
            f"The records lie {report.spread:.4f} from each other, and the class {name!r} only "
            f"{distance:.4f} from them: they belong to different classes. Enrol them apart, or "
            "add ?force=true.",
            report=report.as_json(),
        )
    if report.swallowed:
        shares = ", ".join(f"{share:.0%} of {other}" for other, share in report.swallowed.items())
        raise Problem(
            CLASS_OVERLAP,
            f"The class would take over what others answer: {shares}. Choose other records, or "
            "add ?force=true.",
            report=report.as_json(),
        )
