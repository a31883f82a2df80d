"""A model of one network meets another one."""

from __future__ import annotations

import hashlib
import json
import os
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from tests.support.running import environment, eventually, output_of, running

# ruff: noqa: E501
LEARN = """\
curl -s --fail -X POST http://127.0.0.1:8000/profiles/north -H 'X-API-Key: my-admin-key' -H 'Content-Type: application/json' --data '{"learn": 2000}'
curl -s --fail 'http://127.0.0.1:8000/classify?site=north' -H 'Content-Type: application/json' --data @records.json
curl -s --fail http://127.0.0.1:8000/profiles/north
"""
PROGRAMS = Path(sys.executable).parent
TRAIN = (
    "faultcube train mine.csv --name mine --label label --good good "
    "--split-random --epochs 2 --out build/mine"
)
ADAPT = "faultcube adapt build/mine site.csv --out site.json"
CLASSIFY = "faultcube classify site.csv --bundle build/mine --profile site.json --out verdicts.csv"


def run(command: str, cwd: Path) -> str:
    program, *arguments = shlex.split(command)
    return output_of([str(PROGRAMS / program), *arguments], cwd=cwd, env=environment())


def network(
    seed: int, *, records: int = 900, scale: float = 1.0, shift: float = 0.0
) -> pl.DataFrame:
    """Records of good traffic, of a slow link and of a busy one, in the units of one network."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["good", "slow", "busy"], records, p=[0.8, 0.1, 0.1])
    columns = {"latency_ms": ("slow", 10, 1), "in_pps": ("busy", 500, 40), "sessions": ("", 20, 3)}
    values = {
        name: rng.normal(level, spread, records) + 12 * spread * (labels == fault)
        for name, (fault, level, spread) in columns.items()
    }
    return pl.DataFrame({name: scale * x + shift for name, x in values.items()} | {"label": labels})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of one network, and a table of another one with other levels."""
    folder = tmp_path_factory.mktemp("networks")
    network(0).write_csv(folder / "mine.csv")
    network(1, scale=7, shift=300).write_csv(folder / "site.csv")
    run(TRAIN, folder)
    return folder


def test_another_network_is_understood_with_its_profile(folder: Path) -> None:
    run(CLASSIFY.replace("--profile site.json --out verdicts.csv", "--out plain.csv"), folder)
    said = run(ADAPT, folder)
    assert "latency_ms" in said
    run(CLASSIFY, folder)
    truth, plain, adapted = (
        pl.read_csv(folder / name, columns=["label"])["label"].to_numpy()
        for name in ("site.csv", "plain.csv", "verdicts.csv")
    )
    assert np.mean(plain == truth) < 0.3
    assert np.mean(adapted == truth) > 0.9


def test_a_site_learns_from_its_own_traffic(folder: Path, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("curl is not installed")
    table = network(2, records=2000, scale=7, shift=300)
    records = table.drop("label").to_dicts()
    (tmp_path / "records.json").write_text(json.dumps({"records": records}))
    env = environment(
        PATH=f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}",
        FAULTCUBE_PORT="0",
        FAULTCUBE_ADMIN_KEYS=hashlib.sha256(b"my-admin-key").hexdigest(),
        FAULTCUBE_DATABASE_URL=f"sqlite:///{tmp_path / 'classes.sqlite'}",
    )
    with running("faultcube serve build/mine", cwd=folder, env=env, seconds=60) as (_, url):
        learn, ask, show = (
            shlex.split(line.replace("http://127.0.0.1:8000", url)) for line in LEARN.splitlines()
        )

        def say(command: list[str]) -> dict[str, Any]:
            answer: dict[str, Any] = json.loads(output_of(command, cwd=tmp_path, env=env))
            return answer

        def right() -> float:
            given = [result["label"] for result in say(ask)["results"]]
            return float(np.mean(np.array(given) == table["label"].to_numpy()))

        assert say(learn)["profile"]["state"] == "learning"
        assert right() < 0.3
        known = eventually(
            lambda: known if (known := say(show))["state"] == "active" else None, seconds=20
        )
        assert known["records"] == 2000
        assert right() > 0.9
