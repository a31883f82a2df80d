from __future__ import annotations

import json

import numpy as np
import pytest

from benchmarks.serving.peers.predictor import BUNDLE, Predictor
from benchmarks.serving.records import batches
from models import Model


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    return Predictor()


def test_peers_give_the_verdicts_that_ours_gives(predictor: Predictor) -> None:
    model = Model.load(BUNDLE)
    records = json.loads((BUNDLE / "examples.json").read_bytes())["records"]
    far = dict.fromkeys(records[0], 1e6)
    ours = model.classify([*records, far])
    theirs = predictor.verdicts(predictor.matrix([*records, far]))
    assert [each["label"] for each in theirs] == [each.label for each in ours]
    assert [each["good"] for each in theirs] == [each.good for each in ours]
    for name in ("distance", "confidence"):
        expected = [getattr(each, name) for each in ours]
        assert [each[name] for each in theirs] == pytest.approx(expected, abs=1e-5)
    assert theirs[-1]["label"] == "unknown"


def test_a_field_that_is_left_out_is_missing(predictor: Predictor) -> None:
    matrix = predictor.matrix([{predictor.names[1]: 2.0}])
    assert matrix[0, 1] == 2
    assert np.isnan(np.delete(matrix[0], 1)).all()


def test_small_batches_begin_large_ones_and_their_labels_are_right(predictor: Predictor) -> None:
    found = batches([1, 40])
    one, many = found[1], found[40]
    assert (len(one), len(many)) == (1, 40)
    assert one.values.tolist() == many.values[:1].tolist()
    assert one.labels == many.labels[:1]
    assert [each["label"] for each in predictor.verdicts(many.matrix)] == list(many.labels)
    assert len(set(many.labels)) > 1
