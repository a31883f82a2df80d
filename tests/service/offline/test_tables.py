from __future__ import annotations

import gzip
import re
from pathlib import Path

import numpy as np
import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from benchmarks.fuzz.toy import FIELDS
from models import Schema
from models.schema import UNSEEN
from service.offline import tables
from service.offline.tables import Table, TableError

SCHEMA = Schema(FIELDS)
HEADER = "state,link up,cpu load,site\n"


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "t.csv"


def test_columns_are_fields_by_name_and_the_others_are_told(path: Path) -> None:
    path.write_text(HEADER + "busy,0,3.5,ulm\n")
    table = Table(path, SCHEMA)
    assert (table.ignored, table.absent) == (["site"], ["error rate", "vendor"])
    (part,) = table.parts()
    np.testing.assert_array_equal(part.matrix, np.array([[3.5, np.nan, 0, 1, np.nan]], np.float32))


def test_of_many_columns_that_are_lacking_five_are_named(path: Path) -> None:
    path.write_text("a,b\n1,2\n")
    many = Schema([FIELDS[0].model_copy(update={"name": f"f{at}"}) for at in range(8)])
    with pytest.raises(TableError) as refused:
        Table(path, many)
    names = "'f0', 'f1', 'f2', 'f3', 'f4' and 3 more"
    assert str(refused.value) == f"{path} lacks 8 required columns: {names}"


@pytest.mark.parametrize("name", ["t.tsv", "t.tsv.gz", "T.TSV.GZ", "t.csv.gz"])
def test_the_ending_names_the_separator_and_the_compression(name: str, tmp_path: Path) -> None:
    text = HEADER + 'idle,true,12.5,"a, b\tc"\n'
    if "tsv" in name.lower():
        text = 'state\tlink up\tcpu load\tsite\nidle\ttrue\t12.5\t"a, b\tc"\n'
    packed = gzip.compress(text.encode()) if name.lower().endswith(".gz") else text.encode()
    (tmp_path / name).write_bytes(packed)
    (part,) = Table(tmp_path / name, SCHEMA, ["site"]).parts()
    assert part.kept["site"].to_pylist() == ["a, b\tc"]
    assert part.matrix[0, [0, 2, 3]].tolist() == [12.5, 1, 0]


def test_cells_are_read_kindly(path: Path) -> None:
    lines = ["idle, TRUE ,  7 ,acme", "busy,1,1e2,nobody", "idle,false,-0.5,"]
    path.write_text("state,link up,cpu load,vendor\n" + "\n".join(lines))
    (part,) = Table(path, SCHEMA).parts()
    expected = [[7, 1, 0, 0], [100, 1, 1, UNSEEN], [-0.5, 0, 0, np.nan]]
    np.testing.assert_array_equal(part.matrix[:, [0, 2, 3, 4]], np.array(expected, np.float32))


def test_an_error_names_the_row_counted_from_the_header_in_any_part(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS", 2)
    path.write_text(HEADER + "idle,1,1,a\n" * 4 + "idle,1,,a\n" + "idle,1,much,a\n")
    told = f"{path}: row 6 (the header is row 1), column 'cpu load': expected a finite number (%)"
    with pytest.raises(TableError, match=re.escape(told)):
        list(Table(path, SCHEMA).parts())
    other = path.with_name("t.parquet")
    states, ups, loads = ["idle"] * 5, [True] * 5, [1.0, 1.0, 1.0, 1.0, None]
    pq.write_table(pa.table({"state": states, "link up": ups, "cpu load": loads}), other)
    with pytest.raises(TableError, match=re.escape("row 5 (from 1), column 'cpu load'")):
        list(Table(other, SCHEMA).parts())


def test_rows_that_do_not_fit_are_reported_in_place(path: Path) -> None:
    path.write_text(HEADER + "idle,1,1,a\nlost,1,1,b\nidle,2,1,c\nidle,1,,d\n")
    (part,) = Table(path, SCHEMA, ["site"]).parts(report=True)
    faults = {row: (fault.field, fault.got) for row, fault in part.faults.items()}
    assert {row: field for row, (field, _) in faults.items()} == {
        1: "state",
        2: "link up",
        3: "cpu load",
    }
    assert (faults[1][1], faults[3][1]) == ("a string", "null")
    assert (len(part), len(part.matrix)) == (4, 1)
    assert part.kept["site"].to_pylist() == ["a", "b", "c", "d"]


def test_a_column_that_is_used_is_there_once(path: Path) -> None:
    path.write_text("cpu load,state,link up,cpu load\n1,idle,1,2\n")
    with pytest.raises(TableError, match="has several columns 'cpu load'"):
        Table(path, SCHEMA)
    path.write_text(HEADER.strip() + ",site\nidle,1,1,a,b\n")
    with pytest.raises(TableError, match="has several columns 'site'"):
        Table(path, SCHEMA, ["site"])
    (part,) = Table(path, SCHEMA).parts()  # nobody looks at it
    assert len(part) == 1


def test_a_table_comes_in_parts_that_say_how_much_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "_ROWS", 2)
    path = tmp_path / "t.parquet"
    columns = {"state": ["idle"] * 5, "link up": [True] * 5, "cpu load": [*map(float, range(5))]}
    pq.write_table(pa.table(columns), path)
    parts = list(Table(path, SCHEMA).parts())
    assert [part.matrix[:, 0].tolist() for part in parts] == [[0, 1], [2, 3], [4]]
    assert [part.read for part in parts] == [0.4, 0.8, 1]


@pytest.mark.parametrize("name", ["t.arrow", "t.arrows"])
def test_categories_as_polars_writes_them_are_fields_and_are_kept(
    name: str, tmp_path: Path
) -> None:
    rows = {"state": ["idle", "busy", None], "site": ["ulm", None, "ulm"]}
    frame = pl.DataFrame(rows, schema={"state": pl.Enum(["idle", "busy"]), "site": pl.Categorical})
    frame = frame.with_columns(pl.lit("1").alias("cpu load"), pl.lit(value=True).alias("link up"))
    path = tmp_path / name
    frame.write_ipc(path) if name == "t.arrow" else frame.write_ipc_stream(path)
    table = Table(path, SCHEMA, ["site"])
    (part,) = table.parts(report=True)
    assert [*part.faults] == [2]
    assert part.matrix[:, [0, 3]].tolist() == [[1, 0], [1, 1]]
    assert part.kept["site"].dictionary_decode().to_pylist() == ["ulm", None, "ulm"]
    assert table.kept == {"site": part.kept["site"].type}


def test_a_table_without_rows_is_one_empty_part(path: Path) -> None:
    path.write_text(HEADER)
    (part,) = Table(path, SCHEMA, ["site"]).parts()
    assert (len(part), part.matrix.shape, part.read) == (0, (0, 5), 1)
    assert len(part.kept["site"]) == 0
