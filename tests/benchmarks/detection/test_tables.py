from __future__ import annotations

import gzip
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import polars as pl

from benchmarks.detection import tables


def write(path: Path, rows: Sequence[dict[str, Any]], *others: str) -> None:
    """Write a table that also has other columns, which hold nothing of interest."""
    frame = pl.DataFrame([row | dict.fromkeys(others, "x") for row in rows])
    path.write_bytes(gzip.compress(frame.write_csv().encode()))


def test_times_of_kddi_are_read_as_times(tmp_path: Path) -> None:
    row = {"timestamp": 20200629105300, "split": "train"}
    others = ("status", "node", "interface", "sp", "original_sp")
    write(tmp_path / "kddi_ipcore.csv.gz", [row], *others)
    [table] = tables.kddi_7(tmp_path)
    assert table.columns == ["timestamp", "part"]
    assert table["timestamp"].dt.to_string("iso").to_list() == ["2020-06-29 10:53:00.000000"]


def test_records_between_the_parts_of_a_run_stay_so_that_rates_can_be_computed(
    tmp_path: Path,
) -> None:
    times = (1498755600.0, 1498755700.0, 1498755800.0, 1498756000.0)
    labels = ("normal", "normal", "recovering", "normal")
    rows = [
        {"run": "bgpclear_first", "time": time, "label": label}
        for time, label in zip(times, labels, strict=True)
    ]
    truth = ("event", "event_role", "event_device", "seconds_since_event_start", "rates_missing")
    write(tmp_path / "cisco_iosxr_features.csv.gz", rows, *truth)
    [table] = tables.cisco_all(tmp_path)
    assert table["part"].to_list() == ["train", "dev", None, "test"]


def test_a_network_of_the_first_devices_trains_and_the_whole_one_tests(tmp_path: Path) -> None:
    rows = []
    for campaign, part, day in (("learning", "train", 1), ("evaluation", "test", 2)):
        for minute in range(60):
            node = {50: "A-01", 55: "B-02"}.get(minute)
            rows.append(
                {
                    "campaign": campaign,
                    "split": part,
                    "timestamp": 20200600000000 + day * 1000000 + 10000 + minute * 100,
                    "event_id": minute,
                    "label": "down" if node else "normal",
                    "node": node,
                    "cpu_util_A-01": 20.0 if node == "A-01" else 10.0,
                    "cpu_util_B-02": 40.0 if node == "B-02" else 10.0,
                }
            )
    write(tmp_path / "kddi_ipcore.csv.gz", rows, "status", "interface", "sp", "original_sp")
    [whole] = tables.kddi_mapped(tmp_path)
    assert whole.filter(label="down")["max_cpu_util"].to_list() == [1, 3, 1, 3]
    [split] = tables.kddi_places(tmp_path)
    faults = split.filter(label="down")
    assert faults.select("part", "max_cpu_util").rows() == [("train", 1), ("test", 3)]
    assert split.filter(label="normal", part="train")["min_cpu_util"].unique().to_list() == [0]
    assert len(split.filter(part="train")) == 19  # 40 records are the learning period
