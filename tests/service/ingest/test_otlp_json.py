from __future__ import annotations

import json
import math
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)

from service.formats.errors import MalformedInputError
from service.ingest import otlp_json, otlp_protobuf
from service.ingest.decoded import BAD_TIME, NO_NUMBER
from tests.support.points import NOW, Receiving, recorded

T = 1_795_965_610_517_000_001


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(otlp_json.decode)


def body(point: dict[str, Any], kind: str = "gauge", **data: Any) -> bytes:
    metric = {"name": "load", kind: {"dataPoints": [point], **data}}
    resource = {"attributes": [{"key": "host", "value": {"stringValue": "router1"}}]}
    scopes = [{"metrics": [metric]}]
    document = {"resourceMetrics": [{"resource": resource, "scopeMetrics": scopes}]}
    return json.dumps(document).encode()


def point(**fields: Any) -> dict[str, Any]:
    return {"timeUnixNano": str(T), "asDouble": 0.5} | fields


@pytest.mark.parametrize(
    ("fields", "value"),
    [
        ({"asDouble": 5}, 5.0),
        ({"asDouble": "-Infinity"}, -math.inf),
        ({"asDouble": None, "asInt": "9223372036854775807"}, 2.0**63),
        ({"asDouble": None, "asInt": -7}, -7.0),
        ({"asDouble": "NaN"}, math.nan),
    ],
)
def test_numbers_may_be_texts(receiving: Receiving, fields: dict[str, Any], value: float) -> None:
    rows = receiving.rows(body(point(**fields)))
    assert repr(rows) == repr([("load", {"host": "router1"}, T, value)])


def test_a_body_of_a_real_client_is_read(receiving: Receiving) -> None:
    rows = receiving.rows(recorded("opentelemetry-js.json"))
    assert [(name, tags.get("interface.name"), value) for name, tags, _, value in rows] == [
        ("interface.octets", "HundredGigE0/0/0/0", 1500.0),
        ("interface.octets", "HundredGigE0/0/0/1", 1500.0),
        ("system.load", None, 0.0),
        ("poll.duration_count", None, 1.0),
        ("poll.duration_sum", None, 0.02),
    ]


@pytest.mark.parametrize("file", ["opentelemetry-js.json", "opentelemetry-python.bin"])
def test_json_and_protobuf_give_the_same_points_of_the_same_series(
    receiving: Receiving, file: str
) -> None:
    content, request = recorded(file), ExportMetricsServiceRequest()
    if file.endswith("json"):
        json_format.Parse(content, request)
    else:
        request.MergeFromString(content)
    as_json = json_format.MessageToJson(request, use_integers_for_enums=True).encode()
    rows = receiving.rows(as_json)
    protobuf = Receiving(otlp_protobuf.decode)
    assert rows == protobuf.rows(request.SerializeToString())
    assert receiving.table.ids == protobuf.table.ids


def test_a_sum_of_increases_is_a_delta(receiving: Receiving) -> None:
    for temporality in (1, "AGGREGATION_TEMPORALITY_DELTA", 2):
        receiving.decode(body(point(), "sum", aggregationTemporality=temporality))
    assert [series.delta for series in receiving.placed] == [True, False]


@pytest.mark.parametrize("kind", ["histogram", "exponentialHistogram", "summary"])
def test_histograms_and_summaries_are_a_count_and_a_sum(receiving: Receiving, kind: str) -> None:
    one = {"timeUnixNano": T, "count": "3", "sum": 1.5}
    rows = receiving.rows(body(one, kind))
    assert [(name, value) for name, _, _, value in rows] == [("load_count", 3.0), ("load_sum", 1.5)]


def test_a_point_without_a_recorded_value_ends_its_series(receiving: Receiving) -> None:
    assert math.isnan(receiving.rows(body(point(asDouble=None, flags=1)))[0][3])


def test_points_without_a_time_or_a_value(receiving: Receiving) -> None:
    assert receiving.rows(body({"asInt": 1}))[0][2] == NOW
    assert receiving.decode(body({"timeUnixNano": T})).reasons == {NO_NUMBER: 1}
    assert receiving.decode(body(point(asDouble="x"))).reasons == {NO_NUMBER: 1}
    for time in ("x", str(2**63), str(-(2**63) - 1), "9" * 5000):
        assert receiving.decode(body(point(timeUnixNano=time))).reasons == {BAD_TIME: 1}


def test_values_of_attributes_are_texts_of_any_kind(receiving: Receiving) -> None:
    values = {
        "bool": {"boolValue": True},
        "int": {"intValue": "-5"},
        "double": {"doubleValue": 0.5},
        "bytes": {"bytesValue": "/w=="},
        "none": {},
        "array": {"arrayValue": {"values": [{"stringValue": "a"}, {"intValue": 1}]}},
        "map": {"kvlistValue": {"values": [{"key": "x", "value": {"stringValue": "y"}}]}},
    }
    attributes = [{"key": key, "value": value} for key, value in values.items()]
    expected = {"bool": "true", "int": "-5", "double": "0.5", "bytes": "/w==", "none": ""}
    expected |= {"array": "[a,1]", "map": "{x=y}", "host": "router1"}
    assert receiving.rows(body(point(attributes=attributes)))[0][1] == expected


@given(st.permutations(list("abcdef")))
def test_the_order_of_attributes_does_not_matter(keys: list[str]) -> None:
    receiving = Receiving(otlp_json.decode)
    for order in (keys, sorted(keys)):
        attributes = [{"key": key, "value": {"stringValue": key}} for key in order]
        decoded = receiving.decode(body(point(attributes=attributes)))
        assert decoded.points.series.tolist() == [0]


@pytest.mark.parametrize(
    "attributes", [5, [5], [{"key": 5}], [{"key": "a", "value": {"stringValue": "x" * 20_000}}]]
)
def test_bad_attributes_cost_only_their_points(receiving: Receiving, attributes: object) -> None:
    assert receiving.decode(body(point(attributes=attributes))).rejected == 1


def test_nothing_is_a_request_of_no_points(receiving: Receiving) -> None:
    for empty in (b"{}", b'{"resourceMetrics":[]}', b'{"resourceMetrics":[{}],"more":1}'):
        assert len(receiving.decode(empty).points) == 0


@pytest.mark.parametrize("bad", [b"", b"{", b"[]", b'{"resourceMetrics":5}', b'{"a":' * 100_000])
def test_what_is_no_request_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no JSON of an OTLP metrics request"):
        receiving.decode(bad)


@pytest.mark.parametrize("depth", [100, 2000])
def test_very_deep_attributes_are_refused(receiving: Receiving, depth: int) -> None:
    deep = b'{"arrayValue":{"values":[' * depth + b"{}" + b"]}}" * depth
    content = body(point(attributes=[{"key": "a", "value": "deep"}])).replace(b'"deep"', deep)
    if depth == 100:
        assert receiving.rows(content)[0][1]["a"] == "[" * depth + "]" * depth
    else:
        with pytest.raises(MalformedInputError):
            receiving.decode(content)
