"""OTLP metrics as JSON: protobuf's JSON, but for enums, which are numbers.

The format: https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Final

import msgspec

from models.telemetry.points import SeriesTable
from service.formats.errors import MalformedInputError
from service.formats.json_diagnosis import DECODE_ERRORS
from service.ingest.decoded import BAD_TIME, NO_NUMBER, Batch, Decoded, UnusableError
from service.ingest.json_items import check_size
from service.ingest.naming import MAX_BYTES, REMEMBERED, TOO_LONG, canonical
from service.ingest.otlp import DELTA, NO_RECORDED_VALUE, Scope, scope_tags

__all__ = ["decode"]

_NOTHING: Final = msgspec.Raw(b"{}")
_NO_ATTRIBUTES: Final = msgspec.Raw(b"[]")
_BAD_ATTRIBUTES: Final = "series whose attributes are of another form"
_Number = float | int | str | None
"""An integer of 64 bits may be a text, and so are NaN and the infinities."""


class _Message(msgspec.Struct, rename="camel", gc=False):
    """Keys that it does not name are skipped, as the format asks for."""


class _Point(_Message):
    attributes: msgspec.Raw = _NO_ATTRIBUTES
    time_unix_nano: int | str = 0
    as_double: _Number = None
    as_int: _Number = None
    count: _Number = None
    sum: _Number = None
    flags: int = 0


class _Data(_Message):
    data_points: list[_Point] = []
    aggregation_temporality: int | str = 0


class _Metric(_Message):
    name: str = ""
    gauge: _Data | None = None
    sum: _Data | None = None
    histogram: _Data | None = None
    exponential_histogram: _Data | None = None
    summary: _Data | None = None


class _ScopeMetrics(_Message):
    scope: msgspec.Raw = _NOTHING
    metrics: list[_Metric] = []


class _ResourceMetrics(_Message):
    resource: msgspec.Raw = _NOTHING
    scope_metrics: list[_ScopeMetrics] = []


class _Request(_Message):
    resource_metrics: list[_ResourceMetrics] = []


class _Values(_Message):
    values: list[_Value] = []


class _Pairs(_Message):
    values: list[_Attribute] = []


class _Value(_Message):
    string_value: str | None = None
    bool_value: bool | None = None
    int_value: int | str | None = None
    double_value: float | str | None = None
    array_value: _Values | None = None
    kvlist_value: _Pairs | None = None
    bytes_value: str | None = None


class _Attribute(_Message):
    key: str = ""
    value: _Value = msgspec.field(default_factory=_Value)


class _Resource(_Message):
    attributes: list[_Attribute] = []


class _InstrumentationScope(_Resource):
    name: str = ""
    version: str = ""


_request = msgspec.json.Decoder(_Request)
_resource = msgspec.json.Decoder(_Resource | None)
_scope = msgspec.json.Decoder(_InstrumentationScope | None)
_attributes = msgspec.json.Decoder(list[_Attribute] | None)


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode the points of a request; series are called as in `otlp_protobuf`.

    Raises:
        MalformedInputError: it is no such document.
    """
    check_size(body)
    try:
        request = _request.decode(body)
    except DECODE_ERRORS as error:
        message = "The body is no JSON of an OTLP metrics request (ExportMetricsServiceRequest)."
        raise MalformedInputError(message) from error
    batch = Batch()
    for resource in request.resource_metrics:
        for metrics in resource.scope_metrics:
            source: bytes | str
            try:
                source = _source(bytes(resource.resource), bytes(metrics.scope))
            except UnusableError as error:
                source = str(error)
            scope = Scope(source, table, now, batch)
            for metric in metrics.metrics:
                _add_metric(metric, scope, batch)
    return batch.decoded()


def _add_metric(metric: _Metric, scope: Scope, batch: Batch) -> None:
    for data in filter(None, (metric.gauge, metric.sum)):
        for point in data.data_points:
            try:
                value = point.as_double if point.as_int is None else point.as_int
                if point.flags & NO_RECORDED_VALUE:
                    value = math.nan
                scope.add(
                    metric.name,
                    _form(bytes(point.attributes)),
                    _integer(point.time_unix_nano),
                    value if type(value) is float else _number(value),
                    delta=_is_delta(data),
                )
            except UnusableError as error:
                batch.reject(str(error))
    for data in filter(None, (metric.histogram, metric.exponential_histogram, metric.summary)):
        for point in data.data_points:
            try:
                scope.add_parts(
                    metric.name,
                    _form(bytes(point.attributes)),
                    _integer(point.time_unix_nano),
                    _number(point.count or 0),
                    None if point.sum is None else _number(point.sum),
                    flags=point.flags,
                    delta=_is_delta(data),
                )
            except UnusableError as error:
                batch.reject(str(error))


def _is_delta(data: _Data) -> bool:
    return data.aggregation_temporality in {DELTA, "AGGREGATION_TEMPORALITY_DELTA"}


def _number(value: _Number) -> float:
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError) as error:
        raise UnusableError(NO_NUMBER) from error


def _integer(text: int | str) -> int:
    try:
        return int(text)
    except ValueError as error:
        raise UnusableError(BAD_TIME) from error


@lru_cache(REMEMBERED)
def _source(resource: bytes, scope: bytes) -> bytes:
    """Return the one form of the attributes of a resource and a scope."""
    _check_size(resource, scope)
    try:
        named = _scope.decode(scope) or _InstrumentationScope()
        tags = _tags((_resource.decode(resource) or _Resource()).attributes)
        tags |= scope_tags(named.name, named.version, _tags(named.attributes))
    except DECODE_ERRORS as error:
        raise UnusableError(_BAD_ATTRIBUTES) from error
    return canonical(tags)


@lru_cache(REMEMBERED)
def _form(attributes: bytes) -> bytes:
    """Return the one form of a point's attributes."""
    _check_size(attributes)
    try:
        return canonical(_tags(_attributes.decode(attributes) or []))
    except DECODE_ERRORS as error:
        raise UnusableError(_BAD_ATTRIBUTES) from error


def _check_size(*texts: bytes) -> None:
    if sum(map(len, texts)) > 4 * MAX_BYTES:  # JSON says much more around a name
        raise UnusableError(TOO_LONG)


def _tags(attributes: list[_Attribute]) -> dict[str, str]:
    return {attribute.key: _text(attribute.value) for attribute in attributes}


def _text(value: _Value) -> str:
    if value.array_value is not None:
        return f"[{','.join(map(_text, value.array_value.values))}]"
    if value.kvlist_value is not None:
        pairs = _tags(value.kvlist_value.values).items()
        return f"{{{','.join(f'{key}={text}' for key, text in pairs)}}}"
    if value.bool_value is not None:
        return str(value.bool_value).lower()
    for plain in (value.string_value, value.int_value, value.double_value, value.bytes_value):
        if plain is not None:
            return str(plain)
    return ""
