"""The messages of Prometheus' remote write, by the protobuf library: what our own scan must equal.

https://github.com/prometheus/prometheus/blob/main/prompb/types.proto and
https://github.com/prometheus/prometheus/blob/main/prompb/io/prometheus/write/v2/types.proto
"""

from __future__ import annotations

from typing import Any

from google.protobuf.descriptor_pb2 import (
    DescriptorProto,
    FieldDescriptorProto,
    FileDescriptorProto,
)
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

__all__ = ["Request", "WriteRequest"]

_TYPES = {
    "double": FieldDescriptorProto.TYPE_DOUBLE,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "uint32": FieldDescriptorProto.TYPE_UINT32,
    "string": FieldDescriptorProto.TYPE_STRING,
}
# Number, name and type of the fields of each message; a list holds many.
_V1: dict[str, list[tuple[int, str, str]]] = {
    "Label": [(1, "name", "string"), (2, "value", "string")],
    "Sample": [(1, "value", "double"), (2, "timestamp", "int64")],
    "Exemplar": [(1, "labels", "[Label]"), (2, "value", "double"), (3, "timestamp", "int64")],
    "Histogram": [(1, "count_int", "uint64"), (3, "sum", "double"), (15, "timestamp", "int64")],
    "TimeSeries": [
        (1, "labels", "[Label]"),
        (2, "samples", "[Sample]"),
        (3, "exemplars", "[Exemplar]"),
        (4, "histograms", "[Histogram]"),
    ],
    "MetricMetadata": [(2, "metric_family_name", "string"), (4, "help", "string")],
    "WriteRequest": [(1, "timeseries", "[TimeSeries]"), (3, "metadata", "[MetricMetadata]")],
}
_V2: dict[str, list[tuple[int, str, str]]] = {
    "Sample": [(1, "value", "double"), (2, "timestamp", "int64"), (3, "start_timestamp", "int64")],
    "Exemplar": [(1, "labels_refs", "[uint32]"), (2, "value", "double"), (3, "timestamp", "int64")],
    "Histogram": [(1, "count_int", "uint64"), (3, "sum", "double"), (15, "timestamp", "int64")],
    "Metadata": [(1, "type", "uint32"), (3, "help_ref", "uint32"), (4, "unit_ref", "uint32")],
    "TimeSeries": [
        (1, "labels_refs", "[uint32]"),
        (2, "samples", "[Sample]"),
        (3, "histograms", "[Histogram]"),
        (4, "exemplars", "[Exemplar]"),
        (5, "metadata", "Metadata"),
        (6, "created_timestamp", "int64"),
    ],
    "Request": [(4, "symbols", "[string]"), (5, "timeseries", "[TimeSeries]")],
}


def _classes(package: str, messages: dict[str, list[tuple[int, str, str]]]) -> dict[str, Any]:
    file = FileDescriptorProto(name=package, package=package, syntax="proto3")
    file.message_type.extend(
        DescriptorProto(name=name, field=[_field(package, *field) for field in fields])
        for name, fields in messages.items()
    )
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{package}.{name}")) for name in messages
    }


def _field(package: str, number: int, name: str, kind: str) -> FieldDescriptorProto:
    repeated, plain = kind.startswith("["), kind.strip("[]")
    field = FieldDescriptorProto(
        number=number,
        name=name,
        label=FieldDescriptorProto.LABEL_REPEATED
        if repeated
        else FieldDescriptorProto.LABEL_OPTIONAL,
    )
    if plain in _TYPES:
        field.type = _TYPES[plain]
    else:
        field.type_name = f".{package}.{plain}"
        field.type = FieldDescriptorProto.TYPE_MESSAGE
    return field


WriteRequest: Any = _classes("prometheus", _V1)["WriteRequest"]
"""Remote write 1.0."""
Request: Any = _classes("io.prometheus.write.v2", _V2)["Request"]
"""Remote write 2.0."""
