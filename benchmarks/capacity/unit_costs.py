"""Unit costs, each as a page of this repository has it, and limits, each as the code has it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from models.telemetry.assembler import Assembler
from models.telemetry.points import SeriesTable
from service.runtime import ingestion
from service.settings import Settings

__all__ = ["COSTS", "LIMITS", "WIRES", "Cost", "Wire"]

_INGEST = "benchmarks/README.md"
_TELEMETRY = "docs/telemetry.md"
_SERVING = "benchmarks/results/serving.md"


@dataclass(frozen=True, slots=True)
class Cost:
    """A number that was measured.

    Attributes:
        what: it is, with its unit.
        page: that has it.
        line: words of the page that have it.
        written: as they write it.
    """

    what: str
    page: str
    line: str
    written: str

    @property
    def value(self) -> float:
        """The number."""
        return float(self.written.replace(",", ""))


@dataclass(frozen=True, slots=True)
class Wire:
    """What a point costs in a wire format.

    Attributes:
        size: bytes of a point.
        decoded: points a second and core, of known series.
        assembled: points a second and core, decoded and assembled.
        fresh: new series a second and core.
    """

    size: Cost
    decoded: Cost
    assembled: Cost
    fresh: Cost


def _wire(name: str, size: str, decoded: str, assembled: str, target: str, fresh: str) -> Wire:
    row = f"| {name} | {size} | {decoded} | {assembled} | {target} | {fresh} |"
    return Wire(
        *(
            Cost(f"{name}, {what}", _INGEST, row, written)
            for what, written in (
                ("bytes a point", size),
                ("points decoded/s and core", decoded),
                ("points decoded and assembled/s and core", assembled),
                ("new series/s and core", fresh),
            )
        )
    )


WIRES = {
    "telegraf": _wire("telegraf", "44", "1,141,511", "669,082", "300,000", "261,348"),
    "otlp": _wire("otlp", "84", "628,516", "461,885", "200,000", "251,594"),
    "remote_write": _wire("remote_write", "11", "935,498", "600,930", "500,000", "39,000"),
}
COSTS = {
    "series": Cost("bytes of memory a series", _TELEMETRY, "about\n247 bytes", "247"),
    "snapshot": Cost("bytes a series in a checkpoint", _TELEMETRY, "131 bytes a series", "131"),
    "alone": Cost(
        "points assembled/s and core, one device a body",
        _TELEMETRY,
        "of 150,000 if each holds one\ndevice",
        "150,000",
    ),
    "scored": Cost(
        "records read, judged and written/s and core",
        "docs/archives.md",
        "| a loop in one process | 1 | 658,593 |",
        "658,593",
    ),
    "process": Cost(
        "MiB of a process",
        _SERVING,
        "| faultcube | 1.367e+04 | 13,666 | 0.07257 | 0.55 | 1.436 | 170 |",
        "170",
    ),
    "live": Cost("kB of a device on the live page", "docs/settings.md", "14 kB each", "14"),
    "single": Cost(
        "records/s and core by HTTP, one a request, JSON",
        _SERVING,
        "| faultcube | 1.367e+04 | 13,666 |",
        "13,666",
    ),
    "json": Cost(
        "records/s and core by HTTP, 1,000 a request, JSON",
        _SERVING,
        "| faultcube | 185.8 | 185,821 |",
        "185,821",
    ),
    "arrow": Cost(
        "records/s and core by HTTP, 1,000 a request, Arrow",
        _SERVING,
        "| faultcube Arrow | 392 | 391,958 |",
        "391,958",
    ),
}


def _default(function: Callable[..., Any], name: str) -> float:
    return float(inspect.signature(function).parameters[name].default)


LIMITS = {
    "series": _default(Assembler, "max_series"),
    "devices": _default(Assembler, "max_keys"),
    "foreign": _default(SeriesTable, "max_foreign"),
    "live": float(Settings.model_fields["live_devices"].default),
    "checkpoint_seconds": ingestion._CHECKPOINT_SECONDS,  # noqa: SLF001 - of the code, not a copy
    "checkpoint_bytes": float(ingestion._CHECKPOINT_BYTES),  # noqa: SLF001
}
"""Of one process: series, devices, remembered series of other processes, devices of the live page,
and after what time or what size of the journal a checkpoint is made."""
