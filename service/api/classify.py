"""`POST /classify`: a verdict for each record."""

from __future__ import annotations

from fastapi import APIRouter

from models import RecordError
from service.api.docs import answers, exchange
from service.api.endpoint import JSON, Content, RecordRequest
from service.api.schemas import Classified
from service.scoring import pipeline
from service.scoring.scheduler import Steps
from service.scoring.writers import ArrowVerdicts, JsonVerdicts
from service.web.problems import BODY_PROBLEMS, NO_SUCH_PROFILE, PROFILE_NEEDED

__all__ = ["handle", "router"]

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/classify",
    summary="Classify records",
    **answers(Classified, *BODY_PROBLEMS, NO_SUCH_PROFILE, PROFILE_NEEDED),
    openapi_extra=exchange(distances=True),
)
async def classify() -> None:  # for the OpenAPI document alone: `handle` answers
    """Give each record its verdict: good traffic, a kind of fault, or `unknown`.

    A record is `unknown` when it is too far from every class; `nearest` then names the closest.
    Send fields in the units of the schema; leave out, or send `null` for, what was not measured.
    """


def handle(request: RecordRequest) -> Steps[Content]:
    """Answer a request with verdicts."""
    served, options = request.served, request.options
    distances, explain = options.distances, options.explain
    if request.media_type == JSON:
        body = served.classify_decoder.read(
            request.body, report=options.report, ignore_extra=options.ignore_extra
        )
        distances = distances or body.options["distances"]
        explain = explain or body.options["explain"]
        chunks = body.chunks
    else:
        chunks = request.arrow_chunks()
    chunks = request.adapted(chunks)
    scorer: pipeline.Scorer = pipeline.classify
    if explain:
        if request.accepted != JSON:
            raise RecordError.of_request(
                "explain", "a JSON answer", "an Arrow stream that is asked for"
            )
        if served.explainer is None:
            raise RecordError.of_request(
                "explain", "a bundle with calibration records", "a bundle without them"
            )
        chunks, scorer = served.explainer.split(chunks), pipeline.explain
    writer: JsonVerdicts | ArrowVerdicts
    if request.accepted == JSON:
        writer = JsonVerdicts(served, distances=distances)
    else:
        writer = ArrowVerdicts(served, report=options.report, distances=distances)
    records = yield from pipeline.score(served, chunks, scorer, writer)
    return Content.of(writer.finish(), records, request.accepted)
