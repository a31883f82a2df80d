from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from models.schema import Field, Schema
from training.dataset.dataset import Rows
from training.fitting.bins_choice import choose_bins, may_help
from training.fitting.calibration import HeldOut
from training.fitting.encoder import COARSE
from training.fitting.estimator import SiameseClassifier

LABELS = np.repeat([0, 1], 50)
SHORT: dict[str, Any] = {
    "members": 1,
    "hidden": (32,),
    "epochs": 8,
    "steps": 30,
    "batch": 128,
    "trees": "no",
}


def held_out(wrong: int) -> HeldOut:
    """Distances by which so many records of the second class are nearest to the first."""
    nearest = LABELS.copy()
    nearest[50 : 50 + wrong] = 0
    return HeldOut(np.where(nearest[:, None] == [0, 1], 0.1, 0.9), LABELS)


def stripes(count: int) -> Rows:
    """Records of two classes that alternate along a number, in so many stripes."""
    values = np.random.default_rng(0).uniform(0, 1, (600, 2)).astype(np.float32)
    return Rows(values, (values[:, 0] * count).astype(np.int64) % 2)


def schema_of(width: int) -> Schema:
    return Schema([Field(name=f"f{i}", kind="gauge") for i in range(width)])


@pytest.mark.parametrize(("coarse", "fine", "bins"), [(20, 10, 32), (20, 19, 8), (5, 9, 8)])
def test_fine_bins_are_taken_where_they_bring_a_tenth_of_what_macro_f1_lacks(
    coarse: int, fine: int, bins: int
) -> None:
    measured = held_out(coarse), held_out(fine)
    choice, taken = choose_bins(*measured)
    assert choice.bins == bins
    assert taken is measured[bins == 32]
    assert choice.note == (
        f"a number has {bins} bins at most: macro-F1 on records left out is "
        f"{measured[1].macro_f1:.3f} with 32, {measured[0].macro_f1:.3f} with 8"
    )


@pytest.mark.parametrize(("count", "helps"), [(20, True), (2, False)])
def test_trees_tell_whether_thresholds_are_finer_than_coarse_bins(count: int, helps: bool) -> None:
    rows = stripes(count)
    folds = np.arange(len(rows)) % 4
    assert may_help(schema_of(2), rows, folds, ()) == helps


@pytest.mark.parametrize("families", [(), (("f0", "f1"),)])
def test_a_fold_without_a_value_or_a_fault_is_no_hindrance(
    families: tuple[tuple[str, ...], ...],
) -> None:
    rows, folds = stripes(20), np.repeat([0, 1, 2, 3], 150)
    rows.matrix[:450, 1] = np.nan
    rows.matrix[450:, 1] = 3e38
    rows.labels[:300] = 0
    assert may_help(schema_of(2), rows, folds, families)


def test_an_encoder_is_fitted_with_the_bins_that_are_chosen() -> None:
    rows = stripes(20)
    blocks = np.arange(len(rows)) % 4
    chosen = SiameseClassifier(**SHORT).fit(rows.matrix, rows.labels, blocks=blocks)
    assert chosen.bins_choice_.bins == 32
    assert 30 < len(chosen.encoder_.scaling.step) / 2 <= 32
    assert chosen.held_out_ is not None
    assert chosen.held_out_.macro_f1 > 0.9
    told = SiameseClassifier(**SHORT, bins=8).fit(rows.matrix, rows.labels, blocks=blocks)
    assert (told.bins_choice_.bins, told.bins_choice_.note) == (8, "")
    assert len(told.encoder_.scaling.step) / 2 <= COARSE
    assert told.held_out_ is not None
    assert told.held_out_.macro_f1 < chosen.held_out_.macro_f1
