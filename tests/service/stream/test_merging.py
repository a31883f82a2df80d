"""Incidents are the same in whichever order the partitions were read."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from itertools import zip_longest

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from benchmarks.stream.points import Sent
from service.incidents.engine import Engine
from service.incidents.incident import Change, Judged
from service.incidents.storage import Note
from service.settings import Settings
from service.stream.judged import ROWS, Batch
from service.stream.merging import Merger
from service.stream.partition import Partition
from service.stream.rules import Rules
from tests.service.stream.conftest import DEVICES
from tests.support.consuming import incidents_of, take

SOURCES = [f"points/{at}" for at in range(len(DEVICES))]
END = 1_800_000_000.0


@pytest.fixture(scope="module")
def logs(rules: Rules, sent: list[Sent]) -> list[list[Batch]]:
    """The batches of each partition, with a router in each, in their order."""
    partitions = [Partition(source, rules) for source in SOURCES]
    logs: list[list[Batch]] = [[] for _ in SOURCES]
    for offset, message in enumerate(sent):
        at = DEVICES.index(message.device)
        logs[at] += take(partitions[at], message, offset).batches
    for partition, log in zip(partitions, logs, strict=True):
        log.extend([*partition.tick(END, len(sent)).batches, partition.told()])
    return logs


def told(changes: list[Change]) -> list[tuple[str, float, object]]:
    return [(change.kind, change.time, change.incident) for change in changes]


@pytest.fixture(scope="module")
def expected(settings: Settings, rules: Rules, logs: list[list[Batch]]) -> list[Change]:
    """The changes when partitions are read one after the other, and released at the end."""
    merger = Merger(incidents_of(settings, rules), rules, SOURCES)
    for batch in (batch for log in logs for batch in log):
        merger.take(batch)
    changes = merger.release()
    assert {change.kind for change in changes} >= {"opened", "closed"}
    return changes


@hypothesis_settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 1 << 32))
def test_no_race_and_no_repeat_changes_an_incident(
    settings: Settings,
    rules: Rules,
    logs: list[list[Batch]],
    expected: list[Change],
    seed: int,
) -> None:
    race = random.Random(seed)
    merger = Merger(incidents_of(settings, rules), rules, SOURCES)
    changes: list[Change] = []
    places = [0] * len(logs)
    while any(place < len(log) for place, log in zip(places, logs, strict=True)):
        at = race.randrange(len(logs))
        again = race.randrange(20)  # as an owner does that takes up a checkpoint
        end = places[at] + race.randint(1, 60)
        for batch in logs[at][max(places[at] - again, 0) : end]:
            merger.take(batch)
        places[at] = min(end, len(logs[at]))
        changes += merger.release()

    assert told(changes) == told(expected)


def test_records_go_to_the_engine_in_the_order_of_their_times(
    settings: Settings, rules: Rules, logs: list[list[Batch]], expected: list[Change]
) -> None:
    merger = Merger(incidents_of(settings, rules), rules, SOURCES)
    seen: list[tuple[float, str]] = []
    engine = Engine(rules.roles, rules.hysteresis, rules.patience)

    def observe(judged: Judged) -> list[Change]:
        seen.extend(zip(judged.times.tolist(), judged.keys, strict=True))
        return engine.observe(judged)

    merger.incidents.observe = observe  # type: ignore[method-assign]
    for batch in (batch for log in logs for batch in log):
        merger.take(batch)

    assert told(merger.release()) == told(expected)
    assert seen == sorted(seen)
    assert len(seen) == sum(len(batch.rows) for log in logs for batch in log)


def test_a_partition_of_which_nothing_is_known_is_waited_for(
    settings: Settings, rules: Rules, logs: list[list[Batch]], expected: list[Change]
) -> None:
    merger = Merger(incidents_of(settings, rules), rules, [*SOURCES, "points/9"])
    for batch in (batch for log in logs for batch in log):
        merger.take(batch)

    assert merger.release() == []

    merger.take(Batch("points/9", None, END, "1", Batch.nothing()))
    assert told(merger.release()) == told(expected)


@pytest.mark.parametrize("cut", [10, 150])
def test_who_takes_up_its_checkpoint_makes_the_same_incidents(
    settings: Settings,
    rules: Rules,
    logs: list[list[Batch]],
    expected: list[Change],
    cut: int,
) -> None:
    incidents = incidents_of(settings, rules)
    first = Merger(incidents, rules, SOURCES)
    for log in logs:
        for batch in log[:cut]:
            first.take(batch)
    changes = first.release()
    assert first.checkpoint("group/judged/0", 77)

    taken_up = incidents_of(settings, rules)
    taken_up.storage = incidents.storage
    second = Merger(taken_up, rules, SOURCES)
    assert second.resume("group/judged/0") == 77
    for log in logs:
        for batch in log[max(cut - 5, 0) :]:
            second.take(batch)

    assert told(changes + second.release()) == told(expected)


def test_there_is_nothing_to_take_up_at_first(settings: Settings, rules: Rules) -> None:
    assert Merger(incidents_of(settings, rules), rules, SOURCES).resume("nobody") is None


def test_a_record_does_not_overtake_one_before_it_when_its_partition_falls_behind(
    settings: Settings, rules: Rules
) -> None:
    """What the clock told of a silent partition may be unknown to its next owner."""
    merger = Merger(incidents_of(settings, rules), rules, ["points/0"])
    seen: list[float] = []

    def observe(judged: Judged) -> list[Change]:
        seen.extend(judged.times.tolist())
        return []

    merger.incidents.observe = observe  # type: ignore[method-assign]
    merger.take(Batch("points/0", None, 100.0, "1", Batch.nothing()))
    for offset, (time, stamp) in enumerate([(5.0, 100.0), (6.0, 6.0)]):
        row = {"stamp": stamp, "time": time, "key": "leaf1", "label": "normal"}
        rows = pa.Table.from_pylist([row], ROWS)
        merger.take(Batch("points/0", (offset, 1, 0), stamp, "1", rows))
    merger.take(Batch("points/0", None, 101.0, "1", Batch.nothing()))
    merger.release()

    assert seen == [5.0, 6.0]


def test_an_incident_that_a_person_closes_is_told_to_be_closed(
    settings: Settings, rules: Rules, logs: list[list[Batch]]
) -> None:
    incidents = incidents_of(settings, rules)
    merger = Merger(incidents, rules, SOURCES)
    changes: list[Change] = []
    for batches in zip_longest(*logs):
        for batch in filter(None, batches):
            merger.take(batch)
        if changes := merger.release():
            break
    elsewhere = incidents_of(settings, rules)
    elsewhere.storage = incidents.storage
    elsewhere.note(Note(changes[-1].incident.id, "closed", datetime.now(UTC), None))

    assert merger.checkpoint("group/judged/0", 1)
    [closed] = merger.release()

    assert (closed.kind, closed.incident.status) == ("closed", "closed")
    assert closed.incident.id == changes[-1].incident.id
    assert closed.incident.sequence > changes[-1].incident.sequence
    assert merger.release() == []
