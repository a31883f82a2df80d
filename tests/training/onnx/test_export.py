from __future__ import annotations

import getpass
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper

from models.bundle import Bundle
from models.encoder import Encoder as OnnxEncoder
from models.schema import UNSEEN, Schema
from training.fitting.encoder import Encoder
from training.fitting.fit import embed
from training.onnx.export import PARITY, ExportError, check_parity, export
from training.recipe import EncoderRecipe, Growth, Recipe
from training.train import Fitted

Matrix = np.ndarray[Any, np.dtype[np.float32]]


@pytest.fixture(scope="module")
def encoder(mixed_schema: Schema, mixed_matrix: Matrix) -> Encoder:
    torch.manual_seed(0)
    encoder = Encoder(
        mixed_schema,
        mixed_matrix,
        np.arange(len(mixed_matrix)) % 2,
        EncoderRecipe(dimensions=3, hidden=(8,)),
    )
    encoder.train()
    encoder(torch.from_numpy(mixed_matrix))  # gives batch normalisation its statistics
    return encoder.eval()


@pytest.fixture(scope="module")
def graph(encoder: Encoder, mixed_matrix: Matrix) -> bytes:
    return export(encoder, mixed_matrix)


def test_the_graph_computes_what_the_encoder_computes(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix
) -> None:
    answer = OnnxEncoder(graph).embed(mixed_matrix)
    np.testing.assert_allclose(answer, embed(encoder, mixed_matrix), rtol=0, atol=PARITY)


@pytest.mark.parametrize("families", [(), (("latency", "drops"),)])
@pytest.mark.parametrize("growth", ["random", "boosted"])
@pytest.mark.parametrize("classes", [2, 3])
def test_trees_are_in_the_graph(
    mixed_schema: Schema,
    mixed_matrix: Matrix,
    families: tuple[tuple[str, ...], ...],
    growth: Growth,
    classes: int,
) -> None:
    labels = np.arange(len(mixed_matrix)) % classes
    recipe = EncoderRecipe(dimensions=3, hidden=(8,), families=families)
    encoder = Encoder(mixed_schema, mixed_matrix, labels, recipe).eval()
    width = encoder.dimensions
    encoder.grow(mixed_matrix, labels, growth, seed=0)
    assert encoder.dimensions == width + 16
    graph = export(encoder, mixed_matrix)
    answer = OnnxEncoder(graph).embed(mixed_matrix)
    assert answer.shape == (len(mixed_matrix), width + 16)
    np.testing.assert_allclose(answer, embed(encoder, mixed_matrix), rtol=0, atol=PARITY)
    assert ((answer > 0) & (answer < 1)).all()


def test_a_real_encoder_passes_the_parity_check(
    real_trained: tuple[Recipe, Bundle, Fitted],
) -> None:
    _, bundle, fitted = real_trained
    assert bundle.files["encoder.onnx"] == fitted.graph
    points = fitted.encoder.embed(fitted.dataset.test.matrix)
    assert points.shape == (len(fitted.dataset.test.labels), fitted.rule.centroids.shape[1])
    assert ((points > 0) & (points < 1)).all()


@pytest.mark.parametrize("count", [1, 2, 3, 1000])
def test_a_batch_may_have_any_size(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix, count: int
) -> None:
    records = np.resize(mixed_matrix, (count, 4))
    answer = OnnxEncoder(graph).embed(records)
    np.testing.assert_allclose(answer, embed(encoder, records), rtol=0, atol=PARITY)


def test_an_encoder_is_exported_with_a_single_record_at_hand(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix
) -> None:
    alone = OnnxEncoder(export(encoder, mixed_matrix[:1])).embed(mixed_matrix)
    np.testing.assert_allclose(alone, OnnxEncoder(graph).embed(mixed_matrix), atol=1e-7)


def test_imputation_and_scaling_are_inside_the_graph(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix
) -> None:
    session = OnnxEncoder(graph)
    median = encoder.scaling.median.tolist()
    complete = np.array([[median[0], 1.0, median[2], 1.0]], dtype=np.float32)
    missing = complete.copy()
    missing[0, [0, 2]] = np.nan
    np.testing.assert_array_equal(session.embed(missing), session.embed(complete))
    unseen, none = complete.copy(), complete.copy()
    unseen[0, 3], none[0, 3] = UNSEEN, np.nan
    np.testing.assert_array_equal(session.embed(unseen), session.embed(none))
    assert not np.allclose(session.embed(unseen), session.embed(complete))
    raw = mixed_matrix * np.array([1000, 1, 1, 1], dtype=np.float32)
    assert not np.allclose(session.embed(raw), session.embed(mixed_matrix))


def test_the_graph_has_the_signature_that_is_promised(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    onnx.checker.check_model(model)
    (given, _), (answer, _) = model.graph.input, model.graph.output
    assert (given.name, answer.name) == ("records", "embeddings")
    for value, width in ((given, 4), (answer, 3 * 3 + 9)):
        batch, columns = value.type.tensor_type.shape.dim
        assert value.type.tensor_type.elem_type == onnx.TensorProto.FLOAT
        assert batch.dim_param
        assert columns.dim_value == width


def test_hostile_records_stay_inside_the_cube(graph: bytes) -> None:
    edges = np.array([np.nan, 0, -1, 1e-45, 3.4e38, -3.4e38], dtype=np.float32)
    points = OnnxEncoder(graph).embed(np.repeat(edges[:, None], 4, axis=1))
    assert ((points > 0) & (points < 1)).all()


def test_an_altered_weight_fails_the_parity_check(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix
) -> None:
    model = onnx.load_from_string(graph)
    changed = 0
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype == np.float32 and values.ndim == 2:
            initializer.CopyFrom(
                numpy_helper.from_array(values + np.float32(0.01), initializer.name)
            )
            changed += 1
    assert changed
    with pytest.raises(ExportError, match=r"differ by \d\.\de-\d\d \(at most 1e-05 is allowed\)"):
        check_parity(encoder, model.SerializeToString(), mixed_matrix)


def test_an_answer_that_is_no_number_fails_the_parity_check(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix
) -> None:
    model = onnx.load_from_string(graph)
    for initializer in model.graph.initializer:
        values = numpy_helper.to_array(initializer)
        if values.dtype == np.float32 and values.ndim == 2:
            initializer.CopyFrom(numpy_helper.from_array(values * np.nan, initializer.name))
    with pytest.raises(ExportError, match="differ by nan"):
        check_parity(encoder, model.SerializeToString(), mixed_matrix)


def test_nothing_of_this_machine_is_inside_the_graph(
    real_trained: tuple[Recipe, Bundle, Fitted], graph: bytes
) -> None:
    for data in (graph, real_trained[1].files["encoder.onnx"]):
        words = re.findall(rb"[\x20-\x7e]{4,}", data)
        text = b"\n".join(words).decode().lower()
        for trace in ("traceback", "site-packages", ".py", 'file "', "line ", "torchlib"):
            assert trace not in text
        assert str(Path(__file__).parents[3]) not in text
        assert not re.search(r"(^|[^a-z0-9])/(home|root|usr|tmp|work|opt|var)/", text)
        if len(getpass.getuser()) > 4:
            assert getpass.getuser() not in text


def test_nodes_carry_no_notes(graph: bytes) -> None:
    model = onnx.load_from_string(graph)
    noted = (model, model.graph, *model.graph.node, *model.graph.initializer)
    assert not any(part.metadata_props or part.doc_string for part in noted)
    assert not model.graph.value_info
    for function in model.functions:
        assert not any(
            part.metadata_props or part.doc_string for part in (function, *function.node)
        )


def test_exporting_again_gives_the_same_bytes_and_says_nothing(
    encoder: Encoder, graph: bytes, mixed_matrix: Matrix, capfd: pytest.CaptureFixture[str]
) -> None:
    assert export(encoder, mixed_matrix) == graph
    assert capfd.readouterr() == ("", "")
