"""Assemblers of small mappings, fed with points that are written by name."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from models.telemetry.points import Points, Series
from models.telemetry.records import Records

__all__ = ["GAUGE", "START", "Feed", "Point", "feed_of", "mapping_of"]

START = 1_700_000_000
Point = tuple[str, dict[str, str], float, float]
"""Metric, tags, seconds after START, value."""


GAUGE = '[[fields]]\nname = "load"\nmetric = "load"'
"""One field, the gauge `load`."""


class Feed:
    """Gives an assembler points that are written by name, and keeps the records."""

    def __init__(self, assembler: Assembler) -> None:
        self.assembler = assembler
        self.records = assembler.advance(START)

    def add(self, *points: Point, arrived: float = 0.0, delta: bool = False) -> Records:
        return self._keep(self.assembler.add(self.points(points, delta=delta), START + arrived))

    def advance(self, now: float) -> Records:
        return self._keep(self.assembler.advance(START + now))

    def finish(self) -> Records:
        return self._keep(self.assembler.finish())

    def points(self, points: Sequence[Point], *, delta: bool = False) -> Points:
        table = self.assembler.series
        ids = []
        for name, tags, _, _ in points:
            token = (name, tuple(sorted(tags.items())), delta)
            if token not in table.ids:
                table.add(token, Series(name, tags, delta))
            ids.append(table.ids[token])
        return Points(
            np.array(ids, np.int32),
            np.array([(START * 1_000_000_000) + round(p[2] * 1e9) for p in points], np.int64),
            np.array([p[3] for p in points], np.float64),
        )

    def values(self, field: str = "") -> list[float]:
        """The values of a field, of the only one if not given, in all records so far."""
        names = self.assembler.mapping.names
        return [float(value) for value in self.records.matrix[:, names.index(field or names[0])]]

    def _keep(self, new: Records) -> Records:
        self.records = Records.joined([self.records, new], self.records.matrix.shape[1])
        return new


def mapping_of(fields: str, head: str = "") -> Mapping:
    """A mapping of device d; `head` overrides its keys."""
    keys = {"name": '"test"', "key": '["device"]', "interval": "5", "lateness": "0"}
    for line in filter(None, head.splitlines()):
        key, value = line.split("=", 1)
        keys[key.strip()] = value.strip()
    top = "\n".join(f"{key} = {value}" for key, value in keys.items())
    return Mapping.parse(f"{top}\n{fields}")


def feed_of(fields: str, head: str = "") -> Feed:
    return Feed(Assembler(mapping_of(fields, head), max_keys=1000, max_series=10_000))
