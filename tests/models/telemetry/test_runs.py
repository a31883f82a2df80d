from __future__ import annotations

from itertools import groupby

import hypothesis.strategies as st
import numpy as np
from hypothesis import given

from models.telemetry.runs import firsts, lasts, lengths, ranges


@given(st.lists(st.integers(0, 2)))
def test_runs_are_those_of_itertools(values: list[int]) -> None:
    array, sizes = np.array(values, np.int64), [len([*run]) for _, run in groupby(values)]
    starts = np.flatnonzero(firsts(array))
    assert lengths(starts, len(array)).tolist() == sizes
    assert (np.flatnonzero(lasts(array)) + 1).tolist() == np.cumsum(sizes, dtype=int).tolist()
    assert ranges(starts, np.array(sizes, np.int64)).tolist() == [*range(len(values))]


def test_ranges_may_leave_gaps_and_be_empty() -> None:
    assert ranges(np.array([5, 0, 7]), np.array([2, 0, 3])).tolist() == [5, 6, 7, 8, 9]
