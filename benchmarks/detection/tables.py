"""Tables derived from the data sets: `label`, `part`, the fields, and the time, series and event.

`part` is train, dev or test, or null for rows between them. PROVENANCE.md beside each data set says
where it comes from and why it is split like this.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from models.telemetry.mapping import Mapping
from training.assembly.assemble import assemble
from training.assembly.points_table import PointsTable
from training.dataset.tables import read_table

Derive = Callable[[Path], list[pl.DataFrame]]
"""Maps a data set's folder to its tables; more than one are folds, scored together."""


def _kddi(folder: Path) -> pl.DataFrame:
    """Return the table with its timestamps, numbers such as 20200629105300, as dates and times."""
    table = read_table(folder / "kddi_ipcore.csv.gz").rename({"split": "part"})
    time = pl.col("timestamp").cast(pl.String).str.to_datetime("%Y%m%d%H%M%S")
    return table.with_columns(time)


_LABEL = pl.col("label")
_KDDI_META = ("status", "node", "interface", "sp", "original_sp")


def kddi_7(folder: Path) -> list[pl.DataFrame]:
    """Keep every class."""
    return [_kddi(folder).drop(_KDDI_META)]


def kddi_6(folder: Path) -> list[pl.DataFrame]:
    """Join packet loss and packet delay."""
    names = dict.fromkeys(("packet_loss", "packet_delay"), "packet_loss_or_delay")
    return [_kddi(folder).drop(_KDDI_META).with_columns(pl.col("label").replace(names))]


def kddi_location(folder: Path) -> list[pl.DataFrame]:
    """Train on faults at *-01 devices, test on *-02 devices; BGP faults have no device."""
    side = pl.when(pl.col("part") == "test").then(pl.lit("-02")).otherwise(pl.lit("-01"))
    there = pl.col("node").str.ends_with(side).fill_null(value=False)
    return [_kddi(folder).filter(there | (pl.col("label") == "normal")).drop(_KDDI_META)]


def _kddi_by_mapping(table: pl.DataFrame, *, of_first: bool = False) -> pl.DataFrame:
    """Make records of the whole network by a mapping, of the points at *-01 devices if so asked."""
    rules = Mapping.read(Path(__file__).with_name("kddi_mapping.toml"))
    about = ["campaign", "timestamp", "part", "event_id", "label", "node"]
    places = [name for name in table.columns if name not in {*about, *_KDDI_META}]
    if of_first:
        places = [name for name in places if "-01" in name and "-02" not in name]
    rows = table.select(*about, *places)
    made = assemble(PointsTable.of(rows, rules, "timestamp", "s", about[2:])).rows
    return made.filter(~pl.col("learning")).drop("learning")


def kddi_mapped(folder: Path) -> list[pl.DataFrame]:
    """Keep every class; the records are made of points."""
    return [_kddi_by_mapping(_kddi(folder)).drop("node")]


def kddi_places(folder: Path) -> list[pl.DataFrame]:
    """Train on points and faults of the *-01 devices; test on points of all, faults at *-02."""
    table, part, node = _kddi(folder), pl.col("part"), pl.col("node")
    good, first, second = _LABEL == "normal", node.str.ends_with("-01"), node.str.ends_with("-02")
    seen = _kddi_by_mapping(table, of_first=True).filter(part != "test", good | first)
    whole = _kddi_by_mapping(table).filter(part == "test", good | second)
    return [pl.concat([seen, whole]).drop("node")]


_CISCO_META = (
    *("event", "event_role", "event_device", "seconds_since_event_start", "rates_missing"),
)
_LAST_EVENT_OF_RUN_1, _LAST_EVENTS_OF_RUN_2 = 1498755960, 1501868020
"""Unix seconds: events 8 to 10 of the first run and 3 to 7 of the second come later."""
_RUN_1, _RUN_2, _RUN_3 = (
    pl.col("run") == name for name in ("bgpclear_first", "bgpclear_second", "portflap_first")
)


def _cisco(folder: Path, **parts: pl.Expr) -> pl.DataFrame:
    """Assign rows to parts, the first that matches; the rates of a router need all its records."""
    table = read_table(folder / "cisco_iosxr_features.csv.gz")
    chosen = pl.coalesce(pl.when(rows).then(pl.lit(part)) for part, rows in parts.items())
    left_out = _LABEL.is_in(["recovering", "port_flap_elsewhere"])
    return table.with_columns(part=pl.when(~left_out).then(chosen)).drop(_CISCO_META)


_CUTS = (
    ("bgpclear_first", 1498755640, 1498755995),
    ("bgpclear_second", 1501868020, 1501868360),
    ("portflap_first", 1504286765, 1504287200),
)
"""Of each run: Unix seconds from which records are dev, and from which they are test."""


def cisco_all(folder: Path) -> list[pl.DataFrame]:
    """Cut every run in time."""
    run, time = pl.col("run"), pl.col("time")
    test, late = (
        pl.any_horizontal(*((run == cuts[0]) & (time >= cuts[i]) for cuts in _CUTS)) for i in (2, 1)
    )
    return [_cisco(folder, test=test, dev=late, train=~late)]


def cisco_a(folder: Path) -> list[pl.DataFrame]:
    """Train on run 1, test on run 2."""
    early = pl.col("time") < _LAST_EVENT_OF_RUN_1
    return [_cisco(folder, train=_RUN_1 & early, dev=_RUN_1, test=_RUN_2)]


def cisco_c(folder: Path) -> list[pl.DataFrame]:
    """Train on run 1 and the first port flap, test on the rest."""
    early = pl.col("time") < _LAST_EVENT_OF_RUN_1
    flap = (_LABEL == "port_flap") & (pl.col("event_index") == 0)
    others = _RUN_2 | (_RUN_3 & _LABEL.is_in(["normal", "port_flap"]))
    return [_cisco(folder, train=(_RUN_1 & early) | flap, dev=_RUN_1, test=others)]


def _cisco_to(tested: str, folder: Path) -> pl.DataFrame:
    """Split runs 1 and 2: the routers with a prefix test, all others train."""
    test, late = pl.col("device").str.starts_with(tested), pl.col("time") >= _LAST_EVENTS_OF_RUN_2
    runs = _RUN_1 | _RUN_2
    return _cisco(folder, test=runs & test, dev=_RUN_2 & late, train=runs)


def cisco_to(tested: str) -> Derive:
    """Test on spines or leaves."""
    return lambda folder: [_cisco_to(tested, folder)]


def cisco_devices(folder: Path) -> list[pl.DataFrame]:
    """Test on each router in turn."""
    devices = read_table(folder / "cisco_iosxr_features.csv.gz")["device"].unique().sort()
    return [_cisco_to(device, folder) for device in devices]


def cisco_absolute(folder: Path) -> list[pl.DataFrame]:
    """As cisco_a, in absolute units by the raw table: every router and run has levels of its own.

    Gauges as they are; of each rate the sum, least and largest over a router's ports.
    """
    [table] = cisco_a(folder)
    raw = pl.read_parquet(folder / "cisco_iosxr_raw.parquet")
    gauges = [name.removeprefix("rel_") for name in table.columns if name.startswith("rel_")]
    columns = [pl.col(name).cast(pl.Float64) for name in gauges]
    for rate in ("input-data-rate", "output-data-rate", "input-packet-rate", "output-packet-rate"):
        ports = pl.col(rf"^HundredGigE[\d/]*{rate}$").cast(pl.Float64)
        columns += [
            pl.sum_horizontal(ports).alias(f"sum_{rate}"),
            pl.min_horizontal(ports).alias(f"min_{rate}"),
            pl.max_horizontal(ports).alias(f"max_{rate}"),
        ]
    kept = [n for n in table.columns if not n.startswith(_RELATIVE)]
    key = ["run", "device", "time"]
    absolute = raw.select(*key, *columns).unique(key, keep="first")
    return [table.select(kept).join(absolute, on=key, how="left", maintain_order="left")]


_RELATIVE = ("rel_", "relsum_", "minratio_", "maxratio_", "stdratio_", "fracdown_")


def blocked(table: str, label: str, *meta: str) -> Derive:
    """Split in file order within each class."""

    def derive(folder: Path) -> list[pl.DataFrame]:
        parts = read_table(folder / "splits.csv.gz")["split_blocked"].alias("part")
        rows = read_table(folder / table).drop(meta).rename({label: "label"})
        return [rows.with_columns(parts)]

    return derive


_NSL_META = ("attack", "difficulty", "category")


def _nsl(folder: Path) -> pl.DataFrame:
    """Join both tables; dev is a tenth of each category of the training rows, drawn once."""
    train = read_table(folder / "KDDTrain_20Percent.csv.gz")
    random, parts = np.random.default_rng(0), np.full(len(train), "train", dtype="U5")
    for category in train["category"].unique().sort():
        rows = np.flatnonzero((train["category"] == category).to_numpy())
        parts[random.choice(rows, round(len(rows) / 10), replace=False)] = "dev"
    train = train.with_columns(part=pl.Series(parts))
    test = read_table(folder / "KDDTest_plus.csv.gz").with_columns(part=pl.lit("test"))
    return pl.concat([train, test], how="vertical_relaxed")


def nsl_5(folder: Path) -> list[pl.DataFrame]:
    """Keep the five categories."""
    return [_nsl(folder).with_columns(label="category").drop(_NSL_META)]


def nsl_2(folder: Path) -> list[pl.DataFrame]:
    """Join all categories of anomalies."""
    normal = pl.col("category") == "normal"
    label = pl.when(normal).then(pl.lit("normal")).otherwise(pl.lit("anomaly"))
    return [_nsl(folder).with_columns(label=label).drop(_NSL_META)]
