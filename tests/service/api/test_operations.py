from __future__ import annotations

import json
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from models import Model
from service.app import create_app
from service.settings import Settings
from service.web.problems import MEDIA_TYPE

Damage = Callable[[Path], object]


def test_the_model_is_told_without_its_recipe_and_files(shared: TestClient, bundle: Path) -> None:
    told = shared.get("/model").json()
    manifest = json.loads((bundle / "manifest.json").read_text())
    assert told == {
        name: value
        for name, value in manifest.items()
        if name not in {"format", "training", "files"}
    }


def test_probes_answer_while_the_bundle_is_still_loading(
    bundle: Path, good: dict[str, Any]
) -> None:
    released, entered = threading.Event(), threading.Event()

    def load(folder: Path) -> Model:
        entered.set()
        assert released.wait(20)
        return Model.load(folder)

    with TestClient(create_app(Settings(bundle=bundle), load=load)) as client:
        assert entered.wait(20)
        assert client.get("/livez").json() == {"status": "alive"}
        for response in (
            client.get("/readyz"),
            client.get("/model"),
            client.post("/classify", json={"records": [good]}),
        ):
            assert response.status_code == 503
            assert response.headers["content-type"] == MEDIA_TYPE
            assert response.headers["retry-after"] == "1"
            assert "still loading" in response.json()["detail"]
        released.set()
        while client.get("/readyz").status_code != 200:
            pass
        assert client.post("/classify", json={"records": [good]}).status_code == 200


def test_readiness_names_the_bundle(shared: TestClient, bundle: Path) -> None:
    version = Model.load(bundle).manifest.version
    assert shared.get("/readyz").json() == {
        "status": "ready",
        "bundle": {"name": "toy", "version": version},
        "revision": 0,
    }


def truncate(name: str) -> Damage:
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:-20])


def tamper(before: str, after: str) -> Damage:
    def change(folder: Path) -> None:
        text = (folder / "manifest.json").read_text()
        assert before in text
        (folder / "manifest.json").write_text(text.replace(before, after, 1))

    return change


@pytest.mark.parametrize(
    ("damage", "reason"),
    [
        (truncate("encoder.onnx"), "encoder.onnx was altered or cut off"),
        (truncate("examples.json"), "examples.json was altered or cut off"),
        (truncate("manifest.json"), "manifest.json is not JSON"),
        (lambda folder: (folder / "encoder.onnx").unlink(), "encoder.onnx cannot be read"),
        (lambda folder: (folder / "manifest.json").unlink(), "it holds no bundle"),
        (tamper('"radius":0.05', '"radius":0.9'), "manifest.json was altered"),
        (tamper('"format": 1', '"format": 2'), "its format is 2"),
        (tamper('"severity": "major"', '"severity": "odd"'), "classes.2.severity"),
    ],
)
def test_a_damaged_bundle_is_refused_by_reason_and_the_process_stays(
    make_bundle: Callable[[], Path],
    serve: Callable[[Path], TestClient],
    caplog: pytest.LogCaptureFixture,
    damage: Damage,
    reason: str,
) -> None:
    folder = make_bundle()
    manifest = folder / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"radius": 0.05', '"radius":0.05'))
    damage(folder)
    client = serve(folder)
    for response in (client.get("/readyz"), client.post("/embed", json={"records": [{}]})):
        assert response.status_code == 503
        assert response.headers["retry-after"] == "30"
        assert "The bundle toy is refused: " in response.json()["detail"]
        assert reason in response.json()["detail"]
        assert str(folder) not in response.text
    assert client.get("/livez").status_code == 200
    assert client.get("/openapi.json").status_code == 200
    refusals = [line for line in caplog.records if line.levelname == "ERROR"]
    assert len(refusals) == 1
    assert reason in vars(refusals[0])["reason"]


def test_a_defect_while_loading_is_told_and_not_left_as_still_loading(bundle: Path) -> None:
    def load(folder: Path) -> Model:
        raise ZeroDivisionError(folder)

    with TestClient(create_app(Settings(bundle=bundle), load=load)) as client:
        while "still loading" in (answer := client.get("/readyz").text):
            pass
    assert "unexpected ZeroDivisionError; the log says more" in answer


def test_probes_answer_head_too(client: TestClient) -> None:
    for path in ("/livez", "/readyz"):
        assert client.head(path).status_code == 200
    assert "head" not in client.get("/openapi.json").json()["paths"]["/livez"]
