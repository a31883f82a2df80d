from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from models import Decisions
from service.live import devices
from service.live.devices import KEPT_SECONDS, Devices
from service.live.records import Batch
from tests.support.decisions import decided

Row = tuple[str, float, int]
"""Key, time, verdict."""


def batch(rows: list[Row], states: list[int] | None = None) -> Batch:
    count = len(rows)
    decisions = Decisions(
        np.zeros(count, np.intp),
        np.ones(count, np.bool_),
        np.array([time / 10_000 for _, time, _ in rows], np.float32),
        np.full(count, 0.5, np.float32),
        decided().rule,
    )
    return Batch(
        [key for key, _, _ in rows],
        np.array([time for _, time, _ in rows], np.float64),
        np.zeros((count, 1), np.float32),
        np.array([code for _, _, code in rows], np.uint16),
        np.array(states or [0] * count, np.uint8),
        decisions,
    )


class Fed:
    """Devices that are given records, numbered from 1."""

    def __init__(self, limit: int = 100) -> None:
        self.devices = Devices(limit)
        self.next = 1

    def add(self, rows: list[Row], now: float = 0.0, states: list[int] | None = None) -> None:
        numbers = np.arange(self.next, self.next + len(rows))
        self.next += len(rows)
        self.devices.add(batch(rows, states), numbers, now)

    def row(self, key: str) -> tuple[int, float, float]:
        """Verdict, since and time."""
        [(_, code, _, since, time, _, _)] = self.devices.rows([key])
        return code, since, time


rows_of_few = st.lists(
    st.lists(st.tuples(st.sampled_from("abc"), st.integers(0, 2)), max_size=12), max_size=10
)


@settings(max_examples=60)
@given(batches=rows_of_few)
def test_devices_are_what_a_loop_over_their_records_would_make_of_them(
    batches: list[list[tuple[str, int]]],
) -> None:
    time, expected = 0.0, dict[str, list[tuple[int, float, int]]]()
    with patch.object(devices, "HISTORY", 5):
        fed, number = Fed(), 0
        for some in batches:
            rows = []
            for key, code in some:
                time, number = time + 1, number + 1
                rows.append((key, time, code))
                expected.setdefault(key, []).append((number, time, code))
            if rows:
                fed.add(rows)
        assert [*fed.devices.slots] == [*expected]
        for key, records in expected.items():
            code = records[-1][2]
            run = [each for at, each in enumerate(records)
                   if all(other[2] == code for other in records[at:])]  # fmt: skip
            assert fed.row(key) == (code, run[0][1], records[-1][1])
            history = fed.devices.history(key)
            kept = [*zip(history["n"].tolist(), history["time"].tolist(), history["code"].tolist(),
                         strict=True)]  # fmt: skip
            assert kept == records[-5:]


def test_the_same_verdict_in_another_state_begins_anew() -> None:
    fed = Fed()
    fed.add([("a", 1.0, 0)], states=[3])
    fed.add([("a", 2.0, 0)], states=[0])
    fed.add([("a", 3.0, 0)], states=[0])
    assert fed.row("a") == (0, 2.0, 3.0)


def test_the_first_verdict_of_a_device_has_the_time_of_its_record() -> None:
    fed = Fed()
    fed.add([("a", 5.0, 0), ("a", 6.0, 0)])
    assert fed.row("a") == (0, 5.0, 6.0)


def test_a_history_is_of_an_hour_at_most() -> None:
    fed = Fed()
    fed.add([("a", 0.0, 0), ("a", 100.0, 0), ("a", KEPT_SECONDS + 50.0, 0)])
    assert fed.devices.history("a")["time"].tolist() == [100.0, KEPT_SECONDS + 50.0]


def test_changes_of_verdicts_come_first_and_newer_times_in_turn() -> None:
    fed = Fed()
    keys = [f"device {n}" for n in range(10)]
    fed.add([(key, 1.0, 0) for key in keys])
    assert fed.devices.take_changed(100, 100) == keys
    assert fed.devices.take_changed(100, 100) == []
    fed.add([(key, 2.0, int(key == "device 7")) for key in keys])
    assert fed.devices.take_changed(100, 3) == ["device 7", *keys[:3]]
    fed.add([(key, 3.0, int(key == "device 7")) for key in keys])
    assert fed.devices.take_changed(100, 3) == keys[3:6]
    assert fed.devices.take_changed(100, 5) == [*keys[6:], keys[0]]


def test_more_changes_than_are_told_at_once_are_told_the_next_time() -> None:
    fed = Fed()
    fed.add([("a", 1.0, 0), ("b", 1.0, 0), ("c", 1.0, 0)])
    assert fed.devices.take_changed(2, 0) == ["a", "b"]
    assert fed.devices.take_changed(2, 0) == ["c"]


def test_a_device_is_silent_until_it_is_seen_again() -> None:
    fed = Fed()
    fed.add([("a", 1.0, 0), ("b", 1.0, 0)], now=100)
    fed.add([("b", 2.0, 0)], now=200)
    fed.devices.take_changed(9, 9)
    fed.devices.mark_silent(150)
    assert fed.devices.take_changed(9, 9) == ["a"]
    states = {row[0]: (row[2], row[3]) for row in fed.devices.rows(["a", "b"])}
    assert states == {"a": (5, 1.0), "b": (0, 1.0)}
    fed.devices.mark_silent(150)
    assert fed.devices.take_changed(9, 9) == []
    fed.add([("a", 9.0, 0)], now=300)
    assert fed.devices.take_changed(9, 9) == ["a"]
    assert fed.row("a") == (0, 1.0, 9.0)


def test_beyond_the_limit_a_device_is_left_out_until_another_is_silent_for_an_hour() -> None:
    fed = Fed(limit=2)
    fed.add([("a", 1.0, 0), ("b", 1.0, 1), ("c", 1.0, 2)], now=0)
    assert [*fed.devices.slots] == ["a", "b"]
    fed.add([("a", 2.0, 0)], now=3000)
    fed.add([("c", 3.0, 2)], now=3601)
    assert [*fed.devices.slots] == ["a", "c"]
    assert fed.row("c") == (2, 3.0, 3.0)
    assert fed.devices.history("c")["code"].tolist() == [2]
    assert set(fed.devices.take_changed(9, 9)) == {"a", "c"}


def test_a_history_has_the_numbers_of_its_records_however_many_there_were() -> None:
    fed = Fed()
    fed.next = first = 2**32 - 1
    fed.add([("a", 1.0, 0), ("a", 2.0, 0), ("b", 2.0, 0), ("a", 3.0, 0)])
    assert fed.devices.history("a")["n"].tolist() == [first, first + 1, first + 3]


def test_many_devices_have_their_own_histories() -> None:
    fed = Fed(limit=2000)
    keys = [f"device {n}" for n in range(1500)]
    for time in (1.0, 2.0):
        fed.add([(key, time, at % 3) for at, key in enumerate(keys)])
    for at in (0, 255, 256, 257, 1499):
        history = fed.devices.history(keys[at])
        assert history["n"].tolist() == [at + 1, at + 1501]
        assert history["code"].tolist() == [at % 3] * 2


def test_ten_thousand_devices_and_their_hour_take_less_than_150_megabytes() -> None:
    assert devices._RECORD.itemsize * devices.HISTORY * 10_000 < 150e6
