"""Bodies of every wire format, with the same points: counters and states of routers' interfaces."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import cramjam
import pyarrow as pa
from google.protobuf import json_format
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from benchmarks.ingest.prometheus import Request, WriteRequest

__all__ = ["BODIES", "Point", "points", "snappy"]

_FIELDS = ("in_octets", "out_octets", "in_errors", "out_errors", "oper_status")
_START = 1_795_000_000
_INTERVAL = 10


@dataclass(frozen=True, slots=True)
class Point:
    """One point.

    Attributes:
        device: its router.
        interface: its port.
        field: what was counted.
        time: seconds since the Unix epoch.
        value: of the counter or state.
    """

    device: str
    interface: str
    field: str
    time: int
    value: float


def points(series: int, rounds: int) -> list[Point]:
    """Return points of some series, each once a round."""
    names = [divmod(number, len(_FIELDS)) for number in range(series)]
    return [
        Point(
            f"router{port // 20}",
            f"HundredGigE0/0/0/{port % 20}",
            _FIELDS[field],
            _START + number * _INTERVAL,
            float((port + 1) * (number + 1) * 12_345 if field < 2 else port % 3),
        )
        for number in range(rounds)
        for port, field in names
    ]


def _ports(table: list[Point]) -> Iterator[list[Point]]:
    """Yield the points of one port and time together."""
    together: list[Point] = []
    for point in table:
        if together and (point.interface, point.time) != (
            together[0].interface,
            together[0].time,
        ):
            yield together
            together = []
        together.append(point)
    if together:
        yield together


def telegraf(table: list[Point]) -> bytes:
    """Return a batch of Telegraf's JSON."""
    metrics = [
        {
            "fields": {point.field: int(point.value) for point in port},
            "name": "interface",
            "tags": {
                "agent_host": "10.0.0.1",
                "host": port[0].device,
                "ifName": port[0].interface,
            },
            "timestamp": port[0].time,
        }
        for port in _ports(table)
    ]
    return json.dumps({"metrics": metrics}, separators=(",", ":")).encode()


def influx(table: list[Point]) -> bytes:
    """Return lines of the Influx line protocol."""
    lines = []
    for port in _ports(table):
        first = port[0]
        fields = ",".join(f"{point.field}={int(point.value)}i" for point in port)
        lines.append(
            f"interface,agent_host=10.0.0.1,host={first.device},ifName={first.interface} "
            f"{fields} {first.time * 10**9}"
        )
    return "\n".join(lines).encode()


def collectd(table: list[Point]) -> bytes:
    """Return a buffer of collectd's write_http."""
    items = []
    for port in _ports(table):
        first = port[0]
        for at in range(0, len(port), 2):
            pair = port[at : at + 2]
            items.append(
                {
                    "values": [int(point.value) for point in pair],
                    "dstypes": ["derive"] * len(pair),
                    "dsnames": ["rx", "tx"][: len(pair)],
                    "time": first.time + 0.125,
                    "interval": 10.0,
                    "host": first.device,
                    "plugin": "interface",
                    "plugin_instance": first.interface,
                    "type": f"if_{pair[0].field}",
                    "type_instance": "",
                }
            )
    return json.dumps(items, separators=(",", ":")).encode()


def gnmic(table: list[Point]) -> bytes:
    """Return gNMIc's events."""
    events = [
        {
            "name": "ports",
            "timestamp": port[0].time * 10**9,
            "tags": {
                "interface_name": port[0].interface,
                "source": f"{port[0].device}:57400",
                "subscription-name": "ports",
            },
            "values": {
                f"/interfaces/interface/state/counters/{point.field}": int(point.value)
                for point in port
            },
        }
        for port in _ports(table)
    ]
    return json.dumps(events).encode()


def arrow(table: list[Point]) -> bytes:
    """Return an Arrow stream of rows."""
    columns = pa.table(
        {
            "metric": [point.field for point in table],
            "value": [point.value for point in table],
            "time": pa.array([point.time * 1000 for point in table], pa.timestamp("ms")),
            "device": [point.device for point in table],
            "interface": [point.interface for point in table],
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, columns.schema) as writer:
        writer.write_table(columns)
    return sink.getvalue()


def _otlp(table: list[Point]) -> ExportMetricsServiceRequest:
    request = ExportMetricsServiceRequest()
    resource = request.resource_metrics.add()
    attribute = resource.resource.attributes.add(key="service.name")
    attribute.value.string_value = "poller"
    scope = resource.scope_metrics.add()
    scope.scope.name = "interfaces"
    for field in _FIELDS:
        metric = scope.metrics.add(name=f"interface.{field}")
        state = field == "oper_status"
        if not state:
            metric.sum.aggregation_temporality = 2
        for point in table:
            if point.field == field:
                found = (metric.gauge if state else metric.sum).data_points.add(
                    start_time_unix_nano=_START * 10**9, time_unix_nano=point.time * 10**9
                )
                if state:
                    found.as_double = point.value
                else:
                    found.as_int = int(point.value)
                for key, text in (("host.name", point.device), ("port", point.interface)):
                    found.attributes.add(key=key).value.string_value = text
    return request


def otlp(table: list[Point]) -> bytes:
    """Return an OTLP request as protobuf."""
    content: bytes = _otlp(table).SerializeToString()
    return content


def otlp_json(table: list[Point]) -> bytes:
    """Return an OTLP request as JSON."""
    text: str = json_format.MessageToJson(_otlp(table), indent=None)
    return text.encode()


def _labels(point: Point) -> dict[str, str]:
    return {
        "__name__": point.field,
        "device": point.device,
        "ifName": point.interface,
        "instance": "10.0.0.1:9116",
        "job": "snmp",
    }


def remote_write(table: list[Point]) -> bytes:
    """Return a request of remote write 1.0, not yet compressed."""
    request = WriteRequest()
    for point in table:
        series = request.timeseries.add()
        for name, value in _labels(point).items():
            series.labels.add(name=name, value=value)
        series.samples.add(value=point.value, timestamp=point.time * 1000)
    content: bytes = request.SerializeToString()
    return content


def remote_write_v2(table: list[Point]) -> bytes:
    """Return a request of remote write 2.0, not yet compressed."""
    request, symbols = Request(), {"": 0}
    for point in table:
        series = request.timeseries.add()
        for text in (part for label in _labels(point).items() for part in label):
            series.labels_refs.append(symbols.setdefault(text, len(symbols)))
        series.samples.add(value=point.value, timestamp=point.time * 1000)
        series.metadata.type = 1
    request.symbols.extend(symbols)
    content: bytes = request.SerializeToString()
    return content


def snappy(content: bytes) -> bytes:
    """Return content as a snappy block."""
    return bytes(cramjam.snappy.compress_raw(content))


BODIES: dict[str, Callable[[list[Point]], bytes]] = {
    "telegraf": telegraf,
    "influx": influx,
    "collectd": collectd,
    "gnmic": gnmic,
    "arrow": arrow,
    "otlp": otlp,
    "otlp_json": otlp_json,
    "remote_write": remote_write,
    "remote_write_v2": remote_write_v2,
}
"""What makes a body of points, by the name of the receiver; lines of Influx go to Telegraf's."""
