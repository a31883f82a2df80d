"""Class-balanced batches: P classes, K records of each."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import numpy.typing as npt

_MOST_CLASSES = 16
"""P, unless there are fewer classes: enough negatives, and still many records of each class."""


def balanced_batches(
    labels: npt.NDArray[np.int64], batch: int, count: int, random: np.random.Generator
) -> Iterator[npt.NDArray[np.int64]]:
    """Draw `count` batches with the same number of records of each class.

    P x K comes as near to `batch` as it can, with K >= 2. A class with fewer than K records is
    drawn with replacement.

    Yields:
        int [P * K], row numbers.
    """
    rows = [np.flatnonzero(labels == label) for label in np.unique(labels)]
    classes = min(len(rows), _MOST_CLASSES)
    each = max(batch // classes, 2)
    for _ in range(count):
        chosen = random.permutation(len(rows))[:classes]
        yield np.concatenate(
            [random.choice(rows[c], each, replace=len(rows[c]) < each) for c in chosen]
        )
