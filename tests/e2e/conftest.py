"""The checkout and the bundle that ships, as a user has them."""

from __future__ import annotations

import json
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def root() -> Path:
    return ROOT


@pytest.fixture(scope="session")
def bundle() -> Path:
    return ROOT / "models" / "iosxr"


@pytest.fixture(scope="session")
def examples(bundle: Path) -> bytes:
    """A request body with one real record of each class."""
    return (bundle / "examples.json").read_bytes()


@pytest.fixture(scope="session")
def labels(bundle: Path) -> list[str]:
    """The labels that the examples must get, in order."""
    manifest = json.loads((bundle / "manifest.json").read_text())
    return [known["name"] for known in manifest["classes"]]


@pytest.fixture
def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
    return port


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a commit of the working tree would hold, in a folder of its own."""
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listing.returncode:
        pytest.skip(f"not a git checkout: {listing.stderr.strip()}")
    copy = tmp_path_factory.mktemp("checkout")
    for name in filter(None, listing.stdout.split("\0")):
        source = ROOT / name
        if source.is_file():
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, copy / name)
    return copy
