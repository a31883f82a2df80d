from __future__ import annotations

import math
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.ingest.decoded import Batch, UnusableError, nanoseconds

S = 1_700_000_000


@pytest.mark.parametrize("unit", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("sign", [1, -1])
def test_the_magnitude_of_a_time_tells_its_unit(unit: int, sign: int) -> None:
    assert nanoseconds(sign * S * unit) == sign * S * 10**9
    assert nanoseconds(float(sign * S * unit)) == sign * S * 10**9


def test_fractions_of_a_second_are_kept_to_the_microsecond() -> None:
    assert nanoseconds(1795965610.517) == 1_795_965_610_517_000_000
    assert nanoseconds(1700000000.123456) == 1_700_000_000_123_456_000


@pytest.mark.parametrize("time", [10**10, -(10**10), 2**63, -(2**63), 1e300, math.inf, math.nan])
def test_times_beyond_int64_cannot_be_used(time: float) -> None:
    with pytest.raises(UnusableError, match="1677 to 2262"):
        nanoseconds(time)


@given(st.integers() | st.floats())
def test_every_time_is_an_int64_or_refused(time: float) -> None:
    try:
        found = nanoseconds(time)
    except UnusableError:
        return
    assert type(found) is int
    assert abs(found) < 2**63
    assert any(
        abs(found - Fraction(time) * unit) <= 2000 * unit for unit in (1, 1000, 10**6, 10**9)
    )


def test_a_batch_counts_what_it_rejects() -> None:
    batch = Batch([3], [5], [0.5])
    batch.reject("bad")
    batch.reject("worse", 2)
    decoded = batch.decoded()
    assert (decoded.rejected, decoded.reasons) == (3, {"bad": 1, "worse": 2})
    points = decoded.points
    assert [points.series.tolist(), points.times.tolist(), points.values.tolist()] == [
        [3],
        [5],
        [0.5],
    ]
    assert [str(column.dtype) for column in (points.series, points.times, points.values)] == [
        "int32",
        "int64",
        "float64",
    ]
