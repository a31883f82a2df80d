"""The encoder's graph evaluated by numpy or by torch, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper

__all__ = ["evaluator"]

Array = Any
Operator = Callable[..., Array]


def evaluator(graph: bytes, library: str, output: str | None = None) -> Callable[[Array], Array]:
    """Return a function from records, float32 [n, fields], to embeddings or another output.

    Args:
        graph: serialized ONNX model.
        library: numpy or torch; arrays of it are taken and returned.
        output: of a node; the embeddings unless given.
    """
    model = onnx.load_from_string(graph).graph
    made = np.asarray if library == "numpy" else torch.from_numpy
    constants = {one.name: made(numpy_helper.to_array(one).copy()) for one in model.initializer}
    operators = _NUMPY if library == "numpy" else _TORCH
    records, wanted = model.input[0].name, output or model.output[0].name
    steps = []
    for node in _needed(model.node, wanted):
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        steps.append((operators[node.op_type], [*node.input], node.output[0], attributes))

    def evaluate(rows: Array) -> Array:
        known = constants | {records: rows}
        for operator, names, made_here, attributes in steps:
            known[made_here] = operator(*[known[name] for name in names], **attributes)
        return known[wanted]

    return evaluate


def _needed(nodes: Sequence[onnx.NodeProto], output: str) -> list[onnx.NodeProto]:
    """Return the nodes that an output is made of, in their order."""
    names, needed = {output}, []
    for node in reversed(nodes):
        if names.intersection(node.output):
            names.update(node.input)
            needed.append(node)
    return needed[::-1]


def _linear(transposed: Operator) -> Operator:
    def gemm(a: Array, b: Array, c: Array, **attributes: float) -> Array:
        return a @ (transposed(b) if attributes.get("transB") else b) + c

    return gemm


def _threshold(where: Operator) -> Operator:
    def thresholded(x: Array, alpha: float = 1.0) -> Array:
        return where(x > alpha, x, 0)

    return thresholded


_BOTH: dict[str, Operator] = {
    "Add": lambda a, b: a + b,
    "Sub": lambda a, b: a - b,
    "Mul": lambda a, b: a * b,
    "Div": lambda a, b: a / b,
}
_NUMPY: dict[str, Operator] = _BOTH | {
    "Abs": np.abs,
    "Clip": np.clip,
    "Concat": lambda *parts, axis: np.concatenate(parts, axis),
    "Gemm": _linear(np.transpose),
    "Log": np.log,
    "Max": np.maximum,
    "Min": np.minimum,
    "Relu": lambda x: np.maximum(x, 0),
    "Sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "Sign": np.sign,
    "ThresholdedRelu": _threshold(np.where),
}
_TORCH: dict[str, Operator] = _BOTH | {
    "Abs": torch.abs,
    "Clip": torch.clamp,
    "Concat": lambda *parts, axis: torch.cat(parts, axis),
    "Gemm": _linear(torch.t),
    "Log": torch.log,
    "Max": torch.maximum,
    "Min": torch.minimum,
    "Relu": torch.relu,
    "Sigmoid": torch.sigmoid,
    "Sign": torch.sign,
    "ThresholdedRelu": _threshold(torch.where),
}
