from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from models import softmax
from models.softmax import softmax_of_product


def test_the_graph_is_a_product_and_its_softmax() -> None:
    a, b, p = (
        helper.make_tensor_value_info(name, TensorProto.FLOAT, [None, None]) for name in "abp"
    )
    nodes = [
        helper.make_node("MatMul", ["a", "b"], ["ab"]),
        helper.make_node("Softmax", ["ab"], ["p"], axis=1),
    ]
    graph = helper.make_graph(nodes, "softmax of product", [a, b], [p])
    opset = [helper.make_opsetid("", 13)]
    made = helper.make_model(graph, opset_imports=opset, ir_version=8)
    assert onnx.load(softmax._GRAPH) == made


@pytest.mark.parametrize(("rows", "columns"), [(0, 5), (1, 1), (3, 200), (300, 70)])
def test_it_is_what_numpy_makes_of_it(rows: int, columns: int) -> None:
    random = np.random.default_rng(rows)
    a = random.normal(0, 9, (rows, 12)).astype(np.float32)
    b = random.normal(0, 9, (12, columns)).astype(np.float32)
    product = a.astype(np.float64) @ b
    weights = np.exp(product - product.max(axis=1, keepdims=True))
    expected = weights / weights.sum(axis=1, keepdims=True)
    found = softmax_of_product(a, b)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=1e-4)
