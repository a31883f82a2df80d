"""Profiles of sites at run time: `/profiles`; classes and profiles have one history."""

from __future__ import annotations

from typing import Annotated, Any, Self

import pydantic
from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from pydantic_core import PydanticCustomError
from starlette.requests import Request
from starlette.responses import Response

from models import names
from models.profile import LEAST_RECORDS
from service.api import forms
from service.api.classes import InRevision, WithHeaders, WithOptions, apply_change
from service.api.docs import answers
from service.api.forms import Form
from service.classes.enrolment import Enrolment
from service.classes.entities import NoSuchRevisionError, StoredProfile
from service.classes.profile_responses import ListedProfile, ProfileDetail, ProfileList
from service.classes.responses import Changed
from service.runtime.class_changes import Change
from service.runtime.profile_changes import learn_from
from service.runtime.state import state_of
from service.web import problems
from service.web.auth import admin
from service.web.problems import Problem
from service.web.validation import known_parameters

__all__ = ["router"]

router = APIRouter(tags=["Profiles"], dependencies=[Depends(known_parameters)])

_MAX_RECORDS = 10_000
"""To learn a profile from."""
_MAX_SITES, _MAX_LEARNING = 500, 20
_CHANGE_PROBLEMS = (
    problems.UNAUTHORIZED,
    problems.FORBIDDEN,
    problems.NO_SUCH_PROFILE,
    problems.LIMIT_REACHED,
    problems.OUTDATED,
    problems.KEY_REUSED,
    problems.INVALID_RECORDS,
    problems.NOT_READY,
    problems.DATABASE_UNAVAILABLE,
)
_CHANGE = answers(Changed, *_CHANGE_PROBLEMS) | {"dependencies": [Depends(admin)]}
_LEARN = _CHANGE | answers(
    Changed, *problems.BODY_PROBLEMS, *_CHANGE_PROBLEMS, problems.NOT_LEARNED
)

NewSite = Annotated[
    str,
    pydantic.AfterValidator(names.composed),
    pydantic.AfterValidator(names.check),
    InPath(description="Name of a site, of your choice.", json_schema_extra={**names.DOCUMENTED}),
]
InSite = Annotated[
    str,
    pydantic.AfterValidator(names.composed),
    InPath(description="Name of a site.", min_length=1, max_length=255),
]


def _one_of_both(schema: dict[str, Any]) -> None:
    schema |= {"minProperties": 1, "maxProperties": 1}
    for described in schema["properties"].values():
        described.pop("default", None)


def _whole(number: Any) -> Any:
    """Return 100.0 as 100, which is the same in JSON."""
    return int(number) if isinstance(number, float) and number.is_integer() else number


class ProfileSource(Form):
    """What to learn a profile from: records, or traffic to come."""

    model_config = pydantic.ConfigDict(json_schema_extra=_one_of_both)

    records: list[dict[str, Any]] = pydantic.Field(
        default_factory=list, min_length=1, max_length=_MAX_RECORDS
    )
    """Records of the site, without labels; most must be good traffic."""
    learn: Annotated[
        int, pydantic.Field(ge=LEAST_RECORDS, le=_MAX_RECORDS), pydantic.BeforeValidator(_whole)
    ] = 0
    """How many of the next records that come with `?site=` to learn from instead."""

    @pydantic.model_validator(mode="after")
    def _is_one_of_both(self) -> Self:
        if len(self.model_fields_set) != 1:
            message = "either records, or how many to learn from"
            raise PydanticCustomError("lesson", message)
        return self


@router.get("/profiles", summary="The sites", **answers(ProfileList, problems.NOT_READY))
def profiles(request: Request) -> Response:
    """List the sites that have a profile, or are learning one, at one revision."""
    enrolment = state_of(request).enrolment
    snapshot, schema = enrolment.snapshot, enrolment.base.schema
    described = [ListedProfile.of(stored, schema) for stored in snapshot.profiles.values()]
    return ProfileList(revision=snapshot.revision, profiles=described).response()


@router.get(
    "/profiles/{site}",
    summary="A site",
    **answers(
        ProfileDetail,
        problems.NO_SUCH_PROFILE,
        problems.NOT_READY,
        problems.INVALID_RECORDS,
    ),
)
def one_profile(request: Request, site: InSite) -> Response:
    """Show the profile of a site beside the training network, field by field."""
    state = state_of(request)
    enrolment = state.enrolment
    stored = _stored(enrolment, site)
    local = state.sites.get(site)
    return ProfileDetail.of(
        stored,
        enrolment.base.schema,
        collected=local.records if local and stored.learn else None,
        moved=local.moved() if local else [],
    ).response()


@router.post(
    "/profiles/{site}",
    summary="Learn the profile of a site",
    openapi_extra=forms.described(ProfileSource),
    **_LEARN,
)
async def learn(request: Request, site: NewSite, change: WithOptions) -> Response:
    """Learn what a site is typically like, without labels; a profile that it has is replaced.

    Send its `records`, or let it `learn` from the next records that are classified with its name;
    until then they are taken as they are. Records of which most stay other than good are refused,
    unless `force` is given.
    """
    form, content = await forms.read(request, ProfileSource)

    def plan(enrolment: Enrolment) -> Change:
        sites = enrolment.snapshot.profiles
        if site not in sites and len(sites) >= _MAX_SITES:
            why = f"{_MAX_SITES} sites are known, the most there may be; delete some."
            raise Problem(problems.LIMIT_REACHED, why)
        if form.records:
            matrix = enrolment.base.schema.encode(form.records)
            return learn_from(enrolment, site, matrix, force=change.force)
        if sum(bool(stored.learn) for stored in sites.values()) >= _MAX_LEARNING:
            why = f"{_MAX_LEARNING} sites are learning, the most at a time; wait for some."
            raise Problem(problems.LIMIT_REACHED, why)
        stored = StoredProfile(
            site, enrolment.snapshot.revision + 1, learn=form.learn, force=change.force
        )
        return Change("learn", profiles={site: stored})

    return await apply_change(request, change, plan, content)


@router.delete("/profiles/{site}", summary="Delete the profile of a site", **_CHANGE)
async def delete(request: Request, site: InSite, change: WithHeaders) -> Response:
    """Forget a site; a revert brings it back."""

    def plan(enrolment: Enrolment) -> Change:
        _stored(enrolment, site)
        return Change("delete_profile", profiles={site: None})

    return await apply_change(request, change, plan)


@router.post("/profiles/revert/{revision}", summary="Revert to an earlier revision", **_CHANGE)
async def revert(request: Request, revision: InRevision, change: WithHeaders) -> Response:
    """Bring all profiles back to what they were at a revision; classes stay as they are."""
    store = state_of(request).store
    if store is None:
        raise Problem(problems.DATABASE_UNAVAILABLE, "There is no database of profiles.")

    def plan(enrolment: Enrolment) -> Change:
        try:
            then = store.at(revision).profiles
        except NoSuchRevisionError as error:
            raise Problem(problems.NO_SUCH_PROFILE, f"There is no revision {revision}.") from error
        now = enrolment.snapshot.profiles
        sites = dict.fromkeys([*then, *now])
        changed = {site: then.get(site) for site in sites if then.get(site) != now.get(site)}
        return Change("revert_profiles", profiles=changed)

    return await apply_change(request, change, plan)


def _stored(enrolment: Enrolment, site: str) -> StoredProfile:
    """Return what is kept of a site, or raise the problem of one that nobody has heard of."""
    if (stored := enrolment.snapshot.profiles.get(site)) is None:
        raise Problem(problems.NO_SUCH_PROFILE, f"There is no profile of {site!r}.")
    return stored
