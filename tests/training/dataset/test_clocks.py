from __future__ import annotations

import numpy as np
import polars as pl
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dataset.clocks import Clock, find_clocks, series_rows, with_rates

random = np.random.default_rng(0)
SEEDS = st.integers(0, 2**32 - 1)


def clocks(table: pl.DataFrame, *series: str, time: str | None = None) -> dict[str, str]:
    names = [name for name in table.columns if name not in (*series, time)]
    good = pl.Series([True] * len(table))
    return {c.name: c.reason for c in find_clocks(table, names, series, time, good)}


def recordings(runs: int = 4, rows: int = 100) -> pl.DataFrame:
    """Several recordings, each from its own start."""
    return pl.DataFrame(
        {"run": np.repeat(np.arange(runs), rows), "at": np.tile(np.arange(rows) * 5.0, runs)}
    )


@settings(deadline=None)
@given(SEEDS)
def test_a_planted_counter_is_found_whatever_its_steps_are(seed: int) -> None:
    random = np.random.default_rng(seed)
    steps = random.poisson(0.5, (4, 100)) * random.exponential(10, (4, 1))
    table = recordings().with_columns(counter=np.cumsum(steps, axis=1).ravel())
    assert clocks(table, "run", time="at") == {"counter": "never decreases"}


@settings(deadline=None)
@given(SEEDS)
def test_gauges_are_no_clocks(seed: int) -> None:
    random = np.random.default_rng(seed)
    table = recordings().with_columns(
        noise=random.normal(size=400),
        walk=random.normal(size=400).cumsum(),
        rare=(random.random(400) < 0.02).astype(float),
        constant=np.full(400, 3.0),
        wave=np.tile(np.sin(np.arange(100) / 9), 4),
    )
    assert clocks(table, "run", time="at") == {}
    assert clocks(table) == {"at": "never decreases"}


def test_a_counter_that_starts_again_is_found_without_a_series() -> None:
    table = recordings().with_columns(packets=np.tile(np.arange(100) * 7.0, 4))
    assert clocks(table.drop("run", "at")) == {"packets": "never decreases"}


def test_a_countdown_is_a_clock_without_a_rate() -> None:
    table = recordings().with_columns(left=np.tile(np.arange(100)[::-1] * 1.0, 4))
    assert clocks(table, "run", time="at") == {"left": "measures an age"}


def test_the_age_of_ports_that_take_turns_is_a_clock_by_its_name() -> None:
    age = np.repeat(np.arange(100) * 10.0, 4) + np.tile([0.0, 0.0, -3.0, -3.0], 100)
    age = np.where(np.arange(400) % 8 < 4, np.sort(age), age)
    assert clocks(pl.DataFrame({"Port alive Duration (S)": age})) != {}
    assert clocks(pl.DataFrame({"latency": age})) == {}


def test_the_length_of_a_connection_is_no_clock() -> None:
    assert clocks(pl.DataFrame({"duration": random.exponential(9, 400)})) == {}


def test_a_gauge_that_follows_the_time_in_every_recording_is_a_clock() -> None:
    drift = np.tile(np.arange(100.0), 4) + random.normal(0, 5, 400)
    table = recordings().with_columns(drift=drift)
    assert clocks(table, "run", time="at") == {"drift": "follows the time"}
    assert clocks(table.filter(pl.col("run") < 2), "run", time="at") == {}
    assert clocks(table.drop("run", "at")) == {}  # nobody says that rows are in order


def test_a_few_steps_prove_nothing() -> None:
    table = recordings().with_columns(restarts=np.repeat(np.arange(16.0), 25))
    assert clocks(table, "run", time="at") == {}


def test_an_increase_is_divided_by_the_time_passed() -> None:
    table = pl.DataFrame({"at": [0.0, 5.0, 10.0, 20.0], "n": [10, 20, 5, 25]})
    counter = pl.DataFrame({"n": np.arange(30.0)})
    (clock,) = find_clocks(counter, ["n"], (), None, pl.Series([True] * 30))
    rated = with_rates(table, [clock], (), "at")
    assert rated["n_per_s"].to_list() == [0.0, 2.0, 0.0, 2.0]  # the fall is a restart


def test_times_in_milliseconds_give_the_same_rate() -> None:
    table = pl.DataFrame({"at": [1_800_000_000_000, 1_800_000_005_000], "n": [10, 20]})
    rated = with_rates(table, [Clock("n", "never decreases")], (), "at")
    assert rated["n_per_s"].to_list() == [0.0, 2.0]


def test_rows_of_a_series_are_in_the_order_of_time() -> None:
    table = pl.DataFrame({"device": ["a", "b", "a", "b"], "at": [2, 9, 1, 3]})
    rows = [chosen.tolist() for chosen in series_rows(table, ["device"], "at")]
    assert sorted(rows) == [[2, 0], [3, 1]]
