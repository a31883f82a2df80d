"""A model of one network meets another one."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from tests.support.running import environment, output_of

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


def network(seed: int, *, scale: float = 1.0, shift: float = 0.0) -> pl.DataFrame:
    """Records of good traffic, of a slow link and of a busy one, in the units of one network."""
    rng = np.random.default_rng(seed)
    labels = rng.choice(["good", "slow", "busy"], 900, p=[0.8, 0.1, 0.1])
    columns = {"latency_ms": ("slow", 10, 1), "in_pps": ("busy", 500, 40), "sessions": ("", 20, 3)}
    values = {
        name: rng.normal(level, spread, 900) + 12 * spread * (labels == fault)
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
