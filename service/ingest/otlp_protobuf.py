"""OTLP metrics as protobuf: the message ExportMetricsServiceRequest.

The format: https://opentelemetry.io/docs/specs/otlp/#otlphttp
"""

from __future__ import annotations

import base64
import math
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, TypeVar

from google.protobuf.message import DecodeError, Message
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, InstrumentationScope, KeyValue
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric, NumberDataPoint
from opentelemetry.proto.resource.v1.resource_pb2 import Resource

from models.telemetry.points import SeriesTable
from service.ingest.decoded import NO_NUMBER, Batch, Decoded, UnusableError
from service.ingest.naming import MAX_BYTES, REMEMBERED, TOO_LONG, canonical
from service.ingest.otlp import DELTA, NO_RECORDED_VALUE, Scope, scope_tags
from service.ingest.wire import broken_off, fields, parts, too_many, varint

__all__ = ["decode"]

_M = TypeVar("_M", bound=Message)

# Tags of the fields of a request, of a message in it, and so on.
_RESOURCE_METRICS = 0x0A
_RESOURCE, _SCOPE_METRICS = 0x0A, 0x12
_SCOPE, _METRIC = 0x0A, 0x12
_NAME, _NUMBERS, _DATA = 0x0A, frozenset((0x2A, 0x3A)), frozenset((0x2A, 0x3A, 0x4A, 0x52, 0x5A))
_DATA_POINT, _TEMPORALITY = 0x0A, 0x10
_START, _TIME, _DOUBLE, _INTEGER, _ATTRIBUTE = 0x11, 0x19, 0x21, 0x31, 0x3A

_double, _integer = struct.Struct("<Qxd").unpack_from, struct.Struct("<Qxq").unpack_from
_MAX_PARTS = 1 << 20
"""Of all messages of a body together."""
_VALUE_SIZE = 18
"""Bytes of a time and a value, with their tags."""


def decode(body: bytes, table: SeriesTable, now: int) -> Decoded:
    """Decode the points of a request.

    A series is called by its metric, with the attributes of resource, scope and point as tags; a
    histogram or summary is two series, metric_count and metric_sum.

    Raises:
        MalformedInputError: it is no such message.
    """
    batch = Batch()
    for tag, start, end in _parts(body, 0, len(body), batch):
        if tag == _RESOURCE_METRICS:
            inside = _parts(body, start, end, batch)
            resource = _joined(body, inside, _RESOURCE)
            for inner, at, stop in inside:
                if inner == _SCOPE_METRICS:
                    _add_scope(body, at, stop, resource, table, now, batch)
    return batch.decoded()


def _add_scope(
    body: bytes,
    start: int,
    end: int,
    resource: bytes,
    table: SeriesTable,
    now: int,
    batch: Batch,
) -> None:
    inside = _parts(body, start, end, batch)
    source: bytes | str
    try:
        source = _source(resource, _joined(body, inside, _SCOPE))
    except UnusableError as error:
        source = str(error)
    scope = Scope(source, table, now, batch)
    for tag, at, stop in inside:
        if tag == _METRIC:
            _add_metric(body, at, stop, scope, batch)


def _parts(body: bytes, start: int, end: int, batch: Batch) -> list[tuple[int, int, int]]:
    """Return the parts of a message, of which a body may have so many in all."""
    found = parts(body, start, end)
    batch.parts += len(found)
    if batch.parts > _MAX_PARTS:
        raise too_many()
    return found


def _joined(body: bytes, inside: Iterable[tuple[int, int, int]], tag: int) -> bytes:
    """Return a message inside a message; what comes in parts is merged, as protobuf has it."""
    return b"".join([body[start:end] for found, start, end in inside if found == tag])


@lru_cache(REMEMBERED)
def _source(resource: bytes, scope: bytes) -> bytes:
    """Return the one form of the attributes of a resource and a scope."""
    if len(resource) + len(scope) > 2 * MAX_BYTES:
        raise UnusableError(TOO_LONG)
    named = _message(InstrumentationScope, scope)
    tags = _tags(_message(Resource, resource).attributes)
    return canonical(tags | scope_tags(named.name, named.version, _tags(named.attributes)))


def _add_metric(body: bytes, start: int, end: int, scope: Scope, batch: Batch) -> None:
    inside = _parts(body, start, end, batch)
    data = [part for part in inside if part[0] in _DATA]
    points = [point for _, at, stop in data for point in _parts(body, at, stop, batch)]
    if len(data) != 1 or data[0][0] not in _NUMBERS:
        _add_any(_message(Metric, body[start:end]), scope, batch)
        return
    try:
        name = _joined(body, inside, _NAME).decode()
    except UnicodeDecodeError:
        raise broken_off() from None
    delta = False
    for tag, at, stop in points:
        if tag == _TEMPORALITY:
            delta = varint(body, at, stop)[0] == DELTA
    for tag, at, stop in points:
        if tag != _DATA_POINT:
            continue
        try:
            _add_number(body, at, stop, name, scope, delta=delta)
        except UnusableError as error:
            batch.reject(str(error))


def _add_number(body: bytes, start: int, end: int, name: str, scope: Scope, *, delta: bool) -> None:
    """Add a point of a gauge or a sum, quickly if it has only a time, a value and attributes."""
    at = start + 9 if start < end and body[start] == _START else start
    rest = at + _VALUE_SIZE
    if rest <= end and body[at] == _TIME:
        kind = body[at + 9]
        if kind in {_DOUBLE, _INTEGER} and (rest == end or body[rest] == _ATTRIBUTE):
            attributes = _only_attributes(body[rest:end])
            if attributes is not None:
                time, value = (_double if kind == _DOUBLE else _integer)(body, at + 1)
                scope.add(name, attributes, time, value, delta=delta)
                return
    _add_any_number(_message(NumberDataPoint, body[start:end]), name, scope, delta=delta)


@lru_cache(REMEMBERED)
def _only_attributes(data: bytes) -> bytes | None:
    """Return the one form of attributes, None if anything else is among them."""
    if len(data) > 2 * MAX_BYTES:
        raise UnusableError(TOO_LONG)
    if any(tag != _ATTRIBUTE for tag, _, _ in fields(data, 0, len(data))):
        return None
    return canonical(_tags(_message(NumberDataPoint, data).attributes))


def _add_any(metric: Metric, scope: Scope, batch: Batch) -> None:
    """Add the points of a metric of any kind."""
    kind = metric.WhichOneof("data")
    if kind is None:
        return
    data: Any = getattr(metric, kind)
    delta = getattr(data, "aggregation_temporality", 0) == DELTA
    for point in data.data_points:
        try:
            if kind in {"gauge", "sum"}:
                _add_any_number(point, metric.name, scope, delta=delta)
            else:
                optional = kind != "summary"
                total = None if optional and not point.HasField("sum") else point.sum
                scope.add_parts(
                    metric.name, canonical(_tags(point.attributes)), point.time_unix_nano,
                    point.count, total, flags=point.flags, delta=delta,
                )  # fmt: skip
        except UnusableError as error:
            batch.reject(str(error))


def _add_any_number(point: NumberDataPoint, name: str, scope: Scope, *, delta: bool) -> None:
    kind = point.WhichOneof("value")
    if point.flags & NO_RECORDED_VALUE:
        value = math.nan
    elif kind is None:
        raise UnusableError(NO_NUMBER)
    else:
        value = getattr(point, kind)
    attributes = canonical(_tags(point.attributes))
    scope.add(name, attributes, point.time_unix_nano, value, delta=delta)


def _tags(attributes: Iterable[KeyValue]) -> dict[str, str]:
    return {attribute.key: _text(attribute.value) for attribute in attributes}


def _text(value: AnyValue) -> str:
    kind = value.WhichOneof("value")
    match kind:
        case None:
            return ""
        case "bool_value":
            return str(value.bool_value).lower()
        case "array_value":
            return f"[{','.join(map(_text, value.array_value.values))}]"
        case "kvlist_value":
            pairs = _tags(value.kvlist_value.values).items()
            return f"{{{','.join(f'{key}={text}' for key, text in pairs)}}}"
        case "bytes_value":
            return base64.b64encode(value.bytes_value).decode()
    return str(getattr(value, kind))


def _message(kind: type[_M], data: bytes) -> _M:
    try:
        message: _M = kind.FromString(data)
    except DecodeError:
        raise broken_off() from None
    return message
