"""Whether to pool families: fields that are one metric at many places."""

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial

import numpy as np
from sklearn.ensemble import ExtraTreesClassifier
from sklearn.metrics import f1_score

from models.schema import Schema
from training.dataset.dataset import Dataset, Rows, groups_of, order_of
from training.dataset.families import Families, find_families, name_of
from training.fitting.cross import FOLDS, Folds, can_measure, folds_of
from training.fitting.pooling import Pooling
from training.recipe import Recipe, RecipeError

_TREES = 100


@dataclass(frozen=True, slots=True)
class Choice:
    """Whether the families of a table are pooled, and why."""

    families: Families  # to pool; empty if none are
    note: str  # a line for the terminal and the card; empty if the table has no families


def choose_families(recipe: Recipe, dataset: Dataset) -> Choice:
    """Decide whether to pool, by extra trees on groups that they did not see.

    Trees are quick to fit, and gain or lose by pooling as the encoder does.

    Raises:
        RecipeError: a pattern of the recipe names fewer than two numbers.
    """
    # A boolean may be pooled too: of many links, some are down.
    numbers = [field.name for field in dataset.schema.fields if field.kind != "category"]
    if not isinstance(recipe.pool, str):
        families = tuple(_matching(pattern, numbers) for pattern in recipe.pool)
        return Choice(families, f"{_described(families)} are pooled, as the recipe says")
    families = find_families(numbers)
    if recipe.pool == "no" or not families:
        return Choice((), "")
    rows = dataset.known
    serves = partial(can_measure, rows.labels, recipe.fit.seed)
    groups = groups_of(rows, recipe.groupings, FOLDS, order_of(rows, recipe.time), serves)
    if groups is None:
        return Choice((), f"{_described(families)} are not pooled: no groups to judge by")
    folds = folds_of(groups.numbers, recipe.fit.seed)
    apart = _macro_f1(rows, folds, None)
    pooled = _macro_f1(rows, folds, (dataset.schema, families))
    verb, chosen = ("are", families) if pooled > apart else ("are not", ())
    return Choice(
        chosen,
        f"{_described(families)} {verb} pooled: macro-F1 of extra trees on groups left out is "
        f"{pooled:.3f} pooled, {apart:.3f} apart",
    )


def _matching(pattern: str, names: Sequence[str]) -> tuple[str, ...]:
    matches = tuple(name for name in names if fnmatchcase(name, pattern))
    if len(matches) < 2:
        raise RecipeError(f"pool: {pattern!r} names {len(matches)} fields that are numbers")
    return matches


def _described(families: Families) -> str:
    count = "1 metric" if len(families) == 1 else f"{len(families)} metrics"
    return f"{count} at {sum(map(len, families))} places ({', '.join(map(name_of, families))})"


def _macro_f1(rows: Rows, folds: Folds, pooling: tuple[Schema, Families] | None) -> float:
    predicted = np.empty_like(rows.labels)
    for fold in np.unique(folds):
        train, test = rows.select(folds != fold), rows.select(folds == fold)
        seen, unseen = train.matrix, test.matrix
        if pooling is not None:
            schema, families = pooling
            module = Pooling(schema, seen, families)
            seen, unseen = module.pool(seen), module.pool(unseen)
        trees = ExtraTreesClassifier(_TREES, random_state=0, n_jobs=1)
        predicted[folds == fold] = trees.fit(seen, train.labels).predict(unseen)
    return float(f1_score(rows.labels, predicted, average="macro", zero_division=0))
