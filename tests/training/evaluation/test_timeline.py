from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any

import polars as pl
import pytest

from training.evaluation.timeline import joined, parts, timeline
from training.recipe import RecipeError

TABLE = pl.DataFrame(
    {
        "at": [10, 20, 30],
        "run": ["a", "a", "b"],
        "device": ["r1", None, "r1"],
        "number": [None, 1, 2],
        "note": ["", "x", "y"],
    }
)


def test_only_what_is_named_is_told() -> None:
    assert timeline(TABLE).columns == []
    assert timeline(TABLE, time="at").columns == ["time"]
    assert timeline(TABLE, "at", ["run"], ["note"]).columns == ["time", "series", "event"]


def test_a_series_keeps_the_columns_that_name_it() -> None:
    series = timeline(TABLE, series=["run", "device"])["series"]
    assert parts(series).to_dict(as_series=False) == {
        "run": ["a", "a", "b"],
        "device": ["r1", "", "r1"],
    }
    assert joined(parts(series), "s").to_list() == ["a / r1", "a / ", "b / r1"]


def test_a_series_may_be_a_plain_column() -> None:
    assert joined(parts(pl.Series("s", [3, None])), "s").to_list() == ["3", ""]


def test_an_event_needs_a_value_in_every_column_that_names_it() -> None:
    assert timeline(TABLE, event=["run", "number"])["event"].to_list() == [None, "a / 1", "b / 2"]
    assert timeline(TABLE, event=["note"])["event"].to_list() == [None, "x", "y"]


@pytest.mark.parametrize(
    ("values", "seconds"),
    [
        ([1498755640, 1498755645], [1498755640.0, 1498755645.0]),
        ([0.5, 2.25], [0.5, 2.25]),
        (["0.5", "2"], [0.5, 2.0]),
        (["1970-01-01 00:00:01", "1970-01-02 00:00:00.5"], [1.0, 86400.5]),
        (["1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z"], [1.0, 2.0]),
        (["1970-01-01T01:00:00+01:00", "1970-01-01T00:00:02Z"], [0.0, 2.0]),
        ([datetime(1970, 1, 1, 0, 1), datetime(1970, 1, 1, 0, 2)], [60.0, 120.0]),  # noqa: DTZ001
        ([datetime(1970, 1, 1, 0, 1, tzinfo=UTC)], [60.0]),
        ([date(1970, 1, 2)], [86400.0]),
    ],
)
def test_times_become_seconds(values: list[Any], seconds: list[float]) -> None:
    assert timeline(pl.DataFrame({"at": values}), "at")["time"].to_list() == seconds


@pytest.mark.parametrize("unit", ["ms", "us", "ns"])
def test_a_time_of_any_unit_becomes_seconds(unit: Any) -> None:
    column = pl.Series("at", [datetime(1970, 1, 1, 0, 1)]).cast(pl.Datetime(unit))  # noqa: DTZ001
    assert timeline(pl.DataFrame([column]), "at")["time"].to_list() == [60.0]


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["yesterday", "today"], "'at' holds text that is no time"),
        ([True, [1]], "'at' holds values that are no time"),
        ([1.0, None], "1 test rows have no 'at'"),
        ([float("nan"), float("inf")], "2 test rows have no 'at'"),
    ],
)
def test_what_is_no_time_is_refused(values: list[Any], said: str) -> None:
    table = pl.DataFrame({"at": pl.Series(values, dtype=None, strict=False)})
    if values == [True, [1]]:
        table = pl.DataFrame({"at": [[1], [2]]})
    with pytest.raises(RecipeError, match=said):
        timeline(table, "at")


def test_a_column_that_is_not_there_is_named() -> None:
    with pytest.raises(RecipeError, match="no column 'when', which the recipe names"):
        timeline(TABLE, time="when")
