"""Metric points in columns, and the table of the series that they belong to."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

__all__ = ["ELSEWHERE", "REFUSED", "UNMAPPED", "Points", "Series", "SeriesTable", "Slots"]

UNMAPPED = -1
"""Id of every series that no field is made of."""
REFUSED = -2
"""Id of every series beyond the limits of keys or series."""
ELSEWHERE = -3
"""Id of every series of a key that another service takes."""


_MAX_STATES = 10_000
"""Texts that are remembered, for a metric."""


@dataclass(frozen=True, slots=True)
class Series:
    """What names a series.

    Attributes:
        name: of the metric.
        tags: that tell the series of a metric apart.
        delta: its values are increases since the point before, not a running count.
    """

    name: str
    tags: Mapping[str, str]
    delta: bool = False


@dataclass(frozen=True, slots=True)
class Points:
    """Points of any series, in the order in which they came.

    Attributes:
        series: id of each point's series: int32 [n]; negative for UNMAPPED, REFUSED and
            ELSEWHERE.
        times: nanoseconds since the Unix epoch: int64 [n].
        values: float64 [n]; NaN or infinite ends the series until its next point.
    """

    series: NDArray[np.int32]
    times: NDArray[np.int64]
    values: NDArray[np.float64]

    def __len__(self) -> int:
        return len(self.series)


class Slots(Protocol):
    """Gives a series its place in the state of an assembler."""

    def place(self, series: Series) -> int:
        """Return the id of a new series, UNMAPPED, REFUSED or ELSEWHERE."""


@dataclass(slots=True)
class SeriesTable:
    """Ids of series by a token, so that a series is parsed once and then only looked up.

    A token is whatever a receiver has at hand that names one series and no other: the bytes of its
    labels, a tuple of its identifiers. Two receivers must not share tokens of different meaning.

    Attributes:
        slots: gives new series their ids.
        state_of: returns the number that the text of a state means, of a metric; NaN for another.
        ids: by token; receivers read it directly, for speed.
        max_foreign: tokens remembered of series that have no id; beyond it they are forgotten and
            parsed again.
    """

    slots: Slots
    state_of: Callable[[str, str], float] = field(default=lambda _metric, _text: float("nan"))
    ids: dict[Hashable, int] = field(default_factory=dict)
    max_foreign: int = 200_000
    _foreign: list[Hashable] = field(default_factory=list)
    _states: dict[tuple[str, str], float] = field(default_factory=dict)

    def add(self, token: Hashable, series: Series) -> int:
        """Remember a new series, and return its id."""
        found = self.slots.place(series)
        if found < 0:
            if len(self._foreign) >= self.max_foreign:
                for old in self._foreign:
                    self.ids.pop(old, None)
                self._foreign.clear()
            self._foreign.append(token)
        self.ids[token] = found
        return found

    def state(self, metric: str, text: str) -> float:
        """Return the number that the text of a state is sent as; NaN if it is none."""
        found = self._states.get((metric, text))
        if found is None:
            if len(self._states) >= _MAX_STATES:
                self._states.clear()
            found = self._states[metric, text] = self.state_of(metric, text)
        return found
