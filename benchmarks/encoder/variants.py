"""Graphs that might be leaner than the encoder that ships, made of its graph."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic

from benchmarks.encoder.evaluate import evaluator

__all__ = ["RANKS", "variants"]

RANKS = (66, 46)
"""Of 92: as many directions as vary on the table that ships, and half of all."""

_LARGEST_HALF = float(np.finfo(np.float16).max)
Numbers = Any


def variants(graph: bytes, records: Numbers) -> dict[str, bytes]:
    """Return graphs by what was done to them.

    Args:
        graph: the encoder, serialized.
        records: float32 [n, fields], of which a part of low rank keeps most.
    """
    return {
        "first layers in one product": _with_one_first_layer(graph),
        **{f"whitened part of rank {r}": _with_rank(graph, records, r) for r in RANKS},
        "weights in float16": _in_float16(graph),
        "products in int8": _in_int8(graph),
    }


def _with_one_first_layer(graph: bytes) -> bytes:
    """Multiply the members' weights in one product, and split what comes of it."""
    model = onnx.load_from_string(graph)
    layers = [node for node in model.graph.node if node.op_type == "Gemm"]
    first = [node for node in layers if node.input[0] == layers[0].input[0]]
    value = _values(model)
    weight = np.concatenate([value[node.input[1]] for node in first], axis=1)
    bias = np.concatenate([value[node.input[2]] for node in first])
    widths = np.full(len(first), weight.shape[1] // len(first))
    names = [_added(model, f"all_{i}", each) for i, each in enumerate([weight, bias, widths])]
    relus = [_reader(model, node.output[0]) for node in first]
    made = [
        helper.make_node("Gemm", [first[0].input[0], *names[:2]], ["all"]),
        helper.make_node("Relu", ["all"], ["all_relu"]),
        helper.make_node("Split", ["all_relu", names[2]], [n.output[0] for n in relus], axis=1),
    ]
    return _replaced(model, [*first, *relus], made)


def _with_rank(graph: bytes, records: Numbers, rank: int) -> bytes:
    """Whiten in two products, by the directions in which whitened records vary most."""
    model = onnx.load_from_string(graph)
    node = _whitening(model)
    views, weight, bias = node.input
    value, plain = _values(model), evaluator(graph, "numpy", views)(records)
    mean, exact = plain.mean(axis=0, dtype=np.float64), value[weight].astype(np.float64)
    axes = np.linalg.svd((plain - mean) @ exact, full_matrices=False)[2][:rank].T
    rest = value[bias] + mean @ (exact - exact @ axes @ axes.T)
    parts = [exact @ axes, np.zeros(rank), axes.T, rest]
    names = [_added(model, f"rank_{i}", each.astype(np.float32)) for i, each in enumerate(parts)]
    made = [
        helper.make_node("Gemm", [views, *names[:2]], ["narrow"]),
        helper.make_node("Gemm", ["narrow", *names[2:]], node.output),
    ]
    return _replaced(model, [node], made)


def _in_float16(graph: bytes) -> bytes:
    """Store matrices in float16, where they have no larger number."""
    model = onnx.load_from_string(graph)
    casts = []
    for one in model.graph.initializer:
        weight = numpy_helper.to_array(one)
        if weight.ndim == 2 and np.abs(weight).max() <= _LARGEST_HALF:
            name = one.name
            one.CopyFrom(numpy_helper.from_array(weight.astype(np.float16), f"{name}_half"))
            cast = helper.make_node("Cast", [one.name], [name], to=onnx.TensorProto.FLOAT)
            casts.append(cast)
    return _replaced(model, [], casts)


def _in_int8(graph: bytes) -> bytes:
    """Multiply in integers, by scales that are found at work."""
    logging.getLogger().setLevel(logging.ERROR)  # it advises what makes no difference here
    with TemporaryDirectory() as folder:
        whole, narrow = Path(folder, "whole.onnx"), Path(folder, "narrow.onnx")
        whole.write_bytes(graph)
        quantize_dynamic(whole, narrow, weight_type=QuantType.QInt8, per_channel=True)
        return narrow.read_bytes()


def _whitening(model: onnx.ModelProto) -> onnx.NodeProto:
    """Return the product that whitens: the one of views side by side."""
    joined = {node.output[0] for node in model.graph.node if node.op_type == "Concat"}
    nodes: Sequence[onnx.NodeProto] = model.graph.node
    (found,) = (node for node in nodes if node.op_type == "Gemm" and node.input[0] in joined)
    return found


def _values(model: onnx.ModelProto) -> dict[str, Numbers]:
    return {one.name: numpy_helper.to_array(one) for one in model.graph.initializer}


def _added(model: onnx.ModelProto, name: str, value: Numbers) -> str:
    model.graph.initializer.append(numpy_helper.from_array(value, name))
    return name


def _reader(model: onnx.ModelProto, output: str) -> onnx.NodeProto:
    nodes: Sequence[onnx.NodeProto] = model.graph.node
    (found,) = (node for node in nodes if output in node.input)
    return found


def _replaced(
    model: onnx.ModelProto, old: list[onnx.NodeProto], made: list[onnx.NodeProto]
) -> bytes:
    """Serialize the model with new nodes where the first old one was, at the start without one."""
    gone = {node.output[0] for node in old}
    kept = [node for node in model.graph.node if node.output[0] not in gone]
    at = next((i for i, n in enumerate(model.graph.node) if n.output[0] in gone), 0)
    nodes = [*kept[:at], *made, *kept[at:]]
    copies = [onnx.NodeProto.FromString(node.SerializeToString()) for node in nodes]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    used = {name for node in copies for name in node.input}
    constants = [one for one in model.graph.initializer if one.name in used]
    kept_constants = [onnx.TensorProto.FromString(one.SerializeToString()) for one in constants]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept_constants)
    onnx.checker.check_model(model, full_check=True)
    serialized: bytes = model.SerializeToString()
    return serialized
