"""The Open Inference Protocol, asked by the client that Triton's users have."""

from __future__ import annotations

import gzip
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import uvicorn
from starlette.testclient import TestClient
from tritonclient.http import InferenceServerClient, InferInput, InferRequestedOutput
from tritonclient.utils import InferenceServerException

from models import Model
from service.app import create_app
from service.server.server import listener
from service.settings import Settings

INFER = "/v2/models/toy/infer"


@pytest.fixture(scope="module")
def triton(bundle: Path) -> Iterator[InferenceServerClient]:
    """The client, before a real server."""
    config = uvicorn.Config(create_app(Settings(bundle=bundle)), log_config=None)
    server = uvicorn.Server(config)
    with listener("127.0.0.1", 0) as bound:
        thread = threading.Thread(target=server.run, args=[[bound]])
        thread.start()
        client = InferenceServerClient(f"127.0.0.1:{bound.getsockname()[1]}")
        deadline = time.monotonic() + 20
        while not (server.started and client.is_server_ready()):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield client
        client.close()
        server.should_exit = True
        thread.join()


@pytest.mark.parametrize("binary", [True, False])
@pytest.mark.parametrize("compression", [None, "gzip"])
def test_tritons_client_is_answered(
    triton: InferenceServerClient,
    bundle: Path,
    binary: bool,
    compression: str | None,
    good: dict[str, Any],
    down: dict[str, Any],
    unknown: dict[str, Any],
) -> None:
    model = Model.load(bundle)
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("toy")
    (described,) = triton.get_model_metadata("toy")["inputs"]
    matrix = model.schema.encode([good, down, unknown])
    tensor = InferInput(described["name"], list(matrix.shape), described["datatype"])
    if not binary:
        matrix = np.nan_to_num(matrix, nan=0.0)
    tensor.set_data_from_numpy(matrix, binary_data=binary)
    names = ["label", "good", "distance", "confidence", "nearest", "embedding", "distances"]
    outputs = [InferRequestedOutput(name, binary_data=binary) for name in names]
    answer = triton.infer(
        "toy", [tensor], outputs=outputs, request_id="7", request_compression_algorithm=compression
    )
    decisions = model.decide(matrix)
    labels = [verdict.label for verdict in model.classify([good, down, unknown])]
    found = [text.decode() if binary else text for text in answer.as_numpy("label")]
    assert found == labels
    np.testing.assert_allclose(answer.as_numpy("distance"), decisions.distance, rtol=1e-5)
    np.testing.assert_allclose(answer.as_numpy("embedding"), model.encoder.embed(matrix), rtol=1e-5)
    assert answer.as_numpy("distances").shape == (3, 3)
    assert answer.get_response()["id"] == "7"
    assert answer.get_response()["model_version"] == model.manifest.version


def test_tritons_client_is_told_what_is_wrong(triton: InferenceServerClient) -> None:
    tensor = InferInput("records", [1, 2], "FP32")
    tensor.set_data_from_numpy(np.zeros((1, 2), np.float32))
    with pytest.raises(InferenceServerException, match=r"expected the shape \[n, 5\]"):
        triton.infer("toy", [tensor])
    with pytest.raises(InferenceServerException, match="What is served is toy"):
        triton.get_model_metadata("other")
    assert not triton.is_model_ready("other")


def body(records: int = 1, **more: Any) -> bytes:
    row = [12.5, 0.0, 1, 0, 0]
    tensor = {"name": "records", "shape": [records, 5], "datatype": "FP32", "data": row * records}
    return json.dumps({"inputs": [tensor], **more}).encode()


def test_a_model_is_asked_by_name_and_version(shared: TestClient) -> None:
    version = shared.get("/model").json()["version"]
    for path in (INFER, f"/v2/models/toy/versions/{version}/infer"):
        answer = shared.post(path, content=body())
        assert answer.status_code == 200, answer.text
        assert answer.json()["outputs"][0]["data"] == ["normal"]
        assert answer.headers["faultcube-bundle"] == f"toy/{version}"
    for path in ("/v2/models/odd/infer", "/v2/models/toy/versions/1/infer", "/v2/models/a/b/infer"):
        answer = shared.post(path, content=body())
        assert answer.status_code == 404
        assert set(answer.json()) == {"error"}
    requests = 'faultcube_requests_total{route="/v2/models/{name}/infer",status="200"}'
    assert requests in shared.get("/metrics").text


@pytest.mark.parametrize(
    ("content", "headers", "status"),
    [
        (b"{", {}, 400),
        (b"{}", {}, 422),
        (body(), {"Content-Type": "text/csv"}, 415),
        (body(), {"Inference-Header-Content-Length": "x"}, 422),
        (body(), {"Inference-Header-Content-Length": "9" * 30}, 422),
        (body(), {"Inference-Header-Content-Length": "1"}, 400),
        (body(60), {}, 422),
        (gzip.compress(b" " * (2 << 20), mtime=0), {"Content-Encoding": "gzip"}, 413),
    ],
)
def test_what_is_wrong_is_told_in_the_protocols_form(
    shared: TestClient, content: bytes, headers: dict[str, str], status: int
) -> None:
    answer = shared.post(INFER, content=content, headers=headers)
    assert answer.status_code == status
    assert set(answer.json()) == {"error"}
    assert answer.headers["content-type"] == "application/json"


def test_routes_of_the_protocol_are_there_whatever_the_method(shared: TestClient) -> None:
    assert shared.get("/v2").json()["extensions"] == ["binary_tensor_data"]
    assert shared.get("/v2/health/live").json() == {"live": True}
    assert shared.get("/v2/health/ready").json() == {"ready": True}
    assert shared.get("/v2/nothing").status_code == 404
    assert set(shared.get(INFER).json()) == {"error"}
