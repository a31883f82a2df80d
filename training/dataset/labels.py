"""Labels: their spellings, and classes too small to learn."""

from collections.abc import Collection, Iterator, Mapping

import polars as pl

_FEW = 10  # Fewer train rows than this say little about a class


def spellings(labels: pl.Series) -> list[dict[str, int]]:
    """Return labels that differ only in case or blanks, each group with its counts of rows."""
    counts = labels.drop_nulls().value_counts(sort=True, name="rows")
    groups: dict[str, dict[str, int]] = {}
    for label, rows in sorted(counts.iter_rows(), key=lambda row: (-row[1], row[0])):
        groups.setdefault(_plain(label), {})[label] = rows
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
    counts = sorted(like.drop_nulls().value_counts().iter_rows(), key=lambda row: (-row[1], row[0]))
    spelling: dict[str, str] = {}
    for label in (*named, *(label for label, _ in counts)):
        spelling.setdefault(_plain(label), label)
    distinct = labels.drop_nulls().unique().to_list()
    return labels.replace({label: spelling.get(_plain(label), label) for label in distinct})


def small_classes(
    classes: Collection[str], train: Mapping[str, int], dev: Mapping[str, int]
) -> Iterator[str]:
    """Yield a note on each class with few train rows, or without a dev row."""
    for name in classes:
        if train.get(name, 0) < _FEW:
            yield f"class {name!r} has {train.get(name, 0)} train rows: too few to know it by"
        if not dev.get(name):
            yield f"class {name!r} has no dev row: its radius is that of all classes together"


def _plain(label: str) -> str:
    return " ".join(label.split()).casefold()
