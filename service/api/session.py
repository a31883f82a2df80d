"""`/session`: a browser signs in with a key, and gets a cookie for it."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Annotated, Any, Literal

import pydantic
from fastapi import APIRouter
from starlette.requests import Request
from starlette.responses import Response

from service.api import forms
from service.api.docs import answers
from service.api.forms import Form
from service.runtime.state import state_of
from service.web import problems, session
from service.web.auth import Keys
from service.web.middleware import RequestInfo
from service.web.problems import Problem
from service.web.response_model import ResponseModel

__all__ = ["router"]

router = APIRouter(tags=["Live page"])

_WRONG_SECONDS = 0.25
_MAX_WRONG = 8
"""Wrong keys that are answered at the same time, each after a while: nobody guesses fast."""
_wrong = asyncio.Semaphore(_MAX_WRONG)


class SignIn(Form):
    """A key."""

    max_bytes = 8192  # whoever sends it has shown none yet

    key: Annotated[str, pydantic.Field(min_length=1, max_length=1000)]


class Session(ResponseModel):
    """What whoever asks may do."""

    read: Literal["open", "granted", "needed"]
    """Whether reading is open to everyone, granted by a key, or needs one."""
    change: Literal["granted", "needed", "off"]
    """Whether changing is granted by an admin key, or needs one; off where there is none."""


@router.get("/session", summary="What a browser may do", **answers(Session))
async def shown(request: Request) -> Response:
    """Say what the key or the cookie of this request allows."""
    headers = RequestInfo.of(request.scope).headers
    keys = state_of(request).keys
    return Session(
        read="open" if not keys.read else "granted" if _opens(keys, "read", headers) else "needed",
        change="off"
        if not keys.admin
        else "granted"
        if _opens(keys, "admin", headers)
        else "needed",
    ).response()


@router.post(
    "/session",
    summary="Sign in",
    openapi_extra=forms.described(SignIn),
    **answers(Session, *problems.BODY_PROBLEMS, problems.CROSS_SITE),
)
async def sign_in(request: Request) -> Response:
    """Set a cookie that opens for twelve hours what the key opens."""
    form, _ = await forms.read(request, SignIn)
    keys, digest = state_of(request).keys, hashlib.sha256(form.key.encode()).digest()
    if not keys.allows("read", digest):
        if _wrong.locked():
            raise Problem(problems.OVERLOADED)
        async with _wrong:
            await asyncio.sleep(_WRONG_SECONDS)
        problem = Problem(problems.UNAUTHORIZED, "There is no such key.")
        problem.challenges = problem.challenges[:1]  # the page itself asks
        raise problem
    response = Session(
        read="granted" if keys.read else "open",
        change="granted" if keys.allows("admin", digest) else "needed" if keys.admin else "off",
    ).response()
    value = session.value_of(form.key)
    response.set_cookie(session.COOKIE, value, session.SECONDS, **_attributes(request))
    response.headers["Cache-Control"] = "no-store"
    return response


@router.delete("/session", summary="Sign out", **answers(Session, problems.CROSS_SITE))
async def sign_out(request: Request) -> Response:
    """Take the cookie back."""
    keys = state_of(request).keys
    response = Session(
        read="needed" if keys.read else "open", change="needed" if keys.admin else "off"
    ).response()
    response.delete_cookie(session.COOKIE, **_attributes(request))
    return response


def _opens(keys: Keys, kind: Literal["read", "admin"], headers: Any) -> bool:
    try:
        keys.check(kind, headers)
    except Problem:
        return False
    return True


def _attributes(request: Request) -> dict[str, Any]:
    return {
        "path": request.scope.get("root_path") or "/",
        "httponly": True,
        "samesite": "strict",
        "secure": request.url.scheme == "https",
    }
