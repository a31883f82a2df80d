"""The bundles on the shelf: `GET /models` and `POST /models/{version}/activate`.

`GET /models/shadow` tells of one beside them, which could take over.
"""

from __future__ import annotations

from typing import Annotated, Any

from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from service.api.schemas import Activated, Shadowed, Shelved
from service.bundles.repository import Entry, NotThereError, RepositoryError
from service.runtime.state import State, state_of
from service.web.auth import admin
from service.web.middleware import RequestInfo
from service.web.problems import (
    FORBIDDEN,
    INVALID_RECORDS,
    NO_SUCH_BUNDLE,
    NOT_ACTIVATED,
    NOT_READY,
    UNAUTHORIZED,
    Problem,
    documented,
    not_ready,
)

__all__ = ["router"]

router = APIRouter(tags=["Models"])


@router.get(
    "/models",
    summary="The bundles at hand",
    response_model=Shelved,
    response_description=Shelved.__doc__ or "",
    responses=documented(NOT_READY),
)
def models(request: Request) -> Response:
    """List the bundles in the folder that is watched, and say which of them is served."""
    state = state_of(request)
    try:
        entries = state.repository.entries()
    except RepositoryError as error:
        raise not_ready(
            f"The bundles cannot be listed: {error.reason}.", retry_seconds=30
        ) from error
    content = [_described(state, entry) for entry in entries]
    return Response(to_json({"models": content}), media_type="application/json")


@router.get(
    "/models/shadow",
    summary="How the shadow compares",
    response_model=Shadowed,
    response_description=Shadowed.__doc__ or "",
    responses=documented(NO_SUCH_BUNDLE),
)
def shadow(request: Request) -> Response:
    """Tell where the shadow, a second bundle, agrees with the one that answers, and where not.

    The records themselves, on which they do not agree, are shown to an admin key alone.
    """
    state = state_of(request)
    if state.shadow is None:
        raise Problem(
            NO_SUCH_BUNDLE, "There is no shadow: set FAULTCUBE_SHADOW to the folder of a bundle."
        )
    content = state.shadow.describe(records=_is_admin(request, state))
    return Response(to_json(content), media_type="application/json")


@router.post(
    "/models/{version}/activate",
    summary="Serve another bundle",
    response_model=Activated,
    response_description=Activated.__doc__ or "",
    responses=documented(
        UNAUTHORIZED, FORBIDDEN, NO_SUCH_BUNDLE, NOT_ACTIVATED, INVALID_RECORDS, NOT_READY
    ),
    dependencies=[Depends(admin)],
)
def activate(
    request: Request,
    version: Annotated[
        str,
        InPath(
            description="Version, its first four or more digits, or a folder's name.",
            min_length=1,
            max_length=255,
        ),
    ],
) -> Response:
    """Verify a bundle and serve it, here and, within two seconds, in every process of this folder.

    The choice is written to the folder's file `current`, so it outlives a restart. To roll back,
    activate the version that was served before. A bundle that is refused changes nothing.
    """
    state = state_of(request)
    before = state.loaded
    try:
        entry = state.repository.find(version)
        state.try_out(entry)
        state.repository.activate(entry.folder)
    except NotThereError as error:
        raise Problem(NO_SUCH_BUNDLE, f"There is no such bundle: {error.reason}.") from error
    except RepositoryError as error:
        raise Problem(NOT_ACTIVATED, f"Nothing was changed: {error.reason}.") from error
    state.refresh()
    previous = before.manifest.version if before else None
    content = {"bundle": state.served.bundle, "previous": previous}
    return Response(to_json(content), media_type="application/json")


def _is_admin(request: Request, state: State) -> bool:
    try:
        state.keys.check("admin", RequestInfo.of(request.scope).headers)
    except Problem:
        return False
    return True


def _described(state: State, entry: Entry) -> dict[str, Any]:
    served = state.loaded
    described: dict[str, Any] = {
        "folder": entry.folder,
        "served": served is not None and served.manifest.version == entry.version,
    }
    for name in ("name", "version", "created"):
        if (value := getattr(entry, name)) is not None:
            described[name] = value
    if reason := entry.reason or state.refused.get(entry.folder):
        described["refused"] = reason
    return described
