"""Tables through `faultcube classify`, most of them as a process of its own."""

from __future__ import annotations

import csv
import gzip
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import typer
from typer.testing import CliRunner, Result

from benchmarks.fuzz.toy import DOWN, GOOD, OVERLOAD
from models import Model
from service.cli import classify
from service.offline.batch import classify_table, destination
from service.offline.tables import Table, TableError

PROGRAM = """
import resource, sys, typer
from service.cli import classify, settings
app = typer.Typer(pretty_exceptions_enable=False)
app.command("classify")(classify)
app.command("settings")(settings)
try:
    app()
finally:
    if sys.argv[-1] == "error rate":
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, file=sys.stderr)
"""
RECORDS: list[dict[str, Any]] = [GOOD, DOWN, OVERLOAD, GOOD | {"link up": False, "cpu load": 70.0}]
LABELS = ["normal", "link-down", "overload", "unknown"]


def call(folder: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, "classify", *map(str, arguments), "--bundle", str(folder)],
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )


@pytest.fixture
def invoke(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Run the command in this process: to start one takes a second each time."""
    monkeypatch.setattr(signal, "signal", lambda *_: None)
    app = typer.Typer(pretty_exceptions_enable=False)
    app.command()(classify)
    return lambda *arguments: CliRunner().invoke(app, [*map(str, arguments)])


def written(path: Path) -> list[dict[str, str]]:
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    return list(csv.DictReader(text.decode().splitlines()))


@pytest.fixture
def table() -> pl.DataFrame:
    """Four records, with a column that says what they are and one that is nobody's."""
    return pl.DataFrame(RECORDS).with_columns(label=pl.Series(LABELS), site=pl.lit("north, east"))


WRITERS: dict[str, Callable[[pl.DataFrame, Path], Any]] = {
    "t.csv": lambda table, path: table.write_csv(path),
    "t.tsv": lambda table, path: table.write_csv(path, separator="\t"),
    "t.csv.gz": lambda table, path: path.write_bytes(gzip.compress(table.write_csv().encode())),
    "t.parquet": lambda table, path: table.write_parquet(path),
    "t.arrows": lambda table, path: table.write_ipc_stream(path),
    "t.arrow": lambda table, path: table.write_ipc(path),
}


@pytest.mark.parametrize("name", WRITERS)
def test_every_kind_of_table_gets_the_verdicts_of_its_records(
    name: str, table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    WRITERS[name](table, tmp_path / name)
    model, out = Model.load(bundle), tmp_path / "o.csv"
    shares: list[float] = []
    found = Table(tmp_path / name, model.schema)
    counts = classify_table(model, found, out, distances=True, progress=shares.append)
    assert counts.labels == dict.fromkeys(LABELS, 1)
    assert found.ignored == ["label", "site"]
    assert shares[-1] == 1
    rows = written(out)
    for row, verdict in zip(rows, model.classify(RECORDS, distances=True), strict=True):
        assert row["label"] == verdict.label
        assert row["good"] == str(verdict.good).lower()
        assert row["nearest"] == (verdict.nearest or "")
        assert float(row["distance"]) == pytest.approx(verdict.distance, abs=1e-6)
        assert float(row["confidence"]) == pytest.approx(verdict.confidence, abs=1e-6)
        for label, distance in (verdict.distances or {}).items():
            assert float(row[f"distance_{label}"]) == pytest.approx(distance, abs=1e-6)
    assert [row["row"] for row in rows] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("what", "options", "words"),
    [
        ("t.csv", ["--revision", 3], "--revision needs --classes"),
        ("t.csv", ["--jobs", 2], "--jobs needs an archive"),
        ("t.csv", ["--engine", "ray"], "needs an archive"),
        (".", ["--force"], "--force needs one table"),
    ],
)
def test_an_option_that_would_do_nothing_is_refused(
    invoke: Callable[..., Result],
    table: pl.DataFrame,
    bundle: Path,
    tmp_path: Path,
    what: str,
    options: list[object],
    words: str,
) -> None:
    table.write_csv(tmp_path / "t.csv")
    out = tmp_path / "out"
    ended = invoke(tmp_path / what, "--bundle", bundle, "--out", out, *options)
    assert ended.exit_code == 2
    assert words in ended.stderr
    assert not out.exists()


@pytest.mark.parametrize("name", ["o.csv", "o.csv.gz", "o.parquet"])
def test_the_command_writes_what_the_ending_says_and_counts_on_stderr(
    name: str, table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    table.write_csv(tmp_path / "t.csv")
    out = tmp_path / "sub" / name
    out.parent.mkdir()
    keep = ["--keep", "site", "--keep", "label"]
    ended = call(bundle, tmp_path / "t.csv", "--out", out, *keep)
    assert (ended.returncode, ended.stdout) == (0, "")
    assert "4 records in " in ended.stderr
    assert "records/s" in ended.stderr
    assert "unknown" in ended.stderr
    rows = pl.read_parquet(out).to_dicts() if name == "o.parquet" else written(out)
    assert list(rows[0]) == [
        "row", "site", "table_label", "label", "good", "distance", "confidence", "nearest",
    ]  # fmt: skip
    assert [row["label"] for row in rows] == [row["table_label"] for row in rows] == LABELS
    assert {row["site"] for row in rows} == {"north, east"}
    assert [path.name for path in out.parent.iterdir()] == [name]
    assert out.stat().st_mode & 0o777 == (tmp_path / "t.csv").stat().st_mode & 0o777


def test_without_out_the_rows_go_to_stdout(
    table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    table.write_csv(tmp_path / "t.csv")
    ended = call(bundle, tmp_path / "t.csv")
    assert ended.returncode == 0
    rows = list(csv.DictReader(ended.stdout.splitlines()))
    assert [row["label"] for row in rows] == LABELS
    assert ended.stderr.startswith("2 columns of the table are no fields")


def test_what_is_missing_is_read_kindly(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_text(
        "\ufeffstate,cpu load,link up,error rate,note\n"
        'idle, 12.5 ,1,,"two\nlines"\n'
        "idle,12.5,TRUE,nan,\n"
        "idle,1.25e1,1.0,0,\n"
    )
    out = tmp_path / "o.csv"
    model = Model.load(bundle)
    found = Table(path, model.schema, ["note"])
    assert found.absent == ["vendor"]
    classify_table(model, found, out)
    assert pl.read_csv(out)["label"].to_list() == ["normal"] * 3
    assert pl.read_csv(out)["note"][0] == "two\nlines"


@pytest.mark.parametrize(
    "columns",
    [
        {"link up": pl.Int8, "cpu load": pl.String},
        {"link up": pl.String, "cpu load": pl.Float32, "state": pl.Categorical},
        {"link up": pl.Float64, "cpu load": pl.Decimal(10, 2)},
    ],
)
def test_parquet_may_hold_other_types(
    columns: dict[str, Any], table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    changed = table.with_columns(
        pl.col(name).cast(pl.Int8).cast(kind)
        if name == "link up" and kind != pl.Int8
        else pl.col(name).cast(kind)
        for name, kind in columns.items()
    )
    changed.write_parquet(tmp_path / "t.parquet")
    model, out = Model.load(bundle), tmp_path / "o.csv"
    classify_table(model, Table(tmp_path / "t.parquet", model.schema), out)
    assert [row["label"] for row in written(out)] == LABELS


MISFITS = {
    "text": ("cpu load", "high", "a finite number (%)", "a string"),
    "infinite": ("cpu load", "-inf", "a finite number (%)", "an infinite number"),
    "beyond": ("cpu load", "1e39", "a finite number (%)", "a number beyond ±3.4e+38"),
    "missing": ("cpu load", "", "a finite number (%)", "null"),
    "not a number": ("cpu load", "nan", "a finite number (%)", "NaN"),
    "no boolean": ("link up", "2", "true or false", "a number"),
    "boolean text": ("link up", "maybe", "true or false", "a string"),
    "category": ("state", "lost", "one of idle, busy", "a string"),
}


@pytest.mark.parametrize("how", MISFITS)
def test_a_cell_that_does_not_fit_ends_it_or_is_told_of_in_its_place(
    how: str, table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    column, cell, expected, got = MISFITS[how]
    lines = table.cast(pl.String).to_dicts()
    lines[2][column] = cell
    pl.DataFrame(lines).write_csv(tmp_path / "t.csv")
    model, out = Model.load(bundle), tmp_path / "o.csv"
    found = Table(tmp_path / "t.csv", model.schema)
    with pytest.raises(TableError) as error, destination(out, force=False) as draft:
        classify_table(model, found, draft)
    assert str(error.value).endswith(
        f"row 4 (the header is row 1), column {column!r}: expected {expected}, got {got}"
    )
    assert [path.name for path in tmp_path.iterdir()] == ["t.csv"]
    counts = classify_table(model, found, out, report=True, distances=True)
    assert (counts.records, counts.faulty) == (4, 1)
    rows = written(out)
    assert [row["label"] for row in rows] == ["normal", "link-down", "", "unknown"]
    assert rows[2]["error"] == f"field {column!r}: expected {expected}, got {got}"
    assert rows[2]["distance_normal"] == rows[2]["good"] == ""
    assert rows[3]["error"] == ""
    assert float(rows[3]["distance_normal"]) > 0


@pytest.mark.parametrize(
    ("name", "row"),
    [
        ("t.csv", "row 5 (the header is row 1)"),
        ("t.tsv", "row 5 (the header is row 1)"),
        ("t.csv.gz", "row 5 (the header is row 1)"),
        ("t.parquet", "row 4 (from 1)"),
        ("t.arrow", "row 4 (from 1)"),
        ("t.arrows", "row 4 (from 1)"),
    ],
)
def test_an_error_counts_rows_as_an_editor_does(
    name: str, row: str, table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    bad = table.with_columns(
        pl.Series("state", ["idle", "idle", "busy", "lost"]),
        site=pl.lit("two\nlines, one cell"),
    )
    WRITERS[name](bad, tmp_path / name)
    with pytest.raises(TableError, match=re.escape(f"{name}: {row}, column 'state': expected one")):
        list(Table(tmp_path / name, Model.load(bundle).schema, ["site"]).parts())


@pytest.mark.parametrize(
    ("values", "kind"),
    [([[1], [2, 3], [], None], "large_list<element: int64>"), ([{"a": 1}] * 4, "struct<a: int64>")],
)
def test_a_column_that_csv_cannot_hold_is_kept_in_parquet_only(
    values: list[Any],
    kind: str,
    table: pl.DataFrame,
    bundle: Path,
    tmp_path: Path,
    invoke: Callable[..., Result],
) -> None:
    path = tmp_path / "t.parquet"
    table.with_columns(pl.Series("nested", values)).write_parquet(path)
    words = [path, "--keep", "nested", "--bundle", bundle]
    for out in (["--out", tmp_path / "o.csv"], ["--out", tmp_path / "o.csv.gz"], []):
        ended = invoke(*words, *out)
        assert (ended.exit_code, ended.stdout) == (2, "")
        assert ended.stderr.splitlines()[-1] == (
            f"faultcube: {path}: column 'nested' is {kind}, which CSV cannot hold; "
            "leave it out of --keep, or write to .parquet"
        )
        assert [*tmp_path.iterdir()] == [path]
    out_parquet = tmp_path / "o.parquet"
    assert invoke(*words, "--out", out_parquet).exit_code == 0
    assert pl.read_parquet(out_parquet)["nested"].to_list() == values


def test_a_column_that_parquet_cannot_hold_is_told_in_one_line(
    table: pl.DataFrame, bundle: Path, tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    path, categories = tmp_path / "t.arrow", pl.Series(["a"] * 4, dtype=pl.Categorical)
    table.with_columns(nested=pl.struct(one=categories)).write_ipc(path)
    out = tmp_path / "o.parquet"
    ended = invoke(path, "--keep", "nested", "--out", out, "--bundle", bundle)
    assert (ended.exit_code, ended.stdout) == (2, "")
    assert ended.stderr.splitlines()[-1].startswith(
        "faultcube: a column cannot be written; leave it out of --keep: Unsupported cast"
    )
    assert not out.exists()


def test_views_of_text_are_kept_in_csv(table: pl.DataFrame, bundle: Path, tmp_path: Path) -> None:
    table.write_ipc(tmp_path / "t.arrow", compat_level=pl.CompatLevel.newest())
    model, out = Model.load(bundle), tmp_path / "o.csv"
    classify_table(model, Table(tmp_path / "t.arrow", model.schema, ["site"]), out)
    assert {row["site"] for row in written(out)} == {"north, east"}


def test_the_command_reports_what_does_not_fit(
    table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    table.with_columns(pl.lit("x").alias("state")).write_csv(tmp_path / "t.csv")
    ended = call(bundle, tmp_path / "t.csv", "--on-invalid", "report")
    assert ended.returncode == 0
    assert "error" in ended.stderr
    rows = list(csv.DictReader(ended.stdout.splitlines()))
    assert {row["error"] for row in rows} == {
        "field 'state': expected one of idle, busy, got a string"
    }


@pytest.fixture
def bad(table: pl.DataFrame, tmp_path: Path) -> Path:
    """A folder of tables that cannot be used."""
    table.write_csv(tmp_path / "t.csv")
    table.drop("cpu load", "state").write_csv(tmp_path / "narrow.csv")
    table.with_columns(pl.Series("cpu load", [[1.0]] * 4)).write_parquet(tmp_path / "list.parquet")
    text = (tmp_path / "t.csv").read_text()
    (tmp_path / "ragged.csv").write_text(text + "1,2\n")
    (tmp_path / "twice.csv").write_text(text.replace("site", "cpu load"))
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "junk.parquet").write_bytes(b"junk" * 9)
    (tmp_path / "junk.arrow").write_bytes(b"junk" * 9)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(text.encode())[:-20])
    (tmp_path / "t.xlsx").write_text(text)
    (tmp_path / "semicolons.csv").write_text(text.replace(",", ";"))
    (tmp_path / "commas.tsv").write_text(text)
    return tmp_path


REFUSED = {
    "required": ("narrow.csv", "lacks 2 required columns: 'cpu load', 'state'"),
    "semicolons": ("semicolons.csv", "; it has one column: are its cells separated by commas?"),
    "commas": ("commas.tsv", "; it has one column: are its cells separated by tabs?"),
    "type": ("list.parquet", "column 'cpu load': expected a finite number (%), got large_list"),
    "ragged": ("ragged.csv", "cannot be read: CSV parse error: Row #6: Expected 7 columns, got 2"),
    "twice": ("twice.csv", "several columns 'cpu load'"),
    "empty": ("empty.csv", "cannot be read"),
    "junk": ("junk.parquet", "cannot be read"),
    "junk stream": ("junk.arrow", "cannot be read"),
    "cut": ("cut.csv.gz", "cannot be read"),
    "ending": ("t.xlsx", "ends in none of .csv"),
    "no table": ("none.csv", "there is no table"),
    "no column": ("t.csv --keep colour", "no column 'colour' to keep"),
    "out exists": ("t.csv --out t.csv", "t.csv exists; give another --out, or --force"),
    "out ends": ("t.csv --out o.json", "o.json ends in none of .csv, .csv.gz, .parquet"),
    "out nowhere": ("t.csv --out no/o.csv", "no/o.csv cannot be written"),
    "no bundle": ("t.csv", "the folder cannot be read"),
}


@pytest.mark.parametrize("why", REFUSED)
def test_what_cannot_be_used_ends_it_with_one_line_and_leaves_nothing(
    why: str,
    bad: Path,
    bundle: Path,
    monkeypatch: pytest.MonkeyPatch,
    invoke: Callable[..., Result],
) -> None:
    arguments, told = REFUSED[why]
    monkeypatch.chdir(bad)
    before = sorted(bad.iterdir())
    out = [] if "--out" in arguments else ["--out", "o.parquet"]
    words = arguments.split() + out
    ended = invoke(*words, "--bundle", "no" if why == "no bundle" else bundle)
    assert (ended.exit_code, ended.stdout) == (2, "")
    last = ended.stderr.splitlines()[-1]
    assert last.startswith("faultcube: ")
    assert told in last
    assert sorted(bad.iterdir()) == before


def test_force_replaces_even_the_table_itself(
    table: pl.DataFrame, bundle: Path, tmp_path: Path, invoke: Callable[..., Result]
) -> None:
    path = tmp_path / "t.csv"
    table.write_csv(path)
    assert invoke(path, "--out", path, "--force", "--bundle", bundle).exit_code == 0
    assert [row["label"] for row in written(path)] == LABELS


@pytest.mark.parametrize("name", ["o.csv", "o.parquet"])
def test_a_table_without_rows_gives_one_without_rows(
    name: str,
    table: pl.DataFrame,
    bundle: Path,
    tmp_path: Path,
    invoke: Callable[..., Result],
) -> None:
    table.clear().write_csv(tmp_path / "t.csv")
    ended = invoke(tmp_path / "t.csv", "--out", tmp_path / name, "--bundle", bundle)
    assert ended.exit_code == 0
    assert "0 records" in ended.stderr
    empty = pl.read_parquet if name == "o.parquet" else pl.read_csv
    assert empty(tmp_path / name).shape == (0, 6)


def long_table(table: pl.DataFrame, path: Path, rows: int) -> None:
    text = table.write_csv().split("\n", 1)
    with path.open("w") as file:
        file.write(text[0] + "\n")
        for _ in range(rows // 4000):
            file.write(text[1] * 1000)


def test_the_order_is_kept_and_memory_is_not_the_table_s(
    table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    peaks = []
    wide = table.with_columns(ballast=pl.lit("x" * 200))
    for rows in (60_000, 300_000):
        long_table(wide, tmp_path / "t.csv", rows)
        out = tmp_path / f"{rows}.parquet"
        arguments = [tmp_path / "t.csv", "--out", out, "--bundle", bundle, "--keep", "error rate"]
        ended = subprocess.run(
            [sys.executable, "-c", PROGRAM, "classify", *map(str, arguments)],
            capture_output=True, text=True, check=True, timeout=60,
        )  # fmt: skip
        peaks.append(int(ended.stderr.split()[-1]))
        result = pl.read_parquet(out)
        assert result["row"].to_list() == list(range(rows))
        assert result["label"].to_list() == LABELS * (rows // 4)
    table_kilobytes = (tmp_path / "t.csv").stat().st_size // 1024
    assert peaks[1] - peaks[0] < table_kilobytes / 2


@pytest.mark.parametrize(
    ("how", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 130), (signal.SIGKILL, -9)]
)
def test_a_kill_leaves_no_half_table(
    how: signal.Signals, code: int, table: pl.DataFrame, bundle: Path, tmp_path: Path
) -> None:
    long_table(table, tmp_path / "t.csv", 2_000_000)
    folder = tmp_path / "out"
    folder.mkdir()
    out = folder / "o.csv"
    arguments = [tmp_path / "t.csv", "--out", out, "--bundle", bundle]
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "classify", *map(str, arguments)],
        stderr=subprocess.PIPE,
        text=True,
    )
    deadline = time.monotonic() + 30
    while not any(file.stat().st_size for file in folder.iterdir()):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    process.send_signal(how)
    _, said = process.communicate(timeout=30)
    assert process.returncode == code
    assert "Traceback" not in said
    assert not out.exists()
    if how != signal.SIGKILL:
        assert not list(folder.iterdir())


def test_who_reads_the_rows_may_stop(table: pl.DataFrame, bundle: Path, tmp_path: Path) -> None:
    long_table(table, tmp_path / "t.csv", 200_000)
    process = subprocess.Popen(
        [sys.executable, "-c", PROGRAM, "classify", tmp_path / "t.csv", "--bundle", str(bundle)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline().startswith(b"row,label")
    process.stdout.close()
    assert process.wait(30) == -signal.SIGPIPE
    assert b"Traceback" not in process.stderr.read()
    process.stderr.close()


def test_a_terminal_sees_how_far_it_is(table: pl.DataFrame, bundle: Path, tmp_path: Path) -> None:
    long_table(table, tmp_path / "t.csv", 40_000)
    ours, theirs = pty.openpty()
    with os.fdopen(theirs, "wb") as terminal:
        arguments = [tmp_path / "t.csv", "--out", tmp_path / "o.csv", "--bundle", bundle]
        subprocess.run(
            [sys.executable, "-c", PROGRAM, "classify", *map(str, arguments)],
            stderr=terminal, check=True, timeout=60, env=os.environ | {"TERM": "xterm"},
        )  # fmt: skip
        shown = os.read(ours, 1 << 16)
    os.close(ours)
    assert b"classifying" in shown
    assert b"100%" in shown
    assert b"40,000 records" in shown
