"""Bundles to put into a folder of bundles."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from models import Bundle

ENDLESS = 1 << 62
"""Trips of a loop."""
DAY = datetime(2025, 6, 1, tzinfo=UTC)


def put_bundle(original: Path, folder: Path, *, day: int = 0, **changes: object) -> str:
    """Write another version of a bundle into a folder, and give the version."""
    read = Bundle.read(original)
    content = read.manifest.model_dump(exclude={"version", "files"})
    own = {"about": folder.name, "created": DAY + timedelta(days=day)}
    made = Bundle.make(read.files, **(content | own | changes))
    made.write(folder)
    return made.manifest.version


def put_looping_bundle(original: Path, folder: Path, *, trips: int = ENDLESS, day: int = 0) -> str:
    """Write a valid bundle whose encoder goes through a loop, half a million times a second."""
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [
            helper.make_node("Identity", ["go"], ["on"]),
            helper.make_node("Identity", ["sum"], ["same"]),
        ],
        "body",
        [
            value("trip", TensorProto.INT64, []),
            value("go", TensorProto.BOOL, []),
            value("sum", TensorProto.FLOAT, []),
        ],
        [value("on", TensorProto.BOOL, []), value("same", TensorProto.FLOAT, [])],
    )
    loop = helper.make_node("Loop", ["trips", "begin", "nothing"], ["more"], body=body)
    constants = {"trips": np.int64(trips), "begin": np.bool_(True)}
    return _put_with(original, folder, [loop], constants, day)


def put_greedy_bundle(original: Path, folder: Path, *, takes: int, day: int = 0) -> str:
    """Write a valid bundle whose encoder takes so many bytes for an answer."""
    nodes = [
        helper.make_node("Expand", ["nothing", "size"], ["much"]),
        helper.make_node("ReduceSum", ["much"], ["more"], keepdims=0),
    ]
    return _put_with(original, folder, nodes, {"size": np.array([takes // 4])}, day)


def _put_with(
    original: Path,
    folder: Path,
    nodes: list[onnx.NodeProto],
    constants: dict[str, Any],
    day: int,
) -> str:
    """Write a bundle whose encoder adds `more` to its answer, which nodes make of `nothing`."""
    read = Bundle.read(original)
    model = onnx.load_from_string(read.files["encoder.onnx"])
    graph, (output,) = model.graph, model.graph.output
    graph.initializer.extend(
        numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items()
    )
    graph.node.extend(
        [
            helper.make_node("ReduceMin", [output.name], ["least"], keepdims=0),
            helper.make_node("Sub", ["least", "least"], ["nothing"]),
            *nodes,
            helper.make_node("Add", [output.name, "more"], ["changed"]),
        ]
    )
    output.name = "changed"
    onnx.checker.check_model(model)
    content = read.manifest.model_dump(exclude={"version", "files"})
    own = {"about": folder.name, "created": DAY + timedelta(days=day)}
    files = {**read.files, "encoder.onnx": model.SerializeToString()}
    made = Bundle.make(files, **(content | own))
    made.write(folder)
    return made.manifest.version
