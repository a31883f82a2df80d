"""A small real bundle, and applications that serve it."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fastapi import FastAPI
from onnx import TensorProto, checker, helper, numpy_helper
from starlette.testclient import TestClient

from models import Bundle, Field
from service.app import create_app
from service.settings import Settings
from tests.support.databases import Postgres, running

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
    places = {
        "normal": ("none", (0.001, 0.001, 0.018)),
        "link-down": ("critical", (0.001, 0.001, 0.982)),
        "overload": ("major", (0.999, 0.999, 0.018)),
    }
    return [
        {
            "name": name,
            "good": severity == "none",
            "severity": severity,
            "centroid": centroid,
            "radius": 0.05,
            "records": 100,
        }
        for name, (severity, centroid) in places.items()
    ]


def _make(fields: tuple[Field, ...], examples: list[dict[str, Any]]) -> Bundle:
    files = {
        "encoder.onnx": _graph(len(fields)),
        "examples.json": json.dumps({"records": examples}).encode(),
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


MakeBundle = Callable[..., Path]


@pytest.fixture
def make_bundle(tmp_path: Path) -> MakeBundle:
    """Write a bundle with fields of one's own, and say where."""

    def make(fields: tuple[Field, ...] = FIELDS, examples: object = None) -> Path:
        folder = tmp_path / "toy"
        _make(fields, examples or [GOOD, DOWN, OVERLOAD]).write(folder)  # type: ignore[arg-type]
        return folder

    return make


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a bundle that nobody changes."""
    folder = tmp_path_factory.mktemp("bundles") / "toy"
    _make(FIELDS, [GOOD, DOWN, OVERLOAD]).write(folder)
    return folder


@pytest.fixture
def good() -> dict[str, Any]:
    """A record of good traffic."""
    return dict(GOOD)


@pytest.fixture
def down() -> dict[str, Any]:
    """A record of a link that is down, its error rate missing."""
    return dict(DOWN)


@pytest.fixture
def overload() -> dict[str, Any]:
    """A record of an overload."""
    return dict(OVERLOAD)


@pytest.fixture
def unknown() -> dict[str, Any]:
    """A record that no class accepts; link-down is the nearest."""
    return GOOD | {"link up": False, "cpu load": 70.0}


@pytest.fixture(scope="session")
def server() -> Iterator[Postgres]:
    """A PostgreSQL server."""
    with running() as postgres:
        yield postgres


Serve = Callable[..., TestClient]


def _wait(client: TestClient) -> None:
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        if "still loading" not in client.get("/readyz").text:
            return
        time.sleep(0.005)
    raise AssertionError("the bundle was neither loaded nor refused")


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start an application in process and wait until its bundle is loaded or refused."""
    clients: list[TestClient] = []

    def start(folder: Path, **settings: Any) -> TestClient:
        app: FastAPI = create_app(Settings(bundle=folder, **settings))
        client = TestClient(app, raise_server_exceptions=False).__enter__()
        clients.append(client)
        _wait(client)
        return client

    yield start
    for client in clients:
        client.__exit__()


@pytest.fixture
def client(bundle: Path, serve: Serve) -> TestClient:
    """A client of an application that has nothing behind it yet."""
    return serve(bundle)


@pytest.fixture(scope="session")
def shared(bundle: Path) -> Iterator[TestClient]:
    """A client of an application that tests share."""
    app = create_app(Settings(bundle=bundle, max_records=50, max_body_bytes=1 << 20))
    with TestClient(app, raise_server_exceptions=False) as client:
        _wait(client)
        yield client
