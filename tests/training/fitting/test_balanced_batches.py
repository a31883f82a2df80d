from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.fitting.fit import balanced_batches

of_any_sizes = given(
    st.lists(st.integers(1, 40), min_size=2, max_size=12),
    st.integers(4, 200),
    st.integers(0, 3),
)


def batches(
    labels: list[int], batch: int, count: int = 5, seed: int = 0, **options: bool
) -> list[list[int]]:
    random = np.random.default_rng(seed)
    drawn = balanced_batches(np.array(labels), batch, count, random, **options)
    return [b.tolist() for b in drawn]


@of_any_sizes
def test_every_class_has_the_same_number_of_records(
    sizes: list[int], batch: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for rows in batches(labels.tolist(), batch, 3, seed):
        counts = np.bincount(labels[rows], minlength=len(sizes))
        assert set(counts.tolist()) == {max(batch // len(sizes), 2)}


def test_only_classes_that_are_too_small_are_drawn_with_replacement() -> None:
    labels = np.repeat([0, 1, 2], [100, 10, 3])
    for rows in batches(labels.tolist(), 30):
        drawn = [[row for row in rows if labels[row] == label] for label in range(3)]
        assert [len(each) for each in drawn] == [10, 10, 10]
        assert len(set(drawn[0])) == 10
        assert len(set(drawn[1])) == 10
        assert len(set(drawn[2])) <= 3


@of_any_sizes
def test_no_record_is_drawn_twice_into_a_batch_without_oversampling(
    sizes: list[int], batch: int, seed: int
) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    for rows in batches(labels.tolist(), batch, 3, seed, oversample=False):
        assert len(set(rows)) == len(rows)
        counts = np.bincount(labels[rows], minlength=len(sizes))
        assert counts.tolist() == [min(size, max(batch // len(sizes), 2)) for size in sizes]


def test_large_classes_are_drawn_alike_with_and_without_oversampling() -> None:
    labels = [0] * 50 + [1] * 20
    assert batches(labels, 20) == batches(labels, 20, oversample=False)


def test_a_batch_has_at_most_sixteen_classes_and_all_get_their_turn() -> None:
    labels = np.arange(400) % 20
    drawn = [set(labels[rows].tolist()) for rows in batches(labels.tolist(), 64, 20)]
    assert {len(classes) for classes in drawn} == {16}
    assert set().union(*drawn) == set(range(20))
    assert len({frozenset(classes) for classes in drawn}) > 1


def test_every_record_gets_its_turn() -> None:
    labels = [0] * 50 + [1] * 20
    rows = {row for batch in batches(labels, 20, 200) for row in batch}
    assert rows == set(range(70))


def test_the_seed_decides_the_draws() -> None:
    labels = [0, 1, 2] * 30
    assert batches(labels, 12, seed=1) == batches(labels, 12, seed=1)
    assert batches(labels, 12, seed=1) != batches(labels, 12, seed=2)
    first, second = batches(labels, 12, count=2)
    assert first != second


@pytest.mark.parametrize("count", [0, 1, 7])
def test_there_are_as_many_batches_as_asked(count: int) -> None:
    assert len(batches([0, 1] * 10, 8, count)) == count


def test_labels_need_not_be_consecutive() -> None:
    labels = np.array([3, 7, 7, 3, 9, 9])
    for rows in batches(labels.tolist(), 6):
        assert sorted(labels[rows].tolist()) == [3, 3, 7, 7, 9, 9]
