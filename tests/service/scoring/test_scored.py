from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models import FieldError, Model
from service.formats.chunk import Chunk
from service.scoring.scored import Scored

Record = dict[str, Any]


@pytest.fixture
def scored(bundle: Path, good: Record, down: Record) -> Scored:
    """Two records that fit, the first behind one that does not."""
    model = Model.load(bundle)
    matrix = model.schema.encode([good, down])
    chunk = Chunk(matrix, {0: FieldError(7, None, "an object of fields", "null")})
    decisions = model.decide(matrix)
    return Scored(chunk, matrix, decisions, model.labels(decisions))


def test_decisions_and_labels_are_of_the_records_that_fit(scored: Scored) -> None:
    assert len(scored.chunk) == 3
    assert scored.labels == ["normal", "link-down"]
    assert len(scored.matrix) == len(scored.decisions.nearest) == 2


def test_embeddings_and_explanations_are_there_only_where_they_are_wanted(scored: Scored) -> None:
    assert (scored.embeddings, scored.explanations) == (None, None)
    points = np.zeros((2, 3), np.float32)
    embedded = Scored(scored.chunk, scored.matrix, scored.decisions, scored.labels, points)
    assert embedded.embeddings is points
    assert embedded.explanations is None


def test_an_observer_cannot_hang_anything_on_it(scored: Scored) -> None:
    with pytest.raises(AttributeError):
        scored.more = 1  # type: ignore[attr-defined]
