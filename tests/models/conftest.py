"""A small real bundle: five fields, an ONNX graph with imputation, three classes."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from models.bundle import Bundle
from models.encoder import Encoder
from models.model import Model
from models.schema import Field, Schema

FIELDS = (
    Field(name="latency", kind="gauge", unit="ms", typical=10.0),
    Field(name="drops", kind="rate", unit="1/s", required=False, typical=0.0),
    Field(name="up", kind="boolean", typical=True),
    Field(name="link", kind="category", categories=("fiber", "copper", "radio"), typical="fiber"),
    Field(name="vendor", kind="category", categories=("acme", "zenith"), open=True),
)
EXAMPLES: list[dict[str, object]] = [
    {"latency": 10.0, "drops": 0.0, "up": True, "link": "fiber", "vendor": "acme"},
    {"latency": 90, "drops": 90, "up": True, "link": "copper", "vendor": "zenith"},
    {"latency": 10.0, "drops": None, "up": False, "link": "radio", "vendor": "never seen"},
]
IMPUTED = np.array([10, 0, 1, 0, 0], dtype=np.float32)
WEIGHTS = np.array(
    [[0.08, 0, 0], [0, 0, 0.08], [0, 8, 0], [0.1, 0, 0], [0, 0, 0.1]], dtype=np.float32
)
BIAS = np.array([-4, -4, -4], dtype=np.float32)


def encoder_graph(
    weights: np.ndarray[Any, np.dtype[np.float32]] = WEIGHTS,
    *,
    batch: int | str = "n",
    scale: float = 0.98,
    shift: float = 0.01,
) -> bytes:
    """Impute, multiply, squash; answers lie in `shift` .. `shift + scale`."""
    width, dimensions = weights.shape
    constants = {
        "imputed": np.resize(IMPUTED, width),
        "weights": weights,
        "bias": np.resize(BIAS, dimensions),
        "scale": np.float32(scale),
        "shift": np.float32(shift),
    }
    nodes = [
        helper.make_node("IsNaN", ["records"], ["missing"]),
        helper.make_node("Where", ["missing", "imputed", "records"], ["complete"]),
        helper.make_node("MatMul", ["complete", "weights"], ["product"]),
        helper.make_node("Add", ["product", "bias"], ["logits"]),
        helper.make_node("Sigmoid", ["logits"], ["squashed"]),
        helper.make_node("Mul", ["squashed", "scale"], ["scaled"]),
        helper.make_node("Add", ["scaled", "shift"], ["embedding"]),
    ]
    graph = helper.make_graph(
        nodes,
        "encoder",
        [helper.make_tensor_value_info("records", TensorProto.FLOAT, [batch, width])],
        [helper.make_tensor_value_info("embedding", TensorProto.FLOAT, [batch, dimensions])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.checker.check_model(model)
    serialized: bytes = model.SerializeToString()
    return serialized


def bundle_content() -> dict[str, Any]:
    """Everything that `Bundle.make` asks for beside the files."""
    points = Encoder(encoder_graph()).embed(Schema(FIELDS).encode(EXAMPLES)).tolist()
    classes = [("good", True, "none"), ("congested", False, "major"), ("down", False, "critical")]
    return {
        "name": "small",
        "created": datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        "dimensions": 3,
        "fields": FIELDS,
        "classes": [
            {
                "name": name,
                "good": good,
                "severity": severity,
                "centroid": point,
                "radius": 0.05,
                "records": 20,
            }
            for (name, good, severity), point in zip(classes, points, strict=True)
        ],
        "calibration": {"unknown_rate": 0.01, "temperature": 0.05, "records": {"good": 100}},
        "training": {"loss": "lossless", "gain": 4, "libraries": {"numpy": "2.2"}},
        "metrics": {"balanced_accuracy": 0.8625, "confusion": [[9, 1, 0], [0, 8, 2], [0, 0, 7]]},
    }


def bundle_files() -> dict[str, bytes]:
    """The files of the bundle, one of them in a folder."""
    return {
        "encoder.onnx": encoder_graph(),
        "examples.json": json.dumps({"records": EXAMPLES}).encode(),
        "card.md": "# small\n\nA card, in °C and µs.\n".encode(),
        "figures/map.svg": b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    }


@pytest.fixture(scope="session")
def schema() -> Schema:
    return Schema(FIELDS)


@pytest.fixture(scope="session")
def examples() -> list[dict[str, object]]:
    return [dict(record) for record in EXAMPLES]


@pytest.fixture(scope="session")
def make_graph() -> Callable[..., bytes]:
    """Builds an encoder graph: of other weights, batch size or range, as asked."""
    return encoder_graph


@pytest.fixture(scope="session")
def make_bundle() -> Callable[..., Bundle]:
    """Builds the bundle with some files and some of the manifest's content exchanged."""

    def make(files: dict[str, bytes] | None = None, **content: Any) -> Bundle:
        return Bundle.make(bundle_files() | (files or {}), **(bundle_content() | content))

    return make


@pytest.fixture(scope="session")
def bundle() -> Bundle:
    return Bundle.make(bundle_files(), **bundle_content())


@pytest.fixture(scope="session")
def model(bundle: Bundle) -> Model:
    return Model(bundle)


@pytest.fixture
def folder(bundle: Bundle, tmp_path: Path) -> Path:
    """The bundle on disk, for one test to spoil."""
    path = tmp_path / "small"
    bundle.write(path)
    return path
