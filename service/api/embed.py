"""`POST /embed`: a point of the unit cube for each record."""

from __future__ import annotations

from fastapi import APIRouter

from service.api.docs import answers, exchange
from service.api.endpoint import JSON, Content, RecordRequest
from service.api.schemas import Embedded
from service.scoring import pipeline
from service.scoring.scheduler import Steps
from service.scoring.writers import ArrowEmbeddings, JsonEmbeddings
from service.web.problems import BODY_PROBLEMS, NO_SUCH_PROFILE, PROFILE_NEEDED

__all__ = ["handle", "router"]

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/embed",
    summary="Embed records",
    **answers(Embedded, *BODY_PROBLEMS, NO_SUCH_PROFILE, PROFILE_NEEDED),
    openapi_extra=exchange(),
)
async def embed() -> None:  # for the OpenAPI document alone: `handle` answers
    """Turn each record into a point of the unit cube, for plots and searches of your own."""


def handle(request: RecordRequest) -> Steps[Content]:
    """Answer a request with embeddings."""
    served, options = request.served, request.options
    if request.media_type == JSON:
        chunks = served.embed_decoder.read(
            request.body, report=options.report, ignore_extra=options.ignore_extra
        ).chunks
    else:
        chunks = request.arrow_chunks()
    chunks = request.adapted(chunks)
    writer: JsonEmbeddings | ArrowEmbeddings
    if request.accepted == JSON:
        writer = JsonEmbeddings(served)
        chunks = writer.split(chunks)
    else:
        writer = ArrowEmbeddings(served, report=options.report)
    records = yield from pipeline.score(served, chunks, pipeline.classify_and_embed, writer)
    return Content.of(writer.finish(), records, request.accepted)
