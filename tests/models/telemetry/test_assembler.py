"""What becomes of points: records, the same whatever bodies and order the points come in."""

from __future__ import annotations

from dataclasses import astuple

import hypothesis.strategies as st
import numpy as np
from hypothesis import given, settings

from models.telemetry.assembler import Assembler
from models.telemetry.points import UNMAPPED, Points, Series
from models.telemetry.records import Records
from tests.support.feeds import START, feed_of, mapping_of

EVERYTHING = """
[[fields]]
name = "level"
metric = "level"
relation = "baseline"
[[fields]]
name = "octets"
metric = "octets"
kind = "counter"
bits = 32
aggregate = "sum"
absent = 0.0
[[fields]]
name = "requests"
metric = "requests"
kind = "counter"
[[fields]]
name = "state"
metric = "state"
kind = "state"
states = { 1 = 1, 2 = 0 }
aggregate = "mean"
[[fields]]
name = "total"
metric = "load"
relation = "each"
aggregate = "sum"
[[fields]]
name = "{metric}_spread"
metric = ["load"]
relation = "each"
aggregate = "std"
active = 0.5
absent = 0.0
[[fields]]
name = "least"
metric = "load"
aggregate = "min"
[[fields]]
name = "most"
metric = "load"
aggregate = "max"
[[fields]]
name = "down"
metric = "load"
relation = "each"
aggregate = "share_below"
below = -0.5
"""
METRICS = [
    ("level", 1), ("octets", 3), ("requests", 1), ("state", 2), ("load", 4), ("foreign", 1),
]  # fmt: skip


def some_points(seed: int, steps: int, jitter: float) -> list[tuple[str, int, int, int, float]]:
    """Metric, device, port, nanoseconds and value of points, in the order of time."""
    random = np.random.default_rng(seed)
    points = []
    for step in range(steps):
        for device in range(3):
            if random.random() < 0.05:
                continue
            for metric, ports in METRICS:
                for port in range(ports):
                    if random.random() < 0.03:
                        continue
                    value = random.normal(10, 5)
                    if metric in {"octets", "requests"}:
                        value = random.integers(0, 2**32)
                    if metric == "state":
                        value = random.integers(1, 4)
                    if random.random() < 0.02:
                        value = np.nan
                    late = int(random.random() * jitter * 1e9)
                    at = (START + 5 * step + 100 * (step > 20)) * 1_000_000_000 + late
                    points.append((metric, device, port, at, float(value)))
    return points


def assembled(
    head: str, bodies: list[list[tuple[str, int, int, int, float]]], *, restart: bool = False
) -> tuple[Assembler, dict[str, Records]]:
    """Feed bodies to a new assembler; its records by device."""
    mapping = mapping_of(EVERYTHING, head)
    assembler = Assembler(mapping, max_keys=10, max_series=1000)
    parts = []
    for body in bodies:
        ids = []
        for metric, device, port, _, _ in body:
            token = (metric, device, port)
            if token not in assembler.series.ids:
                tags = {"device": f"d{device}", "port": f"p{port}"}
                assembler.series.add(token, Series(metric, tags, delta=metric == "requests"))
            ids.append(assembler.series.ids[token])
        points = Points(
            np.array(ids, np.int32),
            np.array([point[3] for point in body], np.int64),
            np.array([point[4] for point in body], np.float64),
        )
        parts.append(assembler.add(points, START + 1000.0))
        if restart:
            assembler = Assembler.restore(
                mapping, assembler.snapshot(), max_keys=10, max_series=1000
            )
    parts.append(assembler.finish())
    records = Records.joined(parts, len(mapping.fields))
    names = [assembler.key(slot)[0] for slot in records.keys.tolist()]
    return assembler, {
        name: records.take(np.flatnonzero(np.array(names) == name)) for name in sorted(set(names))
    }


def assert_same(one: dict[str, Records], other: dict[str, Records]) -> None:
    """Every record of every device is the same to the bit, and in the same order."""
    assert one.keys() == other.keys()
    for name, records in one.items():
        for mine, its in zip(astuple(records)[1:], astuple(other[name])[1:], strict=True):
            assert np.array_equal(mine, its, equal_nan=mine.dtype == np.float64)


SAMPLES = "learn = 5\nlateness = 12\nforget = 60\nstale = 11"
INTERVALS = SAMPLES + '\nalign = "interval"'


@settings(max_examples=25, deadline=None)
@given(data=st.data(), seed=st.integers(0, 1000), intervals=st.booleans(), restart=st.booleans())
def test_the_same_points_give_the_same_records_in_any_bodies_and_order(
    data: st.DataObject, seed: int, intervals: bool, restart: bool
) -> None:
    head, jitter = (INTERVALS, 1.0) if intervals else (SAMPLES, 0.0)
    points = some_points(seed, 40, jitter)
    _, expected = assembled(head, [points])
    assert len(expected["d0"]) > 20

    random = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    twice = random.random(len(points)) < data.draw(st.sampled_from([0, 0.1]))
    points += [point for point, again in zip(points, twice, strict=True) if again]
    delays = random.random(len(points)) * data.draw(st.sampled_from([0.0, 5.0, 11.9]))
    points = [points[at] for at in np.argsort([p[3] for p in points] + delays * 1e9)]
    cuts = sorted(random.integers(0, len(points), data.draw(st.sampled_from([0, 3, 40]))))
    bodies = [points[a:b] for a, b in zip([0, *cuts], [*cuts, len(points)], strict=True)]
    _, records = assembled(head, bodies, restart=restart)
    assert_same(records, expected)


def test_a_series_that_no_field_takes_is_counted() -> None:
    feed = feed_of('[[fields]]\nname = "load"\nmetric = "load"')
    assert feed.assembler.series.add("x", Series("other", {"device": "a"})) == UNMAPPED
    feed.add(("other", {"device": "a"}, 0, 1.0), ("load", {"device": "a"}, 0, 1.0))
    assert feed.assembler.counts.points == 2
    assert feed.assembler.counts.unmapped == 1
