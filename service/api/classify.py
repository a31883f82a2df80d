"""`POST /classify`: a verdict for each record."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import APIRouter
from starlette.responses import Response

from service.api.docs import exchange
from service.api.endpoint import JSON, Answer, RecordRequest
from service.api.schemas import Classified
from service.formats import arrow_reader
from service.formats.chunk import Chunk
from service.observability.metrics import Metrics
from service.scoring.explain import refusal
from service.scoring.scheduler import Steps, Work
from service.scoring.verdict_writer import ArrowVerdicts, JsonVerdicts, Verdicts
from service.web.problems import BODY_PROBLEMS, documented

__all__ = ["router", "steps"]

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/classify",
    summary="Classify records",
    response_model=Classified,
    response_description=Classified.__doc__ or "",
    responses=documented(*BODY_PROBLEMS),
    openapi_extra=exchange(distances=True),
)
async def classify() -> Response:  # pragma: no cover - `steps` answers; this is what FastAPI shows
    """Give each record its verdict: good traffic, a kind of fault, or `unknown`.

    A record is `unknown` when it is too far from every class; `nearest` then names the closest.
    Send fields in the units of the schema; leave out, or send `null` for, what was not measured.
    """
    raise NotImplementedError


def steps(ask: RecordRequest, metrics: Metrics) -> Steps[Answer]:
    """The steps from records to verdicts."""
    served = ask.served
    distances, explain = ask.distances, ask.explain
    if ask.media == JSON:
        body = served.classify.read(ask.body, report=ask.report)
        distances = distances or body.options["distances"]
        explain = explain or body.options["explain"]
        chunks = body.chunks
    else:
        chunks = arrow_reader.read(ask.body, served.model.schema, served.most, report=ask.report)
    if explain:
        return (yield from _explained(ask, chunks, metrics, distances=distances))
    verdicts: Verdicts
    if ask.wanted == JSON:
        verdicts = JsonVerdicts(served, distances=distances)
    else:
        verdicts = ArrowVerdicts(served, distances=distances, report=ask.report)
    records = 0
    for chunk in chunks:
        served.sample(chunk.matrix)
        decisions = yield Work(served.model.decide, chunk.matrix)
        labels = verdicts.add(chunk, decisions)
        metrics.count_verdicts(decisions, labels)
        served.compare(chunk.matrix, labels, decisions)
        records += len(chunk.matrix)
    return Answer.of(verdicts.written(), records, ask.wanted)


def _explained(
    ask: RecordRequest, chunks: Iterator[Chunk], metrics: Metrics, *, distances: bool
) -> Steps[Answer]:
    """The same with what drove each verdict; only the records themselves are counted."""
    served = ask.served
    if ask.wanted != JSON:
        raise refusal("a JSON answer", "an Arrow stream that is asked for")
    explainer = served.explainer
    if explainer is None:
        raise refusal("a bundle with calibration records", "a bundle without them")
    verdicts = JsonVerdicts(served, distances=distances)
    records = 0
    for chunk in explainer.chunks(chunks):
        served.sample(chunk.matrix)
        variants = explainer.vary(chunk.matrix)
        every = yield Work(served.model.decide, variants.matrix)
        decisions = every[: len(variants)]
        explanations = explainer.explain(variants, every.distances)
        metrics.count_verdicts(decisions, verdicts.add(chunk, decisions, explanations))
        records += len(variants)
    return Answer.of(verdicts.written(), records, JSON)
