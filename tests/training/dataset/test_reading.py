from __future__ import annotations

import bz2
import gzip
import io
import lzma
import zipfile
from collections.abc import Callable
from pathlib import Path

import polars as pl
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st
from polars.testing import assert_frame_equal

from training.dataset.reading import read_file
from training.recipe import Reading, RecipeError, TableError

LINES = ["time,latency,vendor,label", "1,1.5,acmé,good", "2,,bolt,slow", "3,3.25,,good"]
CSV = "\n".join(LINES) + "\n"
TABLE = pl.DataFrame(
    {
        "time": [1, 2, 3],
        "latency": [1.5, None, 3.25],
        "vendor": ["acmé", "bolt", None],
        "label": ["good", "slow", "good"],
    }
)
Write = Callable[[str, bytes | str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def to_file(name: str, data: bytes | str) -> Path:
        (tmp_path / name).write_bytes(data if isinstance(data, bytes) else data.encode())
        return tmp_path / name

    return to_file


def with_commas(separator: str) -> str:
    return CSV.replace(",", separator).replace(".", ",")


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("t.csv", CSV),
        ("t.txt", CSV.replace(",", "\t")),
        ("t.tsv", CSV.replace(",", "\t")),
        ("t.csv", CSV.replace(",", ";")),
        ("t.csv", CSV.replace(",", "|")),
        ("t.csv", with_commas(";")),
        ("t.txt", with_commas("\t")),
        ("t.csv", CSV.replace("\n", "\r\n")),
        ("t.csv", CSV.rstrip()),
        ("t.csv", "\n\n" + CSV.replace("\n", "\n\n") + "\n \n"),
        ("t.csv", b"\xef\xbb\xbf" + CSV.encode()),
        ("t.csv", CSV.encode("utf-16")),
        ("t.csv", b"\xfe\xff" + CSV.encode("utf-16-be")),
        ("t.csv", CSV.encode("utf-16-le")),
        ("t.csv", CSV.encode("latin-1")),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)),
        ("t.csv.bz2", bz2.compress(CSV.encode())),
        ("t.csv.xz", lzma.compress(CSV.encode())),
        ("t.csv.zst", zstandard.compress(CSV.encode())),
        ("t.csv", "# made by a tool, at night\n#\n" + CSV.replace("2,,", "# 1;2;3\n2,,")),
        ("t.csv", CSV.replace("acmé", '"acmé"')),
    ],
)
def test_every_text_reads_the_same(write: Write, name: str, data: bytes | str) -> None:
    assert_frame_equal(read_file(write(name, data)).rows, TABLE)


@pytest.mark.parametrize("name", ["t.parquet", "t.arrow", "t.feather", "t.arrows", "t.ndjson"])
def test_every_format_of_columns_reads_the_same(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    match path.suffix:
        case ".parquet":
            TABLE.write_parquet(path)
        case ".arrows":
            TABLE.write_ipc_stream(path)
        case ".ndjson":
            TABLE.write_ndjson(path)
        case _:
            TABLE.write_ipc(path)
    assert_frame_equal(read_file(path).rows, TABLE)
    if path.suffix in (".parquet", ".arrow"):  # their first bytes tell, whatever the name says
        assert_frame_equal(read_file(path.rename(tmp_path / "other.csv")).rows, TABLE)


def test_ndjson_may_be_compressed(tmp_path: Path) -> None:
    lines = io.BytesIO()
    TABLE.write_ndjson(lines)
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.getvalue(), mtime=0))
    assert_frame_equal(read_file(tmp_path / "t.jsonl.gz").rows, TABLE)


SHEET = """<?xml version="1.0" encoding="UTF-8"?>
<worksheet xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><sheetData>{}</sheetData></worksheet>
"""
WORKBOOK = {
    "[Content_Types].xml": '<Types xmlns="http://schemas.openxmlformats.org/package/2006/content-types"><Default Extension="rels" ContentType="application/vnd.openxmlformats-package.relationships+xml"/><Override PartName="/xl/workbook.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.sheet.main+xml"/><Override PartName="/xl/worksheets/sheet1.xml" ContentType="application/vnd.openxmlformats-officedocument.spreadsheetml.worksheet+xml"/></Types>',  # noqa: E501
    "_rels/.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/officeDocument" Target="xl/workbook.xml"/></Relationships>',  # noqa: E501
    "xl/workbook.xml": '<workbook xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main" xmlns:r="http://schemas.openxmlformats.org/officeDocument/2006/relationships"><sheets><sheet name="a" sheetId="1" r:id="rId1"/></sheets></workbook>',  # noqa: E501
    "xl/_rels/workbook.xml.rels": '<Relationships xmlns="http://schemas.openxmlformats.org/package/2006/relationships"><Relationship Id="rId1" Type="http://schemas.openxmlformats.org/officeDocument/2006/relationships/worksheet" Target="worksheets/sheet1.xml"/></Relationships>',  # noqa: E501
}


def workbook(lines: list[str]) -> bytes:
    rows = [
        "".join(
            f'<c t="inlineStr"><is><t>{cell}</t></is></c>' if not _is_number(cell) else
            f"<c><v>{cell}</v></c>"
            for cell in line.split(",")
        )
        for line in lines
    ]  # fmt: skip
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        for name, text in WORKBOOK.items():
            archive.writestr(name, text)
        sheet = "".join(f"<row>{row}</row>" for row in rows)
        archive.writestr("xl/worksheets/sheet1.xml", SHEET.format(sheet))
    return packed.getvalue()


def _is_number(cell: str) -> bool:
    return cell.replace(".", "").isdigit()


def test_the_first_sheet_of_a_workbook_is_a_table(write: Write) -> None:
    pytest.importorskip("fastexcel")
    rows = read_file(write("t.xlsx", workbook(LINES[:2]))).rows
    assert rows.row(0) == (1, 1.5, "acmé", "good")


def test_a_workbook_without_fastexcel_says_what_to_install(
    write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("required package 'fastexcel' not found")

    monkeypatch.setattr(pl, "read_excel", missing)
    with pytest.raises(RecipeError, match=r"pip install -c constraints\.txt '\.\[excel\]'"):
        read_file(write("t.xlsx", workbook(LINES)))


@pytest.mark.parametrize(
    ("name", "data", "why"),
    [
        ("t.csv", CSV + "4,5\n", "line 5: 2 cells, where the header has 4; mend or remove"),
        ("t.csv", CSV + "4,5,6,7,8\n", "line 5: 5 cells, where the header has 4"),
        ("t.csv", "# one\n\n" + CSV + "4,5\n", "line 7: 2 cells"),
        ("t.csv", CSV.replace("bolt", '"bo\nlt"') + "4,5\n", "line 6: 2 cells"),
        ("t.csv", CSV.replace(",", "\t") + "4\t5\n", "give --separator if tab is not what"),
        ("t.csv", CSV.replace("bolt", '"bolt'), "line 3: a quote opens here that is not closed"),
        ("t.csv", CSV + '4,5,6,"7\n', "line 5: a quote opens here that is not closed"),
        ("t.csv", CSV + '4,5,6,"7' + "\n1,2,3,4" * 40_000, "line 5: a quote opens here"),
        ("t.csv", "", "t.csv cannot be read: it is empty"),
        ("t.csv", " \n\n", "t.csv cannot be read: it is empty"),
        ("t.csv", "# one\n# two\n", "t.csv cannot be read: it has nothing but comments"),
        ("t.csv", "a,b\n  \n1,2\n3\n", "line 4: 1 cells, where the header has 2"),
        ("t.csv", "a,b\n", "t.csv holds no rows"),
        ("t.csv", "a,b", "t.csv holds no rows"),
        ("t.csv", bytes(range(256)) * 9, "it is neither text nor a known format"),
        ("t.csv.gz", gzip.compress(CSV.encode(), mtime=0)[:30], "t.csv.gz cannot be read"),
        ("t.csv.bz2", bz2.compress(CSV.encode())[:30], "t.csv.bz2 cannot be read"),
        ("t.csv.xz", lzma.compress(CSV.encode())[:30], "t.csv.xz cannot be read"),
        ("t.csv.zst", zstandard.compress(CSV.encode())[:30], "t.csv.zst cannot be read"),
        ("t.xlsx", b"PK\x03\x04 and no more", "cannot be read"),
        ("t.ndjson", '{"a": 1}\n{"a"', "t.ndjson cannot be read as NDJSON"),
        ("t.parquet", b"PAR1 and no more", "t.parquet cannot be read as Parquet"),
        ("t.arrow", b"ARROW1 and no more", "t.arrow cannot be read as Arrow"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_in_one_line(
    write: Write, name: str, data: bytes | str, why: str
) -> None:
    with pytest.raises(TableError) as refusal:
        read_file(write(name, data))
    assert why in str(refusal.value)
    assert name in str(refusal.value)
    assert "\n" not in str(refusal.value)


def test_what_is_detected_can_be_said(write: Write) -> None:
    path = write("t.csv", "a:b\n1,5:é\n2,5:x\n".encode("cp850"))
    reading = Reading(separator=":", decimal=",", encoding="cp850")
    assert read_file(path, reading).rows.to_dict(as_series=False) == {
        "a": [1.5, 2.5],
        "b": ["é", "x"],
    }
    with pytest.raises(TableError, match="cannot be read as ascii"):
        read_file(path, Reading(encoding="ascii"))


def test_what_was_guessed_or_left_out_is_noted(write: Write) -> None:
    text = "# by a tool\n" + CSV.replace("\n", ",,\n")
    table = read_file(write("t.csv", text.encode("latin-1")))
    assert_frame_equal(table.rows, TABLE)
    assert table.notes == (
        "t.csv is not in UTF-8 and was read as Windows-1252 (--encoding)",
        "1 lines of t.csv that begin with # were skipped",
        "2 columns without a name and a value were left out",
    )


def test_rows_are_named_as_an_editor_counts_them(write: Write, tmp_path: Path) -> None:
    text = '# one\n\na,b\n1,"two\nlines"\n\n3,4\n5,6\n'
    table = read_file(write("t.csv", text))
    numbers = table.rows["a"].to_list()
    rows = [numbers.index(1), numbers.index(3), numbers.index(5)]
    assert table.places(rows, Reading()) == ["line 4", "line 7", "line 8"]
    plain = read_file(write("u.csv", CSV.replace("\n", "\n\n")))
    assert plain.places([0, 2], Reading()) == ["line 3", "line 7"]
    TABLE.write_ndjson(tmp_path / "t.ndjson")
    assert read_file(tmp_path / "t.ndjson").places([1], Reading()) == ["line 2"]
    TABLE.write_parquet(tmp_path / "t.parquet")
    assert read_file(tmp_path / "t.parquet").places([1], Reading()) == ["row 2 (from 1)"]


def test_a_table_that_seems_to_have_no_line_of_names_is_noted(write: Write) -> None:
    table = read_file(write("t.csv", "1,2.5,good\n2,3.5,slow\n"))
    assert table.notes == ("a column is called '1': has t.csv a line of names?",)


def test_a_changed_file_is_read_again(write: Write) -> None:
    assert len(read_file(write("t.csv", CSV)).rows) == 3
    assert len(read_file(write("t.csv", CSV + "4,5,x,good\n")).rows) == 4


@pytest.mark.parametrize("late", ["1.5", "x", "7"])
def test_the_type_of_a_column_is_that_of_all_of_its_cells(write: Write, late: str) -> None:
    text = "a,b,c\n" + "1,,2\n" * 11_000 + f"1,3,{late}\n"
    rows = read_file(write("t.csv", text)).rows
    types = {"1.5": pl.Float64, "x": pl.String, "7": pl.Int64}
    assert rows.dtypes == [pl.Int64, pl.Int64, types[late]]


def test_a_row_of_tabs_is_a_row(write: Write) -> None:
    assert read_file(write("t.tsv", "a\tb\n1\t2\n\t\n3\t4\n")).rows["a"].to_list() == [1, None, 3]


def test_one_column_may_have_empty_cells(write: Write) -> None:
    table = read_file(write("t.csv", "part\ntrain\n\ntest\n"))
    assert table.rows["part"].to_list() == ["train", None, "test"]
    assert table.places([2], Reading()) == ["line 4"]


CELLS = st.text(st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"]), max_size=8)


@given(
    st.lists(st.tuples(CELLS, CELLS, st.integers(0, 99)), min_size=1, max_size=20),
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le"]),
)
def test_any_table_of_quoted_cells_reads_back(
    tmp_path_factory: pytest.TempPathFactory,
    cells: list[tuple[str, str, int]],
    separator: str,
    encoding: str,
) -> None:
    table = pl.DataFrame(cells, schema=["one", "two", "number"], orient="row")
    text = table.write_csv(separator=separator, quote_style="non_numeric")
    path = tmp_path_factory.mktemp("quoted") / "t.csv"
    path.write_bytes(text.encode(encoding))
    rows = read_file(path).rows
    assert rows.columns == ["one", "two", "number"]
    assert rows["number"].to_list() == [number for _, _, number in cells]
