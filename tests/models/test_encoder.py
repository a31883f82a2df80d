from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as nps
from onnx import TensorProto, helper

from models.encoder import Encoder, EncoderError
from models.schema import Matrix

FLOAT, DOUBLE, INT64 = TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.INT64
Shape = list[int | str]

RECORDS = nps.arrays(
    np.float32,
    st.tuples(st.integers(1, 8), st.just(5)),
    elements=st.floats(-200, 200, width=32) | st.just(np.float32("nan")),
)


def graph_of(
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]],
    inputs: dict[str, tuple[int, Shape]],
    outputs: dict[str, tuple[int, Shape]],
) -> bytes:
    graph = helper.make_graph(
        [helper.make_node(op, given, made, **options) for op, given, made, options in nodes],
        "graph",
        [helper.make_tensor_value_info(name, *value) for name, value in inputs.items()],
        [helper.make_tensor_value_info(name, *value) for name, value in outputs.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    serialized: bytes = model.SerializeToString()
    return serialized


def squash(kind: int, shape: Shape) -> bytes:
    nodes: list[tuple[str, list[str], list[str], dict[str, Any]]]
    nodes = [("Sigmoid", ["x"], ["y"], {})]
    return graph_of(nodes, {"x": (kind, shape)}, {"y": (kind, shape)})


NOT_ENCODERS = {
    "nothing at all": b"",
    "garbage": b"this is no graph" * 20,
    "a graph that is cut off": squash(FLOAT, ["n", 3])[:-7],
    "an operator that does not exist": graph_of(
        [("Nonsense", ["x"], ["y"], {})], {"x": (FLOAT, ["n", 3])}, {"y": (FLOAT, ["n", 3])}
    ),
    "two inputs": graph_of(
        [("Add", ["x", "z"], ["y"], {})],
        {"x": (FLOAT, ["n", 3]), "z": (FLOAT, ["n", 3])},
        {"y": (FLOAT, ["n", 3])},
    ),
    "two outputs": graph_of(
        [("Sigmoid", ["x"], ["y"], {}), ("Sigmoid", ["x"], ["z"], {})],
        {"x": (FLOAT, ["n", 3])},
        {"y": (FLOAT, ["n", 3]), "z": (FLOAT, ["n", 3])},
    ),
    "one number instead of a matrix": squash(FLOAT, []),
    "a vector instead of a matrix": squash(FLOAT, ["n"]),
    "a cube instead of a matrix": squash(FLOAT, ["n", 3, 2]),
    "an input of float64": squash(DOUBLE, ["n", 3]),
    "an output of float64": graph_of(
        [("Cast", ["x"], ["y"], {"to": DOUBLE})],
        {"x": (FLOAT, ["n", 3])},
        {"y": (DOUBLE, ["n", 3])},
    ),
    "an output of integers": graph_of(
        [("Cast", ["x"], ["y"], {"to": INT64})],
        {"x": (FLOAT, ["n", 3])},
        {"y": (INT64, ["n", 3])},
    ),
    "an unknown width": squash(FLOAT, ["n", "width"]),
    "a batch of one only": squash(FLOAT, [1, 3]),
}


@pytest.fixture(scope="session")
def encoder(make_graph: Callable[..., bytes]) -> Encoder:
    return Encoder(make_graph())


@pytest.mark.parametrize("what", NOT_ENCODERS)
def test_what_is_no_encoder_is_refused_at_once(
    what: str, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EncoderError):
        Encoder(NOT_ENCODERS[what])
    assert capfd.readouterr() == ("", "")


@settings(deadline=None, max_examples=400)
@given(place=st.integers(0, 10_000), byte=st.integers(0, 255), cut=st.booleans())
def test_a_spoiled_graph_is_an_encoder_or_an_encoder_error(
    make_graph: Callable[..., bytes], place: int, byte: int, cut: bool
) -> None:
    graph = bytearray(make_graph())
    graph[place % len(graph)] = byte
    try:
        encoder = Encoder(bytes(graph[: place % len(graph)] if cut else graph))
    except EncoderError:
        return
    assert encoder.fields >= 0
    assert encoder.dimensions >= 0


def test_a_graph_whose_names_are_no_text_is_refused_without_a_word_on_the_terminal(
    make_graph: Callable[..., bytes], capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(EncoderError):
        Encoder(make_graph().replace(b"records", b"recor\x80s", 1))
    assert capfd.readouterr() == ("", "")


def test_what_the_encoder_says_it_takes_and_gives_is_the_graphs(
    make_graph: Callable[..., bytes],
) -> None:
    encoder = Encoder(make_graph(np.ones((7, 2), dtype=np.float32)), threads=2)
    assert (encoder.fields, encoder.dimensions) == (7, 2)


@settings(deadline=None)
@given(records=RECORDS)
def test_embeddings_are_points_within_the_unit_cube(encoder: Encoder, records: Matrix) -> None:
    points = encoder.embed(records)
    assert points.shape == (len(records), 3)
    assert points.dtype == np.float32
    assert np.all((points > 0) & (points < 1))


def test_more_records_than_are_embedded_at_a_time_are_embedded_all_the_same(
    encoder: Encoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    records = np.random.default_rng(0).normal(size=(20, 5)).astype(np.float32)
    whole = encoder.embed(records)
    monkeypatch.setattr("models.encoder._BLOCK", 7)
    np.testing.assert_allclose(encoder.embed(records), whole, rtol=1e-6)


@settings(deadline=None)
@given(records=RECORDS)
def test_embeddings_are_what_numpy_computes_of_the_same_formula(
    encoder: Encoder, records: Matrix
) -> None:
    complete = np.where(np.isnan(records), [10, 0, 1, 0, 0], records).astype(np.float64)
    latency, drops, up, link, vendor = complete.T
    logits = np.stack([0.08 * latency + 0.1 * link, 8 * up, 0.08 * drops + 0.1 * vendor], axis=1)
    expected = 0.98 * (0.5 + 0.5 * np.tanh((logits - 4) / 2)) + 0.01
    np.testing.assert_allclose(encoder.embed(records), expected, atol=1e-4)


@settings(deadline=None)
@given(records=RECORDS)
def test_a_record_alone_is_embedded_as_it_is_in_a_batch(encoder: Encoder, records: Matrix) -> None:
    alone = np.concatenate([encoder.embed(records[i : i + 1]) for i in range(len(records))])
    np.testing.assert_allclose(encoder.embed(records), alone, rtol=0, atol=1e-5)


def test_a_matrix_by_columns_is_embedded_as_one_by_rows(encoder: Encoder) -> None:
    records = np.arange(20, dtype=np.float32).reshape(4, 5)
    np.testing.assert_array_equal(encoder.embed(np.asfortranarray(records)), encoder.embed(records))


def test_a_graph_that_fails_at_work_is_an_encoder_error(
    capfd: pytest.CaptureFixture[str],
) -> None:
    graph = graph_of(
        [("Constant", [], ["to"], {"value_ints": [-1, 4]}), ("Reshape", ["x", "to"], ["y"], {})],
        {"x": (FLOAT, ["n", 3])},
        {"y": (FLOAT, ["m", 4])},
    )
    encoder = Encoder(graph)
    assert encoder.embed(np.zeros((4, 3), dtype=np.float32)).shape == (3, 4)
    with pytest.raises(EncoderError):
        encoder.embed(np.zeros((2, 3), dtype=np.float32))
    assert capfd.readouterr() == ("", "")


def test_no_records_give_no_points(encoder: Encoder) -> None:
    points = encoder.embed(np.empty((0, 5), dtype=np.float32))
    assert points.shape == (0, 3)
    assert points.dtype == np.float32
