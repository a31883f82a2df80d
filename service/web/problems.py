"""What can be wrong with a request, each as an RFC 9457 problem.

The codecs of `service.formats` know no status codes: `problem_of` maps their errors to problems.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any

from fastapi.exceptions import RequestValidationError
from pydantic_core import to_json
from starlette.exceptions import HTTPException
from starlette.responses import Response

from models import FieldError, RecordError
from service.formats.errors import MalformedInputError, entry_of
from service.web.validation import faults_of

__all__ = [
    "BAD_REQUEST",
    "BODY_PROBLEMS",
    "BODY_TOO_LARGE",
    "BUNDLE_CLASS",
    "CLASS_OVERLAP",
    "CLIENT_DISCONNECTED",
    "CONTRADICTORY",
    "CROSS_SITE",
    "DATABASE_UNAVAILABLE",
    "FORBIDDEN",
    "HEADERS_TOO_LARGE",
    "INPUT_ERRORS",
    "INTERNAL_ERROR",
    "INVALID_RECORDS",
    "KEY_REUSED",
    "LIMIT_REACHED",
    "MALFORMED_BODY",
    "MALFORMED_REQUEST",
    "MEDIA_TYPE",
    "METHOD_NOT_ALLOWED",
    "NAME_TAKEN",
    "NOT_ACTIVATED",
    "NOT_INGESTING",
    "NOT_KEPT",
    "NOT_LEARNED",
    "NOT_READY",
    "NO_SUCH_BUNDLE",
    "NO_SUCH_CLASS",
    "NO_SUCH_INCIDENT",
    "NO_SUCH_PATH",
    "NO_SUCH_PROFILE",
    "OUTDATED",
    "OVERLOADED",
    "PROFILE_NEEDED",
    "REQUEST_TIMEOUT",
    "UNAUTHORIZED",
    "UNSUPPORTED_MEDIA_TYPE",
    "Kind",
    "Problem",
    "documented",
    "invalid_records",
    "not_ready",
    "problem_of",
]

MEDIA_TYPE = "application/problem+json"
INPUT_ERRORS = (RecordError, MalformedInputError)
"""What codecs raise; `problem_of` knows their status codes."""

_MAX_ERRORS = 10
_MAX_ERROR_BYTES = 6000
"""Of the JSON of all errors, which keeps the whole response under 8 kB."""


@dataclass(frozen=True, slots=True, eq=False)
class Kind:
    """A kind of problem.

    Attributes:
        status: HTTP status code.
        reason: one word for programs and metrics; part of the public contract.
        summary: one sentence for the OpenAPI document.
        headers: of every such response, by name.
        detail: the message where none is given.
        challenges: the lines of `WWW-Authenticate`: Chromium asks for a password only where Basic
            has a line of its own.
    """

    status: int
    reason: str
    summary: str
    headers: Mapping[str, str] = field(default_factory=dict)
    detail: str = ""
    challenges: tuple[str, ...] = ()


_CLOSE = {"Connection": "close"}
_CHALLENGES = ("Bearer", "Basic realm=faultcube")

MALFORMED_BODY = Kind(400, "unreadable", "The body is not what its content type says.")
MALFORMED_REQUEST = Kind(400, "malformed", "Not HTTP.", _CLOSE)
NOT_INGESTING = Kind(400, "not_ingesting", "No mapping says what to make of metric points.")
BAD_REQUEST = Kind(400, "refused", "Any other refusal by the framework.")
UNAUTHORIZED = Kind(
    401, "unauthorized", "No key, or one without this permission.", challenges=_CHALLENGES
)
FORBIDDEN = Kind(403, "forbidden", "Nobody may do this.")
CROSS_SITE = Kind(
    403,
    "cross_site",
    "A page of another site sent this.",
    detail="A browser sent this for a page of another site; only the service's own may.",
)
NO_SUCH_PATH = Kind(404, "no_such_path", "There is no such path.")
NO_SUCH_BUNDLE = Kind(404, "no_such_bundle", "There is no such bundle.")
NO_SUCH_CLASS = Kind(
    404, "no_such_class", "There is no such class, no such record of one, or no such revision."
)
NO_SUCH_INCIDENT = Kind(404, "no_such_incident", "There is no such incident.")
NO_SUCH_PROFILE = Kind(
    404, "no_such_profile", "There is no profile of this site, or none yet, or no such revision."
)
NOT_KEPT = Kind(
    404, "not_kept", "The live page knows no such device, or keeps this record no longer."
)
PROFILE_NEEDED = Kind(
    409,
    "profile_needed",
    "The bundle compares each record with its own site's levels, and no site is named.",
    detail="This bundle needs a profile of every site: learn one with POST /profiles/NAME, and "
    "send ?site=NAME.",
)
METHOD_NOT_ALLOWED = Kind(405, "wrong_method", "The path has other methods.")
REQUEST_TIMEOUT = Kind(408, "too_slow", "The request did not arrive in time.", _CLOSE)
NOT_ACTIVATED = Kind(
    409,
    "not_activated",
    "The bundle cannot be served, or the choice not be kept; nothing was changed.",
)
NAME_TAKEN = Kind(409, "name_taken", "There is a class of this name.")
BUNDLE_CLASS = Kind(409, "class_of_bundle", "What cannot be done to a class of the bundle.")
LIMIT_REACHED = Kind(409, "full", "There is no room for more.")
OUTDATED = Kind(409, "outdated", "The classes or the profiles have changed since.")
CLASS_OVERLAP = Kind(
    409, "swallows", "The class would take over records of other classes; nothing was changed."
)
NOT_LEARNED = Kind(
    409,
    "not_learned",
    "No profile can be learned from these records: too few, or most stay faulty.",
)
KEY_REUSED = Kind(409, "key_reused", "An Idempotency-Key that was sent with another request.")
BODY_TOO_LARGE = Kind(
    413, "too_large", "The body is longer than the limit; nothing of it is kept.", _CLOSE
)
UNSUPPORTED_MEDIA_TYPE = Kind(415, "unspoken", "A content type or encoding that is not supported.")
INVALID_RECORDS = Kind(422, "unfit", "JSON, but not records of this schema.")
CONTRADICTORY = Kind(
    422,
    "contradictory",
    "The records of a class do not belong together; nothing was changed.",
)
HEADERS_TOO_LARGE = Kind(431, "head_too_large", "The headers are longer than the limit.", _CLOSE)
CLIENT_DISCONNECTED = Kind(499, "disconnected", "The client went away; nobody reads the answer.")
INTERNAL_ERROR = Kind(
    500, "broken", "A defect of the service.", detail="The service failed; its log says why."
)
NOT_READY = Kind(503, "not_ready", "No bundle is loaded.")
DATABASE_UNAVAILABLE = Kind(
    503, "store_away", "The database of classes is away.", {"Retry-After": "5"}
)
OVERLOADED = Kind(
    503,
    "overloaded",
    "Too much is under way already; try again.",
    {"Retry-After": "1"},
    "The service has more to do than it can; send this again in a second.",
)

BODY_PROBLEMS = (
    MALFORMED_BODY,
    REQUEST_TIMEOUT,
    BODY_TOO_LARGE,
    UNSUPPORTED_MEDIA_TYPE,
    INVALID_RECORDS,
    NOT_READY,
    OVERLOADED,
)
"""What a route that reads records may answer."""


class Problem(Exception):  # noqa: N818 - the RFC's word
    """A request that is refused.

    Args:
        kind: of problem.
        detail: for the client; the kind's own unless given.
        headers: of the response, instead of the kind's.
        members: further members of the document, by name.

    Attributes:
        challenges: the lines of `WWW-Authenticate`; the kind's own unless set.
    """

    def __init__(
        self,
        kind: Kind,
        detail: str = "",
        *,
        headers: Mapping[str, str] | None = None,
        **members: Any,
    ) -> None:
        super().__init__(detail or kind.detail)
        self.kind, self.members = kind, members
        self.headers = kind.headers if headers is None else headers
        self.challenges = kind.challenges

    @property
    def status(self) -> int:
        """HTTP status code."""
        return self.kind.status

    @property
    def reason(self) -> str:
        """One word for programs and metrics."""
        return self.kind.reason

    def document(self) -> dict[str, Any]:
        """Return the problem as RFC 9457 asks for it."""
        return {
            "type": "about:blank",
            "title": HTTPStatus(self.status).phrase,
            "status": self.status,
            "detail": str(self),
            "reason": self.reason,
            **self.members,
        }

    def response(self, request_id: str) -> Response:
        """Return the response; it names the request, so that the log can be searched for it."""
        if self.kind is CLIENT_DISCONNECTED:  # nobody reads it
            return Response(status_code=self.status)
        document = self.document() | {"request_id": request_id}
        return self.response_of(document, MEDIA_TYPE)

    def response_of(self, document: Mapping[str, Any], media_type: str) -> Response:
        """Return the response with another document."""
        response = Response(to_json(document), self.status, self.headers, media_type)
        for challenge in self.challenges:
            response.headers.append("WWW-Authenticate", challenge)
        return response


def not_ready(detail: str, *, retry_seconds: int) -> Problem:
    """Return the problem of a service without a bundle."""
    return Problem(NOT_READY, detail, headers={"Retry-After": str(retry_seconds)})


def invalid_records(faults: Sequence[FieldError]) -> Problem:
    """Return the problem of records or options that do not fit.

    Args:
        faults: what is wrong, at least one; the first ten are listed.
    """
    errors = [entry_of(fault) for fault in faults[:_MAX_ERRORS]]
    while len(errors) > 1 and len(to_json(errors)) > _MAX_ERROR_BYTES:
        errors.pop()
    return Problem(INVALID_RECORDS, _sentence(errors[0]), errors=errors)


def problem_of(error: Exception) -> Problem:
    """Turn any exception into a problem; an unexpected one says nothing of its own."""
    match error:
        case Problem():
            return error
        case RecordError():
            return invalid_records(error.faults)
        case MalformedInputError():
            return Problem(MALFORMED_BODY, str(error))
        case RequestValidationError():
            return invalid_records(faults_of(error.errors()))
        case HTTPException(status_code=404):
            return Problem(
                NO_SUCH_PATH, "There is nothing at this path; /docs shows what there is."
            )
        case HTTPException(status_code=405):
            headers = error.headers or {}
            allowed = headers.get("Allow", "another method")
            return Problem(METHOD_NOT_ALLOWED, f"This path takes {allowed}.", headers=headers)
        case HTTPException():
            return Problem(BAD_REQUEST, "The request cannot be understood.")
        case _:
            return Problem(INTERNAL_ERROR)


def documented(*kinds: Kind) -> dict[int | str, dict[str, Any]]:
    """Return the OpenAPI `responses` of a route that may answer with these problems."""
    responses: dict[int | str, dict[str, Any]] = {}
    guard = (CROSS_SITE,) if FORBIDDEN in kinds else ()
    for kind in dict.fromkeys((*kinds, *guard, UNAUTHORIZED, INTERNAL_ERROR)):
        response = _described(kind)
        if (first := responses.setdefault(kind.status, response)) is not response:
            first["description"] += " " + response["description"]
    return responses


def _described(kind: Kind) -> dict[str, Any]:
    example = Problem(kind, kind.summary).document()
    if kind is INVALID_RECORDS:
        fault = FieldError(0, "name of a field", "a finite number (%)", "a string")
        example = invalid_records([fault]).document()
    example["request_id"] = "5f0c1d2e3a4b-17"
    content = {"schema": {"$ref": "#/components/schemas/Problem"}, "example": example}
    return {"description": kind.summary, "content": {MEDIA_TYPE: content}}


def _sentence(error: Mapping[str, Any]) -> str:
    location = [f"{name} {error[name]!r}" for name in ("record", "field") if name in error]
    subject = ", ".join(location) or "the body"
    return f"{subject}: expected {error['expected']}, got {error['got']}"
