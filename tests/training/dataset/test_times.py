from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from training.dataset.times import seconds_of
from training.recipe import RecipeError


@pytest.mark.parametrize(
    "times",
    [
        [0.0, 60.0],
        [datetime(1970, 1, 1, tzinfo=UTC), datetime(1970, 1, 1, 0, 1, tzinfo=UTC)],
        ["1970-01-01T00:00:00Z", "1970-01-01T01:01:00+01:00"],
        ["01.01.1970 00:00", "1.1.1970 0:01"],
        ["0", "60.0"],
        [19700101000000, 19700101000100],
    ],
)
def test_times_become_seconds(times: list[object]) -> None:
    assert seconds_of(pl.Series(times)).to_list() == [0.0, 60.0]


@pytest.mark.parametrize("units", [1, 10**3, 10**6, 10**9])
@pytest.mark.parametrize("kind", [pl.Int64, pl.Float64, pl.String])
def test_numbers_since_1970_of_any_unit_become_seconds(units: int, kind: type) -> None:
    times = pl.Series([1_800_000_000 * units, None, 1_800_000_060 * units]).cast(kind)
    assert seconds_of(times).to_list() == [1.8e9, None, 1.8e9 + 60]


def test_a_small_number_says_that_all_are_seconds() -> None:
    assert seconds_of(pl.Series([0, 10**12])).to_list() == [0.0, 1e12]


def test_a_missing_time_stays_missing() -> None:
    assert seconds_of(pl.Series(["1970-01-01 00:01", None])).to_list() == [60.0, None]


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(RecipeError, match="'at' holds text that is no time, such as 'yesterday'"):
        seconds_of(pl.Series("at", ["1970-01-01", "yesterday"]))
