"""A partition is a function of its messages, whoever works on them and however often."""

from __future__ import annotations

import math

import pytest

from benchmarks.stream.points import EXCERPT, MAPPING, Sent
from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from service.formats.errors import MalformedInputError
from service.ingest.receivers import RECEIVERS
from service.runtime.judging import judge_assembled
from service.stream.partition import Output, Partition
from service.stream.rules import Rules
from tests.service.stream.conftest import DEVICES, ROOT
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
    document, engine = Partition("points/0", _with(rules, other)).snapshot()
    partition = Partition("points/0", rules)

    assert partition.restore(document, engine, 0).verdicts == []
    assert "made with another mapping" in str(partition.refused)


def _with(rules: Rules, mapping: Mapping) -> Rules:
    return Rules(
        rules.enrolment,
        rules.served,
        mapping,
        rules.columns,
        rules.roles,
        rules.hysteresis,
        rules.patience,
        rules.delay,
    )
