"""Bundles and archives in a real object store: an S3 server on this machine."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import httpx2
import pyarrow as pa
import pyarrow.parquet
import pytest
import typer
from typer.testing import CliRunner

from models import Bundle, Model
from models.signature import new_key, sign
from service import cli
from tests.support.bundles import put_bundle
from tests.support.object_store import KEYS, ObjectStore, object_store
from tests.support.running import Running, environment, eventually, running

FAULTCUBE = Path(sys.executable).with_name("faultcube")
SECONDS = 5.0
"""From the end of an upload until every replica serves the bundle."""


@pytest.fixture(scope="session")
def store(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ObjectStore]:
    with object_store(tmp_path_factory.mktemp("weed")) as server:
        for bucket in ("models", "open", "closed"):
            server.make_bucket(bucket)
        yield server


@pytest.fixture
def key(tmp_path: Path) -> Path:
    """A private key, its public one beside it."""
    path = tmp_path / "fleet.key"
    path.with_suffix(".pub").write_text(new_key(path))
    return path


Service = tuple[Running, str]


@contextmanager
def replica(folder: Path, address: str, key: Path) -> Iterator[Service]:
    env = environment(
        FAULTCUBE_BUNDLES_FROM=address,
        FAULTCUBE_BUNDLE=str(folder),
        FAULTCUBE_TRUSTED_KEYS=str(key.with_suffix(".pub")),
    )
    command = f"{FAULTCUBE} serve --port 0"
    with running(command, cwd=folder.parent, env=env, seconds=60) as service:
        yield service


def shelf(url: str) -> dict[str, dict[str, str]]:
    models = httpx2.get(f"{url}/models", timeout=30).json()["models"]
    return {entry["folder"]: entry for entry in models}


def served(url: str) -> str:
    version: str = httpx2.get(f"{url}/readyz", timeout=30).json()["bundle"]["version"]
    return version


class Load:
    """Clients that ask replicas, about eighty times a second each."""

    def __init__(self, urls: list[str], body: bytes) -> None:
        self.statuses, self.bundles = Counter[object](), Counter[str]()
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._ask, args=[url, body]) for url in urls]

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(60)

    def _ask(self, url: str, body: bytes) -> None:
        with httpx2.Client(timeout=30) as client:
            while not self._stop.wait(0.01):
                try:
                    answer = client.post(f"{url}/classify", content=body)
                    self.statuses[answer.status_code] += 1
                    self.bundles[answer.headers["faultcube-bundle"].partition("/")[2]] += 1
                except httpx2.TransportError as error:
                    self.statuses[repr(error)] += 1


@pytest.mark.alone
def test_replicas_swap_to_an_uploaded_bundle_and_never_serve_an_altered_one(
    store: ObjectStore, bundle: Path, examples: bytes, key: Path, tmp_path: Path
) -> None:
    first = put_bundle(bundle, tmp_path / "first", day=400)
    second = put_bundle(bundle, tmp_path / "second", day=500)
    for name in ("first", "second"):
        sign(tmp_path / name, key)
    spoil(bundle, tmp_path, key)
    store.put(tmp_path / "first", "models/fleet/first")
    with ExitStack() as stack:
        folders = [tmp_path / "replica-1", tmp_path / "replica-2"]
        address = store.address("models/fleet")
        services = [stack.enter_context(replica(path, address, key)) for path in folders]
        urls = [url for _, url in services]
        load = stack.enter_context(Load(urls, examples))
        assert [served(url) for url in urls] == [first, first]

        store.put(tmp_path / "second", "models/fleet/second")
        uploaded = time.monotonic()
        for url in urls:
            eventually(lambda url=url: served(url) == second or None, seconds=30)  # type: ignore[misc]
        assert time.monotonic() - uploaded <= SECONDS

        for name, reason in SPOILT.items():
            store.put(tmp_path / name, f"models/fleet/{name}")
            for url in urls:
                entry = eventually(lambda n=name, u=url: shelf(u).get(n), seconds=30)  # type: ignore[misc]
                assert entry["state"] == "refused"
                assert reason in entry["reason"]
        # What is served is altered in its place, which replicas that know it do not take over.
        store.put(tmp_path / "byte", "models/fleet/second")
        for url in urls:
            eventually(lambda u=url: "altered" in shelf(u)["second"]["reason"] or None, seconds=30)  # type: ignore[misc]
            assert shelf(url)["second"]["state"] == "served"
            assert served(url) == second
            metrics = httpx2.get(f"{url}/metrics").text
            assert f"faultcube_bundle_refused_total {len(SPOILT) + 1}.0" in metrics
        store.remove("models/fleet/second")
        for url in urls:
            eventually(lambda u=url: served(u) == first or None, seconds=30)  # type: ignore[misc]
    assert set(load.statuses) == {200}
    assert set(load.bundles) == {first, second}
    for service, _ in services:
        assert not any(secret in service.output for secret in KEYS.values())


SPOILT = {
    "byte": "encoder.onnx was altered",
    "remade": "the signature does not fit",
    "unsigned": "it is not signed",
}


def spoil(bundle: Path, folder: Path, key: Path) -> None:
    """Make bundles newer than all others: each is all right but for what its name says."""
    for day, name in enumerate(SPOILT, start=600):
        put_bundle(bundle, folder / name, day=day)
    sign(folder / "byte", key)
    data = bytearray((folder / "byte/encoder.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (folder / "byte/encoder.onnx").write_bytes(data)
    shutil.copy(folder / "byte/manifest.sig", folder / "remade/manifest.sig")
    for name in ("remade", "unsigned"):
        Bundle.read(folder / name)


def test_a_store_that_ends_is_told_and_the_copies_serve_on(
    bundle: Path, key: Path, tmp_path: Path
) -> None:
    version = put_bundle(bundle, tmp_path / "only", day=400)
    sign(tmp_path / "only", key)
    data, copies = tmp_path / "weed", tmp_path / "copies"
    data.mkdir()
    with object_store(data) as store:
        store.make_bucket("models")
        store.put(tmp_path / "only", "models/only")
        address = store.address("models")
        with replica(copies, address, key) as (_, url):
            assert served(url) == version
            store.process.kill()
            ready = eventually(lambda: degraded(url), seconds=60)
            assert ready["bundle"]["version"] == version
            assert re.search(r"bundles of s3://models cannot be followed: ", ready["detail"])
            assert "faultcube_bundle_source_up 0.0" in httpx2.get(f"{url}/metrics").text
            assert not any(secret in ready["detail"] for secret in KEYS.values())
        with replica(copies, address, key) as (_, url):
            assert served(url) == version


def test_the_command_of_the_page_serves_the_bundles_of_a_store(
    store: ObjectStore, bundle: Path, tmp_path: Path
) -> None:
    """With credentials in the environment."""
    command = """
        FAULTCUBE_BUNDLES_FROM=s3://bucket/models FAULTCUBE_BUNDLE=/var/lib/faultcube/bundles faultcube serve
    """  # noqa: E501
    version = put_bundle(bundle, tmp_path / "only", day=400)
    store.put(tmp_path / "only", "models/page/only")
    command = command.replace("bucket/models", "models/page").replace("/var/lib", str(tmp_path))
    env = environment(
        PATH=f"{FAULTCUBE.parent}{os.pathsep}{os.environ['PATH']}",
        FAULTCUBE_PORT="0",
        AWS_ACCESS_KEY_ID="writer",
        AWS_SECRET_ACCESS_KEY=KEYS["writer"],
        AWS_DEFAULT_REGION="us-east-1",
        AWS_ENDPOINT_URL=f"http://127.0.0.1:{store.port}",
    )
    with running(f"env {command}", cwd=tmp_path, env=env, seconds=60) as (_, url):
        assert served(url) == version
    assert (tmp_path / "faultcube/bundles/only/manifest.json").is_file()


def degraded(url: str) -> dict[str, Any] | None:
    answer: dict[str, Any] = httpx2.get(f"{url}/readyz").json()
    return answer if answer["status"] == "degraded" else None


def classify(source: str, out: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [FAULTCUBE, "classify", source, "--out", out, "--jobs", "1"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


@pytest.fixture(scope="module")
def archive(store: ObjectStore, bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three tables, here and in a bucket."""
    folder = tmp_path_factory.mktemp("archive")
    records = [dict(record) for record in Model.load(bundle).examples]
    for month in ("10", "11", "12"):
        (folder / f"2026-{month}").mkdir()
        pa.parquet.write_table(
            pa.Table.from_pylist(records * 50), folder / f"2026-{month}/r.parquet"
        )
    store.put(folder, "open/in")
    return folder


def test_an_archive_of_an_object_store_is_scored_and_resumed(
    store: ObjectStore, archive: Path, tmp_path: Path
) -> None:
    out = tmp_path / "here"
    assert classify(str(archive), str(out)).returncode == 0
    source, there = store.address("open/in"), store.address("open/out")
    first = classify(source, there)
    assert first.returncode == 0, first.stderr
    assert "of 3 units" in first.stderr
    files, base = pa.fs.FileSystem.from_uri(there)
    parts = [path.relative_to(out).as_posix() for path in sorted(out.rglob("*.parquet"))]
    assert len(parts) == 3
    for part in parts:
        assert read(files, f"{base}/{part}").equals(pa.parquet.read_table(out / part))

    files.delete_file(f"{base}/{parts[1]}")
    second = classify(source, there)
    assert second.returncode == 0, second.stderr
    assert "2 of 3 units were done before" in second.stderr
    assert read(files, f"{base}/{parts[1]}").equals(pa.parquet.read_table(out / parts[1]))
    with files.open_input_stream(f"{base}/_manifest.json") as stream:
        here = json.loads((out / "_manifest.json").read_text())
        assert json.loads(stream.read())["labels"] == here["labels"]
    assert not any(secret in first.stderr + second.stderr for secret in KEYS.values())


def read(files: pa.fs.FileSystem, path: str) -> pa.Table:
    with files.open_input_file(path) as file:
        return pa.parquet.read_table(file)


@pytest.mark.usefixtures("archive")
@pytest.mark.parametrize(
    ("source", "out", "who", "said"),
    [
        ("closed/in", "open/a", "reader", "s3://closed/in cannot be read: .*ACCESS_DENIED"),
        ("nowhere/in", "open/a", "writer", "s3://nowhere/in cannot be read: .*NO_SUCH_BUCKET"),
        ("open/nothing", "open/a", "writer", "s3://open/nothing cannot be read: "),
        ("open/in", "closed/a", "reader", "s3://closed/a cannot be used as --out: .*ACCESS_DENIED"),
        ("open/in", "open/b", "reader", "s3://open/b cannot be used as --out: .*ACCESS_DENIED"),
        ("open/in", "nowhere/a", "writer", "s3://nowhere/a cannot be used as --out: "),
    ],
)
def test_a_bucket_that_cannot_be_used_is_told_in_a_line_without_its_keys(
    store: ObjectStore,
    monkeypatch: pytest.MonkeyPatch,
    source: str,
    out: str,
    who: str,
    said: str,
) -> None:
    """In this process: to start one takes a second each time."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(cli.classify)
    addresses = [store.address(source, who=who), "--out", store.address(out, who=who)]
    refused = CliRunner().invoke(app, [*addresses, "--jobs", "1"])
    assert refused.exit_code == 2
    assert refused.stderr.count("\n") == 1
    assert re.match(f"faultcube: {said}", refused.stderr), refused.stderr
    assert not any(secret in refused.stderr for secret in KEYS.values())


def test_a_key_that_is_not_escaped_is_not_shown(store: ObjectStore) -> None:
    address = f"s3://writer:{KEYS['writer']}@open/in?endpoint_override=127.0.0.1:{store.port}"
    refused = classify(address, address)
    assert refused.returncode == 2
    assert refused.stderr.startswith("faultcube: s3://open/in is no address: ")
    assert "s3cret" not in refused.stderr
    assert refused.stderr.count("\n") == 1
