"""Assembled records, and the counts of what became of the points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

__all__ = ["Counts", "Records"]


@dataclass(frozen=True, slots=True)
class Records:
    """Complete records, those of a key in the order of time.

    Attributes:
        keys: slot of each record's key: int32 [n].
        times: seconds since the Unix epoch: float64 [n].
        matrix: float64 [n, fields], NaN where missing.
        learning: which were part of their key's learning period: bool [n].
        sufficient: which have enough values to be judged: bool [n].
    """

    keys: NDArray[np.int32]
    times: NDArray[np.float64]
    matrix: NDArray[np.float64]
    learning: NDArray[np.bool_]
    sufficient: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.keys)

    @classmethod
    def joined(cls, parts: Sequence[Records], fields: int) -> Records:
        """Return all records of some parts, in their order."""
        if len(parts) == 1:
            return parts[0]
        if not parts:
            parts = [cls(
                np.empty(0, np.int32), np.empty(0), np.empty((0, fields)),
                np.empty(0, np.bool_), np.empty(0, np.bool_),
            )]  # fmt: skip
        return cls(
            np.concatenate([part.keys for part in parts]),
            np.concatenate([part.times for part in parts]),
            np.concatenate([part.matrix for part in parts]),
            np.concatenate([part.learning for part in parts]),
            np.concatenate([part.sufficient for part in parts]),
        )

    def take(self, rows: NDArray[np.intp]) -> Records:
        """Return some records."""
        return Records(
            self.keys[rows],
            self.times[rows],
            self.matrix[rows],
            self.learning[rows],
            self.sufficient[rows],
        )


@dataclass(slots=True)
class Counts:
    """What became of the points, since the start.

    Attributes:
        points: that came.
        unmapped: of them, of series that no field is made of.
        refused: of series beyond the limits.
        elsewhere: of keys that another service takes.
        misdated: farther ahead of their arrival than allowed, or before 1970.
        late: of records that were complete already.
        repeated: of a series and time that had come before; the last counts.
        crowded: of more open records of a key than are kept.
        ended: that ended their series: not a number, or infinite.
        missing: points that did not come: of a live series, in a record.
        resets: falls of a counter that are no wrap.
        wraps: of 32-bit and 64-bit counters.
        records: that were made.
        insufficient: of them, with too few values.
        anew: keys that began anew after a long silence.
        refused_keys: series that were refused because of the limit of keys.
        refused_series: because of the limit of series.
    """

    points: int = 0
    unmapped: int = 0
    refused: int = 0
    elsewhere: int = 0
    misdated: int = 0
    late: int = 0
    repeated: int = 0
    crowded: int = 0
    ended: int = 0
    missing: int = 0
    resets: int = 0
    wraps: int = 0
    records: int = 0
    insufficient: int = 0
    anew: int = 0
    refused_keys: int = 0
    refused_series: int = 0
