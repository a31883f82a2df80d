from __future__ import annotations

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decision import distances_between
from models.encoder import Encoder as OnnxEncoder
from training.onnx.graph import Graph

MEASURE = 8
"""Nodes that every graph has for distances."""


def test_what_is_drawn_twice_is_drawn_once() -> None:
    graph = Graph(2)
    first = graph.node("Add", "records", graph.constant([1.0, 2.0]))
    assert graph.node("Add", "records", graph.constant([1.0, 2.0])) == first
    assert graph.node("Add", "records", graph.constant([1.0, 3.0])) != first
    assert graph.node("ThresholdedRelu", first, alpha=1.0) != graph.node(
        "ThresholdedRelu", first, alpha=2.0
    )
    assert graph.constant(1.0) != graph.constant([1.0])
    assert graph.constant([1.0]) != graph.constant([1])
    assert len(onnx.load_from_string(graph.serialized(2)).graph.node) == 4 + MEASURE


@pytest.mark.parametrize("wanted", [[0, 1, 2], [2, 0], [1], [0, 0, 2, 1]])
def test_columns_are_picked_unless_all_are_wanted_as_they_are(wanted: list[int]) -> None:
    graph = Graph(3)
    picked = graph.columns("records", wanted, 3)
    assert (picked == "records") == (wanted == [0, 1, 2])
    graph.node("Neg", picked)
    records = np.arange(12, dtype=np.float32).reshape(4, 3)
    answer = OnnxEncoder(graph.serialized(len(wanted))).embed(records)
    np.testing.assert_array_equal(answer, -records[:, wanted])


def test_parts_are_joined_unless_there_is_only_one() -> None:
    graph = Graph(2)
    assert graph.joined(["records"]) == "records"
    graph.joined(["records", graph.node("Neg", "records"), "records"])
    answer = OnnxEncoder(graph.serialized(6)).embed(np.array([[1, 2]], dtype=np.float32))
    assert answer.tolist() == [[1, 2, -1, -2, 1, 2]]


def test_a_missing_number_is_not_above_minus_infinity() -> None:
    graph = Graph(5)
    graph.node("ThresholdedRelu", "records", alpha=float("-inf"))
    records = np.array([[np.nan, -0.5, 0, 3e38, -3e38]], dtype=np.float32)
    answer = OnnxEncoder(graph.serialized(5)).embed(records)
    np.testing.assert_array_equal(answer, np.nan_to_num(records))


def test_the_same_drawing_gives_the_same_bytes_that_onnxruntime_reads() -> None:
    def drawn() -> bytes:
        graph = Graph(2)
        graph.node("Gemm", "records", graph.constant(np.ones((2, 3))), graph.constant(np.ones(3)))
        return graph.serialized(3)

    assert drawn() == drawn()
    session = ort.InferenceSession(drawn(), providers=["CPUExecutionProvider"])
    assert {each.name: each.shape for each in session.get_inputs()} == {
        "records": ["n", 2],
        "centroids": ["k", 3],
    }
    assert {each.name: each.shape for each in session.get_outputs()} == {
        "embeddings": ["n", 3],
        "distances": ["n", "k"],
    }


@given(st.integers(0, 2**32), st.integers(1, 200), st.integers(1, 9), st.integers(1, 50))
@settings(deadline=None)
def test_distances_are_those_of_the_decision_rule(
    seed: int, dimensions: int, records: int, classes: int
) -> None:
    random = np.random.default_rng(seed)
    graph = Graph(dimensions)
    graph.node("Sigmoid", "records")
    encoder = OnnxEncoder(graph.serialized(dimensions))
    matrix = random.normal(0, 3, (records, dimensions)).astype(np.float32)
    centroids = random.random((classes, dimensions), np.float32)
    centroids[0] = encoder.embed(matrix)[0]
    found = encoder.measure(matrix, centroids)
    expected = distances_between(encoder.embed(matrix), centroids)
    np.testing.assert_allclose(found, expected, atol=1e-6)
    assert found.min() >= 0
    assert found.max() <= 1


def test_distances_of_more_records_than_are_embedded_at_a_time_are_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    graph = Graph(5)
    graph.node("Sigmoid", "records")
    encoder = OnnxEncoder(graph.serialized(5))
    records, centroids = random.random((20, 5), np.float32), random.random((3, 5), np.float32)
    whole = encoder.measure(records, centroids)
    monkeypatch.setattr("models.encoder._BLOCK", 7)
    np.testing.assert_allclose(encoder.measure(records, centroids), whole, rtol=1e-6)


def test_a_graph_whose_widths_do_not_fit_is_refused() -> None:
    graph = Graph(2)
    graph.node("Gemm", "records", graph.constant(np.ones((3, 3))))
    with pytest.raises(onnx.shape_inference.InferenceError):
        graph.serialized(3)
