"""An archive assembled by units is the table that all points give at once."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import polars as pl
import pytest
from polars.testing import assert_frame_equal

from models.engines import ENGINES
from models.telemetry.mapping import Mapping
from tests.support.feeds import GAUGE, START
from training.assembly.assemble import assemble
from training.assembly.command import assemble_archive
from training.assembly.points_table import PointsTable
from training.assembly.units import Job, assemble_units, files_of
from training.recipe import RecipeError

LOCAL = ENGINES["local"]
DEVICES = [f"router{number}" for number in range(9)]


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.toml"
    path.write_text(f'name = "t"\nkey = ["device"]\ninterval = 5\n{GAUGE}')
    return path


@pytest.fixture
def archive(tmp_path: Path) -> Path:
    """Points of nine devices over two hours, in four files that overlap in time."""
    folder = tmp_path / "points"
    (folder / "later").mkdir(parents=True)
    rows = pl.DataFrame(
        {
            "device": DEVICES * 200,
            "time": [START + n // 9 * 5 for n in range(9 * 200)],
            "load": [float(n % 17) for n in range(9 * 200)],
            "label": [f"l{n % 3}" for n in range(9 * 200)],
        }
    )
    for part in range(4):
        place = folder / ("later" if part > 1 else ".") / f"{part}.parquet"
        rows.gather_every(4, part).write_parquet(place)
    return folder


def job_of(archive: Path, mapping: Path, out: Path, units: int = 3) -> Job:
    return Job(files_of(str(archive)), mapping, out, units, ("label",))


def at_once(archive: Path, mapping: Path) -> pl.DataFrame:
    rows = pl.concat([pl.read_parquet(path) for path in files_of(str(archive))])
    table = PointsTable.of(rows, Mapping.read(mapping), "time", "s", ["label"])
    return assemble(table).rows


def parts_of(out: Path) -> pl.DataFrame:
    return pl.read_parquet(out / "*.parquet").sort("device", "time")


@pytest.mark.parametrize("units", [1, 3, 64])
def test_the_parts_together_are_what_all_points_give_at_once(
    units: int, archive: Path, mapping: Path, tmp_path: Path
) -> None:
    summary = assemble_units(job_of(archive, mapping, tmp_path / "out", units), LOCAL, 1)
    whole = at_once(archive, mapping)
    assert_frame_equal(parts_of(tmp_path / "out"), whole)
    assert (summary.keys, summary.counts.points, summary.counts.records) == (9, 1800, len(whole))
    assert summary.made == summary.units <= 9


def test_a_column_that_the_first_file_lacks_is_read(mapping: Path, tmp_path: Path) -> None:
    """As that of an interface that is new."""
    folder = tmp_path / "points"
    folder.mkdir()
    times = {"device": "r1", "time": [START, START + 5]}
    pl.DataFrame({**times, "other": 1.0}).write_parquet(folder / "1.parquet")
    late = {"device": "r1", "time": [START + 10, START + 15]}
    pl.DataFrame({**late, "load": 2.0}).write_parquet(folder / "2.parquet")
    job = Job(files_of(str(folder)), mapping, tmp_path / "out", 1)
    assemble_units(job, LOCAL, 1)
    assert 2.0 in parts_of(tmp_path / "out").to_series(2).to_list()


def test_what_is_missing_is_made_by_the_same_command_and_nothing_else(
    archive: Path, mapping: Path, tmp_path: Path
) -> None:
    job = job_of(archive, mapping, tmp_path / "out")
    first = assemble_units(job, LOCAL, 2)
    parts = {path: path.read_bytes() for path in job.out.glob("*.parquet")}
    lost, *others = parts
    lost.unlink()
    changed = {path: path.stat().st_mtime_ns for path in others}
    again = assemble_units(job, LOCAL, 2)
    assert again == replace(first, made=1)
    assert {path: path.read_bytes() for path in job.out.glob("*.parquet")} == parts
    assert {path: path.stat().st_mtime_ns for path in others} == changed


def test_a_folder_of_something_else_is_refused(
    archive: Path, mapping: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    assemble_units(job_of(archive, mapping, out), LOCAL, 1)
    with pytest.raises(RecipeError, match="other points or options"):
        assemble_units(job_of(archive, mapping, out, units=2), LOCAL, 1)
    pl.DataFrame({"device": ["new"], "time": [START], "load": [1.0], "label": ["l"]}).write_parquet(
        archive / "new.parquet"
    )
    with pytest.raises(RecipeError, match="other points or options"):
        assemble_units(job_of(archive, mapping, out), LOCAL, 1)
    with pytest.raises(RecipeError, match=r"holds mapping.toml; give a new folder"):
        assemble_units(job_of(archive, mapping, tmp_path), LOCAL, 1)


def run(points: str, mapping: Path, folder: Path) -> int:
    return assemble_archive(points, mapping, folder / "out", [], "time", "s", 2, "local", 1)


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"time": [START], "load": [1.0]}, "no column 'device', which units need"),
        ({"device": ["a"], "load": [1.0]}, "no column 'time', which units need"),
        ({"device": ["a"], "time": [START], "other": [1.0]}, "no record came of the points"),
        ({"device": [None], "time": [START], "load": [1.0]}, "no record came of the points"),
    ],
)
def test_points_that_cannot_be_parted_are_one_line(
    columns: dict[str, list[object]],
    why: str,
    mapping: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    pl.DataFrame(columns).write_parquet(tmp_path / "some.parquet")
    pattern = str(tmp_path / "*.parquet")
    assert run(pattern, mapping, tmp_path) == 2
    said = capsys.readouterr().err
    assert why in said
    assert said.count("\n") == 1


def test_an_archive_without_files_and_files_that_are_none_are_one_line(
    mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(str(tmp_path), mapping, tmp_path) == 2
    assert "there are no Parquet files of points" in capsys.readouterr().err
    assert run(str(tmp_path / "*.parquet"), mapping, tmp_path) == 2
    assert "there are no Parquet files of points" in capsys.readouterr().err
    table, out = tmp_path / "none.parquet", tmp_path / "a.csv"
    assert assemble_archive(str(table), mapping, out, (), "time", "s", 1, "local", 1) == 2
    assert capsys.readouterr().err == f"faultcube: there is no table {table}\n"
    (tmp_path / "bad.parquet").write_text(json.dumps({}))
    assert run(str(tmp_path), mapping, tmp_path) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.parametrize("name", ["a.csv", "a.csv.gz", "a.parquet"])
def test_a_table_is_not_taken_for_the_folder_of_units(
    name: str, archive: Path, mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / name
    assert assemble_archive(str(archive), mapping, out, (), "time", "s", 4, "local", 1) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"faultcube: {out}: parts are written into a folder")
    assert said.count("\n") == 1
    assert not out.exists()


def test_a_mapping_that_is_not_there_is_named(
    archive: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    mapping = tmp_path / "none.toml"
    assert run(str(archive), mapping, tmp_path) == 2
    assert capsys.readouterr().err == f"faultcube: there is no file {mapping}\n"
