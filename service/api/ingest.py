"""Metric points from monitoring systems: one route for each path of `service.ingest.receivers`.

Statuses are chosen by what each unmodified client does with them. Telegraf and vmagent send a body
again for ever on 413, 415 and 422: what cannot be used is 400, whatever the reason. 429 makes
Prometheus drop, so overload is 503. A body with some bad samples is taken, and they are counted.
"""

from __future__ import annotations

from collections.abc import Mapping
from http import HTTPStatus
from typing import Any, Final

from fastapi import APIRouter
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsPartialSuccess,
    ExportMetricsServiceResponse,
)
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from service.api.docs import answers
from service.api.endpoint import decompressed, refuse_method
from service.formats.errors import MalformedInputError
from service.formats.json_text import without_bom
from service.ingest import snappy
from service.ingest.receivers import ANY, RECEIVERS, Receiver, receiver_of
from service.runtime.relay import Receipt
from service.runtime.state import State, state_of
from service.web import body, problems
from service.web.middleware import RequestInfo
from service.web.problems import Problem, documented, problem_of
from service.web.response_model import Omittable, ResponseModel

__all__ = ["PATHS", "IngestEndpoint", "router"]

router = APIRouter(tags=["Ingestion"])

PATHS: Final = tuple(dict.fromkeys(receiver.path for receiver in RECEIVERS.values()))
"""That take points."""

_UNUSABLE = {413, 415, 422}
_ANYTHING: Final[dict[str, Any]] = {"schema": {}}
"""Bytes, as OpenAPI 3.1 documents them."""
_JSON: Final[dict[str, Any]] = {"schema": {"type": ["object", "array"]}}
_USUAL: Final = ("application/json", "text/plain")
"""Content types that clients use where any is taken."""
_WRITTEN = "X-Prometheus-Remote-Write-{}-Written"
_PROBLEMS = (
    problems.MALFORMED_BODY,
    problems.NOT_INGESTING,
    problems.REQUEST_TIMEOUT,
    problems.NOT_READY,
    problems.OVERLOADED,
)


class IngestEndpoint:
    """An ASGI application that takes points.

    Args:
        state: of the application.
        path: of its receivers.
    """

    def __init__(self, state: State, path: str) -> None:
        self.state, self.path = state, path
        self.ingestion = state.ingestion

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        info = RequestInfo.of(scope)
        info.route = self.path
        receiver: Receiver | None = None
        try:
            if scope["method"] != "POST":
                refuse_method()
            receiver = _receiver(self.path, info.headers)
            response = await self._take(receiver, info.headers, receive)
        except (Problem, MalformedInputError) as error:
            problem = _usable(problem_of(error)).with_traceback(None)
            self.state.metrics.count_rejected(problem)
            if receiver is not None:
                self.ingestion.count_refused(receiver.name, problem.reason)
            response = problem.response(info.request_id)
        except Exception:
            await Problem(problems.INTERNAL_ERROR).response(info.request_id)(scope, receive, send)
            raise  # the server logs it
        await response(scope, receive, send)

    async def _take(
        self, receiver: Receiver, headers: Mapping[bytes, bytes], receive: Receive
    ) -> Response:
        settings, budget = self.state.settings, self.state.budget
        limit, seconds = settings.max_body_bytes, settings.body_seconds
        encoding = headers.get(b"content-encoding", b"identity").decode("latin-1").strip().lower()
        if encoding not in receiver.encodings:
            named = ", ".join(receiver.encodings)
            raise Problem(problems.MALFORMED_BODY, f"Content-Encoding must be one of: {named}.")
        data = await body.read(receive, headers, budget, limit=limit, seconds=seconds)
        try:
            if encoding == "snappy":
                inflated = snappy.inflate(bytes(data), limit)
                budget.hold(len(inflated) - len(data))
                data = inflated
            elif encoding != "identity":
                steps = decompressed(data, encoding, limit, budget)
                data = await self.state.scheduler.run_sliced(steps)
            content = bytes(without_bom(data))
            return _accepted(receiver, await self.ingestion.take(receiver, content))
        finally:
            budget.release(len(data))


def _receiver(path: str, headers: Mapping[bytes, bytes]) -> Receiver:
    content_type = headers.get(b"content-type", b"").decode("latin-1")
    receiver = receiver_of(path, content_type)
    if receiver is None:
        types = {kind for r in RECEIVERS.values() if r.path == path for kind in r.content_types}
        why = f"Content-Type must be one of: {', '.join(sorted(types))}."
        raise Problem(problems.MALFORMED_BODY, why)
    return receiver


def _usable(problem: Problem) -> Problem:
    """Return the problem with a status that makes no client send the same body again."""
    if problem.status in _UNUSABLE:
        return Problem(problems.MALFORMED_BODY, str(problem))
    return problem


def _accepted(receiver: Receiver, receipt: Receipt) -> Response:
    """Say what was taken, in the form that the receiver's clients know."""
    rejected = sum(receipt.reasons.values())
    why = "; ".join(f"{count} {reason}" for reason, count in receipt.reasons.items())
    match receiver.name:
        case "otlp":
            partial = ExportMetricsPartialSuccess(rejected_data_points=rejected, error_message=why)
            message = ExportMetricsServiceResponse(partial_success=partial if rejected else None)
            return Response(message.SerializeToString(), media_type="application/x-protobuf")
        case "otlp_json":
            told = {"rejectedDataPoints": str(rejected), "errorMessage": why}
            return IngestPartial(partialSuccess=told if rejected else None).response()
        case "remote_write_v2":
            counts = {"Samples": receipt.points, "Histograms": 0, "Exemplars": 0}
            headers = {_WRITTEN.format(name): str(count) for name, count in counts.items()}
            return Response(status_code=receiver.status, headers=headers)
    return Response(status_code=receiver.status)


class IngestPartial(ResponseModel):
    """What OTLP answers in JSON."""

    partialSuccess: Omittable[dict[str, str]] = None  # noqa: N815 - the protocol's name
    """What was not taken, if anything."""


class KeyStatus(ResponseModel):
    """A key, such as a device."""

    key: str
    """Values of the tags that make it."""
    time: float
    """Of its latest record, seconds since 1970."""
    label: str
    """The verdict on it."""


class ReceiverStatus(ResponseModel):
    """A wire format."""

    bodies: int
    """That were taken."""
    points: int
    """In them."""
    rejected: dict[str, int]
    """Samples that could not be used, by reason."""
    refused: dict[str, int]
    """Bodies that were refused, by reason."""


class IngestStatus(ResponseModel):
    """What became of metric points since the process began."""

    mapping: Omittable[str] = None
    """Name of the mapping that makes records of points."""
    refused: Omittable[str] = None
    """Why nothing is taken; absent while points are."""
    queued: int
    """Points that wait."""
    receivers: dict[str, ReceiverStatus]
    """By wire format, those that something came for."""
    points: dict[str, int]
    """What became of them: see docs/telemetry.md."""
    keys: int
    """How many are known."""
    latest: list[KeyStatus]
    """The keys that reported last, 1,000 at most."""
    strays: dict[str, int]
    """Keys with points that were late or dated ahead, 1,000 at most: look at their clocks."""
    findings: list[str]
    """What is odd about the mapping, by the points so far: a counter that is mapped as a gauge."""


async def taken() -> None:  # for the OpenAPI document alone: `IngestEndpoint` answers
    """Take metric points; the answer comes before any model sees them.

    Samples that cannot be used are counted, and the others are taken. Whatever is wrong with a body
    is a 400, because most clients send it again on other statuses. Each format is described in
    docs/ingest.md.
    """


def _document(path: str) -> None:
    """Add what takes points at a path to the document."""
    formats = [receiver for receiver in RECEIVERS.values() if receiver.path == path]
    named = [kind for receiver in formats for kind in receiver.content_types]
    kinds = [*_USUAL] if ANY in named else [kind.partition(";")[0] for kind in named]
    content = {kind: _JSON if kind == "application/json" else _ANYTHING for kind in kinds}
    encodings = list(dict.fromkeys(name for each in formats for name in each.encodings))
    encoding = {
        "name": "Content-Encoding",
        "in": "header",
        "required": "identity" not in encodings,
        "schema": {"type": "string", "enum": encodings},
        "description": "How the body is compressed.",
    }
    status = formats[0].status
    response: dict[str, Any] = {"description": "The points are taken."}
    if status == HTTPStatus.OK:
        answers = dict.fromkeys(content, _ANYTHING)
        answers["application/json"] = {"schema": IngestPartial.model_json_schema()}
        response["content"] = answers
    router.add_api_route(
        path,
        taken,
        methods=["POST"],
        name=path,
        summary=f"Points: {', '.join(receiver.name for receiver in formats)}",
        status_code=status,
        response_class=Response,
        responses={status: response, **documented(*_PROBLEMS)},
        openapi_extra={
            "parameters": [encoding],
            "requestBody": {"required": True, "content": content},
        },
    )


for _path in PATHS:
    _document(_path)


@router.get("/ingest/status", summary="Ingestion", **answers(IngestStatus))
async def status(request: Request) -> Response:
    """Count what came in by wire format, and what became of it; list the latest verdicts."""
    return IngestStatus(**await state_of(request).ingestion.status()).response()
