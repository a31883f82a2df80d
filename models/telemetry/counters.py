"""Counters: their increase, over wraps, and falls that are resets."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

__all__ = ["increases"]

_NEAR = 0.9
"""A counter that wraps was beyond this share of its range before."""


def increases(
    before: NDArray[np.float64], grown: NDArray[np.float64], bits: NDArray[np.int64]
) -> tuple[NDArray[np.float64], int, int]:
    """Return the increase of counters, NaN after a reset, with the number of resets and of wraps.

    Args:
        before: value of each counter before: float64 [n].
        grown: by how much it is more now: float64 [n].
        bits: of each counter, 0 where it does not wrap: int64 [n].
    """
    fell = grown < 0
    if not fell.any():
        return grown, 0, 0
    size = np.exp2(bits)
    wrapped = fell & (bits > 0) & (before > _NEAR * size)
    grown[wrapped] += size[wrapped]
    lost = (fell & ~wrapped) | (wrapped & (grown < 0))
    grown[lost] = np.nan
    return grown, int(np.count_nonzero(lost)), int(np.count_nonzero(wrapped & ~lost))
