"""`POST /feedback`: what operators know better than the model."""

from __future__ import annotations

from typing import Annotated, Any

import pydantic
from anyio import to_thread
from fastapi import APIRouter, Depends
from starlette.requests import Request
from starlette.responses import Response

from models import RecordError, names
from models.names import GivenName
from service.api import forms
from service.api.classes import Description, InSite
from service.api.docs import answers
from service.api.forms import Form
from service.api.schemas import Noted
from service.classes.entities import AwayError
from service.runtime.profile_changes import in_training_units
from service.runtime.state import state_of
from service.web import problems
from service.web.auth import admin
from service.web.middleware import RequestInfo
from service.web.problems import Problem
from service.web.validation import known_parameters

__all__ = ["router"]

router = APIRouter(tags=["Classes"], dependencies=[Depends(known_parameters)])


class Correction(Form):
    """What is true of a record."""

    record: dict[str, Any]
    verdict: Annotated[str, pydantic.Field(max_length=255)] | None = None
    """The label that it got."""
    true_label: GivenName
    """The label that it should have got; of a class that is known, or of a new one."""
    note: Description = ""


@router.post(
    "/feedback",
    summary="Say what a record really was",
    status_code=201,
    openapi_extra=forms.described(Correction),
    dependencies=[Depends(admin)],
    **answers(
        Noted,
        *problems.BODY_PROBLEMS,
        problems.UNAUTHORIZED,
        problems.FORBIDDEN,
        problems.NO_SUCH_PROFILE,
        problems.PROFILE_NEEDED,
        problems.DATABASE_UNAVAILABLE,
    ),
)
async def feedback(request: Request, site: InSite = None) -> Response:
    """Keep a record and its true label; `faultcube export-feedback` makes a table of them.

    Nothing changes at once: enrol a class for that. The next training learns from it.
    """
    form, _ = await forms.read(request, Correction)
    state = state_of(request)
    served, store = state.served, state.store
    like = names.clash(form.true_label, state.enrolment.names)
    if like not in {None, form.true_label} or names.clash(form.true_label, ()):
        raise RecordError.of_request(
            "true_label", "the name of a class, as it is spelt", repr(like)
        )
    if store is None:
        raise Problem(problems.DATABASE_UNAVAILABLE, "There is no database of feedback.")
    info = RequestInfo.of(request.scope)

    def add() -> int:
        (record,) = in_training_units(state.enrolment, [form.record], site)
        return store.add_feedback(
            who=info.key,
            request_id=info.request_id,
            bundle=served.version,
            **form.model_dump() | {"record": record},
        )

    try:
        return Noted(id=await to_thread.run_sync(add)).response(201)
    except AwayError as error:
        why = f"Nothing was kept: the database is away ({error})."
        raise Problem(problems.DATABASE_UNAVAILABLE, why) from error
