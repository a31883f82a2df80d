"""Classes at run time: `/classes`, and the history of their changes."""

from __future__ import annotations

import hashlib
import re
from dataclasses import replace
from typing import Annotated, Any, Literal

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Header, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from models import RecordError, names
from models.names import GivenName
from service.api import forms
from service.api.docs import answers
from service.api.forms import Form
from service.classes.enrolment import Enrolment
from service.classes.entities import AwayError, NoSuchRevisionError, StoredClass, SupportRecord
from service.classes.responses import Changed, ClassDetail, ClassList, History, ListedClass
from service.runtime.class_changes import Change, ChangeRequest, ClassEditor, Plan, describe
from service.runtime.profile_changes import in_training_units
from service.runtime.state import state_of
from service.web import problems
from service.web.auth import admin
from service.web.middleware import RequestInfo
from service.web.problems import Problem
from service.web.response_model import Absent
from service.web.validation import known_parameters

__all__ = [
    "Description",
    "InRevision",
    "InSite",
    "NewClass",
    "Severity",
    "WithHeaders",
    "WithOptions",
    "apply_change",
    "enrolling",
    "router",
]

router = APIRouter(tags=["Classes"], dependencies=[Depends(known_parameters)])

_MAX_RECORDS = 100
"""Support records of a class; one with more should be trained."""
_MAX_TOTAL_RECORDS = 20_000
_MAX_INTEGER = (1 << 31) - 1
"""Of a database."""
_REVISION = re.compile(r'^(\*|"[0-9]{1,9}"|[0-9]{1,9})$')
_CHANGE_PROBLEMS = (
    problems.UNAUTHORIZED,
    problems.FORBIDDEN,
    problems.NO_SUCH_CLASS,
    problems.NO_SUCH_PROFILE,
    problems.PROFILE_NEEDED,
    problems.NAME_TAKEN,
    problems.BUNDLE_CLASS,
    problems.CLASS_OVERLAP,
    problems.LIMIT_REACHED,
    problems.OUTDATED,
    problems.CONTRADICTORY,
    problems.KEY_REUSED,
    problems.INVALID_RECORDS,
    problems.NOT_READY,
    problems.DATABASE_UNAVAILABLE,
)
_CHANGE = answers(Changed, *_CHANGE_PROBLEMS) | {"dependencies": [Depends(admin)]}
_CHANGE_BY_FORM = _CHANGE | answers(Changed, *problems.BODY_PROBLEMS, *_CHANGE_PROBLEMS)
_DRY_RUN = {200: {"model": Changed, "description": "What would happen; with `dry_run`."}}

Records = list[dict[str, Any]]
Severity = Literal["none", "indeterminate", "warning", "minor", "major", "critical"]
Description = Annotated[str, pydantic.Field(max_length=1000)]
NewRecords = Annotated[Records, pydantic.Field(min_length=1, max_length=_MAX_RECORDS)]
InName = Annotated[
    str,
    pydantic.AfterValidator(names.composed),
    InPath(description="Name of a class.", min_length=1, max_length=255),
]
IfMatch = Annotated[
    Annotated[str, pydantic.Field(json_schema_extra={"pattern": _REVISION.pattern})] | Absent,
    Header(
        alias="If-Match",
        description="Revision that you have seen, 409 when there is a later one; `*` for any.",
    ),
]
Key = Annotated[
    Annotated[str, pydantic.Field(min_length=1, max_length=255)] | Absent,
    Header(
        alias="Idempotency-Key",
        description="Your name for this change: a repeat gets the first answer, changes nothing.",
    ),
]
DryRun = Annotated[bool, Query(description="Only say what would happen.")]
Force = Annotated[
    bool,
    Query(description="Do it although records contradict each other, swallow a class, or are odd."),
]
InSite = Annotated[
    Annotated[
        str,
        pydantic.AfterValidator(names.composed),
        pydantic.Field(min_length=1, max_length=255),
    ]
    | Absent,
    Query(
        alias="site",
        description="Site that the records are from: they are kept adapted by its profile.",
    ),
]
InRevision = Annotated[
    int, InPath(ge=0, le=_MAX_INTEGER, description="As `GET /revisions` lists it.")
]


def read_headers(request: Request, if_match: IfMatch = None, key: Key = None) -> ChangeRequest:
    """Read the headers of a change; the current revision matches `*` (RFC 9110, 13.1.1)."""
    info = RequestInfo.of(request.scope)
    if if_match is not None and not _REVISION.fullmatch(if_match):
        expected = "a revision in double quotes, or *"
        raise RecordError.of_request("If-Match", expected, "something else")
    revision = None if if_match in {None, "*"} else int(if_match.strip('"'))
    return ChangeRequest(info.key, info.request_id, revision=revision, key=key)


def read_options(
    request: Request,
    dry_run: DryRun = False,
    force: Force = False,
    if_match: IfMatch = None,
    key: Key = None,
) -> ChangeRequest:
    """Read the headers and options of a change that can be tried and forced."""
    change = read_headers(request, if_match, None if dry_run else key)
    return replace(change, dry_run=dry_run, force=force)


WithHeaders = Annotated[ChangeRequest, Depends(read_headers)]
WithOptions = Annotated[ChangeRequest, Depends(read_options)]


class NewClass(Form):
    """A class to enrol."""

    name: GivenName
    good: bool = False
    """Whether it is good traffic."""
    severity: Severity | None = None
    """Perceived severity (ITU-T X.733); `major` unless given, `none` of good traffic."""
    description: Description = ""
    records: NewRecords
    """What the class looks like: one record, or several."""


class Amendment(Form):
    """What to change of a class; what is left out stays."""

    records: NewRecords | None = None
    """More of what it looks like."""
    severity: Severity | None = None
    description: Description | None = None
    hidden: bool | None = None
    """Whether it is out of use."""


@router.get("/classes", summary="The classes", **answers(ClassList, problems.NOT_READY))
def classes(request: Request) -> Response:
    """List the classes that decide, and those that are hidden or parked, at one revision."""
    enrolment = state_of(request).enrolment
    described = [ListedClass.of(enrolment, name) for name in enrolment.names]
    return ClassList(revision=enrolment.snapshot.revision, classes=described).response()


@router.get(
    "/classes/{name}",
    summary="A class",
    **answers(ClassDetail, problems.NO_SUCH_CLASS, problems.NOT_READY, problems.INVALID_RECORDS),
)
def one_class(request: Request, name: InName) -> Response:
    """Show a class with its support records and its distance to every other class."""
    return describe(state_of(request).enrolment, name, ClassDetail).response()


@router.post(
    "/classes",
    summary="Enrol a class",
    status_code=201,
    openapi_extra=forms.described(NewClass),
    **_CHANGE_BY_FORM | {"responses": _CHANGE_BY_FORM["responses"] | _DRY_RUN},
)
async def enrol(request: Request, change: WithOptions, site: InSite = None) -> Response:
    """Teach the running service a class from one record or a few, without training.

    With `dry_run`, only say what would happen: how far it would reach, how near the other classes
    are, and which records of the calibration set and of recent traffic would change their label.
    A class that would take over half of what another one answers, or a tenth of good traffic, is
    refused, and so is one whose records lie nearer to another class than to each other, unless
    `force` is given.
    """
    form, content = await forms.read(request, NewClass)
    plan = enrolling(form, state_of(request).settings.max_classes, site)
    return await apply_change(request, change, plan, content)


@router.put(
    "/classes/{name}",
    summary="Add support records, or amend a class",
    openapi_extra=forms.described(Amendment),
    **_CHANGE_BY_FORM,
)
async def amend(
    request: Request, name: InName, change: WithOptions, site: InSite = None
) -> Response:
    """Add records to an enrolled class, or change what is said of it; hide a class, or show it.

    Of the bundle's classes, nothing else can be changed. A hidden class decides nothing: its
    records go to whichever class is next, or to none.
    """
    form, content = await forms.read(request, Amendment)

    def plan(enrolment: Enrolment) -> Change:
        before = enrolment.stored(name)
        if before is None:
            return _hide(enrolment, name, form)
        after = replace(
            _with_records(enrolment, before, form.records or [], site),
            **form.model_dump(exclude={"records"}, exclude_none=True),
        )
        return Change("amend", {} if after == before else {name: after}, name)

    return await apply_change(request, change, plan, content)


@router.delete("/classes/{name}", summary="Delete an enrolled class", **_CHANGE)
async def delete(request: Request, name: InName, change: WithHeaders) -> Response:
    """Forget an enrolled class; a revert brings it back."""

    def plan(enrolment: Enrolment) -> Change:
        _enrolled(enrolment, name)
        return Change("delete", {name: None})

    return await apply_change(request, change, plan)


@router.delete("/classes/{name}/records/{record_id}", summary="Delete a support record", **_CHANGE)
async def delete_record(
    request: Request,
    name: InName,
    record_id: Annotated[int, InPath(ge=1, le=_MAX_INTEGER, description="As `support` names it.")],
    change: WithHeaders,
) -> Response:
    """Forget one of the records that a class is known from; the last one cannot be deleted."""

    def plan(enrolment: Enrolment) -> Change:
        stored = _enrolled(enrolment, name)
        remaining = tuple(record for record in stored.records if record.id != record_id)
        if len(remaining) == len(stored.records):
            why = f"The class {name!r} has no record {record_id}."
            raise Problem(problems.NO_SUCH_CLASS, why)
        if not remaining:
            why = f"This is the last record of {name!r}; delete the class."
            raise Problem(problems.LIMIT_REACHED, why)
        return Change("delete_record", {name: replace(stored, records=remaining)}, name)

    return await apply_change(request, replace(change, force=True), plan)


@router.post("/classes/revert/{revision}", summary="Revert to an earlier revision", **_CHANGE)
async def revert(request: Request, revision: InRevision, change: WithHeaders) -> Response:
    """Bring all classes back to what they were at a revision; that is a new revision itself."""
    store = state_of(request).store
    if store is None:
        raise Problem(problems.DATABASE_UNAVAILABLE, "There is no database of classes.")

    def plan(enrolment: Enrolment) -> Change:
        try:
            then = store.at(revision).classes
        except NoSuchRevisionError as error:
            raise Problem(problems.NO_SUCH_CLASS, f"There is no revision {revision}.") from error
        now = enrolment.snapshot.classes
        after: dict[str, StoredClass | None] = {}
        for name in dict.fromkeys([*then, *now]):
            old, new = now.get(name), then.get(name)
            if new is not None and old is not None:  # an id is never used again
                new = replace(new, next_id=max(new.next_id, old.next_id))
            if new != old:
                after[name] = new
        return Change("revert", after)

    return await apply_change(request, change, plan)


@router.get(
    "/revisions",
    summary="The history of the classes",
    **answers(History, problems.DATABASE_UNAVAILABLE, problems.INVALID_RECORDS),
)
def revisions(
    request: Request,
    limit: Annotated[int, Query(alias="most", ge=1, le=100, description="How many, at most.")] = 20,
    before: Annotated[
        Annotated[int, pydantic.Field(ge=0, le=_MAX_INTEGER)] | Absent,
        Query(description="Only those before this revision."),
    ] = None,
) -> Response:
    """List changes of classes and profiles, latest first: who, when, what was and is since."""
    store = state_of(request).store
    try:
        entries = store.history(limit=limit, before=before) if store else []
    except AwayError as error:
        why = f"The database of classes is away ({error})."
        raise Problem(problems.DATABASE_UNAVAILABLE, why) from error
    return History(revisions=entries).response()


def enrolling(form: NewClass, limit: int, site: str | None = None) -> Plan:
    """Return the plan of enrolling a class.

    Args:
        form: the class.
        limit: how many classes there may be.
        site: that its records are from.
    """
    name = form.name

    def plan(enrolment: Enrolment) -> Change:
        like = names.clash(name, enrolment.names)  # not one that an earlier bundle had
        if like is not None and names.clash(name, ()) is not None:
            raise RecordError.of_request("name", "a name that means nothing else", repr(like))
        if like is not None:
            why = f"There is a class {like!r} already; PUT adds records to it."
            raise Problem(problems.NAME_TAKEN, why)
        if sum(bool(stored.records) for stored in enrolment.snapshot.classes.values()) >= limit:
            why = f"{limit} classes are enrolled, the most there may be; delete some."
            raise Problem(problems.LIMIT_REACHED, why)
        severity = form.severity or ("none" if form.good else "major")
        stored = StoredClass(name, form.good, severity, form.description)
        after = {name: _with_records(enrolment, stored, form.records, site)}
        return Change("enrol", after, name, status=201)

    return plan


async def apply_change(
    request: Request, change: ChangeRequest, plan: Plan, body: bytes = b""
) -> Response:
    """Make a change of classes or profiles, and return its response."""
    url = request.url
    digest = hashlib.sha256(f"{request.method} {url.path}?{url.query}\n".encode() + body)
    change = replace(change, digest=digest.hexdigest())
    editor: ClassEditor = request.app.state.class_editor
    outcome = await to_thread.run_sync(editor.apply, change, plan)
    headers = {"Idempotency-Replayed": "true"} if outcome.replayed else None
    return Response(outcome.content, outcome.status, headers, "application/json")


def _enrolled(enrolment: Enrolment, name: str) -> StoredClass:
    """Return an enrolled class, or raise the problem of any other."""
    if (stored := enrolment.stored(name)) is not None:
        return stored
    if name in enrolment.base.names:
        why = f"{name!r} is a class of the bundle; it can be hidden: PUT hidden=true."
        raise Problem(problems.BUNDLE_CLASS, why)
    raise Problem(problems.NO_SUCH_CLASS, f"There is no class {name!r}.")


def _hide(enrolment: Enrolment, name: str, form: Amendment) -> Change:
    """Hide a class of the bundle, or show it again."""
    hidden = name in enrolment.snapshot.classes
    if name not in enrolment.base.names and not hidden:
        raise Problem(problems.NO_SUCH_CLASS, f"There is no class {name!r}.")
    if form.model_dump(exclude={"hidden"}, exclude_none=True):
        why = f"{name!r} is a class of the bundle, which can only be hidden or shown."
        raise Problem(problems.BUNDLE_CLASS, why)
    good = {entry.name for entry in enrolment.base.manifest.classes if entry.good}
    if form.hidden and name in good:
        why = f"{name!r} is good traffic, which cannot be hidden."
        raise Problem(problems.BUNDLE_CLASS, why)
    if form.hidden is None or form.hidden == hidden:
        return Change("amend", {}, name)
    after = StoredClass(name, hidden=True) if form.hidden else None
    return Change("hide" if form.hidden else "show", {name: after}, name)


def _with_records(
    enrolment: Enrolment, stored: StoredClass, records: Records, site: str | None
) -> StoredClass:
    """Add records to a class, or raise why they cannot be added."""
    if len(stored.records) + len(records) > _MAX_RECORDS:
        why = f"A class may have {_MAX_RECORDS} records; with more of them, train a model."
        raise Problem(problems.LIMIT_REACHED, why)
    total = sum(len(entry.records) for entry in enrolment.snapshot.classes.values())
    if total + len(records) > _MAX_TOTAL_RECORDS:
        why = f"{total} records are stored, of {_MAX_TOTAL_RECORDS} at most; delete some."
        raise Problem(problems.LIMIT_REACHED, why)
    if records:
        records = in_training_units(enrolment, records, site)
    added = tuple(map(SupportRecord, range(stored.next_id, _MAX_INTEGER), records))
    return replace(stored, records=stored.records + added, next_id=stored.next_id + len(records))
