from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from training.dataset.dataset import Dataset, load_dataset
from training.evaluation.loss_comparison import with_loss
from training.fitting.fit import Epoch, centroids_of, embed, fit
from training.recipe import Recipe, RecipeError
from training.reports.animation_data import (
    SEPARATE,
    Animation,
    Recording,
    Selection,
    faults_apart,
    record,
    select,
)

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def staged(recipe: Recipe, *wanted: str) -> Selection:
    scene = select(recipe, load_dataset(recipe), wanted)
    assert scene is not None
    return scene


@pytest.fixture(scope="module")
def told() -> list[tuple[str, Epoch]]:
    return []


@pytest.fixture(scope="module")
def film(real_recipe: Make, told: list[tuple[str, Epoch]]) -> Animation:
    fit = {"epochs": 3, "steps": 8, "batch": 60, "learning_rate": 0.02}
    return record(staged(real_recipe(fit=fit)), lambda *each: told.append(each))


def test_the_good_class_and_the_two_faults_with_most_test_rows_are_filmed(
    real_recipe: Make, real_table: pl.DataFrame
) -> None:
    few = (pl.col("label") == "bgp_clear") & (pl.col("part") == "test")
    rows = real_table.with_row_index("row")
    less = rows.filter(~few | (pl.col("row") % 5 > 0)).drop("row")
    scene = staged(real_recipe(less))
    assert scene.dataset.classes == ("normal", "bgp_clear_elsewhere", "port_flap")
    assert scene.recipe.encoder.dimensions == 3


def test_the_choice_of_faults_is_the_users(real_recipe: Make) -> None:
    scene = staged(real_recipe(), "port_flap", "bgp_clear")
    assert scene.dataset.classes == ("normal", "bgp_clear", "port_flap")
    assert set(scene.dataset.train.table["label"]) == set(scene.dataset.classes)


def test_a_class_of_few_rows_is_not_filmed(real_recipe: Make, real_table: pl.DataFrame) -> None:
    few = (pl.col("label") == "bgp_clear") & (pl.col("part") != "test")
    rows = real_table.with_row_index("row")
    recipe = real_recipe(rows.filter(~few | (pl.col("row") % 5 == 0)).drop("row"), least_records=20)
    assert load_dataset(recipe).carried == ("bgp_clear",)
    scene = staged(recipe)
    assert scene.dataset.classes == ("normal", "bgp_clear_elsewhere", "port_flap")


@pytest.mark.parametrize("wanted", [("fire", "port_flap"), ("normal", "port_flap")])
def test_a_class_that_is_no_fault_with_test_rows_is_refused_by_name(
    real_recipe: Make, wanted: tuple[str, str]
) -> None:
    complaint = f"'{wanted[0]}' cannot be animated; the fault classes with test rows are bgp_clear"
    with pytest.raises(RecipeError, match=re.escape(complaint)):
        staged(real_recipe(), *wanted)


def test_there_is_no_film_of_a_single_fault(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    recipe = make_recipe(make_table().filter(pl.col("label") != "lossy"))
    assert select(recipe, load_dataset(recipe), ()) is None


def test_beta_stays_as_many_times_the_width_as_it_was(real_recipe: Make) -> None:
    recipe = real_recipe(fit={"beta": 6})
    assert staged(recipe).recipe.fit.beta == pytest.approx(3 * 6 / 4)
    assert staged(real_recipe()).recipe.fit.beta is None


def test_at_most_150_test_rows_of_each_class_are_shown_in_order(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    scene = staged(make_recipe(make_table(2400)))
    assert np.bincount(scene.labels).tolist() == [150, 150, 150]
    assert (np.diff(scene.shown) > 0).all()


def test_both_sides_show_the_same_moments_from_the_first_part_of_an_epoch_to_the_last(
    film: Animation, told: list[tuple[str, Epoch]]
) -> None:
    left, right = film.recordings
    assert [left.loss, right.loss] == ["triplet", "lossless"]
    moments = [frame.epochs for frame in left.frames]
    assert moments == [frame.epochs for frame in right.frames]
    assert moments[:8] == [i / 8 for i in range(1, 9)]
    assert moments[-1] == 3
    assert moments == sorted(set(moments))
    assert len(moments) < 60
    assert [(name, epoch.number) for name, epoch in told] == [
        (f"film: {loss}", number) for loss in ("triplet", "lossless") for number in (1, 2, 3)
    ]


@pytest.mark.parametrize("place", [0, 1])
def test_the_film_ends_where_a_fit_that_nobody_watches_ends(film: Animation, place: int) -> None:
    scene, side = film.selection, film.recordings[place]
    recipe, dataset = with_loss(scene.recipe, side.loss, 0), scene.dataset
    last: list[Any] = []

    def watch(epoch: Epoch, encoder: Any) -> None:
        if epoch.number == recipe.fit.epochs:
            last.extend(embed(encoder, part.matrix) for part in (dataset.train, dataset.test))

    fit(dataset.schema, dataset.train, dataset.dev, recipe.encoder, recipe.fit, watch)
    train, test = last
    assert np.array_equal(side.frames[-1].points, test[scene.shown])
    centroids = centroids_of(train, dataset.train.labels, 3)
    assert np.array_equal(side.frames[-1].centroids, centroids)


def test_points_lie_in_the_cube_and_shares_are_shares(film: Animation) -> None:
    for side in film.recordings:
        for frame in side.frames:
            assert frame.points.shape == (len(film.selection.shown), 3)
            assert ((frame.points > 0) & (frame.points < 1)).all()
            for share in (frame.macro_f1, frame.zero_loss, frame.recall):
                assert 0 <= share <= 1
            assert frame.gap >= 0
    assert all(frame.excess_loss > 0 for frame in film.recordings[1].frames)


def test_the_verdict_follows_the_recall_of_the_last_frame(film: Animation) -> None:
    for side in film.recordings:
        recall = side.frames[-1].recall
        assert ("do not separate" in side.verdict) == (recall < SEPARATE)
        assert f"{recall:.3f}" in side.verdict


def as_side(recall: float, film: Animation) -> Recording:
    last = film.recordings[0].frames[-1]
    fields = {name: getattr(last, name) for name in last.__slots__}
    return Recording("triplet", (type(last)(**(fields | {"recall": recall})),))


def test_nine_in_ten_nearer_to_their_own_centroid_is_enough_to_separate(film: Animation) -> None:
    assert as_side(0.9, film).outcome == "the two fault classes separate"
    assert as_side(0.899, film).outcome == "the two fault classes do not separate"


def test_gap_and_recall_of_faults_that_can_be_checked_by_hand() -> None:
    centroids = np.array([[0.5, 0.5, 0.5], [0, 0, 0], [1, 0, 0]], np.float32)
    points = np.array([[0.1, 0, 0], [0.6, 0, 0], [1, 0, 0.1], [1, 0.1, 0], [0, 1, 1]], np.float32)
    labels = np.array([1, 1, 2, 2, 0])
    gap, recall = faults_apart(points, labels, centroids)
    spread = np.sqrt(((0.1**2 + 0.6**2) / 2 + 0.1**2) / 2)
    assert gap == pytest.approx(1 / spread, rel=1e-4)
    assert recall == 0.75


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_it_does_not_matter_which_fault_comes_first_nor_where_good_traffic_is(seed: int) -> None:
    random = np.random.default_rng(seed)
    points = random.random((30, 3), dtype=np.float32)
    labels = np.arange(30) % 3
    centroids = random.random((3, 3), dtype=np.float32)
    moved, swapped = centroids[[0, 2, 1]].copy(), np.array([0, 2, 1])[labels]
    moved[0] = random.random(3)
    expected = faults_apart(points, labels, centroids)
    assert faults_apart(points, swapped, moved) == pytest.approx(expected)


def test_faults_that_are_points_have_a_gap_that_ends() -> None:
    centroids = np.array([[0, 1, 1], [0, 0, 0], [1, 0, 0]], np.float32)
    gap, recall = faults_apart(centroids, np.arange(3), centroids)
    assert np.isfinite(gap)
    assert recall == 1


def test_a_table_of_three_classes_loses_none(real_recipe: Make, real_table: pl.DataFrame) -> None:
    recipe = real_recipe(real_table.filter(pl.col("label") != "port_flap"))
    dataset: Dataset = load_dataset(recipe)
    scene = select(recipe, dataset, ())
    assert scene is not None
    assert scene.dataset.classes == dataset.classes
