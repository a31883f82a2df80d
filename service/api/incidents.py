"""`/incidents`: what began, where, and whether it ended; and what operators say of it."""

from __future__ import annotations

import logging
import struct
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends, Query
from fastapi import Path as InPath
from starlette.requests import Request
from starlette.responses import Response

from models import RecordError
from models.names import GivenName
from service.api import forms
from service.api.classes import (
    Description,
    NewClass,
    Severity,
    WithHeaders,
    WithOptions,
    apply_change,
    enrolling,
)
from service.api.docs import answers
from service.api.forms import Form
from service.classes.entities import AwayError
from service.classes.responses import Changed
from service.incidents import storage
from service.incidents.incident import MAX_KEPT, Incident
from service.incidents.responses import IncidentDetail, IncidentPage, ListedIncident
from service.incidents.storage import (
    MAX_COMMENTS,
    NoSuchIncidentError,
    Note,
    RepeatedNoteError,
    Stored,
)
from service.runtime.class_changes import ChangeRequest
from service.runtime.state import State, state_of
from service.web import problems
from service.web.auth import admin
from service.web.problems import Problem
from service.web.response_model import Absent, ResponseModel
from service.web.validation import known_parameters

__all__ = ["router"]

log = logging.getLogger(__name__)
router = APIRouter(tags=["Incidents"], dependencies=[Depends(known_parameters)])

_CHANGE_PROBLEMS = (
    problems.UNAUTHORIZED,
    problems.FORBIDDEN,
    problems.NO_SUCH_INCIDENT,
    problems.KEY_REUSED,
    problems.INVALID_RECORDS,
    problems.NOT_READY,
    problems.DATABASE_UNAVAILABLE,
)
_CHANGE = answers(IncidentDetail, *_CHANGE_PROBLEMS) | {"dependencies": [Depends(admin)]}
_CHANGE_BY_FORM = _CHANGE | answers(
    IncidentDetail, *problems.BODY_PROBLEMS, *_CHANGE_PROBLEMS, problems.LIMIT_REACHED
)
_ALERTMANAGER = "alertmanager"


def _no_number(given: object) -> object:
    """Let nothing but dates become dates."""
    if isinstance(given, str) and "T" not in given.upper():
        raise ValueError("a date and a time")
    return given


InId = Annotated[str, InPath(description="Of an incident.", pattern="^[0-9a-f]{16}$")]
Text = Annotated[str, pydantic.Field(min_length=1, max_length=1000)]
Short = Annotated[str, pydantic.Field(min_length=1, max_length=255)]


class NewComment(Form):
    """A comment."""

    text: Text


Place = Annotated[int, pydantic.Field(ge=0, lt=MAX_KEPT)]


class ClassToTeach(Form):
    """A class to enrol from the records of an incident."""

    name: GivenName
    severity: Severity | None = None
    """Perceived severity (ITU-T X.733); `major` unless given."""
    description: Description = ""
    records: Annotated[list[Place], pydantic.Field(min_length=1, max_length=MAX_KEPT)] | None = None
    """Places, from 0, in the incident's `records` of those to learn from; those that have its label
    unless given."""


class MessageOfAlertmanager(Form):
    """What Alertmanager sends to a webhook; only its alerts and the receiver matter."""

    model_config = pydantic.ConfigDict(extra="ignore")

    receiver: Annotated[str, pydantic.Field(max_length=255)] = ""
    alerts: Annotated[list[dict[str, Any]], pydantic.Field(max_length=10_000)]


class Acknowledged(ResponseModel):
    """Incidents that were acknowledged."""

    acknowledged: list[str]
    """Their ids."""


@router.get(
    "/incidents",
    summary="The incidents",
    **answers(IncidentPage, problems.INVALID_RECORDS, problems.DATABASE_UNAVAILABLE),
)
async def incidents(
    request: Request,
    status: Annotated[
        Literal["open", "settled", "closed"] | Absent, Query(description="Only those.")
    ] = None,
    label: Annotated[
        Short | Absent, Query(alias="class", description="Only those of this class.")
    ] = None,
    key: Annotated[
        Short | Absent, Query(description="Only those in which this key takes part.")
    ] = None,
    since: Annotated[
        Annotated[datetime, pydantic.BeforeValidator(_no_number)] | Absent,
        Query(description="Only those that were in trouble at this time or later."),
    ] = None,
    limit: Annotated[int, Query(alias="most", ge=1, le=100, description="How many, at most.")] = 20,
    cursor: Annotated[
        Annotated[str, pydantic.Field(pattern=r"^[0-9a-f]{32}$")] | Absent,
        Query(description="`next` of the page before."),
    ] = None,
) -> Response:
    """List incidents, those that began last first."""
    state = state_of(request)
    query = storage.Query(
        status=status,
        label=label,
        key=key,
        since=None if since is None else _seconds(since),
        before=None if cursor is None else _parsed(cursor),
        limit=limit + 1,
    )
    try:
        found = await to_thread.run_sync(state.incidents.storage.find, query)
    except AwayError as error:
        raise _away(error) from error
    shown, last = found[:limit], found[limit - 1 : limit]
    more = _cursor(last[0].incident) if len(found) > limit else None
    return IncidentPage(
        kept=state.incidents.kept, incidents=[ListedIncident.of(each) for each in shown], next=more
    ).response()


@router.get(
    "/incidents/{id}",
    summary="An incident",
    **answers(
        IncidentDetail,
        problems.NO_SUCH_INCIDENT,
        problems.INVALID_RECORDS,
        problems.DATABASE_UNAVAILABLE,
    ),
)
async def one_incident(request: Request, id: InId) -> Response:  # noqa: A002 - a path parameter
    """Show an incident with its members, evidence, first records and history."""
    return await to_thread.run_sync(_shown, state_of(request), id)


@router.post("/incidents/{id}/acknowledge", summary="Acknowledge an incident", **_CHANGE)
async def acknowledge(request: Request, id: InId, change: WithHeaders) -> Response:  # noqa: A002
    """Say that it is being looked after; one that has settled closes."""
    return await _noted(request, _note(id, "acknowledged", change))


@router.post("/incidents/{id}/close", summary="Close an incident", **_CHANGE)
async def close(request: Request, id: InId, change: WithHeaders) -> Response:  # noqa: A002
    """Close it, whatever its records say; a key that stays in the same trouble opens no other."""
    return await _noted(request, _note(id, "closed", change))


@router.post("/incidents/{id}/new-normal", summary="Call it normal", **_CHANGE)
async def new_normal(request: Request, id: InId, change: WithHeaders) -> Response:  # noqa: A002
    """Close it, and learn the levels of the keys that are in trouble again."""
    return await _noted(request, _note(id, "new_normal", change))


@router.post(
    "/incidents/{id}/comment",
    summary="Comment an incident",
    openapi_extra=forms.described(NewComment),
    **_CHANGE_BY_FORM,
)
async def comment(request: Request, id: InId, change: WithHeaders) -> Response:  # noqa: A002
    """Write something for others to read; 100 comments at most."""
    form, _ = await forms.read(request, NewComment)
    stored = await to_thread.run_sync(_stored, state_of(request), id)
    if len(stored.people.comments) >= MAX_COMMENTS:
        why = f"The incident has {MAX_COMMENTS} comments, the most there may be."
        raise Problem(problems.LIMIT_REACHED, why)
    return await _noted(request, _note(id, "commented", change, form.text))


@router.post("/incidents/{id}/not-a-fault", summary="Say that it was no fault", **_CHANGE)
async def not_a_fault(request: Request, id: InId, change: WithHeaders) -> Response:  # noqa: A002
    """Close it, and keep its first records as feedback: they were good traffic."""
    state = state_of(request)
    enrolment, version, store = state.enrolment, state.served.version, state.store
    if store is None:
        raise Problem(problems.DATABASE_UNAVAILABLE, "There is no database of feedback.")
    good = next(known.name for known in enrolment.base.manifest.classes if known.good)

    def add(incident: Incident) -> None:
        rows = [
            {
                "who": change.who,
                "request_id": change.request_id,
                "bundle": version,
                "record": dict(kept.record),
                "verdict": kept.label,
                "true_label": good,
            }
            for kept in incident.records
        ]
        store.complete_feedback(f"incident {incident.id}", rows)

    return await _noted(request, _note(id, "not_a_fault", change), add)


@router.post(
    "/incidents/{id}/teach",
    summary="Enrol its records as a class",
    status_code=201,
    openapi_extra=forms.described(ClassToTeach),
    **_CHANGE
    | answers(
        Changed,
        *problems.BODY_PROBLEMS,
        *_CHANGE_PROBLEMS,
        problems.NAME_TAKEN,
        problems.CLASS_OVERLAP,
        problems.LIMIT_REACHED,
        problems.OUTDATED,
        problems.CONTRADICTORY,
    ),
)
async def teach(request: Request, id: InId, change: WithOptions) -> Response:  # noqa: A002
    """Teach the service what this was, from its first records; as `POST /classes` does."""
    form, content = await forms.read(request, ClassToTeach)
    state = state_of(request)
    incident = (await to_thread.run_sync(_stored, state, id)).incident
    records = _own_records(incident) if form.records is None else _chosen(incident, form.records)
    new = NewClass(**form.model_dump(exclude={"records"}), records=records)
    plan = enrolling(new, state.settings.max_classes)
    response = await apply_change(request, change, plan, content)
    if not change.dry_run and "Idempotency-Replayed" not in response.headers:
        note = _note(id, "taught", change, form.name, key=None)
        try:
            await to_thread.run_sync(_take, state, note)
        except AwayError as error:  # the class is taught nevertheless
            log.warning("a lesson is not in the history", extra={"reason": str(error)})
    return response


@router.post(
    "/incidents/alertmanager/webhook",
    summary="Acknowledge what Alertmanager has told",
    openapi_extra=forms.described(MessageOfAlertmanager),
    dependencies=[Depends(admin)],
    **answers(
        Acknowledged,
        *problems.BODY_PROBLEMS,
        problems.UNAUTHORIZED,
        problems.FORBIDDEN,
        problems.DATABASE_UNAVAILABLE,
    ),
)
async def from_alertmanager(request: Request, change: WithHeaders) -> Response:
    """Take the message of an Alertmanager's webhook: its incidents have reached somebody."""
    form, _ = await forms.read(request, MessageOfAlertmanager)
    state = state_of(request)
    who = f"{_ALERTMANAGER} {form.receiver}".strip()

    def acknowledge_all() -> list[str]:
        done: list[str] = []
        for id_ in dict.fromkeys(map(_incident_of, form.alerts)):
            try:
                if state.incidents.storage.get(id_).people.acknowledged is None:
                    note = Note(id_, "acknowledged", _now(), who, change.request_id)
                    state.incidents.note(note)
                    done.append(id_)
            except NoSuchIncidentError:
                continue
            except AwayError as error:
                raise _away(error) from error
        return done

    return Acknowledged(acknowledged=await to_thread.run_sync(acknowledge_all)).response()


async def _noted(request: Request, note: Note, then: Any = lambda _incident: None) -> Response:
    """Keep what somebody did, do what follows, and show the incident."""
    state = state_of(request)

    def work() -> Response:
        replayed = False
        try:
            try:
                stored = _take(state, note)
            except RepeatedNoteError as error:
                if not error.same:
                    why = "This Idempotency-Key was sent with another request."
                    raise Problem(problems.KEY_REUSED, why) from error
                replayed, stored = True, state.incidents.storage.get(note.incident)
            then(stored.incident)  # also once more: the first time it may have failed
        except AwayError as error:
            raise _away(error) from error
        response = _shown(state, note.incident)
        if replayed:
            response.headers["Idempotency-Replayed"] = "true"
        return response

    return await to_thread.run_sync(work)


def _take(state: State, note: Note) -> Stored:
    try:
        return state.incidents.note(note)
    except NoSuchIncidentError as error:
        raise _no_such(note.incident) from error


def _stored(state: State, id_: str) -> Stored:
    try:
        return state.incidents.storage.get(id_)
    except NoSuchIncidentError as error:
        raise _no_such(id_) from error
    except AwayError as error:
        raise _away(error) from error


def _shown(state: State, id_: str) -> Response:
    stored = _stored(state, id_)
    try:
        history = state.incidents.storage.history(id_)
    except AwayError as error:
        raise _away(error) from error
    return IncidentDetail.of(stored, history=history).response()


def _note(
    id_: str, deed: Any, change: ChangeRequest, text: str = "", key: str | None = "given"
) -> Note:
    key = change.key if key == "given" else key
    return Note(id_, deed, _now(), change.who, change.request_id, text, key)


def _incident_of(alert: dict[str, Any]) -> str:
    labels = alert.get("labels")
    return str(labels.get("incident", "")) if isinstance(labels, dict) else ""


def _own_records(incident: Incident) -> list[dict[str, Any]]:
    """Return the records that show the fault itself, not its echo; all if none does."""
    if not incident.records:
        raise RecordError.of_request("id", "an incident with records", "one without any")
    own = [kept.record for kept in incident.records if kept.label == incident.label]
    return [dict(record) for record in own or [kept.record for kept in incident.records]]


def _chosen(incident: Incident, places: Sequence[int]) -> list[dict[str, Any]]:
    """Return the records at these places, which are what somebody has looked at."""
    count = len(incident.records)
    if max(places) >= count:
        raise RecordError.of_request("records", f"places of its {count} records", f"{max(places)}")
    return [dict(incident.records[place].record) for place in dict.fromkeys(places)]


def _cursor(last: Incident) -> str:
    """Return the place of an incident in the order of the list."""
    return struct.pack(">d", last.first).hex() + last.id


def _parsed(cursor: str) -> tuple[float, str]:
    (first,) = struct.unpack(">d", bytes.fromhex(cursor[:16]))
    return first, cursor[16:]


def _seconds(moment: datetime) -> float:
    return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()


def _now() -> datetime:
    return datetime.now(UTC)


def _no_such(id_: str) -> Problem:
    return Problem(problems.NO_SUCH_INCIDENT, f"There is no incident {id_}.")


def _away(error: AwayError) -> Problem:
    return Problem(problems.DATABASE_UNAVAILABLE, f"The database of incidents is away ({error}).")
