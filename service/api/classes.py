"""Classes at run time: `/classes`, and the history of their changes."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from models import UNKNOWN, Fault, RecordError
from service.api import forms
from service.api.forms import Form
from service.api.schemas import Absent, Changed, History, Known, KnownInFull
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, NoSuchRevisionError, Stored, Support
from service.runtime.class_changes import Caller, Catalogue, Change, describe
from service.runtime.state import State, state_of
from service.web.auth import admin
from service.web.middleware import RequestInfo
from service.web.problems import (
    BODY_PROBLEMS,
    BUNDLE_CLASS,
    CLASS_OVERLAP,
    CONTRADICTORY,
    DATABASE_UNAVAILABLE,
    FORBIDDEN,
    INVALID_RECORDS,
    KEY_REUSED,
    LIMIT_REACHED,
    NAME_TAKEN,
    NO_SUCH_CLASS,
    NOT_READY,
    OUTDATED,
    UNAUTHORIZED,
    Problem,
    documented,
    invalid_records,
)

__all__ = ["router"]

router = APIRouter(tags=["Classes"])

_MOST_RECORDS = 100
"""Support records of a class: from there on it should be trained."""
_MOST_IN_ALL = 20_000
_LAST = (1 << 31) - 1
"""What a database's integer holds."""
_CHANGES = (
    UNAUTHORIZED,
    FORBIDDEN,
    NO_SUCH_CLASS,
    NAME_TAKEN,
    BUNDLE_CLASS,
    CLASS_OVERLAP,
    LIMIT_REACHED,
    OUTDATED,
    CONTRADICTORY,
    KEY_REUSED,
    INVALID_RECORDS,
    NOT_READY,
    DATABASE_UNAVAILABLE,
)

Severity = Literal["none", "indeterminate", "warning", "minor", "major", "critical"]
Name = Annotated[str, pydantic.Field(pattern=r"^[A-Za-z0-9_.-]{1,64}$")]
Description = Annotated[str, pydantic.Field(max_length=1000)]
Records = Annotated[list[dict[str, Any]], pydantic.Field(min_length=1, max_length=_MOST_RECORDS)]
InName = Annotated[str, InPath(description="Name of a class.", min_length=1, max_length=255)]
DryRun = Annotated[bool, Query(description="Only say what would happen.")]
Force = Annotated[
    bool, Query(description="Do it although it swallows another class, or contradicts itself.")
]
IfMatch = Annotated[
    Annotated[str, pydantic.Field(pattern=r'^"?[0-9]{1,9}"?$')] | Absent,
    Header(
        alias="If-Match",
        description="Revision that you have seen; 409 when there is a later one.",
    ),
]
Key = Annotated[
    Annotated[str, pydantic.Field(min_length=1, max_length=255)] | Absent,
    Header(
        alias="Idempotency-Key",
        description="Your name for this change: sent again, it is answered, and not done, again.",
    ),
]


class NewClass(Form):
    """A class to enrol."""

    name: Name
    good: bool = False
    """Whether it is good traffic."""
    severity: Severity | None = None
    """Perceived severity (ITU-T X.733); `major` unless given, `none` of good traffic."""
    description: Description = ""
    records: Records
    """What the class looks like: one record, or several."""


class Amendment(Form):
    """What to change of a class; what is left out stays."""

    records: Records | None = None
    """More of what it looks like."""
    severity: Severity | None = None
    description: Description | None = None
    hidden: bool | None = None
    """Whether it is out of use."""


@router.get(
    "/classes",
    summary="The classes",
    response_model=Known,
    response_description=Known.__doc__ or "",
    responses=documented(NOT_READY),
)
def classes(request: Request) -> Response:
    """List the classes that decide, and those that are hidden or parked, at one revision."""
    enrolment = state_of(request).enrolment
    content = {
        "revision": enrolment.snapshot.revision,
        "classes": [describe(enrolment, name) for name in _names(enrolment)],
    }
    return _json(content)


@router.get(
    "/classes/{name}",
    summary="A class",
    response_model=KnownInFull,
    response_description=KnownInFull.__doc__ or "",
    responses=documented(NO_SUCH_CLASS, NOT_READY, INVALID_RECORDS),
)
def one_class(request: Request, name: InName) -> Response:
    """Show a class with its support records and its distance to every other class."""
    enrolment = state_of(request).enrolment
    content = describe(enrolment, name, whole=True)
    return _json({"revision": enrolment.snapshot.revision} | content)


@router.post(
    "/classes",
    summary="Enrol a class",
    status_code=201,
    response_model=Changed,
    response_description=Changed.__doc__ or "",
    responses=documented(*BODY_PROBLEMS, *_CHANGES)
    | {200: {"model": Changed, "description": "What would happen; with `dry_run`."}},
    openapi_extra=forms.described(NewClass),
    dependencies=[Depends(admin)],
)
async def enrol(
    request: Request,
    dry_run: DryRun = False,
    force: Force = False,
    if_match: IfMatch = None,
    key: Key = None,
) -> Response:
    """Teach the running service a class from one record or a few, without training.

    With `dry_run`, only say what would happen: how far it would reach, how near the other classes
    are, and which records of the calibration set and of recent traffic would change their label.
    A class that would take over half of what another one answers, or a tenth of good traffic, is
    refused, and so is one whose records lie nearer to another class than to each other, unless
    `force` is given.
    """
    form, content = await forms.read(request, NewClass)
    most = state_of(request).settings.max_classes

    def work_out(now: Enrolment) -> Change:
        if form.name == UNKNOWN:
            raise RecordError(
                [Fault(None, "name", "a name that means nothing else", repr(UNKNOWN))]
            )
        if form.name in now.base.names or form.name in now.snapshot.classes:
            raise Problem(
                NAME_TAKEN, f"There is a class {form.name!r} already; PUT adds records to it."
            )
        if sum(bool(each.records) for each in now.snapshot.classes.values()) >= most:
            raise Problem(
                LIMIT_REACHED, f"{most} classes are enrolled, the most there may be; delete some."
            )
        _check_records(now, form.records, already=0)
        severity = form.severity or ("none" if form.good else "major")
        stored = _with_records(
            Stored(form.name, form.good, severity, form.description), form.records
        )
        return Change("enrol", {form.name: stored}, form.name)

    caller = _caller(request, content, if_match, key, dry_run=dry_run, force=force)
    return await _change(request, caller, work_out, status=201)


@router.put(
    "/classes/{name}",
    summary="Add support records, or amend a class",
    response_model=Changed,
    response_description=Changed.__doc__ or "",
    responses=documented(*BODY_PROBLEMS, *_CHANGES),
    openapi_extra=forms.described(Amendment),
    dependencies=[Depends(admin)],
)
async def amend(
    request: Request,
    name: InName,
    dry_run: DryRun = False,
    force: Force = False,
    if_match: IfMatch = None,
    key: Key = None,
) -> Response:
    """Add records to an enrolled class, or change what is said of it; hide a class, or show it.

    Of the bundle's classes, nothing else can be changed. A hidden class decides nothing: its
    records go to whichever class is next, or to none.
    """
    form, content = await forms.read(request, Amendment)

    def work_out(now: Enrolment) -> Change:
        stored = now.snapshot.classes.get(name)
        if stored is None or not stored.records:
            return _hide(now, name, form)
        _check_records(now, form.records or [], already=len(stored.records))
        stored = msgspec.structs.replace(
            stored,
            severity=form.severity or stored.severity,
            description=stored.description if form.description is None else form.description,
            hidden=stored.hidden if form.hidden is None else form.hidden,
        )
        after = _with_records(stored, form.records or [])
        return Change("amend", {} if after == now.snapshot.classes[name] else {name: after}, name)

    caller = _caller(request, content, if_match, key, dry_run=dry_run, force=force)
    return await _change(request, caller, work_out)


@router.delete(
    "/classes/{name}",
    summary="Delete an enrolled class",
    response_model=Changed,
    response_description=Changed.__doc__ or "",
    responses=documented(*_CHANGES),
    dependencies=[Depends(admin)],
)
async def delete(
    request: Request, name: InName, if_match: IfMatch = None, key: Key = None
) -> Response:
    """Forget an enrolled class; a revert brings it back."""

    def work_out(now: Enrolment) -> Change:
        _enrolled(now, name)
        return Change("delete", {name: None})

    return await _change(request, _caller(request, b"", if_match, key), work_out)


@router.delete(
    "/classes/{name}/records/{record_id}",
    summary="Delete a support record",
    response_model=Changed,
    response_description=Changed.__doc__ or "",
    responses=documented(*_CHANGES),
    dependencies=[Depends(admin)],
)
async def delete_record(
    request: Request,
    name: InName,
    record_id: Annotated[int, InPath(ge=1, le=_LAST, description="As `support` names it.")],
    if_match: IfMatch = None,
    key: Key = None,
) -> Response:
    """Forget one of the records that a class is known from; the last one cannot be deleted."""

    def work_out(now: Enrolment) -> Change:
        stored = _enrolled(now, name)
        kept = tuple(each for each in stored.records if each.id != record_id)
        if len(kept) == len(stored.records):
            raise Problem(NO_SUCH_CLASS, f"The class {name!r} has no record {record_id}.")
        if not kept:
            raise Problem(LIMIT_REACHED, f"This is the last record of {name!r}; delete the class.")
        return Change("delete_record", {name: msgspec.structs.replace(stored, records=kept)}, name)

    caller = _caller(request, b"", if_match, key, force=True)
    return await _change(request, caller, work_out)


@router.post(
    "/classes/revert/{revision}",
    summary="Revert to an earlier revision",
    response_model=Changed,
    response_description=Changed.__doc__ or "",
    responses=documented(*_CHANGES),
    dependencies=[Depends(admin)],
)
async def revert(
    request: Request,
    revision: Annotated[int, InPath(ge=0, le=_LAST, description="As `GET /revisions` lists it.")],
    if_match: IfMatch = None,
    key: Key = None,
) -> Response:
    """Bring all classes back to what they were at a revision; that is a new revision itself."""
    store = state_of(request).store

    def work_out(now: Enrolment) -> Change:
        if store is None:  # pragma: no cover - a change is refused before
            raise Problem(DATABASE_UNAVAILABLE, "There is no database of classes.")
        try:
            then = store.at(revision).classes
        except NoSuchRevisionError as error:
            raise Problem(NO_SUCH_CLASS, f"There is no revision {revision}.") from error
        present = now.snapshot.classes
        after: dict[str, Stored | None] = {}
        for name in dict.fromkeys([*then, *present]):
            old, new = present.get(name), then.get(name)
            if new is not None and old is not None:  # an id is never used again
                new = msgspec.structs.replace(new, next_id=max(new.next_id, old.next_id))
            if new != old:
                after[name] = new
        return Change("revert", after)

    return await _change(request, _caller(request, b"", if_match, key), work_out)


@router.get(
    "/revisions",
    summary="The history of the classes",
    response_model=History,
    response_description=History.__doc__ or "",
    responses=documented(DATABASE_UNAVAILABLE, INVALID_RECORDS),
)
async def revisions(
    request: Request,
    most: Annotated[int, Query(ge=1, le=100, description="How many, at most.")] = 20,
    before: Annotated[
        Annotated[int, pydantic.Field(ge=0, le=_LAST)] | Absent,
        Query(description="Only those before this revision."),
    ] = None,
) -> Response:
    """List changes of the classes, the latest first: who, when, what was and what is since."""
    state = state_of(request)

    def look() -> Response:
        if state.store is None:
            return _json({"revisions": []})
        try:
            found = state.store.history(most=most, before=before)
        except AwayError as error:
            raise Problem(
                DATABASE_UNAVAILABLE, f"The database of classes is away ({error})."
            ) from error
        return _json({"revisions": found})

    return await to_thread.run_sync(look)


async def _change(
    request: Request, caller: Caller, work_out: Callable[[Enrolment], Change], status: int = 200
) -> Response:
    catalogue = _catalogue(state_of(request), request)
    code, content, again = await to_thread.run_sync(catalogue.change, caller, work_out, status)
    headers = {"Idempotency-Replayed": "true"} if again else None
    return Response(content, code, headers, "application/json")


def _catalogue(state: State, request: Request) -> Catalogue:
    """The one of the application: it takes changes one by one."""
    found: Catalogue | None = getattr(request.app.state, "catalogue", None)
    if found is None:
        found = request.app.state.catalogue = Catalogue(state)
    return found


def _caller(
    request: Request,
    content: bytes,
    if_match: str | None,
    key: str | None,
    *,
    dry_run: bool = False,
    force: bool = False,
) -> Caller:
    info = RequestInfo.of(request.scope)
    asked = f"{request.method} {request.url.path}?{request.url.query}\n".encode() + content
    return Caller(
        who=info.key,
        request_id=info.request_id,
        dry_run=dry_run,
        force=force,
        revision=None if if_match is None else int(if_match.strip('"')),
        key=None if key is None or dry_run else (key, hashlib.sha256(asked).hexdigest()),
    )


def _names(enrolment: Enrolment) -> list[str]:
    enrolled = [name for name, stored in enrolment.snapshot.classes.items() if stored.records]
    return list(dict.fromkeys([*enrolment.base.names, *enrolled]))


def _enrolled(now: Enrolment, name: str) -> Stored:
    stored = now.snapshot.classes.get(name)
    if stored is not None and stored.records:
        return stored
    if name in now.base.names:
        raise Problem(
            BUNDLE_CLASS, f"{name!r} is a class of the bundle; it can be hidden: PUT hidden=true."
        )
    raise Problem(NO_SUCH_CLASS, f"There is no class {name!r}.")


def _hide(now: Enrolment, name: str, form: Amendment) -> Change:
    """Hide a class of the bundle, or show it again."""
    if name not in now.base.names and name not in now.snapshot.classes:
        raise Problem(NO_SUCH_CLASS, f"There is no class {name!r}.")
    if form.model_dump(exclude={"hidden"}, exclude_none=True):
        raise Problem(
            BUNDLE_CLASS, f"{name!r} is a class of the bundle, which can only be hidden or shown."
        )
    known = {each.name: each.good for each in now.base.manifest.classes}
    if form.hidden and known.get(name):
        raise Problem(BUNDLE_CLASS, f"{name!r} is good traffic, which cannot be hidden.")
    if form.hidden is None or form.hidden == (name in now.snapshot.classes):
        return Change("amend", {}, name)
    stored = Stored(name, hidden=True) if form.hidden else None
    return Change("hide" if form.hidden else "show", {name: stored}, name)


def _check_records(now: Enrolment, records: list[dict[str, Any]], already: int) -> None:
    if already + len(records) > _MOST_RECORDS:
        raise Problem(
            LIMIT_REACHED,
            f"A class may have {_MOST_RECORDS} records; with more of them, train a model.",
        )
    everything = sum(len(each.records) for each in now.snapshot.classes.values())
    if everything + len(records) > _MOST_IN_ALL:
        raise Problem(
            LIMIT_REACHED,
            f"{everything} records are stored, of {_MOST_IN_ALL} at most; delete some.",
        )
    if not records:
        return
    try:
        now.base.schema.encode(records)
    except RecordError as error:
        raise invalid_records(error.faults) from error


def _with_records(stored: Stored, records: list[dict[str, Any]]) -> Stored:
    first = stored.next_id
    more = tuple(Support(first + place, record) for place, record in enumerate(records))
    return msgspec.structs.replace(
        stored, records=stored.records + more, next_id=first + len(records)
    )


def _json(content: Any) -> Response:
    return Response(msgspec.json.encode(content), media_type="application/json")
