"""Tables of points, wide and long."""

from __future__ import annotations

import datetime
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from models.telemetry.assembler import Assembler
from models.telemetry.records import Records
from tests.support.feeds import GAUGE, START, mapping_of
from training.assembly.points_table import PointsTable, TimeUnit
from training.recipe import RecipeError

PORTS = f"""
{GAUGE}
absent = -1.0
[[fields]]
name = "down"
metric = "status"
tags = {{ port = "e*" }}
kind = "state"
states = {{ up = 0, down = 1 }}
aggregate = "sum"
[wide]
columns = ['(?P<port>e\\d)(?P<metric>[a-z]+)']
"""
MAPPING = mapping_of(PORTS)
EXPECTED = {("a", 0.0): (1, 0), ("b", 0.0): (2.5, 2), ("a", 5.0): (3, 1)}
WIDE = pl.DataFrame(
    {
        "device": ["a", "a", "b"],
        "time": [START + 5, START, START],  # not in order
        "load": [3.0, 1.0, 2.5],
        "e1status": ["down", "up", "down"],
        "e2status": ["up", None, "down"],
        "note": ["x", "y", "z"],
    }
)
E1, E2 = ['{"port": "e1"}'], ['{"port": "e2"}']
LONG = pl.DataFrame(
    {
        "time": [START, START, START + 5, START + 5, START + 5, START, START, START],
        "device": ["a", "a", "a", "a", "a", "b", "b", "b"],
        "metric": ["load", "status", "load", "status", "status", "load", "status", "status"],
        "tags": ["{}", *E1, None, *E1, *E2, "{}", *E1, *E2],
        "value": ["1", "up", "3.0", "down", "up", "2.5", "down", "1"],
    }
)  # fmt: skip


def assembled(path: Path, time: str = "time", unit: TimeUnit = "s") -> dict[object, object]:
    """Fields by device and seconds after the start."""
    table = PointsTable.read(path, MAPPING, time, unit)
    assembler = Assembler(MAPPING)
    parts = [assembler.add(some, START + 1000.0) for some in table.points(assembler.series)]
    records = Records.joined([*parts, assembler.finish()], len(MAPPING.fields))
    return {
        (assembler.key(int(key))[0], float(at) - START): tuple(row)
        for key, at, row in zip(records.keys, records.times, records.matrix, strict=True)
    }


@pytest.mark.parametrize("name", ["points.parquet", "points.csv"])
@pytest.mark.parametrize("rows", [WIDE, LONG], ids=["wide", "long"])
def test_wide_and_long_tables_hold_the_same_points(
    rows: pl.DataFrame, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    (rows.write_parquet if name.endswith("parquet") else rows.write_csv)(path)
    assert assembled(path) == EXPECTED


@pytest.mark.parametrize("unit", ["ms", "ns", "text", "time"])
def test_times_may_be_of_any_unit(unit: str, tmp_path: Path) -> None:
    path, times = tmp_path / "t.parquet", pl.col("time")
    moment = pl.from_epoch(times, time_unit="s")
    kinds = {
        "ms": times * 1000,
        "ns": times * 10**9,
        "time": moment,
        "text": moment.dt.strftime("%Y-%m-%dT%H:%M:%SZ"),
    }
    WIDE.with_columns(kinds[unit].alias("at")).drop("time").write_parquet(path)
    found = assembled(path, "at", "ms" if unit == "ms" else "ns" if unit == "ns" else "s")
    assert found == EXPECTED


def test_nanoseconds_are_kept(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    times = np.array([1_700_000_000_000_000_001, 1_700_000_000_000_000_002])
    pl.DataFrame({"device": "a", "time": times, "load": 1.0}).write_parquet(path)
    assert PointsTable.read(path, MAPPING, "time", "ns").times.tolist() == times.tolist()
    stamped = pl.DataFrame({"time": times}).select(pl.from_epoch("time", time_unit="ns"))
    stamped.write_parquet(path)
    assert PointsTable.read(path, MAPPING, "time", "s").times.tolist() == times.tolist()


def test_half_seconds_are_exact(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(f"device,time,load\na,{START}.5,1\na,{START}.25,2\n")
    found = PointsTable.read(path, MAPPING, "time", "s").times.tolist()
    assert found == [START * 10**9 + 250_000_000, START * 10**9 + 500_000_000]


@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64])
@pytest.mark.parametrize("time", [START * 1000, 20260131235900])
def test_times_of_another_unit_are_refused_and_do_not_wrap(
    time: int, kind: type[pl.DataType], tmp_path: Path
) -> None:
    path = tmp_path / "t.parquet"
    pl.DataFrame({"device": "a", "time": [time], "load": 1.0}).cast({"time": kind}).write_parquet(
        path
    )
    with pytest.raises(
        RecipeError, match="beyond the year 2262 if they are in s; give --time-unit"
    ):
        PointsTable.read(path, MAPPING, "time", "s")


def test_a_table_without_its_times_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    WIDE.write_parquet(path)
    with pytest.raises(RecipeError, match="has no column 'at'; name the time column with --time"):
        PointsTable.read(path, MAPPING, "at", "s")
    WIDE.with_columns(time=pl.lit(None, pl.Float64)).write_parquet(path)
    with pytest.raises(RecipeError, match="3 rows have no time in 'time'"):
        PointsTable.read(path, MAPPING, "time", "s")
    LONG.with_columns(tags=pl.lit("[1]")).write_parquet(path)
    with pytest.raises(RecipeError, match="holds JSON that is no object"):
        assembled(path)
    LONG.with_columns(tags=pl.lit("{")).write_parquet(path)
    with pytest.raises(RecipeError, match="holds text that is no JSON"):
        assembled(path)


def test_dates_without_a_zone_are_utc(tmp_path: Path) -> None:
    path = tmp_path / "t.parquet"
    moment = datetime.datetime(2023, 11, 14, 22, 13, 20)  # noqa: DTZ001
    pl.DataFrame({"device": "a", "time": [moment], "load": 1.0}).write_parquet(path)
    assert PointsTable.read(path, MAPPING, "time", "s").times.tolist() == [START * 10**9]
