"""The Open Inference Protocol's routes, `/v2/...`: for clients of KServe, Triton and MLServer.

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

from models import Decisions, RecordError
from models.schema import Matrix
from service.api.endpoint import Content, RecordEndpoint, RecordRequest
from service.formats.openinference.request import read
from service.formats.openinference.response import metadata, server_metadata, write
from service.runtime.state import State, state_of
from service.scoring import pipeline
from service.scoring.scheduler import Steps
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.web.problems import NO_SUCH_BUNDLE, Problem

__all__ = ["InferenceEndpoint", "error_response", "router"]

router = APIRouter(prefix="/v2", include_in_schema=False)

_MEDIA_TYPES = dict.fromkeys(
    (b"", b"application/json", b"application/octet-stream", b"application/vnd.kserve+json"),
    "tensors",
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


class InferenceEndpoint(RecordEndpoint):
    """`POST /v2/models/{name}/infer`: tensors in, tensors out.

    Args:
        state: of the application.
    """

    media_types = _MEDIA_TYPES
    supported = "application/json or application/octet-stream; as it is, or in gzip or zstd"

    def __init__(self, state: State) -> None:
        super().__init__(state, _handle, "/v2/models/{name}/infer")

    def error_response(self, problem: Problem, request_id: str) -> Response:
        """Return an error in the protocol's form."""
        return error_response(problem, request_id)


def error_response(problem: Problem, _request_id: str) -> Response:
    """Return an error in the protocol's form."""
    return problem.response_of({"error": str(problem)}, "application/json")


class _TensorWriter:
    """Keeps what the output tensors are made of."""

    def __init__(self) -> None:
        self._decisions: list[Decisions] = []
        self._embeddings: list[Matrix] = []

    def add(self, scored: Scored) -> None:
        """Add a chunk; its records are let go, which are most of its memory."""
        self._decisions.append(scored.decisions)
        if scored.embeddings is not None:
            self._embeddings.append(scored.embeddings)

    def decisions(self) -> Decisions:
        """Return the decisions of all chunks."""
        return Decisions.concatenate(self._decisions)

    def embeddings(self) -> Matrix | None:
        """Return the embeddings of all chunks: float32 [n, N]; None unless requested."""
        return np.concatenate(self._embeddings) if self._embeddings else None


def _handle(request: RecordRequest) -> Steps[Content]:
    served, model, path = request.served, request.served.model, request.path_params
    _check(served, path["name"], path.get("version", ""))
    tensors = read(request.body, _header_length(request.headers), model.schema, served.max_records)
    wants_embedding = any(output.name == "embedding" for output in tensors.outputs)
    scorer = pipeline.classify_and_embed if wants_embedding else pipeline.classify
    writer = _TensorWriter()
    records = yield from pipeline.score(served, request.adapted(tensors.chunks), scorer, writer)
    headers, data = write(tensors, writer.decisions(), model, writer.embeddings())
    return Content([data], records, headers)


def _header_length(headers: Mapping[bytes, bytes]) -> int | None:
    length = headers.get(_LENGTH)
    if length is None:
        return None
    if not length.isdigit() or len(length) > 18:
        expected = "a number of bytes"
        raise RecordError.of_request("Inference-Header-Content-Length", expected, "something else")
    return int(length)


def _check(served: ServedModel, name: str, version: str) -> None:
    ours = served.bundle["name"], served.bundle["version"]
    if name != ours[0] or version not in {"", ours[1]}:
        raise Problem(NO_SUCH_BUNDLE, f"What is served is {ours[0]}, version {ours[1]}.")


def _json(content: Any) -> Response:
    return Response(to_json(content), media_type="application/json")
