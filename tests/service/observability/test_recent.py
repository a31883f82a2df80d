from __future__ import annotations

import numpy as np

from models.schema import Matrix
from service.observability.recent import Recent


def rows(first: int, number: int) -> Matrix:
    return np.arange(first, first + number, dtype=np.float32)[:, None]


def numbers(recent: Recent) -> list[float]:
    found: list[float] = recent.matrix(1)[:, 0].tolist()
    return found


def test_nothing_has_as_many_fields_as_a_record() -> None:
    empty = Recent().matrix(7)
    assert empty.shape == (0, 7)
    assert empty.dtype == np.float32


def test_records_are_kept_in_the_order_in_which_they_were_answered() -> None:
    recent = Recent()
    for first, number in ((0, 2), (2, 0), (2, 3)):
        recent.offer(rows(first, number))
    assert numbers(recent) == [0, 1, 2, 3, 4]


def test_of_a_large_chunk_the_last_records_are_kept() -> None:
    recent = Recent()
    recent.offer(rows(0, 64))
    recent.offer(rows(100, 1000))
    assert numbers(recent) == [*range(64), *range(1036, 1100)]


def test_a_large_chunk_is_not_held_in_memory_for_the_sake_of_its_last_records() -> None:
    recent, large = Recent(), rows(0, 1000)
    recent.offer(large)
    large[:] = -1
    assert numbers(recent) == [*range(936, 1000)]
    assert all(chunk.base is None for chunk in recent._chunks)


def test_the_oldest_chunks_give_way() -> None:
    recent = Recent()
    for first in range(300):
        recent.offer(rows(first, 1))
    assert numbers(recent) == [*range(44, 300)]


def test_what_is_returned_may_be_changed() -> None:
    recent = Recent()
    recent.offer(rows(0, 3))
    recent.matrix(1)[:] = -1
    assert numbers(recent) == [0, 1, 2]


def test_chunks_without_a_record_take_the_place_of_none() -> None:
    recent = Recent(chunks=2)
    recent.offer(rows(0, 3))
    for _ in range(5):
        recent.offer(rows(3, 0))
    assert numbers(recent) == [0, 1, 2]
