"""What is odd about a mapping, seen from the points that came."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.telemetry.mapping import Mapping
from models.telemetry.points import Series
from models.telemetry.readings import Readings
from models.telemetry.views import Views

__all__ = ["about_fields", "about_interval", "about_key"]

_LEAST_STEPS = 20
"""Fewer steps than this prove no direction."""
_FALLS = 0.03
"""Share of falls of a counter: its resets."""
_LEAST_RECORDS = 10
"""Records of a key that its interval is measured from."""
_ODD = 1.5
"""An interval differs if it is so many times as long, or as short."""


def about_key(mapping: Mapping, unkeyed: Series | None) -> Iterator[str]:
    """Say that series lack the tags of a key, such as one of them."""
    if unkeyed is not None:
        tags = ", ".join(sorted(unkeyed.tags)) or "none"
        yield (
            f"series of {unkeyed.name!r} lack a tag of the key {', '.join(mapping.key)}, and are "
            f"left out; their tags are {tags}: change key"
        )


def about_interval(
    mapping: Mapping, steps: NDArray[np.float64], counts: NDArray[np.int64]
) -> Iterator[str]:
    """Say that records come at another interval.

    Args:
        mapping: that says at which.
        steps: mean seconds between the records of each key: float64 [keys].
        counts: of its records: int64 [keys].
    """
    known = steps[counts >= _LEAST_RECORDS]
    measured = float(np.median(known)) if len(known) else mapping.interval
    if not 1 / _ODD <= measured / mapping.interval <= _ODD:
        yield (
            f"records come every {measured:.3g} s, and the mapping says interval = "
            f"{mapping.interval:g}: change it to {measured:.3g}"
        )


def about_fields(
    views: Views, readings: Readings, crowded: set[int], valued: NDArray[np.bool_]
) -> Iterator[str]:
    """Say which fields cannot be what was meant.

    Args:
        views: of the mapping.
        readings: that counted rises and falls of gauges.
        crowded: fields that take one series and had several.
        valued: which fields have had a value: bool [fields].
    """
    yield from sorted(views.conflicts)
    fields = views.mapping.fields
    for at in sorted(crowded):
        yield (
            f"field {fields[at].name!r} takes one series of {fields[at].metric!r} and there are "
            "several, so it is missing: give aggregate, or tags that choose one"
        )
    for at, field in enumerate(fields):
        same = [
            number
            for number, view in enumerate(views.views)
            if (view.metric, dict(view.tags)) == (field.metric, field.tags)
        ]
        rises, falls = int(readings.rises[same].sum()), int(readings.falls[same].sum())
        if field.kind == "gauge" and rises >= _LEAST_STEPS and falls <= _FALLS * rises:
            yield (
                f"field {field.name!r} is a gauge, but {field.metric!r} rose {rises} times and "
                f'fell {falls} times: it is a counter, set kind = "counter"'
            )
        if not valued[at] and at not in crowded:
            yield f"field {field.name!r} never had a value from points of {field.metric!r}"
