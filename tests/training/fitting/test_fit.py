from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.metrics import f1_score

from models.decision import distances_between
from training.dataset.dataset import Dataset, load_dataset
from training.fitting import fit as fit_module
from training.fitting.encoder import Encoder
from training.fitting.fit import Epoch, _warm_up, centroids_of, embed
from training.fitting.losses import LOSSES, LosslessTripletLoss, make_loss
from training.onnx.export import export
from training.recipe import Recipe, RecipeError


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def ignore(*_: object) -> None:
    """Report to nobody."""


def fit(
    dataset: Dataset, recipe: Recipe, report: Callable[[Epoch, Encoder], None]
) -> tuple[Encoder, list[Epoch]]:
    """Fit to a dataset as a recipe says."""
    return fit_module.fit(
        dataset.schema, dataset.train, dataset.dev, recipe.encoder, recipe.fit, report
    )


def with_fit(recipe: Recipe, **changes: Any) -> Recipe:
    return recipe.model_copy(update={"fit": recipe.fit.model_copy(update=changes)})


def macro_f1(encoder: Encoder, dataset: Dataset) -> float:
    centroids = centroids_of(embed(encoder, dataset.train.matrix), dataset.train.labels, 3)
    nearest = distances_between(embed(encoder, dataset.dev.matrix), centroids).argmin(axis=1)
    return float(f1_score(dataset.dev.labels, nearest, average="macro"))


def states_equal(one: Encoder, other: Encoder) -> bool:
    pairs = zip(one.state_dict().values(), other.state_dict().values(), strict=True)
    return all(torch.equal(a, b) for a, b in pairs)


def test_the_same_seed_and_data_give_the_same_bytes_and_another_seed_other_weights(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    def fitted(seed: int) -> Encoder:
        return fit(small_dataset, with_fit(small_recipe, seed=seed, epochs=2), ignore)[0]

    torch.manual_seed(12345)
    first = fitted(7)
    torch.manual_seed(54321)
    second, other = fitted(7), fitted(8)
    assert states_equal(first, second)
    assert not states_equal(first, other)
    matrix = small_dataset.dev.matrix
    assert export(first, matrix) == export(second, matrix)


def test_the_loss_falls_and_the_classes_come_apart(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    encoder, history = fit(small_dataset, with_fit(small_recipe, epochs=8, steps=12), ignore)
    assert history[-1].loss < 0.8 * history[0].loss
    assert macro_f1(encoder, small_dataset) > 0.6
    assert not encoder.training


def test_every_epoch_is_reported_with_its_excess_over_the_floor(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    reported: list[Epoch] = []
    _, history = fit(small_dataset, small_recipe, lambda epoch, _: reported.append(epoch))
    assert reported == history
    assert [epoch.number for epoch in history] == [1, 2, 3]
    for epoch in history:
        floor = LosslessTripletLoss.floor(3)
        assert epoch.loss - epoch.excess_loss == pytest.approx(floor)
        assert epoch.excess_loss > 0
        assert epoch.dev_macro_f1 is not None
        assert 0 <= epoch.dev_macro_f1 <= 1


def test_beta_and_epsilon_of_the_recipe_are_those_of_the_loss(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    losses = {
        fit(small_dataset, with_fit(small_recipe, epochs=1, **change), ignore)[1][0].loss
        for change in ({}, {"beta": 9.0}, {"epsilon": 0.1})
    }
    assert len(losses) == 3


def test_it_runs_as_long_as_it_is_told_and_dev_rows_decide_nothing(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    other = dataclasses.replace(small_dataset, dev=small_dataset.test)
    encoder, history = fit(small_dataset, with_fit(small_recipe, epochs=6), ignore)
    same, other_history = fit(other, with_fit(small_recipe, epochs=6), ignore)
    assert [epoch.number for epoch in history] == [1, 2, 3, 4, 5, 6]
    assert states_equal(encoder, same)
    assert [e.dev_macro_f1 for e in history] != [e.dev_macro_f1 for e in other_history]


def test_the_encoder_that_is_returned_is_that_of_the_last_epoch(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    states: list[dict[str, torch.Tensor]] = []

    def remember(_: Epoch, encoder: Encoder) -> None:
        states.append({k: v.clone() for k, v in encoder.state_dict().items()})

    encoder, _ = fit(small_dataset, with_fit(small_recipe, epochs=4), remember)
    same = [
        all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())
        for state in states
    ]
    assert same == [False, False, False, True]


def test_each_member_minimises_the_loss_in_its_own_cube(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    shape = small_recipe.encoder.model_copy(update={"members": 3, "linear": True})
    calls: list[tuple[int, ...]] = []

    class Watched(LosslessTripletLoss):
        def forward(self, embeddings: torch.Tensor, *arguments: Any) -> torch.Tensor:
            calls.append(tuple(embeddings.shape))
            return super().forward(embeddings, *arguments)

    train, dev, settings = small_dataset.train, small_dataset.dev, small_recipe.fit
    encoder, history = fit_module.fit(
        small_dataset.schema, train, dev, shape, settings, ignore, Watched()
    )
    assert {shape[1] for shape in calls} == {4}
    assert len(calls) == 3 * settings.epochs * settings.steps
    assert history[-1].loss < history[0].loss
    assert embed(encoder, train.matrix).shape[1] == 12 + encoder.scaling.plain


def test_test_rows_are_never_looked_at(small_recipe: Recipe, small_dataset: Dataset) -> None:
    encoder, history = fit(small_dataset, small_recipe, ignore)
    gone = Dataset(
        small_dataset.schema,
        small_dataset.classes,
        small_dataset.train,
        small_dataset.dev,
        None,  # type: ignore[arg-type]
        {},
        (),
    )
    again, same_history = fit(gone, small_recipe, ignore)
    assert history == same_history
    assert states_equal(encoder, again)


def test_a_collapse_is_told_with_what_may_be_wrong(
    monkeypatch: pytest.MonkeyPatch, small_recipe: Recipe, small_dataset: Dataset
) -> None:
    def constant(self: Encoder, scaled: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(0 * self.head(self.body(scaled)))

    monkeypatch.setattr(Encoder, "_learned", constant)
    with pytest.raises(RecipeError, match=r"the encoder collapsed.*learning rate") as refusal:
        fit(small_dataset, small_recipe, ignore)
    assert "\n" not in str(refusal.value)


def test_embeddings_that_are_no_numbers_are_told_as_a_collapse(
    monkeypatch: pytest.MonkeyPatch, small_recipe: Recipe, small_dataset: Dataset
) -> None:
    def broken(self: Encoder, scaled: torch.Tensor) -> torch.Tensor:
        return torch.sigmoid(self.head(self.body(scaled))) * float("nan")

    monkeypatch.setattr(Encoder, "_learned", broken)
    with pytest.raises(RecipeError):
        fit(small_dataset, small_recipe, ignore)


def test_a_good_fit_is_no_collapse_even_if_it_learned_nothing(
    make_table: Callable[..., pl.DataFrame], make_recipe: Callable[..., Recipe]
) -> None:
    labels = np.random.default_rng(0).permutation(["good", "slow", "lossy"] * 80)
    recipe = make_recipe(make_table(label=labels))
    _, history = fit(load_dataset(recipe), recipe, ignore)
    assert len(history) == 3


def test_embed_leaves_no_trace(small_recipe: Recipe, small_dataset: Dataset) -> None:
    train = small_dataset.train
    encoder = Encoder(small_dataset.schema, train.matrix, train.labels, small_recipe.encoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    points = embed(encoder.train(), small_dataset.train.matrix)
    assert points.shape == (len(small_dataset.train.labels), 4)
    assert points.dtype == np.float32
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_centroids_are_the_means_of_their_classes() -> None:
    points = np.array([[0, 0], [1, 1], [0, 1], [0.5, 0.5]], dtype=np.float32)
    np.testing.assert_array_equal(
        centroids_of(points, np.array([1, 0, 1, 0]), 2), [[0.75, 0.75], [0, 0.5]]
    )


@pytest.mark.parametrize("steps", range(1, 31))
def test_every_number_of_steps_has_a_schedule(steps: int) -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([weight], 0.1)
    schedule = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, 0.1, total_steps=steps, pct_start=_warm_up(steps)
    )
    for _ in range(steps - 1):
        optimizer.step()
        schedule.step()
    assert 0 <= schedule.get_last_lr()[0] <= 0.1


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_can_be_asked_for_and_is_minimised(
    small_recipe: Recipe, small_dataset: Dataset, name: str
) -> None:
    recipe = with_fit(small_recipe, loss=name, epochs=4, steps=10, alpha=0.7, margin=0.9, beta=5)
    assert type(make_loss(recipe.fit)) is LOSSES[name]
    _, history = fit(small_dataset, recipe, ignore)
    assert history[-1].loss < history[0].loss


def test_a_loss_has_the_parameters_of_its_settings(small_recipe: Recipe) -> None:
    def made(name: str) -> Any:
        settings = with_fit(small_recipe, loss=name, alpha=0.7, margin=0.9, beta=5, epsilon=0.01)
        return make_loss(settings.fit)

    assert (made("lossless").beta, made("lossless").epsilon) == (5, 0.01)
    assert (made("triplet").alpha, made("contrastive").margin) == (0.7, 0.9)


def test_a_loss_from_elsewhere_is_minimised_and_learns_its_own_parameters(
    small_recipe: Recipe, small_dataset: Dataset
) -> None:
    class Proxies(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.points = torch.nn.Parameter(torch.full((3, 4), 0.5))

        def forward(self, embeddings: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.cross_entropy(-torch.cdist(embeddings, self.points), labels)

    loss = Proxies()
    _, history = fit_module.fit(
        small_dataset.schema,
        small_dataset.train,
        small_dataset.dev,
        small_recipe.encoder,
        small_recipe.fit,
        ignore,
        loss,
    )
    assert history[-1].loss < history[0].loss
    assert history[-1].excess_loss == history[-1].loss
    assert loss.points.std() > 0
