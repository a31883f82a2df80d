"""How many bins perceptrons see a number in: by records that no part of a fit saw.

Finer bins show thresholds. Some tables are decided by them; on others they only tell times and
devices apart, as boosted trees on such tables do. So these are asked first: they are quick to fit.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import f1_score
from threadpoolctl import threadpool_limits

from models.schema import Matrix, Schema
from training.dataset.dataset import Labels, Rows
from training.fitting.calibration import HeldOut, is_worth_it
from training.fitting.cross import Folds
from training.fitting.encoder import COARSE
from training.fitting.forest import ROUNDS
from training.fitting.pooling import Pooling

FINE = 32
"""Bins of a number at most where they help; 64 are no better, and each takes time with a record."""


@dataclass(frozen=True, slots=True)
class BinsChoice:
    """How many bins a number has at most, and why."""

    bins: int
    note: str  # a line for the terminal and the card; empty if there was nothing to choose


def may_help(schema: Schema, rows: Rows, folds: Folds, families: Sequence[Sequence[str]]) -> bool:
    """Return whether boosted trees do better on records left out if they cut as finely.

    Args:
        schema: the fields.
        rows: all training records.
        folds: int [n], from 0.
        families: fields that are pooled.
    """
    predicted = {bins: np.zeros_like(rows.labels) for bins in (COARSE, FINE)}
    measured = np.ones(len(rows), dtype=bool)  # the others are of a class in one fold only
    for fold in np.unique(folds):
        left_out = folds == fold
        seen, unseen = rows.matrix[~left_out], rows.matrix[left_out]
        if families:
            pooling = Pooling(schema, seen, families)
            seen, unseen = pooling.pool(seen), pooling.pool(unseen)
        for bins, classes in predicted.items():
            classes[left_out] = _predicted(seen, rows.labels[~left_out], unseen, bins)
        measured &= ~left_out | np.isin(rows.labels, rows.labels[~left_out])
    labels = rows.labels[measured]
    coarse, fine = (
        float(f1_score(labels, classes[measured], average="macro", zero_division=0))
        for classes in predicted.values()
    )
    return is_worth_it(coarse, fine)


def _predicted(seen: Matrix, labels: Labels, unseen: Matrix, bins: int) -> Labels:
    columns = ~np.isnan(seen).all(axis=0)  # scikit-learn fails where a fold has no value
    if len(np.unique(labels)) < 2 or not columns.any():  # as where a fault is in one fold only
        return np.full(len(unseen), labels[0])
    # scikit-learn sums up huge numbers.
    trees = HistGradientBoostingClassifier(
        max_bins=bins, early_stopping=False, class_weight="balanced", random_state=0, **ROUNDS
    )
    with np.errstate(over="ignore", invalid="ignore"), threadpool_limits(1):
        predicted: Labels = trees.fit(seen[:, columns], labels).predict(unseen[:, columns])
    return predicted


def choose_bins(coarse: HeldOut, fine: HeldOut) -> tuple[BinsChoice, HeldOut]:
    """Decide, and return what is measured with the bins that are taken.

    Args:
        coarse: held-out records by encoders with `COARSE` bins.
        fine: the same by encoders with `FINE` bins.
    """
    is_finer = is_worth_it(coarse.macro_f1, fine.macro_f1)
    bins = FINE if is_finer else COARSE
    note = (
        f"a number has {bins} bins at most: macro-F1 on records left out is {fine.macro_f1:.3f} "
        f"with {FINE}, {coarse.macro_f1:.3f} with {COARSE}"
    )
    return BinsChoice(bins, note), fine if is_finer else coarse
