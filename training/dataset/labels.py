"""Labels: their spellings, the classes they name, and which of these are too small to fit."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from models import names
from training.recipe import Recipe, RecipeError

_FEW = 10  # Fewer train rows than this say little about a class


def trimmed(labels: pl.Series) -> pl.Series:
    """Return labels as text, trimmed and in Unicode NFC, null where there is none."""
    return labels.cast(pl.String).str.normalize("NFC").str.strip_chars().replace("", None)


def counted(labels: pl.Series) -> dict[str, int]:
    """Return the number of rows of each label, whatever their column is called; most first."""
    counts = labels.drop_nulls().alias("label").value_counts(sort=True, name="rows")
    return dict(counts.iter_rows())


def spellings(labels: pl.Series) -> list[dict[str, int]]:
    """Return labels that differ only in case or blanks, each group with its counts of rows."""
    groups: dict[str, dict[str, int]] = {}
    for label, rows in sorted(counted(labels).items(), key=lambda row: (-row[1], row[0])):
        groups.setdefault(names.folded(label), {})[label] = rows
    return [group for group in groups.values() if len(group) > 1]


def describe(group: Mapping[str, int]) -> str:
    """Return spellings as one line that says what to do."""
    listed = ", ".join(f"{label!r} ({rows} rows)" for label, rows in group.items())
    return (
        f"labels differ only in case or blanks: {listed}; unite them with --merge-labels, or leave "
        "rows out with --drop-label"
    )


def merged(labels: pl.Series, like: pl.Series, named: Collection[str]) -> pl.Series:
    """Return labels in the spelling that is named or else most common in `like`."""
    counts = sorted(counted(like).items(), key=lambda row: (-row[1], row[0]))
    spelling: dict[str, str] = {}
    for label in (*named, *(label for label, _ in counts)):
        spelling.setdefault(names.folded(label), label)
    distinct = labels.drop_nulls().unique().to_list()
    return labels.replace({label: spelling.get(names.folded(label), label) for label in distinct})


def class_names(labels: pl.Series, recipe: Recipe) -> tuple[str, ...]:
    """Return the classes of the training rows, good traffic first, or raise RecipeError."""
    counts = counted(labels)
    if recipe.good not in counts:
        raise RecipeError(
            f"no training row has the good label {recipe.good!r}; the labels are "
            + ", ".join(sorted(counts))
        )
    if len(counts) < 2:
        raise RecipeError(f"every training row is {recipe.good!r}; a second class is needed")
    for label in counts:
        try:
            names.check(label)
        except ValueError as error:
            why = f"a class cannot be named {label!r}: expected {error}; rename it in the table"
            raise RecipeError(why) from error
        if names.clash(label, ()) is not None:
            raise RecipeError(
                f"a class cannot be named {label!r}: it is a verdict, on what fits no class"
            )
    return recipe.good, *sorted(counts.keys() - {recipe.good})


@dataclass(frozen=True, slots=True)
class Counts:
    """Number of train and dev rows of each class that has a train row."""

    train: Mapping[str, int]
    dev: Mapping[str, int]

    @classmethod
    def of(cls, train: pl.Series, dev: pl.Series) -> "Counts":
        """Count labels."""
        rows, more = counted(train), counted(dev)
        return cls(rows, {name: more.get(name, 0) for name in rows})

    def __getitem__(self, name: str) -> int:
        return self.train[name] + self.dev[name]


def carried_classes(counts: Counts, recipe: Recipe) -> tuple[str, ...]:
    """Return the fault classes of too few rows to be fitted, sorted.

    Enough are `least_records` train and dev rows, two of them train rows. If no fault class has
    that many, those of two train rows are fitted: without a fault there is nothing to learn.

    Raises:
        RecipeError: good traffic has too few rows, or no fault class has two train rows.
    """
    good, least = recipe.good, recipe.least_records
    if counts[good] < least or counts.train[good] < 2:
        raise RecipeError(
            f"good traffic, {good!r}, has {counts[good]} train and dev rows, {least} are needed "
            "(least_records), two of them train rows: add more"
        )
    faults = [name for name, rows in counts.train.items() if name != good and rows > 1]
    if not faults:
        raise RecipeError(
            "no fault class has two training rows, and without one there is nothing to learn: add "
            "rows, or split otherwise"
        )
    fitted = {name for name in faults if counts[name] >= least} or {*faults}
    return tuple(sorted(counts.train.keys() - fitted - {good}))


def small_classes(
    classes: Sequence[str],
    carried: Collection[str],
    counts: Counts,
    least: int,
    *,
    dev_calibrates: bool = True,
) -> Iterator[str]:
    """Yield a note on each class that is carried, has few train rows, or no row to calibrate it.

    Args:
        classes: their names, that of good traffic first.
        carried: those that are not fitted.
        counts: of their rows.
        least: train and dev rows that a fit needs.
        dev_calibrates: whether radii are those of the dev rows.
    """
    if all(counts[name] < least for name in classes[1:]):
        yield f"no fault class has {least} train and dev rows (least_records): fitted all the same"
    for name in classes:
        if name in carried:
            yield (
                f"class {name!r} has {counts[name]} train and dev rows: it is not fitted, but "
                f"carried as an enrolled class until it has {least} (least_records)"
            )
            continue
        if counts.train[name] < _FEW:
            yield f"class {name!r} has {counts.train[name]} train rows: too few to know it by"
        if dev_calibrates and not counts.dev[name]:
            yield f"class {name!r} has no dev row: its radius is that of all classes together"
