"""The sets of the detection benchmark, and the recipe of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.detection import tables
from benchmarks.detection.tables import Derive
from training.recipe import Recipe

SECTIONS = ("detection", "few-shot", "open-set", "losses", "networks", "separation")


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """A data set with a split.

    Attributes:
        name: in the tables of the report.
        about: its classes and its split, in a line.
        derive: returns its tables.
        folder: of its data.
        good: the label of good traffic.
        sections: what is measured on it.
        hold_out: few-shot: classes that training never sees.
        left_out: open set: classes left out in turn; every fault class when empty.
        overrides: of the default recipe, as {"encoder": {...}, "fit": {...}}.
        fields: what is known about the fields, as in a recipe.
        site: columns that name a network or device of its own (networks); one when empty.
        time, series, event: columns that say when, where and in which event a record was made.
    """

    name: str
    about: str
    derive: Derive
    folder: str
    good: str
    sections: tuple[str, ...] = ("detection",)
    hold_out: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    site: tuple[str, ...] = ()
    time: str | None = None
    series: tuple[str, ...] = ()
    event: tuple[str, ...] = ()


def derive_tables(data_set: Set, data: Path, target: Path) -> list[Path]:
    """Derive a set's tables from the folder of all data sets, and write them to another."""
    paths = []
    for i, table in enumerate(data_set.derive(data / data_set.folder)):
        paths.append(target / f"{data_set.name}-{i}.parquet")
        table.write_parquet(paths[-1])
    return paths


def recipe_of(data_set: Set, table: Path, seed: int, fit: Mapping[str, Any]) -> Recipe:
    """Return the default recipe for a table, with the set's overrides, and those of `fit` last."""
    content = {
        "name": data_set.name,
        "table": table,
        "label": "label",
        "good": data_set.good,
        "time": data_set.time,
        "series": data_set.series,
        "event": data_set.event,
        "fields": data_set.fields,
        "split": {"by": "column", "column": "part"},
        **data_set.overrides,
        "fit": {**data_set.overrides.get("fit", {}), **fit, "seed": seed},
    }
    return Recipe.model_validate(content)


_CISCO_FIELDS = {
    "rel_*": {"unit": "1"},
    "rate_*": {"kind": "rate", "unit": "1/s"},
    "*-rate": {"kind": "gauge", "unit": "1"},
}
# As in training/iosxr.toml; chosen by cross-validation in run 1, training rows of A, C and all.
_CISCO_RECIPE = {"encoder": {"views": ("log",)}}
_BLOCKED = "first 60 % of each class's block to train, next 10 % dev, last 30 % test"
_SPINE_LEAF = "runs 1 and 2; dev: the training routers' rows of the last 5 events of run 2"

_ON_ONE_NETWORK = SECTIONS[:4]

_kddi = partial(
    Set,
    folder="kddi-ipcore",
    good="normal",
    time="timestamp",
    series=("campaign",),
    event=("event_id",),
)
_cisco = partial(
    Set,
    folder="cisco-iosxr",
    good="normal",
    fields=_CISCO_FIELDS,
    time="time",
    series=("run", "device"),
    event=("run", "event_index"),  # each run numbers its own events
)
_nsl = partial(Set, folder="nsl-kdd", good="normal")

SETS: Sequence[Set] = (
    _kddi(
        "kddi-7",
        "7 classes; learning campaign (every 5th event dev), evaluation campaign a week later",
        tables.kddi_7,
        sections=SECTIONS,
        hold_out=("node_down", "bgp_injection"),
    ),
    _kddi("kddi-6", "as kddi-7, packet loss and delay one class", tables.kddi_6),
    _kddi(
        "kddi-location",
        "as kddi-7, without BGP faults: trained on faults at *-01 devices, tested at *-02",
        tables.kddi_location,
    ),
    _kddi(
        "kddi-mapped",
        "as kddi-7, from points by a mapping that takes the places of a metric together",
        tables.kddi_mapped,
        time="time",
    ),
    _kddi(
        "kddi-places",
        "as kddi-location, by this mapping: trained on the points of the *-01 devices alone (66 "
        "series), tested on those of all (121)",
        tables.kddi_places,
        time="time",
    ),
    _cisco(
        "cisco-shipped",
        "4 classes; every run cut in time between events, as the model that ships",
        tables.cisco_all,
        overrides=_CISCO_RECIPE,
    ),
    _cisco(
        "cisco-a",
        "3 classes; run 1 (dev: its last events), tested on run 2, five weeks later",
        tables.cisco_a,
        sections=("detection", "open-set", "losses"),
        overrides=_CISCO_RECIPE,
    ),
    _cisco(
        "cisco-spine-leaf",
        f"3 classes; trained on spines, tested on leaves; {_SPINE_LEAF}",
        tables.cisco_to("leaf"),
        sections=("detection", "networks"),
    ),
    _cisco(
        "cisco-leaf-spine",
        f"3 classes; trained on leaves, tested on spines; {_SPINE_LEAF}",
        tables.cisco_to("spine"),
    ),
    _cisco(
        "cisco-devices",
        f"3 classes; each router tested by a model of the 10 others (rows: mean); {_SPINE_LEAF}",
        tables.cisco_devices,
    ),
    _cisco(
        "cisco-absolute",
        "as cisco-a, from the raw table in absolute units; a profile for the network",
        tables.cisco_absolute,
        fields={"rate_*": _CISCO_FIELDS["rate_*"]},
        sections=("networks",),
    ),
    _cisco(
        "cisco-absolute-routers",
        "the same, with a profile for each router and run, in training too (`sites`)",
        tables.cisco_absolute,
        fields={"rate_*": _CISCO_FIELDS["rate_*"]},
        sections=("networks",),
        overrides={"sites": ("run", "device")},
        site=("run", "device"),
    ),
    _cisco(
        "cisco-c",
        "cisco-a and the first port flap; tested on run 2, run 3's normal records and other flaps",
        tables.cisco_c,
        sections=("few-shot", "open-set", "separation"),
        hold_out=("port_flap",),
        left_out=("port_flap",),
        overrides=_CISCO_RECIPE,
    ),
    Set(
        "unr",
        f"6 classes; {_BLOCKED}",
        tables.blocked("unr_idd_reduced.csv.gz", "Label", "Binary Label"),
        "unr-idd",
        "Normal",
        _ON_ONE_NETWORK,
        hold_out=("Overflow", "Diversion"),
    ),
    Set(
        "snmp",
        f"8 classes; {_BLOCKED}",
        tables.blocked("snmp_mib_2016.csv.gz", "class"),
        "snmp-mib-2016",
        "normal",
        _ON_ONE_NETWORK,
        hold_out=("slowpost", "bruteForce"),
    ),
    _nsl("nsl-2", "normal or anomaly; dev a stratified tenth, Test+", tables.nsl_2),
    _nsl(
        "nsl-5",
        "5 categories; dev a stratified tenth of the training rows, tested on Test+",
        tables.nsl_5,
        sections=("detection", "few-shot", "open-set"),
        hold_out=("probe",),
    ),
)
