from __future__ import annotations

import pickle
import re
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from models.decision import NearestCentroid, distances_between
from models.encoder import Encoder as OnnxEncoder
from training.dataset.dataset import Dataset, Rows, load_dataset
from training.evaluation import loss_comparison as compare_module
from training.evaluation.evaluate import evaluate, score, tightness
from training.evaluation.few_shot import few_shot
from training.evaluation.loss_comparison import (
    DRAWS,
    LossTrial,
    Plan,
    compare,
    run_tasks,
    with_loss,
)
from training.fitting.fit import Epoch, balanced_batches, centroids_of, embed, fit
from training.fitting.losses import LosslessTripletLoss, make_loss
from training.recipe import EncoderRecipe, FewShot, Recipe, RecipeError

Make = Callable[..., Recipe]


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def quiet(*_: object) -> None:
    """Report nothing."""


def refuse(*_: object) -> None:
    pytest.fail("a fit began")


@pytest.fixture(scope="module")
def recipe(real_recipe: Make) -> Recipe:
    fit = {"epochs": 4, "steps": 15, "batch": 80, "learning_rate": 0.02}
    return real_recipe(fit=fit)


@pytest.fixture(scope="module")
def dataset(recipe: Recipe) -> Dataset:
    return load_dataset(recipe)


@pytest.fixture(scope="module")
def trials(recipe: Recipe, dataset: Dataset) -> list[LossTrial]:
    """Every loss, once, on a few hundred real records."""
    return compare(recipe, dataset, Plan(seeds=1), quiet)


def test_loss_and_share_are_told_after_every_epoch(trials: list[LossTrial]) -> None:
    for trial in trials:
        assert len(trial.losses) == len(trial.zero_loss) == 4
        if trial.loss == "lossless":
            assert trial.losses[-1] < trial.losses[0]


def test_shares_are_shares_and_the_losses_differ_only_where_they_should(
    trials: list[LossTrial],
) -> None:
    for trial in trials:
        scores = trial.scores
        for share in (scores.accuracy, scores.balanced_accuracy, scores.macro_f1):
            assert 0.25 < share <= 1
        assert trial.tightness > 0
        assert all(0 <= share <= 1 for share in (*trial.zero_loss, trial.zero_gradient))
        assert trial.one_shot == {}
        separable = trial.loss in ("lossless", "linear")
        assert (trial.zero_gradient < 0.01) == separable
    assert len({trial.losses for trial in trials}) == len(trials)


def test_no_lossless_loss_is_under_its_floor(trials: list[LossTrial]) -> None:
    for trial in trials:
        if trial.loss == "lossless":
            assert min(trial.losses) > LosslessTripletLoss.floor(4)


def test_a_trial_is_the_fit_that_the_recipe_gives_with_that_loss_and_seed(
    recipe: Recipe, dataset: Dataset, trials: list[LossTrial]
) -> None:
    trial = next(each for each in trials if each.loss == "triplet")
    recipe, train, test = with_loss(recipe, "triplet", 0), dataset.train, dataset.test
    encoder, _ = fit(dataset.schema, train, dataset.dev, recipe.encoder, recipe.fit, quiet)
    points = embed(encoder, train.matrix)
    centroids = centroids_of(points, train.labels, 4)
    nearest = [
        int(np.argmin([((p - c) ** 2).sum() for c in centroids]))
        for p in embed(encoder, test.matrix)
    ]
    assert trial.scores.accuracy == pytest.approx(np.mean(np.array(nearest) == test.labels))
    batches = list(balanced_batches(train.labels, 120, 2, np.random.default_rng(0)))
    labels, loss = torch.from_numpy(train.labels), make_loss(recipe.fit)
    width = recipe.encoder.dimensions
    members = [torch.from_numpy(points[:, :width]), torch.from_numpy(points[:, width : 2 * width])]
    pairs = [(member[batch], labels[batch]) for member in members for batch in batches]
    assert trial.losses[-1] == pytest.approx(np.mean([loss(*pair).item() for pair in pairs]))
    assert trial.zero_loss[-1] == pytest.approx(np.mean([loss.zero_share(*p) for p in pairs]))
    assert trial.zero_gradient == pytest.approx(trial.zero_loss[-1], abs=5e-3)


@given(st.integers(0, 10_000), st.integers(2, 5))
@settings(max_examples=20, deadline=None)
def test_scores_and_tightness_are_those_of_evaluate(seed: int, classes: int) -> None:
    random = np.random.default_rng(seed)
    points = random.random((60, 3), dtype=np.float32)
    labels = np.append(np.arange(2), random.integers(0, classes, 58))
    rule = NearestCentroid(
        random.random((classes, 3), dtype=np.float32), np.ones(classes, np.float32), 1.0
    )
    encoder = cast("OnnxEncoder", SimpleNamespace(embed=lambda matrix: matrix))
    names = tuple("abcde"[:classes])
    expected = evaluate(
        encoder,
        rule,
        names,
        Rows(points, labels),
        EncoderRecipe(dimensions=3, members=1),
        LosslessTripletLoss(),
    )
    nearest = distances_between(points, rule.centroids).argmin(axis=1)
    assert score(labels, nearest) == expected.nearest
    assert tightness(points, labels, rule.centroids) == pytest.approx(expected.tightness)


def test_every_loss_meets_every_seed_and_several_processes_change_no_number(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    told: dict[int, list[tuple[str, Epoch]]] = {1: [], 2: []}
    found: dict[int, list[LossTrial]] = {}
    for jobs, said in told.items():
        plan = Plan(losses=("triplet", "lossless"), seeds=2, jobs=jobs)
        found[jobs] = compare(
            small_recipe, small_dataset, plan, lambda *each, said=said: said.append(each)
        )
    assert found[1] == found[2]
    assert told[1] == told[2]
    assert [name for name, _ in told[1]] == ["triplet"] * 6 + ["lossless"] * 6
    asked = [("triplet", 0), ("triplet", 1), ("lossless", 0), ("lossless", 1)]
    assert [(trial.loss, trial.seed) for trial in found[2]] == asked


def fail_at_one(asked: int, report: Callable[[str, Epoch], None]) -> int:
    report("any", Epoch(asked, 0.0, 0.0, 0.0))
    if asked == 1:
        raise RecipeError("one will not do")
    return asked


def test_what_is_refused_ends_the_rest_and_survives_the_way_between_processes() -> None:
    told: list[str] = []
    with pytest.raises(RecipeError, match="one will not do") as refused:
        list(run_tasks(fail_at_one, range(3), lambda name, _: told.append(name), 1))
    assert told == ["any"] * 2
    assert str(pickle.loads(pickle.dumps(refused.value))) == "one will not do"


def test_held_out_classes_are_enrolled_as_few_shot_does(recipe: Recipe, dataset: Dataset) -> None:
    plan = Plan(losses=("contrastive",), seeds=1, hold_out=("port_flap",))
    told: list[str] = []
    [trial] = compare(recipe, dataset, plan, lambda name, _: told.append(name))
    asked = FewShot(hold_out=("port_flap",), shots=(1,), draws=DRAWS)
    expected = few_shot(with_loss(recipe, "contrastive", 0), asked, quiet)
    assert trial.one_shot == {space: draws[1] for space, draws in expected.items()}
    assert set(told) == set(plan.fits) == {"contrastive", "contrastive, held out"}


@pytest.mark.parametrize(
    ("hold_out", "complaint"),
    [
        (("fire",), "'fire' cannot be held out; the fault classes are"),
        (("normal",), "good traffic, 'normal', cannot be held out"),
        (("bgp_clear", "bgp_clear_elsewhere", "port_flap"), "hold out fewer"),
    ],
)
def test_a_class_that_cannot_be_held_out_is_refused_before_anything_is_fitted(
    recipe: Recipe, dataset: Dataset, hold_out: tuple[str, ...], complaint: str
) -> None:
    with pytest.raises(RecipeError, match=re.escape(complaint)):
        compare(recipe, dataset, Plan(hold_out=hold_out), refuse)


def test_a_collapse_names_the_loss_and_the_seed(
    small_recipe: Recipe, small_dataset: Dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.fitting.fit._COLLAPSED", 2.0)
    with pytest.raises(RecipeError, match=r"^linear, seed 0: the encoder collapsed"):
        compare(small_recipe, small_dataset, Plan(losses=("linear",)), quiet)


@pytest.mark.parametrize(
    ("asked", "complaint"),
    [
        ({"losses": ("lossless", "focal")}, "there is no loss 'focal'; the losses are lossless, "),
        ({"losses": ("",)}, "there is no loss ''"),
        ({"losses": ("linear", "linear")}, "a loss is named twice"),
        ({"seeds": 0}, "give --seeds 1 or more, not 0"),
        ({"jobs": -1}, "give --jobs 1 or more, not -1"),
        ({"animate": ("port_flap",)}, "give --animate twice"),
        ({"animate": ("port_flap", "port_flap")}, "give --animate twice"),
        ({"animate": ("a", "b", "c")}, "give --animate twice"),
    ],
)
def test_a_plan_that_makes_no_sense_is_refused(asked: dict[str, Any], complaint: str) -> None:
    with pytest.raises(RecipeError, match=re.escape(complaint)):
        Plan(**asked)


def test_everything_public_is_named() -> None:
    assert set(compare_module.__all__) <= set(vars(compare_module))
