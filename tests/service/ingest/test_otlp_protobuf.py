from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric

from service.formats.errors import MalformedInputError
from service.ingest import otlp_protobuf
from service.ingest.decoded import BAD_TIME, NO_NUMBER
from tests.support.points import NOW, Receiving, recorded

T = 1_795_965_610_517_000_001


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(otlp_protobuf.decode)


def attributes(message: Any, **tags: str) -> None:
    for key, text in tags.items():
        message.add(key=key).value.string_value = text


def request(*metrics: Metric) -> ExportMetricsServiceRequest:
    made = ExportMetricsServiceRequest()
    resource = made.resource_metrics.add()
    attributes(resource.resource.attributes, host="router1")
    resource.scope_metrics.add().metrics.extend(metrics)
    return made


def gauge(value: float, name: str = "load", time: int = T, **tags: str) -> Metric:
    metric = Metric(name=name)
    point = metric.gauge.data_points.add(time_unix_nano=time)
    if isinstance(value, int):
        point.as_int = value
    else:
        point.as_double = value
    attributes(point.attributes, **tags)
    return metric


def body(*metrics: Metric) -> bytes:
    content: bytes = request(*metrics).SerializeToString()
    return content


def test_attributes_of_resource_scope_and_point_are_tags(receiving: Receiving) -> None:
    made = request(gauge(0.5, port="eth0"))
    scope = made.resource_metrics[0].scope_metrics[0].scope
    scope.name, scope.version = "interfaces", "1.0"
    attributes(scope.attributes, mode="fast")
    tags = {
        "host": "router1",
        "otel.scope.name": "interfaces",
        "otel.scope.version": "1.0",
        "otel.scope.mode": "fast",
        "port": "eth0",
    }
    for _ in range(2):
        assert receiving.rows(made.SerializeToString()) == [("load", tags, T, 0.5)]
    assert len(receiving.placed) == 1


def test_a_body_of_a_real_client_is_read(receiving: Receiving) -> None:
    rows = receiving.rows(recorded("opentelemetry-python.bin"))
    assert [(name, tags.get("interface.name"), value) for name, tags, _, value in rows] == [
        ("interface.octets", "HundredGigE0/0/0/0", 1500.0),
        ("interface.octets", "HundredGigE0/0/0/1", 1500.0),
        ("system.load", None, 0.0),
        ("poll.duration_count", None, 1.0),
        ("poll.duration_sum", None, 0.02),
    ]
    assert {tags["host.name"] for _, tags, _, _ in rows} == {"router1"}
    assert not any(series.delta for series in receiving.placed)


@pytest.mark.parametrize("value", [0.0, -0.0, 0, -5, 2**63 - 1, math.nan, math.inf, 1e308])
def test_every_number_is_read(receiving: Receiving, value: float) -> None:
    assert repr(receiving.rows(body(gauge(value)))[0][3]) == repr(float(value))


def test_a_sum_of_increases_is_a_delta_and_another_series(receiving: Receiving) -> None:
    for temporality in (1, 2, 0):
        metric = Metric(name="octets")
        metric.sum.data_points.add(time_unix_nano=T, as_int=5)
        metric.sum.aggregation_temporality = temporality  # type: ignore[assignment]
        receiving.decode(body(metric))
    assert [series.delta for series in receiving.placed] == [True, False]


def test_histograms_and_summaries_are_a_count_and_a_sum(receiving: Receiving) -> None:
    metrics = [Metric(name="h"), Metric(name="e"), Metric(name="s"), Metric(name="n")]
    metrics[0].histogram.data_points.add(time_unix_nano=T, count=3, sum=1.5, bucket_counts=[1, 2])
    metrics[0].histogram.aggregation_temporality = 1  # type: ignore[assignment]
    metrics[1].exponential_histogram.data_points.add(time_unix_nano=T, count=2, sum=0.5)
    metrics[2].summary.data_points.add(time_unix_nano=T, count=4, sum=2.0)
    metrics[3].histogram.data_points.add(time_unix_nano=T, count=1)
    rows = [(name, value) for name, _, _, value in receiving.rows(body(*metrics))]
    expected = [("h_count", 3), ("h_sum", 1.5), ("e_count", 2), ("e_sum", 0.5)]
    assert rows == [*expected, ("s_count", 4), ("s_sum", 2.0), ("n_count", 1)]
    assert [series.delta for series in receiving.placed] == [True] * 2 + [False] * 5


def test_a_point_without_a_recorded_value_ends_its_series(receiving: Receiving) -> None:
    receiving.decode(body(gauge(1.0, port="eth0")))
    ended = gauge(1.0, port="eth0")
    ended.gauge.data_points[0].flags = 1
    ended.gauge.data_points[0].ClearField("as_double")
    histogram = Metric(name="h")
    histogram.histogram.data_points.add(time_unix_nano=T, flags=1, sum=0.0)
    rows = receiving.rows(body(ended, histogram))
    assert [name for name, *_ in rows] == ["load", "h_count", "h_sum"]
    assert all(math.isnan(value) for *_, value in rows)
    assert len(receiving.placed) == 3


def test_a_point_without_a_time_is_of_now_and_one_without_a_value_is_counted(
    receiving: Receiving,
) -> None:
    assert receiving.rows(body(gauge(1.0, time=0)))[0][2] == NOW
    empty = gauge(1.0)
    empty.gauge.data_points[0].ClearField("as_double")
    assert receiving.decode(body(empty, gauge(1.0))).reasons == {NO_NUMBER: 1}
    late = receiving.decode(body(gauge(1.0, time=2**63), gauge(1.0)))
    assert (len(late.points), late.reasons) == (1, {BAD_TIME: 1})


def test_values_of_attributes_are_texts_of_any_kind(receiving: Receiving) -> None:
    metric = gauge(1.0)
    point = metric.gauge.data_points[0]
    point.attributes.add(key="bool").value.bool_value = True
    point.attributes.add(key="int").value.int_value = -5
    point.attributes.add(key="double").value.double_value = 0.5
    point.attributes.add(key="bytes").value.bytes_value = b"\xff"
    point.attributes.add(key="none")
    values = point.attributes.add(key="array").value.array_value.values
    values.add(string_value="a")
    values.add(int_value=1)
    pairs = point.attributes.add(key="map").value.kvlist_value.values
    pairs.add(key="x").value.string_value = "y"
    expected = {"bool": "true", "int": "-5", "double": "0.5", "bytes": "/w==", "none": ""}
    expected |= {"array": "[a,1]", "map": "{x=y}", "host": "router1"}
    assert receiving.rows(body(metric))[0][1] == expected


@given(st.permutations(list("abcdef")), st.permutations(list("abcdef")))
def test_the_order_of_attributes_does_not_matter(one: Sequence[str], other: Sequence[str]) -> None:
    receiving = Receiving(otlp_protobuf.decode)
    for keys in (one, other):
        metric = gauge(1.0)
        attributes(metric.gauge.data_points[0].attributes, **{key: f"of {key}" for key in keys})
        assert receiving.decode(body(metric)).points.series.tolist() == [0]


def test_exemplars_and_other_fields_change_nothing(receiving: Receiving) -> None:
    metric = gauge(2.0, port="eth0")
    expected = receiving.rows(body(metric))
    metric.description, metric.unit = "a load", "1"
    metric.metadata.add(key="more")
    metric.gauge.data_points[0].exemplars.add(as_double=5.0, time_unix_nano=T)
    metric.gauge.data_points[0].start_time_unix_nano = 1
    assert receiving.rows(body(metric)) == expected


def test_messages_in_parts_are_merged(receiving: Receiving) -> None:
    first, second = gauge(1.0, port="eth0"), gauge(2.0, name="")
    whole = first.SerializeToString() + second.SerializeToString()
    made = request(Metric.FromString(whole))
    rows = receiving.rows(made.SerializeToString())
    assert [(row[0], row[3]) for row in rows] == [("load", 1.0), ("load", 2.0)]


def test_too_many_attributes_cost_only_their_points(receiving: Receiving) -> None:
    many = gauge(1.0)
    attributes(many.gauge.data_points[0].attributes, **{f"tag{n}": "x" for n in range(100)})
    long = gauge(1.0, tag="x" * 100_000)
    decoded = receiving.decode(body(many, gauge(2.0), long))
    assert (decoded.points.values.tolist(), decoded.rejected) == ([2.0], 2)
    made = request(gauge(1.0), gauge(2.0))
    attributes(made.resource_metrics[0].resource.attributes, tag="x" * 100_000)
    decoded = receiving.decode(made.SerializeToString())
    assert (len(decoded.points), decoded.rejected) == (0, 2)


def test_an_empty_request_has_no_points(receiving: Receiving) -> None:
    for empty in (b"", body(), body(Metric(name="none")), body(Metric())):
        assert receiving.decode(empty).rejected == len(receiving.decode(empty).points) == 0


def test_a_request_that_breaks_off_anywhere_is_malformed_or_shorter(receiving: Receiving) -> None:
    content = recorded("opentelemetry-python.bin")
    malformed = 0
    for end in range(len(content)):
        try:
            assert len(receiving.decode(content[:end]).points) < 5
        except MalformedInputError:
            malformed += 1
    assert malformed > len(content) * 0.9


@pytest.mark.parametrize("bad", [b'{"resourceMetrics":[]}', b"\x0a\x05\x0a", b"\xff" * 20])
def test_what_is_no_message_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no protobuf message"):
        receiving.decode(bad)
