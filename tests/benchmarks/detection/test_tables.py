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
