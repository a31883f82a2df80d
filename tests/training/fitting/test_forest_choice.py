from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from models.schema import Field, Schema
from training.dataset.dataset import Rows
from training.fitting.calibration import HeldOut
from training.fitting.encoder import Encoder
from training.fitting.forest_choice import choose_forest, measure_variants
from training.recipe import EncoderRecipe, Trees

LABELS = np.repeat([0, 1], 50)


def held_out(wrong: int) -> HeldOut:
    """Distances by which so many records of the second class are nearest to the first."""
    nearest = LABELS.copy()
    nearest[50 : 50 + wrong] = 0
    return HeldOut(np.where(nearest[:, None] == [0, 1], 0.1, 0.9), LABELS)


@pytest.mark.parametrize(
    ("without", "grown", "is_taken"),
    [
        (20, 10, True),
        (20, 17, True),
        (20, 19, False),
        (20, 20, False),
        (5, 20, False),
        (0, 0, False),
    ],
)
def test_trees_are_taken_where_they_bring_a_tenth_of_what_macro_f1_lacks(
    without: int, grown: int, is_taken: bool
) -> None:
    measured = [held_out(without), held_out(grown)]
    choice, taken = choose_forest(measured, "auto")
    assert choice.is_taken is is_taken
    assert taken is measured[is_taken]
    scores = [
        f1_score(LABELS, of.distances.argmin(axis=1), average="macro") for of in reversed(measured)
    ]
    verb = "are" if is_taken else "are not"
    assert choice.note == (
        f"trees {verb} a member of the cube: macro-F1 on records left out is {scores[0]:.3f} with "
        f"them, {scores[1]:.3f} without"
    )


@pytest.mark.parametrize("trees", ["yes", "no"])
def test_what_a_recipe_says_is_done(trees: Trees) -> None:
    choice, taken = choose_forest([only := held_out(3)], trees)
    assert (choice.is_taken, choice.note) == (trees == "yes", "")
    assert taken is only


def test_an_encoder_that_is_measured_is_left_as_it_was() -> None:
    schema = Schema([Field(name=name, kind="gauge") for name in "ab"])
    random = np.random.default_rng(0)
    rows = Rows(random.normal(LABELS[:, None], 0.1, (100, 2)).astype(np.float32), LABELS)
    torch.manual_seed(0)
    encoder = Encoder(schema, rows.matrix, LABELS, EncoderRecipe(dimensions=4, hidden=(8,))).eval()
    width = encoder.dimensions
    without, grown = measure_variants(encoder, rows, rows, "auto", seed=1)
    assert encoder.forest is None
    assert encoder.dimensions == width
    assert without.shape == grown.shape == (100, 2)
    [plain] = measure_variants(encoder, rows, rows, "no", seed=1)
    [only] = measure_variants(encoder, rows, rows, "yes", seed=1)
    assert (plain == without).all()
    assert (only == grown).all()
