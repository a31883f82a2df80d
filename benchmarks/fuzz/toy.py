"""A small real bundle with a field of every kind; the service's tests use it too."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
from onnx import TensorProto, checker, helper, numpy_helper

from models import Bundle, Field

GOOD = {"cpu load": 12.5, "error rate": 0.0, "link up": True, "state": "idle", "vendor": "acme"}
DOWN = {"cpu load": 3.0, "error rate": None, "link up": False, "state": "busy", "vendor": "acme"}
OVERLOAD = {"cpu load": 97.0, "error rate": 40.5, "link up": True, "state": "busy", "vendor": "b"}

FIELDS = (
    Field(name="cpu load", kind="gauge", unit="%", typical=12.5),
    Field(name="error rate", kind="rate", unit="errors/s", required=False, typical=0.0),
    Field(name="link up", kind="boolean", typical=True),
    Field(name="state", kind="category", categories=("idle", "busy"), typical="idle"),
    Field(
        name="vendor", kind="category", categories=("acme", "b"), open=True, required=False
    ),
)  # fmt: skip


def _graph(width: int) -> bytes:
    """Imputation, clipping, linear, sigmoid; the first three fields move one dimension each."""
    weights = np.zeros((width, 3), np.float32)
    scales = np.ones(width, np.float32)
    middle = np.zeros(width, np.float32)
    if width >= 3:
        weights[:3] = np.diag([4, 4, -8])
        scales[:3], middle[:3] = (25, 10, 1), (55, 20, 0.5)
    constants = {
        "typical": np.zeros(width, np.float32),
        "low": np.float32(-1e6),
        "high": np.float32(1e6),
        "middle": middle,
        "scales": scales,
        "weights": weights,
        "floor": np.float32(0.001),
        "ceiling": np.float32(0.999),
    }
    nodes = [
        helper.make_node("IsNaN", ["records"], ["missing"]),
        helper.make_node("Where", ["missing", "typical", "records"], ["filled"]),
        helper.make_node("Clip", ["filled", "low", "high"], ["bounded"]),
        helper.make_node("Sub", ["bounded", "middle"], ["centred"]),
        helper.make_node("Div", ["centred", "scales"], ["scaled"]),
        helper.make_node("MatMul", ["scaled", "weights"], ["linear"]),
        helper.make_node("Sigmoid", ["linear"], ["squashed"]),
        helper.make_node("Clip", ["squashed", "floor", "ceiling"], ["embeddings"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, ["n", width])],
        [helper.make_tensor_value_info("embeddings", TensorProto.FLOAT, ["n", 3])],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def _classes() -> list[dict[str, Any]]:
    centroids = {
        ("normal", "none"): (0.001, 0.001, 0.018),
        ("link-down", "critical"): (0.001, 0.001, 0.982),
        ("overload", "major"): (0.999, 0.999, 0.018),
    }
    same = {"radius": 0.05, "records": 100}
    return [
        {"name": name, "good": grade == "none", "severity": grade, "centroid": centroid, **same}
        for (name, grade), centroid in centroids.items()
    ]


def toy_bundle(
    fields: tuple[Field, ...] = FIELDS,
    examples: Sequence[Mapping[str, Any]] = (GOOD, DOWN, OVERLOAD),
) -> Bundle:
    """Return a small real bundle, by default one with a field of every kind."""
    files = {
        "encoder.onnx": _graph(len(fields)),
        "examples.json": json.dumps({"records": list(examples)}).encode(),
    }
    return Bundle.make(
        files,
        name="toy",
        created=datetime(2025, 1, 1, tzinfo=UTC),
        dimensions=3,
        fields=fields,
        classes=_classes(),
        calibration={"unknown_rate": 0.01, "temperature": 0.05, "records": {"normal": 50}},
        training={"loss": "lossless", "secret recipe": "none of the client's business"},
        metrics={"balanced accuracy": 0.9},
    )
