"""`POST /embed`: a point of the unit cube for each record."""

from __future__ import annotations

import numpy as np
from fastapi import APIRouter
from starlette.responses import Response

from models import Fault
from models.schema import Matrix
from service.api.docs import exchange
from service.api.endpoint import JSON, Answer, RecordRequest
from service.api.schemas import Embedded
from service.formats import arrow_reader, arrow_writer
from service.scoring.scheduler import Steps, Work
from service.scoring.verdict_writer import in_place
from service.web.problems import BODY_PROBLEMS, documented

__all__ = ["router", "steps"]

router = APIRouter(tags=["Verdicts"])


@router.post(
    "/embed",
    summary="Embed records",
    response_model=Embedded,
    response_description=Embedded.__doc__ or "",
    responses=documented(*BODY_PROBLEMS),
    openapi_extra=exchange(),
)
async def embed() -> Response:  # pragma: no cover - `steps` answers; this is what FastAPI shows
    """Turn each record into a point of the unit cube, for plots and searches of your own."""
    raise NotImplementedError


def steps(ask: RecordRequest) -> Steps[Answer]:
    """The steps from records to their points."""
    served = ask.served
    model = served.model
    if ask.media == JSON:
        chunks = served.embed.read(ask.body, report=ask.report).chunks
    else:
        chunks = arrow_reader.read(ask.body, model.schema, served.most, report=ask.report)
    parts: list[bytes] = []
    points: list[Matrix] = []
    faults: list[Fault] = []
    records = 0
    for chunk in chunks:
        served.sample(chunk.matrix)
        found = yield Work(model.encoder.embed, chunk.matrix)
        records += len(found)
        if ask.wanted == JSON:
            parts.append(in_place(found.tolist(), chunk))
        else:
            points.append(found)
            faults += chunk.faults.values()
    if ask.wanted == JSON:
        content = b'%b"embeddings":[%b]}' % (served.opening, b",".join(parts))
    else:
        content = arrow_writer.write_embeddings(
            np.concatenate(points),
            bundle=(model.manifest.name, model.manifest.version),
            faults=faults if ask.report else None,
        )
    return Answer.of(content, records, ask.wanted)
