"""What OTLP's metrics have in common, as protobuf and as JSON.

The data model: https://opentelemetry.io/docs/specs/otel/metrics/data-model/
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Final

from models.telemetry.points import SeriesTable
from service.ingest.decoded import BAD_TIME, LARGEST_TIME, Batch, UnusableError
from service.ingest.naming import series_of, tags_of

__all__ = ["DELTA", "NO_RECORDED_VALUE", "Scope", "scope_tags"]

DELTA: Final = 1
"""The aggregation temporality of values that are increases."""
NO_RECORDED_VALUE: Final = 1
"""The flag of a point that says that its series has ended."""


def scope_tags(name: str, version: str, attributes: Mapping[str, str]) -> dict[str, str]:
    """Return the tags of a scope, called as OpenTelemetry calls them in Prometheus' labels."""
    named = {"otel.scope.name": name, "otel.scope.version": version}
    tags = {tag: text for tag, text in named.items() if text}
    return tags | {f"otel.scope.{tag}": text for tag, text in attributes.items()}


class Scope:
    """The metrics of one scope of one resource.

    Args:
        source: the attributes of resource and scope, in their one form, or why they have none.
        table: of the series known so far.
        now: nanoseconds, for points without a time.
        batch: where the points go.
    """

    def __init__(self, source: bytes | str, table: SeriesTable, now: int, batch: Batch) -> None:
        self._source, self._table, self._now, self._batch = source, table, now, batch

    def add(self, name: str, attributes: bytes, time: int, value: float, *, delta: bool) -> None:
        """Add a point.

        Args:
            name: of the metric.
            attributes: of the point, in their one form.
            time: nanoseconds; 0 if it has none.
            value: NaN if there is none.
            delta: whether it is an increase.

        Raises:
            UnusableError: its time or its series is beyond the limits.
        """
        if abs(time) > LARGEST_TIME:
            raise UnusableError(BAD_TIME)
        token = ("otlp", self._source, name, attributes, delta)
        found = self._table.ids.get(token)
        if found is None:
            if isinstance(self._source, str):
                raise UnusableError(self._source)
            tags = tags_of(self._source) | tags_of(attributes)
            found = self._table.add(token, series_of(name, tags, delta=delta))
        self._batch.series.append(found)
        self._batch.times.append(time or self._now)
        self._batch.values.append(value)

    def add_parts(
        self,
        name: str,
        attributes: bytes,
        time: int,
        count: float,
        total: float | None,
        *,
        flags: int,
        delta: bool,
    ) -> None:
        """Add the count and the sum of a histogram or summary as two points.

        Raises:
            UnusableError: as for `add`.
        """
        ended = flags & NO_RECORDED_VALUE
        self.add(f"{name}_count", attributes, time, math.nan if ended else count, delta=delta)
        if total is not None:
            self.add(f"{name}_sum", attributes, time, math.nan if ended else total, delta=delta)
