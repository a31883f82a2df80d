"""Classifiers of scikit-learn on raw standardised fields, fitted to train and dev rows."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.ensemble import (
    ExtraTreesClassifier,
    HistGradientBoostingClassifier,
    RandomForestClassifier,
)
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import f1_score
from sklearn.neighbors import KNeighborsClassifier, NearestCentroid

from training.dataset.dataset import Dataset, Labels
from training.fitting.pooling import Pooling

Points = npt.NDArray[np.float64]


class Scaler:
    """Standardises columns by training rows; text is one-hot before, missing values are 0 after."""

    def __init__(self, training: pl.DataFrame, fields: list[str]) -> None:
        self._categories = {
            column.name: sorted(column.drop_nulls().unique()) if column.dtype == pl.String else None
            for column in training.select(fields)
        }
        values = self._numbers(training)
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "Mean of empty slice|Degrees of freedom")
            self._mean, self._deviation = np.nanmean(values, axis=0), np.nanstd(values, axis=0)
        self._deviation[~(self._deviation > 0)] = 1

    def __call__(self, table: pl.DataFrame) -> Points:
        """Scale rows: float64 [n, width]."""
        scaled: Points = np.nan_to_num((self._numbers(table) - self._mean) / self._deviation)
        return scaled

    def _numbers(self, table: pl.DataFrame) -> Points:
        columns = []
        for name, categories in self._categories.items():
            if categories is None:
                columns.append(table[name].cast(pl.Float64).to_numpy())
            else:
                columns += [(table[name] == text).fill_null(value=False) for text in categories]
        values = np.stack(columns, axis=1).astype(np.float64)
        values[~np.isfinite(values)] = np.nan
        return values


@dataclass(frozen=True, slots=True)
class TrainingRows:
    """Scaled train and dev rows, float64 [n, width], and their labels, int64 [n]."""

    scaler: Scaler
    points: Points
    labels: Labels


def training_rows(dataset: Dataset) -> TrainingRows:
    """Return the train and dev rows of a dataset, with the fields of its schema and no others.

    So clocks tell nobody the time of recording: others get the rates in their place as we do.
    """
    known = dataset.known
    scaler = Scaler(known.table, list(dataset.schema.names))
    return TrainingRows(scaler, scaler(known.table), known.labels)


CLASSIFIERS: Mapping[str, Callable[[int], Any]] = {
    "nearest centroid": lambda _: NearestCentroid(),
    "5-NN": lambda _: KNeighborsClassifier(5),
    "logistic regression": lambda _: LogisticRegression(max_iter=1000),
    "shrinkage LDA": lambda _: LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto"),
    "random forest": lambda seed: RandomForestClassifier(100, random_state=seed),
    "extra trees": lambda seed: ExtraTreesClassifier(100, random_state=seed),
    "HistGB": lambda _: HistGradientBoostingClassifier(
        learning_rate=0.05, l2_regularization=1, early_stopping=False
    ),
}
"""Makes each classifier from a seed. HistGB at its default learning rate diverges on some sets."""
SEEDED = ("random forest", "extra trees")
"""The classifiers whose result depends on the seed."""
TREES = (*SEEDED, "HistGB")
"""Those that get the columns that we pool, too."""


def fit_classifier(name: str, seed: int, training: TrainingRows) -> Any:
    """Fit a classifier; LDA without shrinkage where the covariance cannot be decomposed."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        warnings.filterwarnings("ignore", "self.within_class_std_dev_ has")
        try:
            return CLASSIFIERS[name](seed).fit(training.points, training.labels)
        except np.linalg.LinAlgError:
            return LinearDiscriminantAnalysis(solver="svd").fit(training.points, training.labels)


def classify(
    name: str, seed: int, training: TrainingRows, test: pl.DataFrame
) -> tuple[Labels, float]:
    """Return the class of each test row, and the seconds that fitting took."""
    begin = time.perf_counter()
    classifier = fit_classifier(name, seed, training)
    seconds = time.perf_counter() - begin
    return classifier.predict(training.scaler(test)), seconds


def classify_pooled(name: str, seed: int, pooling: Pooling, dataset: Dataset) -> Labels:
    """Return the class of each test row by a classifier of the columns that our fit has pooled."""
    known, test = (
        np.nan_to_num(pooling.pool(rows.matrix)) for rows in (dataset.known, dataset.test)
    )
    predicted: Labels = CLASSIFIERS[name](seed).fit(known, dataset.known.labels).predict(test)
    return predicted


def scores(labels: Labels, predicted: Labels) -> dict[str, float]:
    """Return accuracy, and mean recall and mean F1 of the classes that the labels have."""
    present = np.unique(labels)
    recalls = [(predicted[labels == c] == c).mean() for c in present]
    macro_f1 = f1_score(labels, predicted, labels=present, average="macro", zero_division=0)
    return {
        "accuracy": float((labels == predicted).mean()),
        "balanced accuracy": float(np.mean(recalls)),
        "macro-F1": float(macro_f1),
    }


def alarm_errors(labels: Labels, verdicts: Labels) -> dict[str, float]:
    """Return the shares of good records, 0, that raise an alarm, and of faults called good."""
    return {
        "false alarms": float((verdicts[labels == 0] != 0).mean()),
        "misses": float((verdicts[labels != 0] == 0).mean()),
    }
