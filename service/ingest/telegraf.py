"""Telegraf's bodies: its JSON, or lines of the Influx line protocol.

Telegraf sends both as text/plain unless it is told otherwise, so the first character decides.

The formats: https://docs.influxdata.com/telegraf/v1/data_formats/output/json/ and
https://docs.influxdata.com/influxdb/v2/reference/syntax/line-protocol/
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import msgspec

from models.telemetry.points import SeriesTable
from service.formats.errors import MalformedInputError
from service.formats.json_diagnosis import DECODE_ERRORS
from service.ingest.decoded import (
    LARGEST_INTEGER,
    NO_NUMBER,
    Batch,
    Decoded,
    UnusableError,
    nanoseconds,
)
from service.ingest.influx import decode_lines
from service.ingest.json_items import Value, check_size, value_of
from service.ingest.measurements import add_fields, name_of
from service.ingest.naming import canonical_json

__all__ = ["decode"]

_NO_TAGS = msgspec.Raw(b"{}")


class _Metric(msgspec.Struct, gc=False):
    fields: dict[str, Value]
    name: str
    tags: msgspec.Raw = _NO_TAGS
    timestamp: int | float | None = None


class _Batches(msgspec.Struct):
    metrics: list[_Metric]


class _RawBatches(msgspec.Struct):
    metrics: list[msgspec.Raw]


class _RawMetric(msgspec.Struct):
    fields: dict[str, msgspec.Raw]
    name: str
    tags: msgspec.Raw = _NO_TAGS
    timestamp: int | float | None = None


_batches = msgspec.json.Decoder(_Batches)
_raw_batches = msgspec.json.Decoder(_RawBatches)
_raw_metric = msgspec.json.Decoder(_RawMetric)


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode JSON, `{"metrics": [...]}` or a metric alone, or lines of the line protocol.

    A series is called measurement_field, with the metric's tags.

    Raises:
        MalformedInputError: it begins as JSON but is none of these.
    """
    batch = Batch()
    if body[:64].lstrip()[:1] != b"{":
        decode_lines(body, table, now, batch)
        return batch.decoded()
    check_size(body)
    try:
        metrics = _batches.decode(body).metrics
    except DECODE_ERRORS:
        metrics = list(_one_by_one(body, batch))
    for metric in metrics:
        _add(metric, table, now, batch)
    return batch.decoded()


def _add(metric: _Metric, table: SeriesTable, now: int, batch: Batch) -> None:
    try:
        time = now if metric.timestamp is None else nanoseconds(metric.timestamp)
        tags = canonical_json(bytes(metric.tags))
    except UnusableError as error:
        batch.reject(str(error), len(metric.fields))
        return
    numbers: list[tuple[str, float]] = []
    for field, value in metric.fields.items():
        if isinstance(value, str):
            number = table.state(name_of(metric.name, field), value)
            if math.isnan(number):
                batch.reject(NO_NUMBER)
            else:
                numbers.append((field, number))
        elif value is None or abs(value) >= LARGEST_INTEGER:
            batch.reject(NO_NUMBER)
        else:
            numbers.append((field, value))
    add_fields(metric.name, tags, time, numbers, table, batch)


def _one_by_one(body: bytes, batch: Batch) -> Iterator[_Metric]:
    """Yield the metrics of a body, each with the values that can be used."""
    try:
        try:
            texts = _raw_batches.decode(body).metrics
        except msgspec.ValidationError:
            _raw_metric.decode(body)
            texts = [msgspec.Raw(body)]
    except DECODE_ERRORS as error:
        message = 'The body is neither {"metrics": [...]} nor a metric with fields and a name.'
        raise MalformedInputError(message) from error
    for text in texts:
        try:
            metric = _raw_metric.decode(text)
        except DECODE_ERRORS:
            batch.reject("metrics without fields or a name, or with a time that is no number")
        else:
            fields = {name: value_of(value) for name, value in metric.fields.items()}
            yield _Metric(fields, metric.name, metric.tags, metric.timestamp)
