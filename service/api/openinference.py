"""The Open Inference Protocol's routes, `/v2/...`: what clients of KServe, Triton and MLServer ask.

The protocol has a document of its own, and errors of its own form; see
`service.formats.openinference`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from fastapi import APIRouter
from pydantic_core import to_json
from starlette.requests import Request
from starlette.responses import Response

from models import Decisions, Fault, RecordError
from models.schema import Matrix
from service.api.endpoint import Answer, RecordEndpoint, RecordRequest
from service.formats.openinference.request import read
from service.formats.openinference.response import failure, metadata, server_metadata, write
from service.observability.metrics import Metrics
from service.runtime.state import State, state_of
from service.scoring.scheduler import Steps, Work
from service.scoring.served_model import ServedModel
from service.web.problems import NO_SUCH_BUNDLE, Problem

__all__ = ["Inference", "refusal", "router"]

router = APIRouter(prefix="/v2", include_in_schema=False)

_TENSORS = "tensors"
_MEDIA = dict.fromkeys(
    (
        b"",
        b"application/json",
        b"application/octet-stream",
        b"application/vnd.kserve+json",
    ),
    _TENSORS,
)
_LENGTH = b"inference-header-content-length"
_MODEL = "/models/{name}"
_VERSION = "/models/{name}/versions/{version}"


@router.get("")
async def server() -> Response:
    """Name, version and extensions of the server."""
    return _json(server_metadata())


@router.get("/health/live")
async def live() -> Response:
    """Answer as long as the process does."""
    return _json({"live": True})


@router.get("/health/ready")
async def ready(request: Request) -> Response:
    """Whether a model is served."""
    return _json({"ready": bool(state_of(request).served)})


@router.get(_MODEL)
@router.get(_VERSION)
async def model(request: Request, name: str, version: str = "") -> Response:
    """Inputs and outputs of the model."""
    served = state_of(request).served
    _check(served, name, version)
    return _json(metadata(served.model))


@router.get(f"{_MODEL}/ready")
@router.get(f"{_VERSION}/ready")
async def model_ready(request: Request, name: str, version: str = "") -> Response:
    """Whether this model is served."""
    served = state_of(request).served
    _check(served, name, version)
    return _json({"name": name, "ready": True})


class Inference(RecordEndpoint):
    """`POST /v2/models/{name}/infer`: tensors in, tensors out.

    Args:
        state: of the application.
    """

    media: Mapping[bytes, str] = _MEDIA
    spoken = "application/json or application/octet-stream; as it is, or in gzip or zstd"
    route = "/v2/models/{name}/infer"

    def __init__(self, state: State) -> None:
        super().__init__(state, lambda ask: _steps(ask, state.metrics))

    def refusal(self, problem: Problem, request_id: str) -> Response:
        """An error in the protocol's form."""
        return refusal(problem, request_id)


def refusal(problem: Problem, _request_id: str) -> Response:
    """An error in the protocol's form."""
    return Response(failure(problem), problem.status, problem.headers, "application/json")


def _steps(ask: RecordRequest, metrics: Metrics) -> Steps[Answer]:
    served, model = ask.served, ask.served.model
    if ask.path != served.infer_path:
        _, _, _, name, *rest = ask.path.split("/")
        _check(served, name, rest[1] if rest[:1] == ["versions"] and len(rest) == 3 else "")
    request = read(ask.body, _header_length(ask.headers), model.schema, served.most)
    embed = any(wanted.name == "embedding" for wanted in request.outputs)
    found: list[Decisions] = []
    points: list[Matrix] = []
    for chunk in request.chunks:
        if len(chunk):
            served.sample(chunk.matrix)
            decisions = yield Work(model.decide, chunk.matrix)
            labels = served.labels(decisions)
            metrics.count_verdicts(decisions, labels)
            served.compare(chunk.matrix, labels, decisions)
            found.append(decisions)
            if embed:
                points.append((yield Work(model.encoder.embed, chunk.matrix)))
        else:
            yield None
    headers, content = write(
        request,
        (model.manifest.name, model.manifest.version),
        nearest=_all(found, "nearest"),
        accepted=_all(found, "accepted"),
        distance=_all(found, "distance"),
        confidence=_all(found, "confidence"),
        distances=_all(found, "distances"),
        embedding=np.concatenate(points) if embed else None,
        names=served.names,
        good=served.good,
    )
    return Answer(content, request.records, headers)


def _all(decisions: list[Decisions], name: str) -> Any:
    parts = [getattr(each, name) for each in decisions]
    return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    length = headers.get(_LENGTH)
    if length is None:
        return None
    if not length.isdigit() or len(length) > 18:
        wanted = "a number of bytes"
        raise RecordError(
            [Fault(None, "Inference-Header-Content-Length", wanted, "something else")]
        )
    return int(length)


def _check(served: ServedModel, name: str, version: str) -> None:
    ours = served.bundle["name"], served.bundle["version"]
    if name != ours[0] or version not in {"", ours[1]}:
        raise Problem(NO_SUCH_BUNDLE, f"What is served is {ours[0]}, version {ours[1]}.")


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
