"""Archives through the commands, by every engine, with workers and the command itself killed."""

from __future__ import annotations

from pathlib import Path

import polars as pl
import pyarrow as pa
import pyarrow.parquet
import pytest

from models import Model
from tests.support.workers import ENGINES, ROOT, Run, content, interrupted_and_run_again

DATA = ROOT / "training/data/cisco-iosxr"


@pytest.fixture(scope="module")
def classify(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Classify six tables, which keep two workers busy for some seconds."""
    examples = [dict(record) for record in Model.load(ROOT / "models/iosxr").examples]
    table = pa.Table.from_pylist(examples * 15_000)
    folder = tmp_path_factory.mktemp("archive")
    for month in range(6):
        (folder / f"2026-{month:02}").mkdir()
        pa.parquet.write_table(table, folder / f"2026-{month:02}/records.parquet")
    return ["classify", folder]


@pytest.fixture(scope="module")
def assemble(tmp_path_factory: pytest.TempPathFactory) -> list[str | Path]:
    """Assemble the points of 44 devices, as long."""
    points = pl.scan_parquet(DATA / "excerpt.parquet")
    folder = tmp_path_factory.mktemp("points")
    for number in range(4):
        device = pl.concat_str("device", pl.lit(f"-{number}"))
        points.with_columns(device.alias("device")).sink_parquet(folder / f"{number}.parquet")
    mapping = DATA / "mapping.toml"
    return ["assemble", folder, "--mapping", mapping, "--keep", "label", "--units", "12"]


def undisturbed(command: list[str | Path], out: Path) -> tuple[str, dict[str, bytes]]:
    run = Run("local", out, *command)
    try:
        return run.ended(), content(out)
    finally:
        run.end()


@pytest.fixture(scope="module")
def verdicts(
    classify: list[str | Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    said, found = undisturbed(classify, tmp_path_factory.mktemp("out") / "verdicts")
    assert "360,000 records" in said
    return found


@pytest.fixture(scope="module")
def records(
    assemble: list[str | Path], tmp_path_factory: pytest.TempPathFactory
) -> dict[str, bytes]:
    said, found = undisturbed(assemble, tmp_path_factory.mktemp("out") / "records")
    assert "2,820,432 points became 7,016 records of 44 device" in said
    return found


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_and_a_killed_command_lose_and_double_no_verdict(
    classify: list[str | Path], verdicts: dict[str, bytes], tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "verdicts"
    assert "were done before" in interrupted_and_run_again(engine, out, *classify)
    assert content(out) == verdicts


@pytest.mark.parametrize("engine", ENGINES)
def test_a_killed_worker_and_a_killed_command_lose_and_double_no_record(
    assemble: list[str | Path], records: dict[str, bytes], tmp_path: Path, engine: str
) -> None:
    out = tmp_path / "records"
    assert "were there" in interrupted_and_run_again(engine, out, *assemble)
    assert content(out) == records
