"""Runs of equal values in an array: where they start, how long they are, what they hold."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["firsts", "lasts", "lengths", "ranges"]


def firsts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which elements differ from the one before."""
    found = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=found[1:])
    return found


def lasts(values: NDArray[Any]) -> NDArray[np.bool_]:
    """Return which elements differ from the one behind."""
    found = np.ones(len(values), np.bool_)
    np.not_equal(values[1:], values[:-1], out=found[:-1])
    return found


def lengths(starts: NDArray[np.intp], end: int) -> NDArray[np.intp]:
    """Return how long runs are that start there, the last of which ends at `end`."""
    found = np.empty(len(starts), np.intp)
    np.subtract(starts[1:], starts[:-1], out=found[:-1])
    found[-1:] = end - starts[-1:]
    return found


def ranges(starts: NDArray[np.int64], sizes: NDArray[np.int64]) -> NDArray[np.int64]:
    """Return the numbers of some ranges, one range after the other."""
    before = np.cumsum(sizes) - sizes
    return np.repeat(starts - before, sizes) + np.arange(int(sizes.sum()))
