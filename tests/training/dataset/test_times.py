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


def test_a_missing_time_stays_missing() -> None:
    assert seconds_of(pl.Series(["1970-01-01 00:01", None])).to_list() == [60.0, None]


def test_what_is_no_time_is_refused() -> None:
    with pytest.raises(RecipeError, match="'at' holds text that is no time, such as 'yesterday'"):
        seconds_of(pl.Series("at", ["1970-01-01", "yesterday"]))
