"""The sets of the detection benchmark, and the recipe of each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.detection import tables
from benchmarks.detection.tables import Derive
from training.recipe import Recipe

SECTIONS = ("detection", "few-shot", "open-set", "losses")


@dataclass(frozen=True, slots=True, eq=False)
class Set:
    """A test.

    Attributes:
        name: what the tables of the report call it.
        folder: where its data lies.
        about: its classes and its split, in a line.
        good: the label of good traffic.
        derive: makes its tables.
        sections: what is measured on it.
        hold_out: few-shot: classes that training never sees.
        left_out: open set: classes left out in turn; every fault class when empty.
        overrides: laid over the default recipe, as {"encoder": {...}, "fit": {...}}.
        fields: what is known of the fields, as in a recipe.
    """

    name: str
    folder: str
    about: str
    good: str
    derive: Derive
    sections: tuple[str, ...] = ("detection",)
    hold_out: tuple[str, ...] = ()
    left_out: tuple[str, ...] = ()
    overrides: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    fields: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def derive_tables(each: Set, data: Path, target: Path) -> list[Path]:
    """Write a set's tables.

    Args:
        each: the set.
        data: the folder of all data sets.
        target: the folder to write to.

    Raises:
        RecipeError: a file of the set is not there.
    """
    paths = []
    for i, table in enumerate(each.derive(data / each.folder)):
        paths.append(target / f"{each.name}-{i}.parquet")
        table.write_parquet(paths[-1])
    return paths


def recipe_of(each: Set, table: Path, seed: int, fit: Mapping[str, Any]) -> Recipe:
    """The default recipe for one of a set's tables, with the set's overrides.

    Args:
        each: the set.
        table: one of its derived tables.
        seed: of the fit.
        fit: laid over all else, for a quick try.
    """
    content = {
        "name": each.name,
        "table": table,
        "label": "label",
        "good": each.good,
        "fields": each.fields,
        "split": {"by": "column", "column": "part"},
        **each.overrides,
        "fit": {**each.overrides.get("fit", {}), **fit, "seed": seed},
    }
    return Recipe.model_validate(content)


_KDDI, _CISCO, _NSL = "kddi-ipcore", "cisco-iosxr", "nsl-kdd"
_CISCO_FIELDS = {
    "rel_*": {"unit": "1"},
    "rate_*": {"kind": "rate", "unit": "1/s"},
    "*-rate": {"kind": "gauge", "unit": "1"},
}
# As in training/iosxr.toml; chosen by cross-validation in run 1, the training rows of A and C.
_CISCO_RECIPE = {"encoder": {"views": ("log",)}}
_BLOCKED = "first 60 % of each class's block to train, next 10 % dev, last 30 % test"
_SPINE_LEAF = "runs 1 and 2; dev: the training routers' rows of the last 5 events of run 2"

SETS: Sequence[Set] = (
    Set(
        "kddi-7",
        _KDDI,
        "7 classes; learning campaign (every 5th event dev), evaluation campaign a week later",
        "normal",
        tables.kddi_7,
        SECTIONS,
        hold_out=("node_down", "bgp_injection"),
    ),
    Set("kddi-6", _KDDI, "as kddi-7, packet loss and delay one class", "normal", tables.kddi_6),
    Set(
        "kddi-location",
        _KDDI,
        "as kddi-7, without BGP faults: trained on faults at *-01 devices, tested at *-02",
        "normal",
        tables.kddi_location,
    ),
    Set(
        "cisco-a",
        _CISCO,
        "3 classes; run 1 (dev: its last events), tested on run 2, five weeks later",
        "normal",
        tables.cisco_a,
        ("detection", "open-set", "losses"),
        overrides=_CISCO_RECIPE,
        fields=_CISCO_FIELDS,
    ),
    Set(
        "cisco-spine-leaf",
        _CISCO,
        f"3 classes; trained on spines, tested on leaves; {_SPINE_LEAF}",
        "normal",
        tables.cisco_spine_to_leaf,
        fields=_CISCO_FIELDS,
    ),
    Set(
        "cisco-leaf-spine",
        _CISCO,
        f"3 classes; trained on leaves, tested on spines; {_SPINE_LEAF}",
        "normal",
        tables.cisco_leaf_to_spine,
        fields=_CISCO_FIELDS,
    ),
    Set(
        "cisco-devices",
        _CISCO,
        f"3 classes; each router tested by a model of the 10 others (rows: mean); {_SPINE_LEAF}",
        "normal",
        tables.cisco_devices,
        fields=_CISCO_FIELDS,
    ),
    Set(
        "cisco-c",
        _CISCO,
        "cisco-a and the first port flap; tested on run 2, run 3's normal records and other flaps",
        "normal",
        tables.cisco_c,
        ("few-shot", "open-set"),
        hold_out=("port_flap",),
        left_out=("port_flap",),
        overrides=_CISCO_RECIPE,
        fields=_CISCO_FIELDS,
    ),
    Set(
        "unr",
        "unr-idd",
        f"6 classes; {_BLOCKED}",
        "Normal",
        tables.blocked("unr_idd_reduced.csv.gz", "Label", "Binary Label"),
        SECTIONS,
        hold_out=("Overflow", "Diversion"),
    ),
    Set(
        "snmp",
        "snmp-mib-2016",
        f"8 classes; {_BLOCKED}",
        "normal",
        tables.blocked("snmp_mib_2016.csv.gz", "class"),
        SECTIONS,
        hold_out=("slowpost", "bruteForce"),
    ),
    Set("nsl-2", _NSL, "normal or anomaly; dev a stratified tenth, Test+", "normal", tables.nsl_2),
    Set(
        "nsl-5",
        _NSL,
        "5 categories; dev a stratified tenth of the training rows, tested on Test+",
        "normal",
        tables.nsl_5,
        ("detection", "few-shot", "open-set"),
        hold_out=("probe",),
    ),
)
