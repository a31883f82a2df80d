"""Points that are lost, late, sent twice and out of order, as networks deliver them."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec
import numpy as np
import pytest

from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from models.telemetry.records import Records
from service.ingest.receivers import RECEIVERS
from tests.support.excerpt import DATA, bodies_of_the_excerpt

TELEGRAF = RECEIVERS["telegraf"]
LEARNED = 330.0
"""Seconds after which every router of the excerpt has learned its baseline."""
Metrics = list[dict[str, Any]]


@pytest.fixture(scope="module")
def mapping() -> Mapping:
    return Mapping.read(DATA / "mapping.toml")


@pytest.fixture(scope="module")
def bodies(once: Callable[..., Any]) -> list[Metrics]:
    return [msgspec.json.decode(body.data)["metrics"] for body in bodies_of_the_excerpt(once)]


def assembled(bodies: list[Metrics], mapping: Mapping) -> tuple[Assembler, Records]:
    assembler = Assembler(mapping)
    now = max(metric["timestamp"] for body in bodies for metric in body) / 1000
    parts = []
    for body in bodies:
        data = msgspec.json.encode({"metrics": body})
        points = TELEGRAF.decode(data, assembler.series, 0).points
        parts.append(assembler.add(points, now))
    parts.append(assembler.finish())
    return assembler, Records.joined(parts, len(mapping.fields))


def by_key_and_time(assembler: Assembler, records: Records) -> dict[tuple[str, float], Any]:
    keys = [assembler.key(slot)[0] for slot in records.keys.tolist()]
    return dict(zip(zip(keys, records.times.tolist(), strict=True), records.matrix, strict=True))


def test_no_record_is_wrong_and_what_is_missing_is_counted(
    bodies: list[Metrics], mapping: Mapping
) -> None:
    """1 % lost, 5 % late, some too late, 2 % twice, all out of order within their body."""
    draw = random.Random(0)
    first = bodies[0][0]["timestamp"]
    sent: list[Metrics] = [[] for _ in range(len(bodies) + 30)]
    lost = repeated = too_late = 0
    for place, body in enumerate(bodies):
        for metric in body:
            chance = draw.random() if metric["timestamp"] - first > 1000 * LEARNED else 1.0
            if chance < 0.01:
                lost += 1
            elif chance < 0.06:
                sent[place + 1].append(metric)  # 5 s later: within the lateness
            elif chance < 0.062 and place < len(bodies) - 10:
                sent[place + 8].append(metric)  # 40 s later
                too_late += 1
            else:
                sent[place].append(metric)
                if chance < 0.082:
                    sent[place].append(metric)
                    repeated += 1
    for body in sent:
        draw.shuffle(body)
    whole, expected = assembled(bodies, mapping)
    other, found = assembled([body for body in sent if body], mapping)
    assert other.counts.repeated == repeated > 1000
    assert other.counts.late == too_late > 100
    assert other.counts.missing >= lost > 1000
    truth, records = by_key_and_time(whole, expected), by_key_and_time(other, found)
    assert records.keys() == truth.keys()
    rates = np.array([rule.kind == "counter" for rule in mapping.fields])
    before: dict[str, np.ndarray[Any, Any]] = {}
    wrong = missing = 0
    for (key, time), record in sorted(records.items()):
        gone = np.isnan(record) & ~np.isnan(truth[key, time])
        missing += int(gone.sum())
        differs = ~gone & (record != truth[key, time]) & ~np.isnan(truth[key, time])
        # The rate after a gap is the mean over it.
        after_gap = rates & before.get(key, np.zeros(len(rates), np.bool_))
        wrong += int((differs & ~after_gap).sum())
        before[key] = gone | (before.get(key, gone) & differs & rates)
    assert wrong == 0
    assert missing > 1000
