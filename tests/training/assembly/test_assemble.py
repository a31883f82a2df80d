"""Tables of records, and the command that makes them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from benchmarks.telemetry.shipped import differences
from models.telemetry.mapping import Mapping
from tests.support.feeds import GAUGE, START, mapping_of
from training.assembly.assemble import assemble, write
from training.assembly.command import assemble_and_write
from training.assembly.points_table import PointsTable
from training.recipe import RecipeError

SHIPPED = Path(__file__).parents[3] / "training/data/cisco-iosxr"
ROWS = pl.DataFrame(
    {
        "device": ["b", "b", "b", "a"],
        "time": [START, START + 4, START + 5, START],
        "load": [1.0, 2.0, 3.0, 4.0],
        "label": ["good", "good", "bad", "good"],
        "learning": ["x", "y", "z", "w"],
    }
)


@pytest.fixture
def points(tmp_path: Path) -> Path:
    path = tmp_path / "points.parquet"
    ROWS.write_parquet(path)
    return path


@pytest.fixture
def mapping(tmp_path: Path) -> Path:
    path = tmp_path / "mapping.toml"
    path.write_text(f'name = "t"\nkey = ["device"]\ninterval = 5\n{GAUGE}')
    return path


def table_of(path: Path, mapping: Mapping, keep: Sequence[str] = ()) -> PointsTable:
    return PointsTable.read(path, mapping, "time", "s", keep)


def test_the_excerpt_gives_the_records_of_the_shipped_table() -> None:
    found = dict(differences(SHIPPED / "excerpt.parquet", SHIPPED))
    assert len(found) == 46
    assert max(found.values()) < 1e-9


def test_the_excerpt_brings_its_labels_along() -> None:
    mapping = Mapping.read(SHIPPED / "mapping.toml")
    made = assemble(table_of(SHIPPED / "excerpt.parquet", mapping, ["run", "label"]))
    table = pl.read_csv(SHIPPED / "cisco_iosxr_features.csv.gz", infer_schema_length=None)
    table = table.with_columns(pl.col("time").cast(pl.Int64))
    both = made.rows.join(table, on=["run", "device", "time"], suffix="_shipped")
    assert both["label"].to_list() == both["label_shipped"].to_list()
    assert set(both["label"]) == {"normal", "bgp_clear", "bgp_clear_elsewhere", "recovering"}
    assert made.rows["learning"].sum() == 40 * 11
    assert made.findings == ()


def test_records_are_in_the_order_of_key_and_time(points: Path) -> None:
    made = assemble(table_of(points, mapping_of(GAUGE)))
    assert made.rows.columns == ["device", "time", "load", "learning"]
    assert made.rows["device"].to_list() == ["a", "b", "b", "b"]
    assert made.rows["time"].to_list() == [START, START, START + 4, START + 5]
    assert made.keys == 2


def test_a_kept_column_is_the_last_of_its_record(points: Path) -> None:
    intervals = mapping_of(GAUGE, 'align = "interval"')
    made = assemble(table_of(points, intervals, ["label", "learning"]))
    assert made.rows["load"].to_list() == [4, 2, 3]
    assert made.rows["label"].to_list() == ["good", "good", "bad"]
    assert made.rows["learning_kept"].to_list() == ["w", "y", "z"]


@pytest.mark.parametrize("place", ["column", "json", "both"])
def test_a_kept_column_of_a_long_table_is_no_tag_and_is_that_of_the_key(
    place: str, tmp_path: Path
) -> None:
    rows = pl.DataFrame(
        {
            "time": [START, START, START + 5, START + 5],
            "metric": ["load"] * 4,
            "value": [1.0, 2.0, 3.0, 4.0],
            "label": ["good", "bad", "bad", "good"],
        }
    )
    devices = ["a", "b", "a", "b"]
    if place != "json":
        rows = rows.with_columns(pl.Series("device", devices if place == "column" else ["x"] * 4))
    if place != "column":
        tags = [f'{{"device": "{device}"}}' for device in devices]
        rows = rows.with_columns(pl.Series("tags", tags))
    path = tmp_path / "long.parquet"
    rows.write_parquet(path)
    made = assemble(table_of(path, mapping_of(GAUGE), ["label"]))
    # As tags, the labels would have made a series each, of which the next one does not know.
    assert made.rows.rows() == [
        ("a", START, 1.0, False, "good"),
        ("a", START + 5, 3.0, False, "bad"),
        ("b", START, 2.0, False, "bad"),
        ("b", START + 5, 4.0, False, "good"),
    ]


def test_a_kept_column_that_the_mapping_asks_for_is_a_tag_too(tmp_path: Path) -> None:
    path = tmp_path / "long.parquet"
    pl.DataFrame(
        {"time": [START], "device": ["a"], "port": ["e1"], "metric": ["load"], "value": [1.0]}
    ).write_parquet(path)
    rules = mapping_of(f'{GAUGE}\ntags = {{ port = "e*" }}')
    made = assemble(table_of(path, rules, ["port"]))
    assert made.rows.select("load", "port").rows() == [(1.0, "e1")]


def test_a_key_that_is_part_of_a_columns_name_keeps_what_its_row_has(tmp_path: Path) -> None:
    path = tmp_path / "wide.parquet"
    pl.DataFrame(
        {"time": [START], "label": ["bad"], "event": [7], "a load": [1.0], "b load": [2.0]}
    ).write_parquet(path)
    rules = mapping_of(
        "[wide]\ncolumns = ['(?P<device>[ab]) (?P<metric>load)']\n"
        '[[fields]]\nname = "all"\nmetric = "*"\naggregate = "sum"'
    )
    made = assemble(table_of(path, rules, ["label", "event"]))
    # What is kept is no metric, though a pattern fits it; what a field names is both.
    kept = ("bad", 7)
    assert made.rows.select("device", "all", "label", "event").rows() == [
        ("a", 1.0, *kept),
        ("b", 2.0, *kept),
    ]
    assert made.findings == ()
    pl.DataFrame({"time": [START], "device": ["a"], "load": [1.0]}).write_parquet(path)
    made = assemble(table_of(path, mapping_of(GAUGE), ["load"]))
    assert made.rows.select("load", "load_kept").rows() == [(1.0, 1.0)]


def test_a_recording_has_the_times_of_its_points_whatever_the_mapping_says(points: Path) -> None:
    arrival = mapping_of(GAUGE, 'clock = "arrival"')
    made = assemble(table_of(points, arrival))
    assert made.rows.equals(assemble(table_of(points, mapping_of(GAUGE))).rows)
    assert len(made.rows) == 4


def test_text_that_is_no_state_ends_no_series_and_is_told_of(tmp_path: Path) -> None:
    state = 'kind = "state"\nstates = { up = 1, down = 0 }'
    rules = mapping_of(f"{GAUGE}\n{state}", "wait = 0")
    path = tmp_path / "long.parquet"
    values = ["up", "dormant", "down", "dormant"]
    pl.DataFrame(
        {
            "time": [START, START + 5, START + 10, START + 10],
            "device": ["a"] * 4,
            "metric": ["load", "load", "load", "version"],
            "value": values,
        }
    ).write_parquet(path)
    made = assemble(table_of(path, rules))
    assert made.rows["load"].to_list() == [1, 0]
    [finding] = made.findings
    assert finding.startswith("values of 'load', such as 'dormant', are text that names no state")


def test_missing_values_are_empty_cells(points: Path) -> None:
    more = mapping_of(f'{GAUGE}\n[[fields]]\nname = "x"\nmetric = "x"')
    assert assemble(table_of(points, more)).rows["x"].null_count() == 4


@pytest.mark.parametrize("name", ["out.parquet", "out.csv", "out.csv.gz"])
def test_a_table_is_written_as_its_ending_says(name: str, tmp_path: Path) -> None:
    path = tmp_path / "new" / name
    write(ROWS, path)
    read = pl.read_parquet if name.endswith("parquet") else pl.read_csv
    assert read(path).equals(ROWS)


def test_the_command_tells_what_it_did(
    points: Path, mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    noisy = pl.concat(
        [ROWS, ROWS[:1], ROWS[:1].with_columns(load=pl.lit(np.inf), device=pl.lit("c"))]
    )
    noisy.write_parquet(points)
    out = tmp_path / "out.csv"
    assert assemble_and_write(points, mapping, out, ["label"], "time", "s") == 0
    said = capsys.readouterr()
    assert said.out.startswith("6 points became 5 records of 3 device, 1 fields, in ")
    assert "repeated 1, ended 1, insufficient 1" in said.out
    assert said.out.endswith(f"wrote {out}\n")
    assert pl.read_csv(out)["load"].to_list() == [4.0, 1.0, 2.0, 3.0, None]


def test_the_command_warns_of_a_counter_mapped_as_a_gauge(
    points: Path, mapping: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 30
    rows = {"device": "a", "time": [START + 5 * n for n in range(count)], "load": [*range(count)]}
    pl.DataFrame(rows).write_parquet(points)
    assert assemble_and_write(points, mapping, tmp_path / "o.csv", [], "time", "s") == 0
    warning = capsys.readouterr().err
    assert warning.startswith("warning: field 'load' is a gauge, but 'load' rose 29 times")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"out": "o.txt"}, "o.txt: a table is written as .parquet, .csv or .csv.gz"),
        ({"keep": ["colour"]}, "there is no column 'colour' to keep"),
        ({"points": "none.csv"}, "there is no table"),
        ({"points": "none.csv", "out": "o.txt"}, "o.txt: a table is written as"),
        ({"mapping": "none.toml"}, "none.toml\n"),
        ({"key": "host"}, "no record came of the points; series of 'load' lack a tag of the key"),
        ({"metric": "cpu"}, "no record came of the points: no metric of the mapping"),
        ({"name": "time"}, "the mapping calls a field 'time'"),
    ],
)
def test_what_cannot_be_used_is_refused_in_one_line_with_code_2(
    change: dict[str, str],
    words: str,
    points: Path,
    mapping: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text = mapping.read_text()
    text = text.replace('"device"', f'"{change.get("key", "device")}"')
    text = text.replace('metric = "load"', f'metric = "{change.get("metric", "load")}"')
    mapping.write_text(text.replace('name = "load"', f'name = "{change.get("name", "load")}"'))
    code = assemble_and_write(
        tmp_path / change.get("points", points.name),
        tmp_path / change.get("mapping", mapping.name),
        tmp_path / change.get("out", "o.csv"),
        [*change.get("keep", [])],
        "time",
        "s",
    )
    said = capsys.readouterr()
    assert code == 2
    assert words in said.err
    assert said.err.startswith("faultcube: ")
    assert len(said.err.splitlines()) == 1
    assert not [*tmp_path.glob("o.*")]


def test_a_mapping_without_a_record_is_a_recipe_error(points: Path) -> None:
    with pytest.raises(RecipeError, match="no record came"):
        assemble(table_of(points, mapping_of('[[fields]]\nname = "x"\nmetric = "x"')))
