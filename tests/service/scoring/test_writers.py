from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from models import FieldError, Model
from models.schema import Matrix
from service.formats.chunk import Chunk
from service.scoring.explain import Driver
from service.scoring.scored import Scored
from service.scoring.served_model import ServedModel
from service.scoring.writers import (
    ArrowEmbeddings,
    ArrowVerdicts,
    JsonEmbeddings,
    JsonVerdicts,
)

Record = dict[str, Any]
Json = dict[str, Any]


class Scorer:
    """Scores records at once."""

    def __init__(self, model: Model) -> None:
        self.model, self.served = model, ServedModel(model, 10)

    def __call__(self, *records: Record, faults: dict[int, FieldError] | None = None) -> Scored:
        model, matrix = self.model, self.model.schema.encode(records)
        embeddings: Matrix = model.encoder.embed(matrix)
        decisions = model.rule.decide(embeddings)
        labels = model.labels(decisions)
        return Scored(Chunk(matrix, faults or {}), matrix, decisions, labels, embeddings)


@pytest.fixture
def score(bundle: Path) -> Scorer:
    return Scorer(Model.load(bundle))


def fault(record: int, field: str | None = None) -> FieldError:
    return FieldError(record, field, "a number", "null")


def finished(writer: Any, *chunks: Scored) -> Json:
    for scored in chunks:
        writer.add(scored)
    content: Json = json.loads(b"".join(writer.finish()))
    return content


def table(writer: Any, *chunks: Scored) -> pa.Table:
    for scored in chunks:
        writer.add(scored)
    found = pa.ipc.open_stream(b"".join(writer.finish())).read_all()
    found.validate(full=True)
    return found


def test_the_chunks_of_a_response_are_one_list(
    score: Scorer, good: Record, down: Record, unknown: Record
) -> None:
    content = finished(
        JsonVerdicts(score.served, distances=False), score(good), score(down, unknown)
    )
    assert content["bundle"] == score.served.bundle
    assert [each["label"] for each in content["results"]] == ["normal", "link-down", "unknown"]
    assert ["nearest" in each for each in content["results"]] == [False, False, True]
    assert all({"distances", "explanation"}.isdisjoint(each) for each in content["results"])


def test_an_error_stands_in_the_place_of_each_bad_record(
    score: Scorer, good: Record, down: Record
) -> None:
    first = score(good, down, faults={0: fault(0, "a"), 2: fault(2)})
    second = score(faults={0: fault(4), 1: fault(5)})
    results = finished(JsonVerdicts(score.served, distances=False), first, second)["results"]
    assert [each.get("label") for each in results] == [
        None, "normal", None, "link-down", None, None,
    ]  # fmt: skip
    rest = {"expected": "a number", "got": "null"}
    assert results[0] == {"error": {"record": 0, "field": "a"} | rest}
    assert [results[at] for at in (2, 4, 5)] == [
        {"error": {"record": at} | rest} for at in (2, 4, 5)
    ]


def test_all_distances_are_told_where_they_are_wanted(score: Scorer, good: Record) -> None:
    (result,) = finished(JsonVerdicts(score.served, distances=True), score(good))["results"]
    assert [*result["distances"]] == ["normal", "link-down", "overload"]
    assert result["distances"]["normal"] == result["distance"]


def test_each_verdict_gets_its_own_explanation(score: Scorer, good: Record, down: Record) -> None:
    scored = score(good, down, faults={1: fault(1)})
    scored.explanations = [[], [Driver(field="link up", value=False, typical=True, share=1.0)]]
    first, bad, last = finished(JsonVerdicts(score.served, distances=False), scored)["results"]
    assert first["explanation"] == []
    assert "error" in bad
    assert last["explanation"] == [
        {"field": "link up", "value": False, "typical": True, "share": 1.0}
    ]


def test_embeddings_are_the_encoders_own_with_errors_between(
    score: Scorer, good: Record, down: Record
) -> None:
    scored = score(good, down, faults={1: fault(1)})
    content = finished(JsonEmbeddings(score.served), scored)
    assert content.keys() == {"bundle", "embeddings"}
    first, bad, last = content["embeddings"]
    np.testing.assert_array_equal(np.array([first, last], np.float32), scored.embeddings)
    assert bad["error"]["record"] == 1


def test_a_response_without_chunks_is_json_too(score: Scorer) -> None:
    assert finished(JsonEmbeddings(score.served)) == {
        "bundle": score.served.bundle,
        "embeddings": [],
    }


def test_an_arrow_report_has_its_errors_in_the_rows_of_the_whole_request(
    score: Scorer, good: Record, down: Record
) -> None:
    chunks = score(good, faults={1: fault(1, "a")}), score(down, faults={0: fault(2)})
    error = [None, "field 'a': expected a number, got null", "expected a number, got null", None]
    verdicts = table(ArrowVerdicts(score.served, report=True, distances=False), *chunks)
    assert verdicts["label"].to_pylist() == ["normal", None, None, "link-down"]
    assert verdicts["error"].to_pylist() == error
    embedded = table(ArrowEmbeddings(score.served, report=True), *chunks)
    assert embedded["error"].to_pylist() == error
    for row, scored in zip((0, 3), chunks, strict=True):
        assert scored.embeddings is not None
        assert embedded["embedding"][row].as_py() == scored.embeddings[0].tolist()


def test_an_arrow_stream_has_only_the_columns_that_are_wanted(score: Scorer, good: Record) -> None:
    names = ["label", "good", "distance", "confidence", "nearest"]
    plain = table(ArrowVerdicts(score.served, report=False, distances=False), score(good))
    assert plain.column_names == names
    full = table(ArrowVerdicts(score.served, report=True, distances=True), score(good))
    assert full.column_names == [*names, "distances", "error"]
    assert table(ArrowEmbeddings(score.served, report=False), score(good)).column_names == [
        "embedding"
    ]


def test_embeddings_are_written_a_few_at_a_time(bundle: Path, good: Record) -> None:
    model = Model.load(bundle)
    writer = JsonEmbeddings(ServedModel(model, 10_000))
    matrix = np.repeat(model.schema.encode([good]), 5_000, axis=0)
    parts = [*writer.split([Chunk(matrix)])]
    assert sum(map(len, parts)) == 5_000
    assert max(map(len, parts)) * model.encoder.dimensions <= 4096
