from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from starlette.testclient import TestClient

from models import Model
from service.formats.chunk import Chunk
from service.scoring import pipeline
from service.scoring.scheduler import Inference, Steps
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel

Record = dict[str, Any]


@pytest.fixture
def model(bundle: Path) -> Model:
    return Model.load(bundle)


def run(steps: Steps[int]) -> int:
    """Answer every inference at once."""
    result = None
    try:
        while True:
            inference: Inference | None = steps.send(result)
            result = inference and inference.run(inference.matrix)
    except StopIteration as end:
        records: int = end.value
        return records


class Written:
    def __init__(self) -> None:
        self.scored: list[Scored] = []

    def add(self, scored: Scored) -> None:
        self.scored.append(scored)


def test_chunks_are_written_and_then_shown_to_every_observer_in_order(
    model: Model, good: Record, down: Record
) -> None:
    order: list[tuple[str, list[str]]] = []
    writer = Written()
    served = ServedModel(
        model,
        10,
        observers=[
            lambda scored: order.append((f"{len(writer.scored)} first", scored.labels)),
            lambda scored: order.append(("second", scored.labels)),
        ],
    )
    rows = model.schema.encode([good, down, down])
    nothing = Chunk(np.empty((0, len(model.schema)), np.float32))
    chunks = [Chunk(rows[:1]), nothing, Chunk(rows[1:])]
    assert run(pipeline.score(served, chunks, pipeline.classify, writer)) == 3
    assert order == [
        ("1 first", ["normal"]),
        ("second", ["normal"]),
        ("2 first", ["link-down", "link-down"]),
        ("second", ["link-down", "link-down"]),
    ]


def test_whoever_embeds_decides_as_whoever_classifies(
    model: Model, good: Record, down: Record
) -> None:
    served, rows = ServedModel(model, 10), model.schema.encode([good, down])
    decided, embedded = Written(), Written()
    run(pipeline.score(served, [Chunk(rows)], pipeline.classify, decided))
    run(pipeline.score(served, [Chunk(rows)], pipeline.classify_and_embed, embedded))
    (one,), (other,) = decided.scored, embedded.scored
    assert one.labels == other.labels
    np.testing.assert_allclose(one.decisions.distance, other.decisions.distance, atol=1e-6)
    np.testing.assert_array_equal(other.embeddings, model.encoder.embed(rows))
    assert one.embeddings is None


@pytest.mark.parametrize("path", ["/classify", "/embed", "/v2/models/toy/infer"])
def test_every_route_shows_its_records_to_the_observers(
    client: TestClient, good: Record, down: Record, path: str, model: Model
) -> None:
    seen: list[Scored] = []
    served: ServedModel = client.app.state.faultcube.served  # type: ignore[attr-defined]
    served.observers = (*served.observers, seen.append)
    body: Record = {"records": [good, down]}
    if path.endswith("infer"):
        rows = [[None if np.isnan(v) else v for v in row] for row in rows_of(model, good, down)]
        tensor = {"name": "records", "shape": [2, 5], "datatype": "FP32", "data": rows}
        body = {"inputs": [tensor]}
    assert client.post(path, json=body).status_code == 200
    (scored,) = seen
    assert scored.labels == ["normal", "link-down"]
    np.testing.assert_array_equal(scored.matrix, model.schema.encode([good, down]))


def rows_of(model: Model, *records: Record) -> list[list[float]]:
    rows: list[list[float]] = model.schema.encode(records).tolist()
    return rows
