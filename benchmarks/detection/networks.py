"""Another network than the one trained on, with a profile of its own first records or without."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt
import polars as pl

from benchmarks.detection import baselines
from benchmarks.detection.ours import OURS, train_ours
from models.profile import Adaptation, Profile, learned_from
from training.dataset.dataset import Dataset, Labels, Rows
from training.evaluation.evaluate import as_served
from training.recipe import Recipe

_ADAPTED = ", with its profile"
_Indices = npt.NDArray[np.int64]


def judge(
    dataset: Dataset, recipe: Recipe, site: tuple[str, ...]
) -> tuple[Labels, Mapping[str, Labels]]:
    """Judge the later test records of each site, with a profile of its first ones and without.

    Args:
        dataset: its test rows are the other network's.
        recipe: its time column orders them.
        site: columns that name a network or device with a profile of its own; one when empty.

    Returns:
        Labels [n] of the judged records, and the verdicts [n] of each method, `len(classes)` for
        unknown.
    """
    ours = train_ours(dataset, recipe)
    known = baselines.training_rows(dataset)
    nearest = baselines.fit_classifier("5-NN", recipe.fit.seed, known)
    names, classes = list(dataset.schema.names), len(dataset.classes)
    labels: list[Labels] = []
    verdicts: dict[str, list[Labels]] = {}
    for first, rest in _sites(dataset.test, recipe.time, site):
        as_they_are = {
            OURS: as_served(ours.decide(rest), classes),
            "5-NN": nearest.predict(known.scaler(rest.table)),
        }
        if recipe.sites:  # they have been adapted in the data set, as the training rows were
            by_method = {f"{name}{_ADAPTED}": given for name, given in as_they_are.items()}
        else:
            adapt = Adaptation.of(Profile.learn(dataset.schema, first.matrix), dataset.schema)
            adapted = Rows(adapt(rest.matrix), rest.labels)
            scaled = baselines.Scaler(first.table, names)(rest.table)
            by_method = as_they_are | {
                f"{OURS}{_ADAPTED}": as_served(ours.decide(adapted), classes),
                f"5-NN{_ADAPTED}": nearest.predict(scaled),
            }
        labels.append(rest.labels)
        for method, of_site in by_method.items():
            verdicts.setdefault(method, []).append(of_site)
    return np.concatenate(labels), {m: np.concatenate(parts) for m, parts in verdicts.items()}


def _sites(rows: Rows, time: str | None, site: tuple[str, ...]) -> Iterator[tuple[Rows, Rows]]:
    """Yield the first records of each site, in order of time, and those after them."""
    for indices in _indices(rows.table, time, site):
        learn = learned_from(len(indices))
        first, rest = np.zeros((2, len(rows)), dtype=np.bool_)
        first[indices[:learn]] = rest[indices[learn:]] = True
        yield rows.select(first), rows.select(rest)


def _indices(table: pl.DataFrame, time: str | None, site: tuple[str, ...]) -> Iterator[_Indices]:
    ordered = table.with_row_index("row")
    if time is not None:
        ordered = ordered.sort(time, maintain_order=True)
    if not site:
        yield ordered["row"].to_numpy().astype(np.int64)
        return
    for _, of_site in ordered.group_by(site, maintain_order=True):
        yield of_site["row"].to_numpy().astype(np.int64)
