"""What can be wrong with a request, each as an RFC 9457 problem.

Problem
├── Unreadable           400  the body is not what its content type says
├── Malformed            400  not HTTP
├── Unauthorized         401  no key, or one that does not open this
├── Forbidden            403  nobody may do this
├── NoSuchPath           404
├── NoSuchBundle         404
├── NoSuchClass          404  nor such a record of one, nor such a revision
├── WrongMethod          405
├── TooSlow              408  the request did not arrive in time
├── NotActivated         409  the bundle cannot be served, or the choice not be kept
├── NameTaken            409  there is a class of this name
├── NotYours             409  what cannot be done to a class of the bundle
├── Swallows             409  the class would take over what others answer; `report` says what
├── Full                 409  there is no room for more
├── Outdated             409  the classes have changed since
├── KeyReused            409  an Idempotency-Key that was sent with another request
├── TooLarge             413
├── Unspoken             415  a content type or encoding that is not spoken here
├── Unfit                422  JSON, but not records of this schema; `errors` says where
├── Contradictory        422  records of a class that do not belong together; `report` says why
├── HeadTooLarge         431
├── Disconnected         499  the client went away; nobody reads the answer
├── Refused              400  any other refusal by the framework
├── Broken               500
├── NotReady             503  no bundle is loaded
├── StoreAway            503  the database of classes is away
└── Overloaded           503  too much is under way already
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, ClassVar

from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models import Fault

__all__ = [
    "BODY_PROBLEMS",
    "MEDIA_TYPE",
    "Broken",
    "Contradictory",
    "Disconnected",
    "Forbidden",
    "Full",
    "HeadTooLarge",
    "KeyReused",
    "Malformed",
    "NameTaken",
    "NoSuchBundle",
    "NoSuchClass",
    "NoSuchPath",
    "NotActivated",
    "NotReady",
    "NotYours",
    "Outdated",
    "Overloaded",
    "Problem",
    "Refused",
    "StoreAway",
    "Swallows",
    "TooLarge",
    "TooSlow",
    "Unauthorized",
    "Unfit",
    "Unreadable",
    "Unspoken",
    "WrongMethod",
    "documented",
    "entry_of",
    "printable",
    "problem_of",
]

MEDIA_TYPE = "application/problem+json"

_MOST_ERRORS = 10
_MOST_BYTES = 6000
"""Of a list of errors, as JSON; keeps the whole answer under 8 kB."""


class Problem(Exception):  # noqa: N818 - the RFC's word
    """A request that is not answered.

    Args:
        why: for the client.
        members: more of the document, by name.

    Attributes:
        status: HTTP status code.
        reason: one word for programs and metrics.
        headers: to send with the answer.
    """

    status: ClassVar[int]
    reason: ClassVar[str]
    headers: Mapping[str, str] = {}
    members: Mapping[str, Any] = {}

    def __init__(self, why: str = "", **members: Any) -> None:
        super().__init__(why)
        self.members = members

    def document(self) -> dict[str, Any]:
        """The problem as RFC 9457 asks for it."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
            "reason": self.reason,
            **self.members,
        }

    def response(self, request_id: str) -> Response:
        """The answer to send; it names the request, so that it can be found in the log."""
        document = self.document() | {"request_id": request_id}
        return Response(to_json(document), self.status, self.headers, MEDIA_TYPE)


class Unreadable(Problem):
    """The body is not what its content type says."""

    status, reason = 400, "unreadable"


class Malformed(Problem):
    """Not HTTP."""

    status, reason, headers = 400, "malformed", {"Connection": "close"}


class Unauthorized(Problem):
    """No key, or one that does not open this."""

    status, reason, headers = (
        401,
        "unauthorized",
        {"WWW-Authenticate": "Bearer, Basic realm=faultcube"},
    )


class Forbidden(Problem):
    """Nobody may do this."""

    status, reason = 403, "forbidden"


class NoSuchPath(Problem):
    """There is no such path."""

    status, reason = 404, "no_such_path"


class NoSuchBundle(Problem):
    """There is no such bundle."""

    status, reason = 404, "no_such_bundle"


class NotActivated(Problem):
    """The bundle cannot be served, or the choice not be kept; nothing was changed."""

    status, reason = 409, "not_activated"


class NoSuchClass(Problem):
    """There is no such class, no such record of one, or no such revision."""

    status, reason = 404, "no_such_class"


class NameTaken(Problem):
    """There is a class of this name."""

    status, reason = 409, "name_taken"


class NotYours(Problem):
    """What cannot be done to a class of the bundle."""

    status, reason = 409, "class_of_bundle"


class Full(Problem):
    """There is no room for more."""

    status, reason = 409, "full"


class Outdated(Problem):
    """The classes have changed since."""

    status, reason = 409, "outdated"


class Swallows(Problem):
    """The class would take over what others answer; nothing was changed."""

    status, reason = 409, "swallows"


class Contradictory(Problem):
    """The records of a class do not belong together; nothing was changed."""

    status, reason = 422, "contradictory"


class KeyReused(Problem):
    """An Idempotency-Key that was sent with another request."""

    status, reason = 409, "key_reused"


class StoreAway(Problem):
    """The database of classes is away."""

    status, reason, headers = 503, "store_away", {"Retry-After": "5"}


class WrongMethod(Problem):
    """The path has other methods."""

    status, reason = 405, "wrong_method"

    def __init__(self, headers: Mapping[str, str]) -> None:
        super().__init__(f"This path takes {headers.get('Allow', 'another method')}.")
        self.headers = headers


class TooSlow(Problem):
    """The request did not arrive in time."""

    status, reason, headers = 408, "too_slow", {"Connection": "close"}


class TooLarge(Problem):
    """The body is longer than the limit; nothing of it is kept."""

    status, reason, headers = 413, "too_large", {"Connection": "close"}


class Unspoken(Problem):
    """A content type or encoding that is not spoken here."""

    status, reason = 415, "unspoken"


class Unfit(Problem):
    """JSON, but not records of this schema.

    Args:
        faults: what is wrong, without any of the values that were sent; `record` is None where
            the body itself is meant.
    """

    status, reason = 422, "unfit"

    def __init__(self, faults: Sequence[tuple[int | None, str | None, str, str]]) -> None:
        self.errors = _within_budget([_entry(*fault) for fault in faults[:_MOST_ERRORS]])
        super().__init__(_sentence(self.errors[0]), errors=self.errors)

    @classmethod
    def of(cls, faults: Sequence[Fault]) -> Unfit:
        """Say what a schema finds wrong."""
        return cls([(fault.record, fault.field, fault.expected, fault.got) for fault in faults])


class HeadTooLarge(Problem):
    """The headers are longer than the limit."""

    status, reason, headers = 431, "head_too_large", {"Connection": "close"}


class Disconnected(Problem):
    """The client went away; nobody reads the answer."""

    status, reason = 499, "disconnected"

    def response(self, request_id: str) -> Response:  # noqa: ARG002 - nobody asks for it
        """Nothing, to nobody."""
        return Response(status_code=self.status)


class Refused(Problem):
    """Any other refusal by the framework."""

    status, reason = 400, "refused"


class Broken(Problem):
    """A defect of the service."""

    status, reason = 500, "broken"

    def __init__(self) -> None:
        super().__init__("The service failed; its log says why.")


class NotReady(Problem):
    """No bundle is loaded."""

    status, reason = 503, "not_ready"

    def __init__(self, why: str, *, retry_seconds: int) -> None:
        super().__init__(why)
        self.headers = {"Retry-After": str(retry_seconds)}


class Overloaded(Problem):
    """Too much is under way already; try again."""

    status, reason, headers = 503, "overloaded", {"Retry-After": "1"}

    def __init__(self) -> None:
        super().__init__("The service has more to do than it can; send this again in a second.")


BODY_PROBLEMS: tuple[type[Problem], ...] = (
    Unreadable,
    TooSlow,
    TooLarge,
    Unspoken,
    Unfit,
    NotReady,
    Overloaded,
)
"""What a route that reads records may answer."""


def problem_of(error: Exception) -> Problem:
    """Turn whatever was raised into a problem."""
    match error:
        case Problem():
            return error
        case RequestValidationError():
            found = error.errors()[:_MOST_ERRORS]
            return Unfit([(None, str(e["loc"][-1]), e["msg"], "something else") for e in found])
        case HTTPException(status_code=404):
            return NoSuchPath("There is nothing at this path; /docs shows what there is.")
        case HTTPException(status_code=405):
            return WrongMethod(error.headers or {})
        case HTTPException():
            return Refused("The request cannot be understood.")
        case _:
            return Broken()


def documented(*kinds: type[Problem]) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with these problems."""
    described: dict[int | str, dict[str, Any]] = {}
    every: dict[type[Problem], None] = dict.fromkeys((*kinds, Unauthorized, Broken))
    for kind in every:
        one = _described(kind)
        if (others := described.setdefault(kind.status, one)) is not one:
            others["description"] += " " + one["description"]
    return described


def _described(kind: type[Problem]) -> dict[str, Any]:
    summary = (kind.__doc__ or "").splitlines()[0]
    # Made without its own constructor: what a problem has to be told differs from kind to kind.
    example = Problem.document(kind.__new__(kind, summary))
    if kind is Unfit:
        fault = (0, "name of a field", "a finite number (%)", "a string")
        example = Unfit([fault]).document()
    example["request_id"] = "5f0c1d2e3a4b-17"
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": summary, "content": {MEDIA_TYPE: content}}


def entry_of(fault: Fault) -> dict[str, Any]:
    """A fault as one of a problem's errors."""
    return _entry(fault.record, fault.field, fault.expected, fault.got)


def _entry(record: int | None, field: str | None, expected: str, got: str) -> dict[str, Any]:
    entry: dict[str, Any] = {} if record is None else {"record": record}
    if field is not None:
        entry["field"] = printable(field, 100)
    return entry | {"expected": printable(expected, 200), "got": got}


def printable(text: str, most: int) -> str:
    """Cut a text that others wrote, and take out what would confuse a terminal."""
    cut = text if len(text) <= most else text[: most - 1] + "…"
    return "".join(char if char.isprintable() else "\N{REPLACEMENT CHARACTER}" for char in cut)


def _within_budget(errors: list[dict[str, Any]]) -> list[dict[str, Any]]:
    while len(errors) > 1 and len(to_json(errors)) > _MOST_BYTES:
        errors = errors[:-1]
    return errors


def _sentence(error: Mapping[str, Any]) -> str:
    places = [f"{name} {error[name]!r}" for name in ("record", "field") if name in error]
    place = ", ".join(places) or "the body"
    return f"{place}: expected {error['expected']}, got {error['got']}"
