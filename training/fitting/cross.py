"""Cross-conformal calibration: every record is measured by an encoder that never saw its group."""

import os
from collections.abc import Callable, Iterator, Sequence
from functools import partial

import numpy as np
import numpy.typing as npt
from joblib import Parallel, delayed

from models.engines import ENGINES, EngineError
from models.schema import Schema
from training.dataset.dataset import Rows
from training.fitting import processes
from training.fitting.calibration import Distances, HeldOut
from training.fitting.fit import fit
from training.fitting.forest_choice import Variant, measure_variants
from training.recipe import EncoderRecipe, FitRecipe, RecipeError

FOLDS = 4
"""Fits that measure; more leave more records to each fit and cost as much more."""
_SHORT = 200
"""Steps of a fit that are done before another process could have started."""

Folds = npt.NDArray[np.int64]


def folds_of(groups: npt.NDArray[np.int64], seed: int) -> Folds:
    """Assign whole groups to folds of about as many records: the largest groups first.

    Args:
        groups: int [n], the group of each record, from 0.
        seed: of the order among groups of one size.

    Returns:
        int [n], the fold of each record; there are `FOLDS`, or as many as groups.
    """
    sizes = np.bincount(groups)
    order = np.random.default_rng(seed).permutation(len(sizes))
    order = order[np.argsort(-sizes[order], kind="stable")]
    records = np.zeros(min(FOLDS, len(sizes)), dtype=np.int64)
    fold_of_group = np.empty(len(sizes), dtype=np.int64)
    for group in order:
        fold = int(records.argmin())
        fold_of_group[group] = fold
        records[fold] += sizes[group]
    folds: Folds = fold_of_group[groups]
    return folds


def can_measure(labels: npt.NDArray[np.int64], seed: int, groups: npt.NDArray[np.int64]) -> bool:
    """Return whether good traffic and a fault have records in two folds or more.

    A class in one fold is unknown to the fit that would measure it.

    Args:
        labels: int [n], 0 for good traffic.
        seed: of the folds.
        groups: int [n], the group of each record, from 0.
    """
    good, *faults = _spread(labels, seed, groups)
    return good and any(faults)


def measures_all(labels: npt.NDArray[np.int64], seed: int, groups: npt.NDArray[np.int64]) -> bool:
    """Return whether every class has records in two folds or more; arguments as `can_measure`."""
    return all(_spread(labels, seed, groups))


def _spread(labels: npt.NDArray[np.int64], seed: int, groups: npt.NDArray[np.int64]) -> list[bool]:
    folds = folds_of(groups, seed)
    return [len(np.unique(folds[labels == c])) > 1 for c in range(int(labels.max()) + 1)]


def blocks_of(labels: npt.NDArray[np.int64], order: npt.NDArray[np.int64]) -> Folds:
    """Cut the records of each class, in an order, into as many blocks as there are folds.

    Where nothing says which records belong together, neighbours most likely do, such as those of
    one hour: a block leaves out another time than those that are fitted.

    Args:
        labels: int [n], 0..K-1.
        order: int [n], the place of each record; those of one place stay as they come.

    Returns:
        int [n], the block of each record, 0 to `FOLDS` - 1.
    """
    by_class = np.lexsort((order, labels))
    counts = np.bincount(labels)
    sizes = np.repeat(counts, counts)
    place = np.arange(len(labels)) - np.repeat(np.cumsum(counts) - counts, counts)
    blocks = np.empty(len(labels), np.int64)
    blocks[by_class] = place * FOLDS // sizes
    return blocks


def measure_held_out(
    schema: Schema,
    rows: Rows,
    folds: Folds,
    shape: EncoderRecipe,
    settings: FitRecipe,
    variants: Sequence[Variant],
    report: Callable[[], None],
) -> list[HeldOut]:
    """Fit once without each fold, and measure the records of that fold.

    Records of a class that its fit never saw are left out, because they say nothing about the
    distances of a known class. The fits are as long as the last one: shorter ones leave clusters
    looser and promise smaller distances than the encoder that serves will keep.

    Args:
        schema: the fields.
        rows: all training records; labels are 0..K-1.
        folds: int [n], from 0.
        shape: the encoder.
        settings: of the fit.
        variants: which trees the encoder gets.
        report: called after each fit.

    Returns:
        What is measured by each variant of the encoder.

    Raises:
        RecipeError: an encoder collapsed, or the engine cannot do the fits.
    """
    count, classes = int(folds.max()) + 1, int(rows.labels.max()) + 1
    plain = Rows(rows.matrix, rows.labels)
    work = partial(_measure, schema, plain, folds, classes, shape, settings, variants)
    distances: list[Distances] = []
    for fold, measured in _side_by_side(work, count, settings):
        distances = distances or [np.empty((len(rows), classes)) for _ in measured]
        for of_all, of_fold in zip(distances, measured, strict=True):
            of_all[folds == fold] = of_fold
        report()
    known = np.isfinite(distances[0][np.arange(len(rows)), rows.labels])
    if not known.any():
        raise RecipeError("no class has records in two groups or more, so none can be measured")
    labels = rows.labels[known]
    return [HeldOut(np.nan_to_num(of_all[known], nan=1.0), labels) for of_all in distances]


def _side_by_side(
    work: Callable[[int], tuple[int, list[Distances]]], count: int, settings: FitRecipe
) -> Iterator[tuple[int, list[Distances]]]:
    """Yield what the work makes of each fold, in any order."""
    jobs = min(count, settings.jobs or os.cpu_count() or 1)
    if settings.engine != "local":
        if processes.count() > 1:
            raise RecipeError(f"torchrun and --engine {settings.engine} exclude each other")
        try:
            yield from ENGINES[settings.engine](jobs, work, range(count))
        except EngineError as error:
            raise RecipeError(str(error)) from error
        return
    # Processes that fit together do so fold by fold.
    if settings.epochs * settings.steps <= _SHORT or processes.count() > 1:
        jobs = 1
    # Large arrays come as files, which torch wants to be writable: copied where they are written.
    parallel = Parallel(n_jobs=jobs, return_as="generator", mmap_mode="c")
    yield from parallel(delayed(work)(fold) for fold in range(count))


def _measure(
    schema: Schema,
    rows: Rows,
    folds: Folds,
    classes: int,
    shape: EncoderRecipe,
    settings: FitRecipe,
    variants: Sequence[Variant],
    fold: int,
) -> tuple[int, list[Distances]]:
    """Fit without a fold, and measure its records by each variant.

    Returns:
        The fold, and distances [n, classes], NaN for classes that training lacks.
    """
    train, held_out = rows.select(folds != fold), rows.select(folds == fold)
    known = np.flatnonzero(np.bincount(train.labels, minlength=classes) > 1)
    if len(known) < 2:  # there is nothing to tell apart, so the encoder would learn nothing
        return fold, [np.full((len(held_out), classes), np.nan) for _ in variants]
    train = train.select(np.isin(train.labels, known))
    train = Rows(train.matrix, np.searchsorted(known, train.labels).astype(np.int64))
    encoder, _ = fit(schema, train, None, shape, settings, lambda *_: None)
    measured = []
    for of_known in measure_variants(encoder, train, held_out, variants, settings.seed):
        measured.append(np.full((len(held_out), classes), np.nan))
        measured[-1][:, known] = of_known
    return fold, measured
