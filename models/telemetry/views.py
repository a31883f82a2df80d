"""What a mapping asks of series: which it takes, how it reads them, how fields see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from fnmatch import translate

import numpy as np
from numpy.typing import NDArray

from models.telemetry.mapping import FieldRule, Mapping, escaped
from models.telemetry.points import Series

__all__ = ["Reading", "View", "Views"]

_REMEMBERED = 10_000
"""Names of metrics whose candidates are remembered."""
_WILD = re.compile(r"[*?]")


@dataclass(frozen=True, slots=True)
class Reading:
    """How a value of a series is read; a series has one."""

    kind: str
    bits: int
    states: tuple[tuple[str, float], ...]


@dataclass(frozen=True, slots=True)
class View:
    """Series of a key that are aggregated together.

    Attributes:
        metric: pattern of their metric.
        tags: pattern of each tag that they must have.
        each: whether each is related to its own median.
        active: its median must be above this.
        lenient: a series without a rate is left out; else what it is part of is missing.
        kind: how their values are read.
        states: what they mean.
    """

    metric: str
    tags: tuple[tuple[str, str], ...]
    each: bool
    active: float
    lenient: bool
    kind: str
    states: tuple[tuple[str, float], ...]


class Views:
    """The views of a mapping, numbered, and the fields made of them.

    Attributes:
        mapping: what they were made from.
        readings: how series are read, by number.
        views: by number.
        of_field: number of each field's view: int [fields].
        fields_by_aggregate: the fields that each kind of aggregation makes: int [some].
        each: which views relate each series to its median: bool [views].
        active: threshold of their medians: float64 [views].
        lenient: bool [views].
        conflicts: one line for each pair of fields that read one series in two ways.
    """

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        readings: dict[Reading, int] = {}
        views: dict[View, int] = {}
        self._of_fields: list[tuple[int, int]] = []
        for field in mapping.fields:
            reading = Reading(field.kind, field.bits, tuple(sorted(field.states.items())))
            number = readings.setdefault(reading, len(readings))
            view = views.setdefault(_view_of(field, reading), len(views))
            self._of_fields.append((number, view))
        self.readings, self.views = (*readings,), (*views,)
        self.of_field = np.array([view for _, view in self._of_fields], np.intp)
        self.fields_by_aggregate: dict[str, NDArray[np.intp]] = {}
        for way in dict.fromkeys(_way(field) for field in mapping.fields):
            self.fields_by_aggregate[way] = np.array(
                [at for at, field in enumerate(mapping.fields) if _way(field) == way], np.intp
            )
        self.each = np.array([view.each for view in self.views])
        self.active = np.array([view.active for view in self.views])
        self.lenient = np.array([view.lenient for view in self.views])
        self.conflicts: set[str] = set()
        self._patterns = [
            (_pattern(view.metric), [(tag, _pattern(text)) for tag, text in view.tags])
            for view in self.views
        ]
        self._remembered: dict[str, tuple[int, ...]] = {}

    def match(self, series: Series) -> tuple[int, tuple[int, ...]] | None:
        """Return the reading of a series and its views, or None if no field takes it."""
        chosen: dict[int, int] = {}
        for field in self._candidates(series.name):
            reading, view = self._of_fields[field]
            tags = self._patterns[view][1]
            if all(tag in series.tags and fits(series.tags[tag]) for tag, fits in tags):
                first = next(iter(chosen.values()), field)
                if self._of_fields[first][0] != reading:
                    self._note(first, field)
                else:
                    chosen.setdefault(view, field)
        if not chosen:
            return None
        return self._of_fields[next(iter(chosen.values()))][0], (*chosen,)

    def _candidates(self, name: str) -> Iterable[int]:
        found = self._remembered.get(name)
        if found is None:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            found = self._remembered[name] = tuple(
                at for at, (_, view) in enumerate(self._of_fields) if self._patterns[view][0](name)
            )
        return found

    def _note(self, first: int, second: int) -> None:
        one, other = self.mapping.fields[first], self.mapping.fields[second]
        self.conflicts.add(
            f"fields {one.name!r} and {other.name!r} read the same series in two ways, and the "
            f"first decides; give metric or tags of one of them more exactly"
        )


def _view_of(field: FieldRule, reading: Reading) -> View:
    each = field.relation == "each"
    unlimited = -np.inf if field.aggregate == "sum" else 0.0
    return View(
        field.metric,
        tuple(sorted(field.tags.items())),
        each,
        (unlimited if field.active is None else field.active) if each else -np.inf,
        field.absent is not None,
        reading.kind,
        reading.states,
    )


def _way(field: FieldRule) -> str:
    """Return the name of a field's aggregation: `sum` of each is another one than `sum`."""
    if field.relation == "each" and field.aggregate == "sum":
        return "relative sum"
    return field.aggregate


def _pattern(text: str) -> Callable[[str], object]:
    """Return a test for names that fit a pattern."""
    return re.compile(translate(escaped(text))).match if _WILD.search(text) else text.__eq__
