from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from threadpoolctl import threadpool_limits

from benchmarks.detection import baselines
from benchmarks.detection.__main__ import _tasks
from benchmarks.detection.measure import SERVED, Result, measure
from benchmarks.detection.openset import auroc, leave_out, rejected_known
from benchmarks.detection.ours import OURS
from benchmarks.detection.report import grid, mean_and_spread, report
from benchmarks.detection.separation import CASES
from benchmarks.detection.sets import SECTIONS, SETS, Set, derive_tables, recipe_of
from training.dataset.dataset import Dataset, load_dataset

QUICK = {"epochs": 2, "steps": 4, "batch": 32}


def made_up(_: Path) -> list[pl.DataFrame]:
    """Four classes of 60 records, one at each corner of a square; a column of text, a gap."""
    random = np.random.default_rng(0)
    label = np.repeat(["fine", "slow", "lossy", "down"], 60)
    corner = np.repeat([[0, 0], [0, 9], [9, 0], [9, 9]], 60, axis=0) + random.normal(size=(240, 2))
    load = np.where(random.random(240) < 0.1, np.nan, random.normal(size=240))
    return [
        pl.DataFrame(
            {
                "latency": corner[:, 0],
                "loss": corner[:, 1],
                "load": pl.Series(load).fill_nan(None),
                "vendor": random.choice(["acme", "bolt"], 240),
                "label": label,
                "part": np.tile(np.repeat(["train", "dev", "test"], 20), 4),
            }
        )
    ]


def with_times(folder: Path) -> list[pl.DataFrame]:
    """Return the same records, one a minute of 4 devices, with a counter that tells the time."""
    [table] = made_up(folder)
    row = np.arange(240)
    return [
        table.with_columns(
            at=pl.Series(60.0 * row),
            device=pl.Series(row % 4).cast(pl.String),
            outage=pl.concat_str("label", "part"),
            updates=pl.Series(1.5 * row + row % 3),
        )
    ]


SMALL = Set("small", "made up", made_up, ".", "fine", SECTIONS, hold_out=("slow",))
TIMED = Set(
    *("timed", "made up", with_times, ".", "fine"),
    time="at",
    series=("device",),
    event=("outage",),
)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for one another on a busy machine take minutes for these few records."""
    with threadpool_limits(1):
        yield


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return derive_tables(SMALL, tmp_path, tmp_path)[0]


@pytest.fixture
def dataset(path: Path) -> Dataset:
    return load_dataset(recipe_of(SMALL, path, 0, QUICK), held_out=("slow",))


def test_auroc_counts_pairs_and_ties_as_halves() -> None:
    known, unknown = np.array([0.1, 0.4, 0.4, 0.8]), np.array([0.4, 0.9])
    pairs = [(u > k) + (u == k) / 2 for u in unknown for k in known]
    assert auroc(known, unknown) == pytest.approx(sum(pairs) / 8) == 0.75


def test_fpr95_is_what_is_lost_of_known_records_when_95_percent_of_unknown_are_found() -> None:
    unknown = np.arange(1.0, 21.0)  # 19 of 20 are 2 or more
    known = np.array([0.0, 1.9, 2.0, 50.0])
    assert rejected_known(known, unknown) == 0.5
    assert rejected_known(known, unknown[-1:]) == 0.25


def test_no_classifier_learns_from_test_rows(dataset: Dataset) -> None:
    known = baselines.training_rows(dataset)
    assert len(known.labels) == len(dataset.train.labels) + len(dataset.dev.labels)
    wild = dataset.test.table.with_columns(latency=pl.lit(1e6), vendor=pl.lit("new"))
    both = pl.concat([dataset.test.table, wild])
    for name in baselines.CLASSIFIERS:
        alone, _ = baselines.classify(name, 0, known, dataset.test.table)
        beside, _ = baselines.classify(name, 0, known, both)
        assert (beside[: len(alone)] == alone).all(), name
        assert baselines.scores(dataset.test.labels, alone)["accuracy"] > 0.95, name


def test_missing_and_new_values_are_scaled_to_zero_and_to_no_category(dataset: Dataset) -> None:
    scaler = baselines.training_rows(dataset).scaler
    row = dataset.test.table[:1].with_columns(
        load=pl.lit(None, dtype=pl.Float64), vendor=pl.lit("new")
    )
    columns = [*dataset.schema.names[:-1], "acme", "bolt"]
    scaled = dict(zip(columns, scaler(row)[0], strict=True))
    assert scaled["load"] == 0
    assert scaled["acme"] < 0
    assert scaled["bolt"] < 0


def test_a_class_left_out_leaves_no_row_but_those_to_be_told_apart(dataset: Dataset) -> None:
    gone = dataset.classes.index("slow")
    known, unknown = leave_out(dataset, "slow")
    assert "slow" not in known.classes
    for before, rows in zip(
        (dataset.train, dataset.dev, dataset.test),
        (known.train, known.dev, known.test),
        strict=True,
    ):
        assert len(rows.labels) == (before.labels != gone).sum() == len(rows.table)
        assert [known.classes[c] for c in rows.labels] == rows.table["label"].to_list()
    assert set(unknown.table["label"]) == {"slow"}
    assert unknown.matrix.shape == (20, len(dataset.schema))


@pytest.mark.parametrize("section", ["detection", "few-shot", "open-set"])
def test_a_section_measures_ours_beside_baselines_and_writes_both(section: str, path: Path) -> None:
    tasks = list(_tasks({SMALL: [path]}, [section], 2, QUICK))
    measured = [measure(task) for task in tasks]
    assert not any(failure for _, failure in measured)
    results = [result for each, _ in measured for result in each]
    ours = OURS if section != "open-set" else "distance"
    theirs = {"detection": "5-NN", "few-shot": "raw", "open-set": "raw 5-NN"}[section]
    seeds = {0} if section == "open-set" else {0, 1}
    assert {r.seed for r in results if r.method == ours} == seeds
    assert {r.seed for r in results if r.method == theirs} == ({0, 1} if theirs == "raw" else {0})
    assert all(0 <= r.value <= 1 for r in results if r.metric != "seconds")
    text = report(results, ["how"], ["what is not there"])
    assert ours in text
    assert theirs in text
    assert "small" in text


def test_trees_get_the_columns_that_we_pool_too(tmp_path: Path) -> None:
    pooling = dataclasses.replace(SMALL, overrides={"pool": ["l*"]})
    [path] = derive_tables(pooling, tmp_path, tmp_path)
    results, failure = measure(next(iter(_tasks({pooling: [path]}, ["detection"], 1, QUICK))))
    assert not failure
    pooled = {r.method for r in results if r.method.endswith("pooled")}
    assert pooled == {"random forest, pooled", "extra trees, pooled", "HistGB, pooled"}
    assert [r.value for r in results if r.metric == "metrics pooled"] == [1]
    assert "| random forest, pooled |" in report(results, [], [])


def test_two_faults_are_measured_under_both_losses(path: Path) -> None:
    tasks = list(_tasks({SMALL: [path]}, ["separation"], 1, QUICK))
    assert [task.case for task in tasks] == list(CASES)
    measured = [measure(task) for task in tasks]
    assert not any(failure for _, failure in measured)
    results = [result for each, _ in measured for result in each]
    sides = [r.value for r in results if r.metric == "on their own side"]
    assert len(sides) == 4
    assert all(0 <= side <= 1 for side in sides)
    assert "| small | lossless, gain 4 |" in report(results, [], [])


def test_others_get_the_fields_of_the_schema_and_neither_clocks_nor_context(tmp_path: Path) -> None:
    [path] = derive_tables(TIMED, tmp_path, tmp_path)
    dataset = load_dataset(recipe_of(TIMED, path, 0, QUICK))
    assert set(dataset.schema.names) == {"latency", "loss", "load", "vendor", "updates_per_s"}
    known = baselines.training_rows(dataset)
    assert known.points.shape == (160, len(dataset.schema.names) + 1)  # vendor has two values
    other = dataset.test.table.with_columns(
        pl.lit(0).alias(name) for name in ("updates", "at", "device", "outage", "label", "part")
    )
    assert (known.scaler(other) == known.scaler(dataset.test.table)).all()


def test_verdicts_as_served_say_what_was_fitted_and_which_events_were_found(tmp_path: Path) -> None:
    sets = {each: derive_tables(each, tmp_path, tmp_path) for each in (SMALL, TIMED)}
    measured = [measure(task) for task in _tasks(sets, ["detection"], 2, QUICK)]
    assert not any(failure for _, failure in measured)
    results = [result for each, _ in measured for result in each]
    served = [r for r in results if r.method == SERVED]
    assert {(r.set, r.case) for r in served} == {
        (each, "train and dev") for each in ("small", "timed")
    }
    events = {r.value for r in served if r.metric == "events"}
    assert events == {3}  # one of each fault class in the test rows
    assert {r.set for r in served if r.metric == "found"} == {"timed"}
    text = report(results, [], [])
    assert "| small | train and dev |" in text
    assert "| timed | train and dev |" in text
    assert "| set | Faultcube | Faultcube, learned part | Faultcube, worst seed |" in text


def test_the_worst_seed_is_the_one_with_the_least_macro_f1() -> None:
    results = [
        Result("detection", "small", "", OURS, "macro-F1", seed, value)
        for seed, value in enumerate((0.75, 0.25, 0.5))
    ]
    assert "| small | **0.500** ± 0.250 | 0.250 |" in report(results, [], [])
    assert "worst seed |" not in report(results[:1], [], [])


def test_alarms_are_counted_on_good_records_and_misses_on_faults() -> None:
    labels, verdicts = np.array([0, 0, 0, 0, 1, 2]), np.array([0, 1, 9, 0, 2, 0])
    assert baselines.alarm_errors(labels, verdicts) == {"false alarms": 0.5, "misses": 0.5}


def test_every_fault_class_is_left_out_once_unless_the_set_says_which(path: Path) -> None:
    cases = [task.case for task in _tasks({SMALL: [path]}, ["open-set"], 1, QUICK)]
    assert cases == ["down", "lossy", "slow"]


def test_spread_is_over_seeds_and_draws_and_nothing_for_a_single_value() -> None:
    def result(method: str, value: float, spread: float = 0.0) -> Result:
        return Result("few-shot", "small", "1", method, "accuracy", 0, value, spread)

    assert mean_and_spread([result("raw", 0.5)]) == (0.5, None)
    mean, spread = mean_and_spread([result("raw", 0.4, 0.3), result("raw", 0.6, 0.1)])
    assert mean == 0.5
    assert spread == pytest.approx((0.05 + 0.02) ** 0.5)
    lines = grid([result("raw", 0.5), result(OURS, 0.25)], lambda r: (r.set,), best=max)
    assert lines[0] == f"| set | {OURS} | raw |"
    assert lines[2] == "| small | 0.250 | **0.500** |"


def test_sets_have_names_of_their_own_and_only_known_sections() -> None:
    assert len({each.name for each in SETS}) == len(SETS)
    assert all(set(each.sections) <= set(SECTIONS) for each in SETS)
    assert all(each.hold_out for each in SETS if "few-shot" in each.sections)
