from __future__ import annotations

from unittest.mock import patch

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models import Decisions
from service.live import records
from service.live.records import Batch, Ring
from tests.support.decisions import decided


def batch(count: int, first: int = 0) -> Batch:
    """Records whose only field is their own number."""
    numbers = np.arange(first, first + count)
    one = decided()
    decisions = Decisions(
        np.zeros(count, np.intp),
        np.ones(count, np.bool_),
        (numbers / 1000).astype(np.float32),
        np.full(count, 0.5, np.float32),
        one.rule,
    )
    return Batch(
        [f"device {n}" for n in numbers],
        numbers.astype(np.float64),
        numbers.astype(np.float32)[:, None],
        np.zeros(count, np.uint16),
        np.zeros(count, np.uint8),
        decisions,
    )


@given(counts=st.lists(st.integers(1, 25), max_size=8))
def test_the_latest_records_are_kept_each_under_its_own_number(counts: list[int]) -> None:
    with patch.object(records, "KEPT_RECORDS", 10):
        ring = Ring()
        ring.clear(1)
        total = 0
        for count in counts:
            numbers = ring.add(batch(count, total))
            assert numbers.tolist() == [*range(1 + total, 1 + total + count)]
            total += count
    kept = ring.latest(100)
    assert kept.tolist() == [*range(max(1, total - 9), total + 1)]
    assert ring.matrix(kept)[:, 0].tolist() == [n - 1 for n in kept.tolist()]
    for number, key, time, _, distance, _, _ in ring.rows(kept):
        assert (key, time) == (f"device {number - 1}", number - 1)
        assert distance == (number - 1) / 1000
    assert ring.kept(np.arange(total + 5)).tolist() == kept.tolist()


def test_a_number_is_never_used_again_and_what_is_forgotten_is_not_kept() -> None:
    ring = Ring()
    ring.clear(1)
    before = ring.add(batch(5))
    ring.clear(1)
    assert not len(ring.kept(before))
    after = ring.add(batch(2))
    assert after.tolist() == [6, 7]
    assert ring.latest(10).tolist() == [6, 7]


def test_positions_are_kept_until_the_axes_change() -> None:
    ring = Ring()
    ring.clear(1)
    numbers = ring.add(batch(3))
    assert ring.unplaced(numbers).tolist() == [1, 2, 3]
    ring.place(np.array([0, 2, 99]), np.ones((3, 3), np.float32))  # two that are not kept
    assert ring.unplaced(numbers).tolist() == [1, 3]
    ring.forget_positions()
    assert ring.unplaced(numbers).tolist() == [1, 2, 3]


def test_a_record_in_the_place_of_another_has_not_its_position() -> None:
    with patch.object(records, "KEPT_RECORDS", 2):
        ring = Ring()
        ring.clear(1)
        ring.place(ring.add(batch(2)), np.ones((2, 3), np.float32))
        assert ring.unplaced(ring.add(batch(2, 2))).tolist() == [3, 4]


def test_of_wide_records_fewer_are_kept() -> None:
    ring = Ring()
    ring.clear(1_000_000)
    assert ring._matrix.nbytes <= records._MAX_BYTES
    ring.clear(10)
    assert len(ring._matrix) == records.KEPT_RECORDS
