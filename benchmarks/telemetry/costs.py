"""Points a second, bytes a series, and seconds of a snapshot."""

from __future__ import annotations

import ctypes
import gc
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from models.telemetry.points import Points, Series

MAPPING = """
name = "bench"
key = ["device"]
interval = 5
lateness = 5
learn = 4
[[fields]]
name = "drops"
metric = "drops"
kind = "counter"
bits = 64
aggregate = "sum"
[[fields]]
name = "total"
metric = "rate"
aggregate = "sum"
relation = "each"
[[fields]]
name = "least"
metric = "rate"
aggregate = "min"
relation = "each"
active = 10.0
[[fields]]
name = "{metric}"
metric = ["g0", "g1", "g2", "g3", "g4", "g5", "g6", "g7", "g8", "g9"]
relation = "baseline"
"""
PORTS = 20
EACH = 10 + 2 * PORTS
"""Series of a device: ten gauges, and a counter and a gauge of each port."""
_START = 1_700_000_000


def measured(series: int, records: int, devices: int | None) -> Iterator[tuple[str, str]]:
    """Yield what was measured, and how much it is.

    Args:
        series: number of series.
        records: that each device makes; speed is measured over the last half.
        devices: whose points come in one body; all if None.
    """
    everyone, mapping = series // EACH, Mapping.parse(MAPPING)
    before, began = _resident(), time.perf_counter()
    assembler = Assembler(mapping, max_keys=everyone, max_series=series)
    for device in range(everyone):
        for token, one in series_of(device):
            assembler.series.add(token, one)
    yield "a new series, us", f"{(time.perf_counter() - began) / series * 1e6:.1f}"
    spent, early = 0.0, 0
    for number in range(records):
        bodies = [*_bodies(everyone, number, devices or everyone)]
        began = time.perf_counter()
        for points in bodies:
            assembler.add(points, _START + 5.0 * number)
        spent += (time.perf_counter() - began) * (number >= records // 2)
        if number == records // 10:
            early = _trimmed()
    speed = (records - records // 2) * everyone * EACH / spent
    yield f"points a second, {devices or everyone} devices a body", f"{speed:,.0f}"
    growth = f"memory after {records * series:,} points over that after a tenth of them"
    yield growth, f"{_trimmed() / early:.3f}"
    del bodies, points
    yield "bytes a series, tokens of 45 bytes included", f"{(_trimmed() - before) / series:.0f}"
    began = time.perf_counter()
    data = assembler.snapshot()
    yield "snapshot, s", f"{time.perf_counter() - began:.2f}"
    yield "snapshot, MiB", f"{len(data) / 2**20:.0f}"
    began = time.perf_counter()
    Assembler.restore(mapping, data, max_keys=everyone, max_series=series)
    yield "restore, s", f"{time.perf_counter() - began:.2f}"


def series_of(device: int) -> Iterator[tuple[bytes, Series]]:
    """Yield the series of a device, each with a token."""
    name = f"router-{device:06d}"
    for number in range(10):
        yield f"g{number},device={name}".encode(), Series(f"g{number}", {"device": name})
    for metric in ("drops", "rate"):
        for port in range(PORTS):
            interface = f"HundredGigE0/0/0/{port}"
            tags = {"device": name, "interface": interface}
            yield f"{metric},device={name},if={interface}".encode(), Series(metric, tags)


def _bodies(devices: int, number: int, size: int) -> Iterator[Points]:
    """Yield every series of every device once, in bodies of so many devices."""
    ids = np.arange(devices * EACH, dtype=np.int32)
    times = np.full(len(ids), (_START + 5 * number) * 1_000_000_000)
    values = (ids % 97 + 1).astype(np.float64) * (number + 1) + number % 3
    for start in range(0, len(ids), size * EACH):
        body = slice(start, start + size * EACH)
        yield Points(ids[body], times[body], values[body])


def _trimmed() -> int:
    """Return the bytes that this process holds, without what is free and kept for the next body."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return _resident()


def _resident() -> int:
    """Return the bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * 4096
