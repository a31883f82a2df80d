from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
import pytest

from training.dataset.dataset import load_dataset
from training.fitting.estimator import SiameseClassifier
from training.fitting.families import choose_families
from training.recipe import Recipe, RecipeError

PLACES = [f"link-{side}-{i}" for side in "ab" for i in range(3)]


@pytest.fixture
def network(make_recipe: Callable[..., Recipe]) -> Callable[..., Recipe]:
    """Makes a recipe for six links of which one is down in a fault, another one in each event."""

    def make(rows: int = 960, **changes: object) -> Recipe:
        random = np.random.default_rng(0)
        event = np.arange(rows) // 20
        fault = event % 2 == 1
        load = 100 + random.normal(0, 5, (rows, 6))
        load[fault, (event // 2 % 6)[fault]] = 0
        table = pl.DataFrame({f"load_{p}": load[:, i] for i, p in enumerate(PLACES)}).with_columns(
            label=pl.Series(np.where(fault, "down", "good")),
            event=pl.Series(event),
            part=pl.Series(np.where(event < 5, "train", np.where(event < 10, "dev", "test"))),
        )
        split = {"by": "column", "column": "part"}
        return make_recipe(table, event=["event"], split=split, **changes)

    return make


def test_places_are_pooled_where_that_helps_on_events_left_out(
    network: Callable[..., Recipe],
) -> None:
    recipe = network()
    dataset = load_dataset(recipe)
    choice = choose_families(recipe, dataset)
    assert choice.families == (tuple(f"load_{place}" for place in PLACES),)
    assert choice.note.startswith("1 metric at 6 places (load_link) are pooled: macro-F1")
    fitted = SiameseClassifier.of(recipe, dataset, lambda *_: None)
    # The test rows are of faults at links where none was in training.
    assert (fitted.predict(dataset.test.matrix) == dataset.test.labels).mean() > 0.95


def test_the_recipe_has_the_last_word(network: Callable[..., Recipe]) -> None:
    dataset = load_dataset(recipe := network())
    never = recipe.model_copy(update={"pool": "no"})
    assert choose_families(never, dataset).families == ()
    some = recipe.model_copy(update={"pool": ("load_link-a*",)})
    assert choose_families(some, dataset).families == (tuple(f"load_{p}" for p in PLACES[:3]),)
    none = recipe.model_copy(update={"pool": ("flow*",)})
    with pytest.raises(RecipeError, match="pool: 'flow\\*' names 0 fields that are numbers"):
        choose_families(none, dataset)


def test_without_groups_nothing_is_pooled_and_a_note_says_so(
    network: Callable[..., Recipe],
) -> None:
    dataset = load_dataset(recipe := network())
    choice = choose_families(recipe.model_copy(update={"event": ()}), dataset)
    assert choice.families == ()
    assert choice.note == "1 metric at 6 places (load_link) are not pooled: no groups to judge by"
