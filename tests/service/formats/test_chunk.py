from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models import FieldError, RecordError
from models.schema import Misfits
from service.formats.chunk import Chunk, reject

MATRIX = np.arange(8, dtype=np.float32).reshape(4, 2)


def fault_of(row: int, at: int) -> FieldError:
    return FieldError(100 + row, f"field {at}", "a number", "a string")


def misfits(*cells: tuple[int, int], rows: int = 4) -> Misfits:
    found = np.zeros((rows, 2), np.bool_)
    for cell in cells:
        found[cell] = True
    return found


@pytest.mark.parametrize("report", [False, True])
def test_records_that_all_fit_are_taken_as_they_are(report: bool) -> None:
    chunk = Chunk.checked(MATRIX, None, fault_of, report=report)
    assert chunk.matrix is MATRIX
    assert (chunk.faults, len(chunk)) == ({}, 4)


def test_a_report_keeps_the_others_and_the_first_fault_of_each_bad_record() -> None:
    chunk = Chunk.checked(MATRIX, misfits((1, 0), (1, 1), (3, 1)), fault_of, report=True)
    assert chunk.matrix.tolist() == [[0, 1], [4, 5]]
    assert chunk.faults == {1: fault_of(1, 0), 3: fault_of(3, 1)}
    assert [*chunk.faults] == [1, 3]
    assert len(chunk) == 4


def test_a_report_may_keep_nothing() -> None:
    chunk = Chunk.checked(MATRIX, misfits((0, 0), (1, 0), (2, 1), (3, 0)), fault_of, report=True)
    assert chunk.matrix.shape == (0, 2)
    assert len(chunk) == 4


def test_without_a_report_every_fault_of_a_record_is_raised() -> None:
    with pytest.raises(RecordError) as refusal:
        Chunk.checked(MATRIX, misfits((1, 0), (1, 1), (3, 1)), fault_of)
    assert refusal.value.faults == (fault_of(1, 0), fault_of(1, 1), fault_of(3, 1))


def test_no_more_than_ten_faults_are_looked_for() -> None:
    asked: list[int] = []

    def slow(row: int, at: int) -> FieldError:
        asked.append(row)
        return fault_of(row, at)

    with pytest.raises(RecordError) as refusal:
        reject(~misfits(rows=1000), slow)
    assert asked == [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    assert len(refusal.value.faults) == 10


def test_chunks_do_not_share_their_faults() -> None:
    assert Chunk(MATRIX).faults is not Chunk(MATRIX).faults


@given(st.lists(st.booleans(), max_size=30), st.integers(1, 12))
def test_what_is_split_is_the_same_together(fits: list[bool], records: int) -> None:
    matrix = np.arange(2.0 * sum(fits), dtype=np.float32).reshape(-1, 2)
    faults = {row: fault_of(row, 0) for row, fit in enumerate(fits) if not fit}
    parts = [*Chunk(matrix, faults).split(records)]
    assert all(len(part) <= records for part in parts)
    assert sum(map(len, parts)) == len(fits)
    np.testing.assert_array_equal(np.concatenate([part.matrix for part in parts]), matrix)
    starts = [records * number for number in range(len(parts))]
    assert {
        start + row: fault
        for start, part in zip(starts, parts, strict=True)
        for row, fault in part.faults.items()
    } == faults
