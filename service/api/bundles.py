"""List bundles and choose between them: `GET /models` and `POST /models/{version}/activate`.

`GET /models/shadow` compares a second bundle, which could take over.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated

from fastapi import APIRouter, Depends
from fastapi import Path as InPath
from starlette.requests import Request

from service.api.docs import answers
from service.api.schemas import Activated, BundleList, ListedBundle, Shadowed
from service.bundles.repository import (
    POINTER,
    Choice,
    Entry,
    NotThereError,
    RepositoryError,
)
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
    not_ready,
)
from service.web.validation import known_parameters

__all__ = ["router"]

router = APIRouter(tags=["Models"], dependencies=[Depends(known_parameters)])


@router.get(
    "/models",
    summary="The bundles at hand",
    response_model_exclude_unset=True,
    **answers(BundleList, NOT_READY),
)
def models(request: Request) -> BundleList:
    """List the folders that are watched: each is served, pending, idle or refused, and says why."""
    state = state_of(request)
    try:
        entries = state.repository.entries()
        choice = _choice(state)
    except RepositoryError as error:
        raise not_ready(
            f"The bundles cannot be listed: {error.reason}.", retry_seconds=30
        ) from error
    refused = {} if state.mirror is None else state.mirror.found().refused
    listed = [_described(state, entry, choice, refused.pop(entry.folder, "")) for entry in entries]
    for folder, reason in refused.items():  # only in the object store
        listed.append(ListedBundle(folder=folder, served=False, state="refused", reason=reason))
    return BundleList(models=sorted(listed, key=lambda entry: entry.folder))


@router.get(
    "/models/shadow",
    summary="How the shadow compares",
    response_model_exclude_unset=True,
    **answers(Shadowed, NO_SUCH_BUNDLE),
)
def shadow(request: Request) -> Shadowed:
    """Tell where the shadow, a second bundle, agrees with the one that answers, and where not.

    The records themselves, on which they do not agree, are shown to an admin key alone.
    """
    state = state_of(request)
    if state.shadow is None:
        raise Problem(
            NO_SUCH_BUNDLE, "There is no shadow: set FAULTCUBE_SHADOW to the folder of a bundle."
        )
    return Shadowed.model_validate(state.shadow.describe(records=_is_admin(request, state)))


@router.post(
    "/models/{version}/activate",
    summary="Serve another bundle",
    **answers(
        Activated,
        UNAUTHORIZED,
        FORBIDDEN,
        NO_SUCH_BUNDLE,
        NOT_ACTIVATED,
        INVALID_RECORDS,
        NOT_READY,
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
) -> Activated:
    """Verify a bundle and serve it, here and, within two seconds, in every process of this folder.

    The choice is written to the folder's file `current`, so it outlives a restart. To roll back,
    activate the version that was served before. A bundle that is refused changes nothing.
    """
    state = state_of(request)
    previous = state.loader.version or None
    if state.mirror is not None:
        raise Problem(
            NOT_ACTIVATED,
            f"Nothing was changed: the bundles are those of {state.mirror}; put the version into "
            f"its file {POINTER!r}, which all replicas follow.",
        )
    try:
        entry = state.repository.find(version)
        state.loader.verify(entry)
        before = state.repository.pointer()
        state.repository.activate(entry.folder)
    except NotThereError as error:
        raise Problem(NO_SUCH_BUNDLE, f"There is no such bundle: {error.reason}.") from error
    except RepositoryError as error:
        raise Problem(NOT_ACTIVATED, f"Nothing was changed: {error.reason}.") from error
    state.refresh()
    reason = state.loader.refused.get(entry.folder)
    if reason is not None and state.loader.version != entry.version:
        # It was verified and could not be served: a restart would find it chosen.
        with suppress(RepositoryError):
            if state.repository.pointer() == entry.folder:  # or somebody has chosen meanwhile
                state.repository.point(before)
        raise Problem(NOT_ACTIVATED, f"Nothing was changed: {entry.folder} is refused: {reason}.")
    return Activated.model_validate({"bundle": state.served.bundle, "previous": previous})


def _is_admin(request: Request, state: State) -> bool:
    try:
        state.keys.check("admin", RequestInfo.of(request.scope).headers)
    except Problem:
        return False
    return True


def _choice(state: State) -> Choice | RepositoryError:
    try:
        return state.repository.choice()
    except RepositoryError as error:
        return error


def _described(
    state: State, entry: Entry, choice: Choice | RepositoryError, refused: str
) -> ListedBundle:
    """Describe a folder; `refused` says why what the object store has for it now is refused."""
    is_pinned = (
        isinstance(choice, Choice)
        and choice.decided == "pointer"
        and choice.entry.folder == entry.folder
    )
    keys = {
        "name": entry.name,
        "version": entry.version,
        "created": entry.created,
        "pinned": is_pinned or None,
    }
    present = {key: value for key, value in keys.items() if value is not None}
    condition, reason = state.loader.state_of(entry, choice)
    served = condition == "served"
    if refused:
        reason = f"{reason}; what is in the object store now is refused: {refused}"
    return ListedBundle.model_validate(
        {"folder": entry.folder, "served": served, "state": condition, "reason": reason, **present}
    )
