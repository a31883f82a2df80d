"""A partition is a function of its messages, whoever works on them and however often."""

from __future__ import annotations

import math

import msgspec
import pytest

from benchmarks.stream.points import EXCERPT, MAPPING, Sent
from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from service.formats.errors import MalformedInputError
from service.ingest.receivers import RECEIVERS
from service.runtime.judging import judge_assembled
from service.stream.partition import Output, Partition
from service.stream.rules import Rules
from tests.service.stream.conftest import DEVICES, ROOT, waiting, with_mapping
from tests.support.consuming import bytes_of, take
from training.assembly.points_table import PointsTable

NOON = 1_800_000_000.0
"""The time of day, years after the points."""


def test_verdicts_are_those_on_the_records_of_a_table(
    rules: Rules, sent: list[Sent], outputs: list[Output]
) -> None:
    mapping = Mapping.read(ROOT / MAPPING)
    assembler = Assembler(mapping)
    table = PointsTable.read(ROOT / EXCERPT, mapping, "time", "s")
    end = float(table.times[-1] / 1e9)
    expected: dict[tuple[str, float], str] = {}
    for records in [
        *[assembler.add(points, end) for points in table.points(assembler.series)],
        assembler.finish(),
    ]:
        keys = [assembler.key(slot)[0] for slot in records.keys.tolist()]
        if keys:
            _, judged, _ = judge_assembled(rules.served, rules.columns, records, keys)
            rows = zip(keys, judged.times.tolist(), judged.labels, strict=True)
            expected |= {(key, at): label for key, at, label in rows if key in DEVICES}

    partition = Partition("points/0", rules)
    for at, message in enumerate(sent):
        take(partition, message, at)
    last = partition.tick(NOON, len(sent))
    verdicts = [each for output in [*outputs, last] for each in output.verdicts]

    assert {(each.key, each.time): each.label for each in verdicts} == expected
    assert len({each.id for each in verdicts}) == len(verdicts) == len(expected)


@pytest.mark.parametrize("cut", [1, 250])
def test_who_takes_up_a_checkpoint_makes_the_same_of_the_messages_after_it(
    rules: Rules, sent: list[Sent], outputs: list[Output], cut: int
) -> None:
    first = Partition("points/0", rules)
    for at in range(cut):
        take(first, sent[at], at)

    second = Partition("points/0", rules)
    second.restore(*first.snapshot(), cut)
    made = [take(second, sent[at], at) for at in range(cut, len(sent))]

    assert second.refused is None
    assert [*map(bytes_of, made)] == [*map(bytes_of, outputs[cut:])]


def test_what_silence_completes_is_completed_again_after_a_kill(
    rules: Rules, sent: list[Sent]
) -> None:
    first = Partition("points/0", rules)
    for at in range(300):
        take(first, sent[at], at)
    kept = first.snapshot(tick=NOON)
    completed = first.tick(NOON, 300)
    after = [take(first, sent[at], at) for at in range(300, 330)]

    second = Partition("points/0", rules)
    again = second.restore(*kept, 300)

    assert completed.verdicts
    assert bytes_of(again) == bytes_of(completed)
    made = [take(second, sent[at], at) for at in range(300, 330)]
    assert [*map(bytes_of, made)] == [*map(bytes_of, after)]


def test_batches_of_ticks_at_one_offset_have_ascending_places(
    slow: Rules, sent: list[Sent]
) -> None:
    partition, due = waiting(slow, sent)
    made = [partition.tick(due + seconds, 300) for seconds in range(-1, 4)]
    take(partition, sent[300], 300)
    made.append(partition.tick(NOON, 301))

    places = [[batch.place for batch in output.batches] for output in made]
    assert places == [[], [(300, 0, 0)], [(300, 0, 1)], [(300, 0, 2)], [], [(301, 0, 0)]]


@pytest.mark.parametrize("cut", [0, 1, 2])
def test_a_tick_is_the_same_after_those_before_it_at_its_offset(
    slow: Rules, sent: list[Sent], cut: int
) -> None:
    first, due = waiting(slow, sent)
    for seconds in range(cut):
        first.tick(due + seconds, 300)
    kept = first.snapshot(tick=due + cut)
    completed = first.tick(due + cut, 300)

    second = Partition("points/0", slow)
    again = second.restore(*kept, 300)

    assert len(completed.verdicts) == 3
    assert bytes_of(again) == bytes_of(completed)
    made = [[each.tick(NOON, 300), take(each, sent[300], 300)] for each in (first, second)]
    assert [*map(bytes_of, made[0])] == [*map(bytes_of, made[1])]


def test_a_tick_is_due_only_while_records_wait(slow: Rules, sent: list[Sent]) -> None:
    partition, due = waiting(slow, sent)

    assert not partition.is_due(due - slow.mapping.wait)
    assert partition.is_due(due)
    partition.tick(due, 300)
    assert not partition.is_due(due)
    assert partition.is_due(due + 2)
    partition.tick(due + 2, 300)
    assert not partition.is_due(NOON)
    assert not Partition("points/0", slow).is_due(NOON)


def test_a_tick_that_no_checkpoint_knows_of_changes_nothing_that_comes_later(
    rules: Rules, sent: list[Sent]
) -> None:
    """Or records would have another time, and verdicts another id, after a kill."""
    by_arrival = with_mapping(rules, rules.mapping.model_copy(update={"clock": "arrival"}))
    first, second = Partition("points/0", by_arrival), Partition("points/0", by_arrival)
    for at in range(300):
        take(first, sent[at], at)
    silent = sent[299].time + 1
    kept = first.snapshot(tick=silent)
    first.tick(silent, 300)
    second.restore(*kept, 300)

    assert not first.is_due(NOON)
    first.tick(NOON, 300)
    made = [[take(each, sent[at], at) for at in range(300, 330)] for each in (first, second)]

    assert any(output.verdicts for output in made[0])
    verdicts = [[output.verdicts for output in outputs] for outputs in made]
    assert verdicts[0] == verdicts[1]


def test_a_checkpoint_of_the_version_before_is_taken_up(slow: Rules, sent: list[Sent]) -> None:
    first, due = waiting(slow, sent)
    document, engine = first.snapshot(tick=due)
    state = msgspec.msgpack.decode(document)
    del state["ticked"]

    second = Partition("points/0", slow)
    again = second.restore(msgspec.msgpack.encode(state), engine, 300)

    assert second.refused is None
    assert bytes_of(again) == bytes_of(first.tick(due, 300))


def test_a_message_that_cannot_be_decoded_changes_nothing(
    rules: Rules, sent: list[Sent], outputs: list[Output]
) -> None:
    partition = Partition("points/0", rules)
    made = []
    for at in range(60):
        made.append(take(partition, sent[at], at))
        with pytest.raises(MalformedInputError):
            partition.take(RECEIVERS["telegraf"], b'{"metrics": [', at, sent[at].time)

    assert [*map(bytes_of, made)] == [*map(bytes_of, outputs[:60])]


def test_no_stamp_is_before_what_was_told_earlier(outputs: list[Output]) -> None:
    told = -math.inf
    for batch in (batch for output in outputs for batch in output.batches):
        assert min(batch.rows["stamp"].to_pylist()) >= told
        assert batch.watermark >= told
        told = batch.watermark
    assert told > 0


def test_a_record_far_behind_its_partition_is_stamped_with_what_was_told(
    rules: Rules, sent: list[Sent]
) -> None:
    partition = Partition("points/0", rules)
    for at, message in enumerate(sent[:200]):
        take(partition, message, at)
    held = [each for each in sent[200:260] if each.device == "spine1"]
    for at, message in enumerate(each for each in sent[200:260] if each.device != "spine1"):
        take(partition, message, 200 + at)
    late, told = held[0], partition.watermark

    take(partition, late, 300)
    output = partition.tick(NOON, 301)

    rows = [row for batch in output.batches for row in batch.rows.to_pylist()]
    [found] = [row for row in rows if row["time"] == late.time]
    assert found["key"] == "spine1"
    assert late.time < told == found["stamp"]


def test_state_of_another_mapping_is_not_taken_up(rules: Rules) -> None:
    other = rules.mapping.model_copy(update={"lateness": 3.0})
    document, engine = Partition("points/0", with_mapping(rules, other)).snapshot()
    partition = Partition("points/0", rules)

    assert partition.restore(document, engine, 0).verdicts == []
    assert "made with another mapping" in str(partition.refused)
