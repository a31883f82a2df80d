from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from models.schema import Field, Schema
from training.dataset.dataset import Rows
from training.fitting.calibration import HeldOut
from training.fitting.encoder import Encoder
from training.fitting.forest_choice import Variant, choose_forest, measure_variants, variants_of
from training.recipe import EncoderRecipe, Growth, Trees

LABELS = np.repeat([0, 1], 50)


def held_out(wrong: int) -> HeldOut:
    """Distances by which so many records of the second class are nearest to the first."""
    nearest = LABELS.copy()
    nearest[50 : 50 + wrong] = 0
    return HeldOut(np.where(nearest[:, None] == [0, 1], 0.1, 0.9), LABELS)


@pytest.mark.parametrize(
    ("without", "random", "boosted", "growth"),
    [
        (20, 10, 11, "random"),
        (20, 11, 10, "boosted"),
        (20, 10, 10, "random"),  # the fewer trees
        (20, 17, 20, "random"),
        (20, 20, 17, "boosted"),
        (20, 19, 19, None),
        (20, 20, 20, None),
        (5, 20, 20, None),
        (0, 0, 0, None),
    ],
)
def test_the_best_trees_are_taken_where_they_bring_a_tenth_of_what_macro_f1_lacks(
    without: int, random: int, boosted: int, growth: Growth | None
) -> None:
    measured = [held_out(wrong) for wrong in (without, random, boosted)]
    choice, taken = choose_forest(measured, (None, "random", "boosted"))
    assert choice.growth == growth
    assert taken is measured[[None, "random", "boosted"].index(growth)]
    scores = [f1_score(LABELS, of.distances.argmin(axis=1), average="macro") for of in measured]
    assert choice.note == (
        f"{growth or 'no'} trees are a member of the cube: macro-F1 on records left out is "
        f"{scores[1]:.3f} with random ones, {scores[2]:.3f} with boosted ones, "
        f"{scores[0]:.3f} without"
    )


@pytest.mark.parametrize(
    ("trees", "growth"), [("random", "random"), ("boosted", "boosted"), ("no", None)]
)
@pytest.mark.parametrize("grouped", [True, False])
def test_what_a_recipe_says_is_done(trees: Trees, growth: Variant, grouped: bool) -> None:
    variants = variants_of(trees, grouped=grouped)
    choice, taken = choose_forest([only := held_out(3)], variants)
    assert (choice.growth, choice.note) == (growth, "")
    assert taken is only


def test_only_records_of_other_groups_may_choose_boosted_trees() -> None:
    assert variants_of("auto", grouped=True) == (None, "random", "boosted")
    assert variants_of("auto", grouped=False) == (None, "random")
    choice, _ = choose_forest([held_out(20), held_out(0)], (None, "random"))
    assert choice.growth == "random"
    assert "left out is 1.000 with random ones, 0." in choice.note


def test_an_encoder_that_is_measured_is_left_as_it_was() -> None:
    schema = Schema([Field(name=name, kind="gauge") for name in "ab"])
    random = np.random.default_rng(0)
    rows = Rows(random.normal(LABELS[:, None], 0.1, (100, 2)).astype(np.float32), LABELS)
    torch.manual_seed(0)
    encoder = Encoder(schema, rows.matrix, LABELS, EncoderRecipe(dimensions=4, hidden=(8,))).eval()
    width = encoder.dimensions
    variants: tuple[Growth, ...] = ("random", "boosted")
    without, *grown = measure_variants(encoder, rows, rows, (None, *variants), seed=1)
    assert encoder.forest is None
    assert encoder.dimensions == width
    assert [of.shape for of in (without, *grown)] == [(100, 2)] * 3
    [plain] = measure_variants(encoder, rows, rows, [None], seed=1)
    assert (plain == without).all()
    for growth, of_growth in zip(variants, grown, strict=True):
        [only] = measure_variants(encoder, rows, rows, [growth], seed=1)
        assert (only == of_growth).all()
