from __future__ import annotations

import json
import os
import secrets
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from models import Bundle
from tests.e2e.running import classify, environment, eventually, output_of

PROBE = """
import importlib.util, json, os, shutil
status = dict(line.split(":", 1) for line in open("/proc/1/status"))
root = next(line.split() for line in open("/proc/mounts") if line.split()[1] == "/")
print(json.dumps({
    "uid": os.getuid(),
    "capabilities": [int(status[name], 16) for name in ("CapEff", "CapPrm", "CapBnd")],
    "new privileges": status["NoNewPrivs"].strip() == "0",
    "root": root[3].split(",")[0],
    "modules": [n for n in ("torch", "sklearn") if importlib.util.find_spec(n)],
    "programs": [n for n in ("gcc", "cc", "make") if shutil.which(n)],
    "bundle": os.access("/bundle", os.W_OK),
}))
"""


@dataclass
class Project:
    """A compose project of this test's own."""

    root: Path
    env: dict[str, str]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.env['FAULTCUBE_PORT']}"

    def do(self, command: str, *more: str) -> str:
        return output_of([*shlex.split(command), *more], cwd=self.root, env=self.env)

    def inspect(self) -> dict[str, Any]:
        container = self.do("docker compose ps -q service").strip()
        found: dict[str, Any] = json.loads(self.do("docker inspect", container))[0]
        return found


@pytest.fixture(scope="session", autouse=True)
def engine() -> None:
    """Skip where containers cannot be started."""
    for command in ("docker info", "docker compose version"):
        try:
            done = subprocess.run(
                shlex.split(command), capture_output=True, text=True, check=False, timeout=60
            )
        except FileNotFoundError:
            pytest.skip("docker is not installed")
        if done.returncode:
            pytest.skip(f"`{command}` fails: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture
def project(root: Path, free_port: int) -> Iterator[Project]:
    name = f"faultcube-test-{secrets.token_hex(4)}"
    env = environment(COMPOSE_PROJECT_NAME=name, FAULTCUBE_PORT=str(free_port))
    project = Project(root, env)
    try:
        yield project
    finally:
        project.do("docker compose down -v --remove-orphans")


def test_the_service_comes_up_hardened_and_classifies_real_records(
    project: Project, examples: bytes, labels: list[str]
) -> None:
    project.do("docker compose up -d --build --wait")

    assert httpx2.get(f"{project.url}/readyz").status_code == 200
    assert classify(project.url, examples) == labels
    assert project.inspect()["State"]["Health"]["Status"] == "healthy"
    assert json.loads(project.do("docker compose exec -T service python -c", PROBE)) == {
        "uid": 10001,
        "capabilities": [0, 0, 0],
        "new privileges": False,
        "root": "ro",
        "modules": [],
        "programs": [],
        "bundle": False,
    }
    size = int(project.do("docker image inspect -f {{.Size}} faultcube/service"))
    assert size < 600e6, f"{size / 1e6:.0f} MB"


def test_a_spoilt_bundle_is_refused_by_name_and_reason(
    project: Project, bundle: Path, tmp_path: Path
) -> None:
    spoilt = shutil.copytree(bundle, tmp_path / "spoilt")
    graph = spoilt / "encoder.onnx"
    graph.write_bytes(graph.read_bytes()[:-1])
    project.env["FAULTCUBE_BUNDLE_DIR"] = str(spoilt)
    project.do("docker compose up -d --build")

    def refusal() -> str | None:
        try:
            answer = httpx2.get(f"{project.url}/readyz")
        except httpx2.TransportError:
            return None
        assert answer.status_code == 503
        return answer.text if "refused" in answer.text else None

    reason = eventually(refusal, seconds=60)
    assert "encoder.onnx was altered or cut off" in reason
    assert httpx2.post(f"{project.url}/classify", json={"records": []}).status_code == 503


def test_a_folder_that_is_not_there_is_an_error_and_is_not_made(
    project: Project, tmp_path: Path
) -> None:
    project.env["FAULTCUBE_BUNDLE_DIR"] = str(tmp_path / "gone")
    with pytest.raises(AssertionError, match="bind source path does not exist"):
        project.do("docker compose up -d --build")
    assert not (tmp_path / "gone").exists()


@pytest.mark.skipif(
    "FAULTCUBE_WHEELS" not in os.environ,
    reason="FAULTCUBE_WHEELS names no folder with a CPU wheel of torch; without, it is gigabytes",
)
def test_the_training_container_writes_a_bundle(project: Project, tmp_path: Path) -> None:
    project.env["FAULTCUBE_WHEELS"] = os.environ["FAULTCUBE_WHEELS"]
    project.env["FAULTCUBE_OUT_DIR"] = str(tmp_path)
    project.env["FAULTCUBE_USER"] = f"{os.getuid()}:{os.getgid()}"
    command = "docker compose run --rm --build training"
    project.do(
        command, *shlex.split("train --recipe training/iosxr.toml --out build/new --epochs 1")
    )
    assert Bundle.read(tmp_path / "new").manifest.name == "iosxr"
