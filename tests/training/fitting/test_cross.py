from __future__ import annotations

import importlib.util
import logging
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from joblib import Parallel

from models.schema import Field, Schema
from training.dataset.dataset import Rows
from training.fitting import cross
from training.fitting.cross import FOLDS, blocks_of, folds_of, measure_held_out
from training.recipe import EncoderRecipe, FitRecipe, Growth, RecipeError

SCHEMA = Schema([Field(name=name, kind="gauge") for name in "ab"])
SHAPE = EncoderRecipe(dimensions=4, members=1, hidden=(8,), linear=False, trees="no")
SHORT = FitRecipe(epochs=2, steps=10, batch=32)


@given(st.lists(st.integers(0, 30), min_size=1, max_size=200), st.integers(0, 99))
def test_a_group_is_in_one_fold_and_folds_are_about_as_large(groups: list[int], seed: int) -> None:
    labels = np.unique(groups, return_inverse=True)[1]
    folds = folds_of(labels, seed)
    assert all(len(set(folds[labels == group])) == 1 for group in set(labels.tolist()))
    assert set(folds.tolist()) == set(range(min(FOLDS, labels.max() + 1)))
    sizes = np.bincount(folds)
    assert sizes.max() - sizes.min() <= np.bincount(labels).max()


@pytest.fixture
def rows() -> Rows:
    """Two clusters in each of four groups, and a class that only the last group has."""
    random = np.random.default_rng(0)
    labels = np.tile([0, 1], 80)
    labels[-6:] = 2
    matrix = random.normal(labels[:, None] * [4.0, -4.0], 0.3).astype(np.float32)
    return Rows(matrix, labels)


def measured(rows: Rows, settings: FitRecipe = SHORT) -> tuple[Any, list[int]]:
    reports: list[int] = []
    folds = np.repeat(np.arange(4), 40)
    how = SCHEMA, rows, folds, SHAPE, settings
    [of] = measure_held_out(*how, [None], lambda: reports.append(1))
    return of, reports


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), min_size=1, max_size=60))
def test_blocks_are_about_equal_parts_of_each_class_in_their_order(
    records: list[tuple[int, int]],
) -> None:
    labels, order = np.array(records, np.int64).T
    blocks = blocks_of(labels, order)
    for label in set(labels.tolist()):
        mine = labels == label
        in_order = blocks[mine][np.argsort(order[mine], kind="stable")]
        assert (np.diff(in_order) >= 0).all()
        sizes = np.bincount(in_order, minlength=FOLDS)
        assert len(sizes) == FOLDS
        assert sizes.max() - sizes.min() <= 1


def test_nearly_every_record_is_nearest_to_its_class_without_having_been_fitted(rows: Rows) -> None:
    held_out, reports = measured(rows)
    assert len(reports) == 4
    assert (held_out.distances.argmin(axis=1) == held_out.labels).mean() > 0.9
    assert ((held_out.distances >= 0) & (held_out.distances <= 1)).all()


def test_encoders_are_measured_without_trees_and_with_them(rows: Rows) -> None:
    folds = np.repeat(np.arange(4), 40)
    how = SCHEMA, rows, folds, SHAPE, SHORT
    variants: tuple[Growth, ...] = ("random", "boosted")
    without, *grown = measure_held_out(*how, (None, *variants), lambda: None)
    alone, _ = measured(rows)
    assert (without.distances == alone.distances).all()
    for growth, of_trees in zip(variants, grown, strict=True):
        assert (of_trees.labels == alone.labels).all()
        assert (of_trees.distances != alone.distances).any()
        # What a fit never saw is as far as can be, whatever measures it.
        assert (of_trees.distances[-34:, 2] == 1).all()
        [only] = measure_held_out(*how, [growth], lambda: None)
        assert (only.distances == of_trees.distances).all()


def test_records_of_a_class_that_their_fit_never_saw_say_nothing(rows: Rows) -> None:
    held_out, _ = measured(rows)
    assert len(held_out.labels) == len(rows) - 6
    assert 2 not in held_out.labels
    # The fit without the last group knows two classes only: the third is as far as can be.
    assert (held_out.distances[-34:, 2] == 1).all()
    assert (held_out.distances[:120, 2] < 1).all()


def test_as_many_fits_run_side_by_side_as_are_asked_for_with_the_same_result(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, _ = measured(rows)
    asked: list[int] = []

    def side_by_side(n_jobs: int, **options: Any) -> Parallel:
        asked.append(n_jobs)
        return Parallel(n_jobs=n_jobs, **options)

    monkeypatch.setattr(cross, "_SHORT", 0)
    monkeypatch.setattr(cross, "Parallel", side_by_side)
    monkeypatch.setattr("os.cpu_count", lambda: 3)
    for jobs in (2, None, 9):  # a process that is there is used again
        together, _ = measured(rows, SHORT.model_copy(update={"jobs": jobs}))
        assert (together.distances == alone.distances).all()
    assert asked == [2, 3, 4]


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="ray is not installed")
def test_fits_are_tasks_of_ray_where_that_is_asked_for_with_the_same_result(rows: Rows) -> None:
    alone, _ = measured(rows)
    factory = logging.getLogRecordFactory()
    on_ray, reports = measured(rows, SHORT.model_copy(update={"jobs": 2, "engine": "ray"}))
    assert len(reports) == FOLDS
    assert logging.getLogRecordFactory() is factory  # or all logs would get a field of Ray's
    assert (on_ray.distances == alone.distances).all()
    assert (on_ray.labels == alone.labels).all()


def test_an_engine_that_cannot_do_the_fits_is_one_line(
    rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = SHORT.model_copy(update={"engine": "ray"})
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(RecipeError, match=r"pip install -c constraints.txt '\.\[ray\]'"):
        measured(rows, settings)
    monkeypatch.setattr("training.fitting.processes.count", lambda: 2)
    with pytest.raises(RecipeError, match="torchrun and --engine ray exclude each other"):
        measured(rows, settings)
