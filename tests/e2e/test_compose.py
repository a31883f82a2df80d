from __future__ import annotations

import hashlib
import json
import os
import secrets
import shlex
import shutil
import sqlite3
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest
import yaml  # type: ignore[import-untyped]

from models import Bundle
from tests.support.running import classify, environment, eventually, output_of

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
pytestmark = pytest.mark.xdist_group("containers")
ADMIN = {"X-API-Key": "an admin key"}
Json = dict[str, Any]


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

    def feed(self, content: bytes, command: str, *more: str) -> str:
        """Run a command that reads this."""
        done = subprocess.run(
            [*shlex.split(command), *more],
            cwd=self.root,
            env=self.env,
            input=content,
            capture_output=True,
            check=False,
            timeout=300,
        )
        assert done.returncode == 0, done.stderr.decode()
        return done.stdout.decode()

    def urls(self) -> list[str]:
        """The address of each replica."""
        replicas = len(self.do("docker compose ps -q service").split())
        look = "docker compose port service 8000 --index"
        return [f"http://{self.do(look, str(n + 1)).strip()}" for n in range(replicas)]

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


def have_image(root: Path, service: str) -> None:
    """Skip where the image of a service is not at hand and cannot be pulled."""
    if not shutil.which("docker"):
        pytest.skip("docker is not installed")
    image = yaml.safe_load((root / "docker-compose.yml").read_text())["services"][service]["image"]
    for command in (["image", "inspect", image], ["pull", "--quiet", image]):
        done = subprocess.run(
            ["docker", *command], capture_output=True, text=True, check=False, timeout=300
        )
        if not done.returncode:
            return
    pytest.skip(f"{image} cannot be had: {done.stderr.strip().splitlines()[-1]}")


@pytest.fixture
def odd(examples: bytes) -> Json:
    """A record that no class of the bundle accepts."""
    record: Json = json.loads(examples)["records"][0]
    return record | {name: 1e6 for name, value in record.items() if isinstance(value, float)}


@pytest.fixture
def learning(project: Project) -> Project:
    """A project whose service may be changed, on any free ports."""
    digest = hashlib.sha256(ADMIN["X-API-Key"].encode()).hexdigest()
    project.env |= {"FAULTCUBE_ADMIN_KEYS": digest, "FAULTCUBE_PORT": "0"}
    return project


def enrol(url: str, name: str, record: Json) -> httpx2.Response:
    form = {"name": name, "records": [record]}
    return httpx2.post(f"{url}/classes", json=form, headers=ADMIN, timeout=30)


def labels_of(url: str, *records: Json) -> list[str]:
    return classify(url, json.dumps({"records": records}).encode())


def state_of(url: str) -> tuple[str, int]:
    answer = httpx2.get(f"{url}/readyz").json()
    return answer["status"], answer["revision"]


def until(state: tuple[str, int], *urls: str) -> None:
    """Wait until each of them says so."""
    eventually(lambda: all(state_of(url) == state for url in urls) or None, seconds=30)


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
    assert httpx2.get(f"{project.url}/").text.startswith("<!doctype html>")
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
    assert project.do("docker compose exec -T service ls -A /state") == ""
    size = int(project.do("docker image inspect -f {{.Size}} faultcube/service"))
    assert size < 600e6, f"{size / 1e6:.0f} MB"


def test_bundles_of_a_store_are_copied_into_the_volume_and_served(
    project: Project, examples: bytes, labels: list[str]
) -> None:
    # Any address that pyarrow knows; here the folder that the container sees, as one of bundles.
    project.env |= {"FAULTCUBE_BUNDLES_FROM": "file:///bundles"}
    mount = {"type": "bind", "source": str(project.root / "models"), "target": "/bundles"}
    override = {"services": {"service": {"volumes": [mount]}}}
    command = "docker compose -f docker-compose.yml -f - up -d --build --wait"
    project.feed(json.dumps(override).encode(), command)

    assert classify(project.url, examples) == labels
    assert project.do("docker compose exec -T service ls /state/bundle").split() == ["iosxr"]


def test_tables_of_every_kind_are_classified_in_the_container(
    project: Project, examples: bytes, labels: list[str]
) -> None:
    program = """
import json, sys
import pyarrow as pa, pyarrow.csv, pyarrow.parquet
table = pa.Table.from_pylist(json.load(sys.stdin)["records"])
pa.csv.write_csv(table, "/tmp/a.csv")
pa.parquet.write_table(table, "/tmp/b.parquet", compression="zstd")
"""
    script = (
        f"python -c {shlex.quote(program)} && faultcube classify /tmp/a.csv --bundle /bundle"
        " && faultcube classify /tmp/b.parquet --bundle /bundle --out /tmp/c.parquet"
        " && faultcube classify /tmp/b.parquet --bundle /bundle"
    )
    project.do("docker compose build service")
    command = "docker compose run --rm --no-deps -T --entrypoint sh service -ec"
    lines = [line.split(",") for line in project.feed(examples, command, script).splitlines()]
    assert [line for line in lines if line == lines[0]] == [lines[0]] * 2
    column = lines[0].index("label")
    assert [line[column].strip('"') for line in lines if line != lines[0]] == labels * 2


def test_what_was_enrolled_outlives_the_containers_and_the_volume(
    learning: Project, examples: bytes, labels: list[str], odd: Json, tmp_path: Path
) -> None:
    learning.do("docker compose up -d --build --wait --scale service=2")
    first, second = learning.urls()
    assert labels_of(first, odd) == ["unknown"]
    assert enrol(first, "odd", odd).status_code == 201
    until(("ready", 1), first, second)
    assert labels_of(second, odd) == ["odd"]
    probe = json.loads(learning.do("docker compose exec -T service python -c", PROBE))
    assert (probe["uid"], probe["root"]) == (10001, "ro")

    learning.do("docker compose restart")
    learning.do("docker compose up -d --wait --scale service=1")
    [url] = learning.urls()
    assert state_of(url) == ("ready", 1)
    assert labels_of(url, odd) == ["odd"]

    backup = tmp_path / "classes.sqlite"
    file = "/state/faultcube/classes.sqlite"
    copy = f"import sqlite3; sqlite3.connect('{file}').execute('VACUUM INTO ?', ['/state/backup'])"
    learning.do("docker compose exec -T service python -c", copy)
    learning.do("docker compose cp service:/state/backup", str(backup))
    learning.do("docker compose exec -T service rm /state/backup")
    database = sqlite3.connect(backup)
    assert database.execute("SELECT name FROM classes").fetchall() == [("odd",)]
    database.close()

    learning.do("docker compose down")
    learning.do("docker compose up -d --wait")
    [url] = learning.urls()
    assert labels_of(url, odd) == ["odd"]
    assert httpx2.delete(f"{url}/classes/odd", headers=ADMIN).is_success
    assert labels_of(url, odd) == ["unknown"]

    learning.do("docker compose down -v")
    restore = f"umask 77 && mkdir -p /state/faultcube && cat >{file} && rm -f {file}-wal {file}-shm"
    command = "docker compose run --rm -T --entrypoint sh service -ec"
    learning.feed(backup.read_bytes(), command, restore)
    del learning.env["FAULTCUBE_ADMIN_KEYS"]
    learning.do("docker compose up -d --wait")
    [url] = learning.urls()
    assert state_of(url) == ("ready", 1)
    assert labels_of(url, odd) == ["odd"]
    assert classify(url, examples) == labels
    assert enrol(url, "other", odd).status_code == 403


def test_replicas_share_postgresql_and_go_on_without_it(
    learning: Project, examples: bytes, labels: list[str], odd: Json
) -> None:
    have_image(learning.root, "postgres")
    learning.env |= {
        "COMPOSE_PROFILES": "postgres",
        "FAULTCUBE_DATABASE_URL": "postgresql://faultcube@postgres/faultcube",
        "FAULTCUBE_POSTGRES_PASSWORD": secrets.token_urlsafe(),
    }
    learning.do("docker compose up -d --build --wait --scale service=2")
    first, second = learning.urls()
    assert enrol(first, "odd", odd).status_code == 201
    until(("ready", 1), first, second)
    assert labels_of(second, odd) == ["odd"]

    container = learning.do("docker compose ps -q postgres").strip()
    told = json.loads(learning.do("docker inspect", container))[0]
    assert not any(told["NetworkSettings"]["Ports"].values())
    [network] = told["NetworkSettings"]["Networks"]
    assert learning.do("docker network inspect -f {{.Internal}}", network) == "true\n"
    probe = (
        "id -u; sed -n 's/^\\(CapEff\\|CapBnd\\|NoNewPrivs\\):\\s*//p' /proc/1/status;"
        "test -w /; echo $?"
    )
    uid, *rest = learning.do("docker compose exec -T postgres sh -c", probe).split()
    assert uid != "0"
    assert rest == ["0" * 16, "0" * 16, "1", "1"]
    login = "psql -h postgres -U faultcube -c 'SELECT 1'"
    with pytest.raises(AssertionError, match="no password supplied"):
        learning.do("docker compose exec -T postgres", *shlex.split(login))

    learning.do("docker compose kill postgres")
    until(("degraded", 1), first, second)
    assert labels_of(first, odd) == labels_of(second, odd) == ["odd"]
    assert classify(first, examples) == labels
    refused = enrol(first, "other", odd)
    assert (refused.status_code, refused.json()["reason"]) == (503, "store_away")

    learning.do("docker compose up -d --wait --scale service=2")
    until(("ready", 1), first, second)
    learning.do("docker compose down")
    learning.do("docker compose up -d --wait")
    [url] = learning.urls()
    assert state_of(url) == ("ready", 1)
    assert labels_of(url, odd) == ["odd"]


def test_a_database_without_a_password_does_not_start(project: Project) -> None:
    have_image(project.root, "postgres")
    project.env["COMPOSE_PROFILES"] = "postgres"
    with pytest.raises(AssertionError, match="postgres"):
        project.do("docker compose up -d --wait --wait-timeout 20 postgres")
    assert "password" in project.do("docker compose logs postgres").lower()


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
