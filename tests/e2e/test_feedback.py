"""From what an operator says to the bundle that has learned it."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import httpx2
import polars as pl
import pytest

from models import Bundle
from tests.support.running import environment, running

HEAD = {"X-API-Key": "my-admin-key"}
COMMANDS = """\
faultcube export-feedback new.csv
faultcube retrain --recipe training/iosxr.toml --running models/iosxr --add new.csv --out bundles
"""


@pytest.fixture
def copy(root: Path, tmp_path: Path) -> Path:
    """The recipe that ships with its table, without its backtest and with a shorter fit."""
    for part in ("models/iosxr", "training/data"):
        shutil.copytree(root / part, tmp_path / part)
    recipe = (root / "training" / "iosxr.toml").read_text()
    recipe = recipe.partition("[[backtests]]")[0] + "[fit]\nepochs = 8\nbatch = 128\n"
    (tmp_path / "training" / "iosxr.toml").write_text(recipe)
    (tmp_path / "bundles").mkdir()
    return tmp_path


def test_what_operators_say_reaches_the_next_bundle(
    copy: Path, examples: bytes, labels: list[str]
) -> None:
    programs = Path(sys.executable).parent
    env = environment(
        PATH=f"{programs}{os.pathsep}{os.environ['PATH']}",
        FAULTCUBE_PORT="0",
        FAULTCUBE_ADMIN_KEYS=hashlib.sha256(b"my-admin-key").hexdigest(),
        FAULTCUBE_DATABASE_URL=f"sqlite:///{copy / 'classes.sqlite'}",
    )
    normal: dict[str, Any] = json.loads(examples)["records"][0]
    cards, routes = (
        [
            normal | {name: 5000.0 + 100 * i for name in normal if name.startswith(prefix)}
            for i in range(6)
        ]
        for prefix in ("rate_", "rel_")
    )
    with running("faultcube serve", cwd=copy, env=env, seconds=60) as (_, url):
        enrolled = {"name": "broken_card", "records": cards[:1]}  # a single record is enough
        assert httpx2.post(f"{url}/classes", json=enrolled, headers=HEAD).status_code == 201
        for route in routes:
            said = {"record": route, "true_label": "lost_routes", "note": "ticket 4711"}
            assert httpx2.post(f"{url}/feedback", json=said, headers=HEAD).status_code == 201

    def run(command: str) -> str:
        done = subprocess.run(
            command.split(), cwd=copy, env=env, capture_output=True, text=True, check=False,
            timeout=400,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    export, retrain = COMMANDS.splitlines()
    run(export)
    assert pl.read_csv(copy / "new.csv")["label"].sort().to_list() == [
        "broken_card",
        *["lost_routes"] * 6,
    ]
    told = run(retrain)
    assert "recall of lost_routes" in told
    (made,) = (copy / "bundles").iterdir()
    manifest = Bundle.read(made).manifest
    assert [known.name for known in manifest.classes] == [*labels, "broken_card", "lost_routes"]
    assert [known.records for known in manifest.classes if known.enrolled] == [1, 6]
    assert (
        manifest.training["retrained_from"]
        == Bundle.read(copy / "models" / "iosxr").manifest.version
    )
    with running(f"faultcube serve {made}", cwd=copy, env=env, seconds=60) as (_, url):
        asked = {"records": [*cards, *routes, *json.loads(examples)["records"]]}
        results = httpx2.post(f"{url}/classify", json=asked).json()["results"]
        assert [each["label"] for each in results] == [
            *["broken_card"] * 6, *["lost_routes"] * 6, *labels,
        ]  # fmt: skip
        # The bundle has the class itself now: the one that was enrolled is parked.
        known = httpx2.get(f"{url}/classes/broken_card").json()
        assert (known["source"], known["state"]) == ("enrolled", "parked")
