"""How near a table assembled from the raw points of cisco-iosxr is to the table that ships."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl

from models.telemetry.mapping import Mapping
from training.assembly.assemble import assemble
from training.assembly.points_table import PointsTable

FOLDER = Path("training/data/cisco-iosxr")


def differences(raw: Path, folder: Path = FOLDER) -> Iterator[tuple[str, float]]:
    """Yield each field with its largest difference over the records of a raw table.

    Raises:
        ValueError: they are not the same records.
    """
    mapping = Mapping.read(folder / "mapping.toml")
    rows = assemble(PointsTable.read(raw, mapping, "time", "s", ["run"])).rows
    table = pl.read_csv(folder / "cisco_iosxr_features.csv.gz", infer_schema_length=None)
    rows, table = (frame.with_columns(pl.col("time").cast(pl.Float64)) for frame in (rows, table))
    by = ["run", "device", "time"]
    both = rows.join(table, on=by, how="inner", suffix="_shipped")
    wanted = table.join(rows.select("run").unique(), on="run", how="semi")
    wanted = wanted.filter(pl.col("time") <= rows["time"].max())
    if not len(both) == len(rows) == len(wanted):
        raise ValueError(f"{len(both)} of {len(wanted)} records of the table were assembled")
    for name in mapping.names:
        away = both[name].to_numpy() - both[f"{name}_shipped"].cast(pl.Float64).to_numpy()
        yield name, float(np.abs(away).max())
