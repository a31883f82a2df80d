from __future__ import annotations

from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.schema import Matrix
from service.observability.reservoir import Reservoir


def numbered(rows: int) -> Matrix:
    numbers = np.arange(rows, dtype=np.float32)
    return np.stack([numbers, np.full(rows, np.nan, np.float32)], axis=1)


def kept(reservoir: Reservoir) -> list[int]:
    rows = reservoir.rows(2)
    assert rows.dtype == np.float32
    assert np.isnan(rows[:, 1]).all()
    return [int(number) for number in rows[:, 0]]


def test_everything_is_kept_until_it_is_full() -> None:
    reservoir = Reservoir(10, Random(0))
    assert kept(reservoir) == []
    reservoir.offer(numbered(0))
    reservoir.offer(numbered(10))
    assert kept(reservoir) == list(range(10))


@given(
    size=st.integers(1, 20),
    seed=st.integers(0, 1 << 32),
    rows=st.integers(0, 400),
    cuts=st.lists(st.integers(0, 400), max_size=8),
)
def test_what_is_kept_depends_on_the_rows_and_not_on_how_they_come(
    size: int, seed: int, rows: int, cuts: list[int]
) -> None:
    whole, pieces = Reservoir(size, Random(seed)), Reservoir(size, Random(seed))
    matrix = numbered(rows)
    whole.offer(matrix)
    for piece in np.split(matrix, sorted(min(cut, rows) for cut in cuts)):
        pieces.offer(piece)
    assert kept(pieces) == kept(whole)
    assert len(set(kept(whole))) == min(size, rows)


def test_every_row_is_kept_as_often_as_any_other() -> None:
    size, rows, trials = 5, 40, 4000
    random, matrix = Random(1), numbered(rows)
    found = np.zeros(rows)
    for _ in range(trials):
        reservoir = Reservoir(size, random)
        reservoir.offer(matrix)
        found[kept(reservoir)] += 1
    share = size / rows
    deviation = np.sqrt(trials * share * (1 - share))
    assert np.abs(found - trials * share).max() < 4.5 * deviation


def test_of_a_long_stream_few_rows_are_touched() -> None:
    reservoir, matrix = Reservoir(100, Random(0)), numbered(1000)
    reservoir.offer(matrix)
    chosen = 0
    for _ in range(1000):
        skip = reservoir.skip
        reservoir.offer(matrix)
        chosen += skip < 1000
    assert chosen < 700


def test_a_kept_row_does_not_change_with_the_matrix_it_came_from() -> None:
    reservoir, matrix = Reservoir(3, Random(0)), numbered(3)
    reservoir.offer(matrix)
    matrix[:, 0] = 99
    assert kept(reservoir) == [0, 1, 2]


def test_rows_of_a_matrix_that_lies_column_by_column_are_kept_whole() -> None:
    reservoir = Reservoir(3, Random(0))
    reservoir.offer(np.asfortranarray(numbered(3)))
    assert kept(reservoir) == [0, 1, 2]
