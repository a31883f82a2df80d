from __future__ import annotations

import json
import math
from typing import Any

import pytest

from service.formats.errors import MalformedInputError
from service.ingest import gnmic
from service.ingest.decoded import BAD_TIME, NO_NUMBER
from tests.support.points import NOW, Receiving

# As in gNMIc's documentation of its event format, with a state added.
EVENT = {
    "name": "default",
    "timestamp": 1607291271894072397,
    "tags": {
        "interface_name": "mgmt0",
        "source": "172.23.23.2:57400",
        "subscription-name": "default",
    },
    "values": {
        "/srl_nokia-interfaces:interface/statistics/carrier-transitions": "1",
        "/srl_nokia-interfaces:interface/statistics/in-broadcast-packets": 3797,
        "/srl_nokia-interfaces:interface/oper-state": "up",
    },
}


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(gnmic.decode)


def body(**changes: Any) -> bytes:
    return json.dumps([EVENT | changes], indent=2).encode()


def test_every_value_that_is_a_number_is_a_series_called_by_its_path(receiving: Receiving) -> None:
    head = "/srl_nokia-interfaces:interface/statistics"
    assert receiving.rows(body()) == [
        (f"{head}/carrier-transitions", EVENT["tags"], EVENT["timestamp"], 1.0),
        (f"{head}/in-broadcast-packets", EVENT["tags"], EVENT["timestamp"], 3797.0),
        ("/srl_nokia-interfaces:interface/oper-state", EVENT["tags"], EVENT["timestamp"], 1.0),
    ]
    assert receiving.decode(body()).reasons == {}


def test_a_state_that_the_mapping_does_not_know_is_counted(receiving: Receiving) -> None:
    decoded = receiving.decode(body(values={"/a/oper-state": "dormant", "/a/name": "up"}))
    assert (len(decoded.points), decoded.reasons) == (0, {NO_NUMBER: 2})


def test_a_path_that_was_deleted_ends_its_series(receiving: Receiving) -> None:
    path = "/srl_nokia-interfaces:interface/oper-state"
    receiving.decode(body())
    [(name, tags, time, value)] = receiving.rows(body(values={}, deletes=[path, "/never/seen"]))
    assert (name, tags, time) == (path, EVENT["tags"], EVENT["timestamp"])
    assert math.isnan(value)
    assert receiving.decode(body(deletes=None)).reasons == {}


def test_a_path_that_was_deleted_may_have_its_keys_in_it(receiving: Receiving) -> None:
    path = "/interfaces/interface/state/counters/in-octets"
    for name in ("e1", "e2"):
        tags = {"source": "r1", "interface_name": name}
        receiving.decode(body(tags=tags, values={path: 1, "/interfaces/interface": 2}))
    deleted = "interfaces/interface[name=e2]/state/counters/in-octets"
    [(name, tags, _, value)] = receiving.rows(
        body(tags={"source": "r1"}, values={}, deletes=[deleted])
    )
    assert (name, tags["interface_name"]) == (path, "e2")
    assert math.isnan(value)


@pytest.mark.parametrize(
    ("deleted", "path", "keys"),
    [
        ("a/b[k=1][l=2]/c", "/a/b/c", {"b_k": "1", "b_l": "2"}),
        ("/a/b[l=2][k=1]/c", "/a/b/c", {"b_k": "1", "b_l": "2"}),
        ("a[k=1]/b[k=2]/c", "/a/b/c", {"a_k": "1", "b_k": "2"}),
        ("m:a/m:b[k=et-0/0/1:2]/c", "/m:a/m:b/c", {"b_k": "et-0/0/1:2"}),
        (r"a/b[k=x\[0\]]/c", "/a/b/c", {"b_k": "x[0]"}),
        (r"a/b[k=x\y=z]/c", "/a/b/c", {"b_k": r"x\y=z"}),
        ("a/b[k=]/c", "/a/b/c", {"b_k": ""}),
        ("a/b/c", "/a/b/c", {}),
    ],
)
def test_a_delete_is_read_as_the_path_and_tags_of_values(
    receiving: Receiving, deleted: str, path: str, keys: dict[str, str]
) -> None:
    receiving.decode(body(tags={"source": "r1"} | keys, values={path: 1}))
    deletion = body(tags={"source": "r1"}, values={}, deletes=[deleted])
    [(name, tags, _, value)] = receiving.rows(deletion)
    assert (name, tags) == (path, {"source": "r1", "subscription-name": "default"} | keys)
    assert math.isnan(value)


@pytest.mark.parametrize(
    "deleted",
    [
        "a/b[k=2]/c",
        "a/b[k=1]",
        "a/b[l=1]/c",
        "a/b[k=1/c",
        "a/b[k]/c",
        "a/b[k=1]x/c",
        "a/b[k=[1]]/c",
        "a/b[k=1]/c[",
        "a//b[k=1]/c",
        "[k=1]",
        "a/b[source=1]/c",
        "a/b[k=1]/c" * 1000,
        "",
    ],
)
def test_a_delete_of_anything_else_ends_nothing(receiving: Receiving, deleted: str) -> None:
    tags = {"b_source": "r1"}
    receiving.decode(body(tags=tags | {"b_k": "1"}, values={"/a/b/c": 1}))
    receiving.decode(body(tags=tags | {"b_source": "1"}, values={"/a/b/c": 1}))
    decoded = receiving.decode(body(tags=tags, values={}, deletes=[deleted]))
    assert (len(decoded.points), decoded.reasons, len(receiving.placed)) == (0, {}, 2)


def test_a_delete_with_more_keys_than_a_series_has_tags_ends_nothing(receiving: Receiving) -> None:
    keys = "".join(f"[k{number}=1]" for number in range(100))
    assert len(receiving.decode(body(values={}, deletes=[f"a{keys}/b"])).points) == 0


@pytest.mark.parametrize("value", [[1, 2], [], {"digits": 15, "precision": 1}, [[{"a": [1]}]]])
def test_a_structured_value_costs_only_itself(receiving: Receiving, value: object) -> None:
    values = {"/in": 1, "/list": value, "/out-state": "up"}
    for content in (body(values=values), json.dumps(EVENT | {"values": values}).encode()):
        decoded = receiving.decode(content)
        assert decoded.points.values.tolist() == [1.0, 1.0]
        assert decoded.points.times.tolist() == [EVENT["timestamp"]] * 2
        assert decoded.reasons == {NO_NUMBER: 1}
    assert [dict(series.tags) for series in receiving.placed] == [EVENT["tags"]] * 2


def test_a_delete_beside_a_structured_value_counts(receiving: Receiving) -> None:
    receiving.decode(body(values={"/in": 1}))
    decoded = receiving.decode(body(values={"/list": [1]}, deletes=["/in"]))
    assert repr(decoded.points.values.tolist()) == "[nan]"


def test_a_number_beyond_all_floats_costs_only_itself(receiving: Receiving) -> None:
    decoded = receiving.decode(b'[{"values":{"/a":1e999,"/b":1}}]')
    assert (len(decoded.points), decoded.reasons) == (1, {NO_NUMBER: 1})


@pytest.mark.parametrize(
    ("value", "number"),
    [("18446744073709551615", 2.0**64), ("-1.5", -1.5), ("1e3", 1000.0), (True, 1.0), (0.5, 0.5)],
)
def test_numbers_may_be_texts(receiving: Receiving, value: object, number: float) -> None:
    assert receiving.decode(body(values={"/a": value})).points.values.tolist() == [number]


@pytest.mark.parametrize("value", ["", "up", "0x10", "1_0", "nan", "inf", "1" * 50, 10**30, None])
def test_what_is_no_number_is_counted(receiving: Receiving, value: object) -> None:
    decoded = receiving.decode(body(values={"/a": value, "/b": 1}))
    assert (len(decoded.points), decoded.reasons) == (1, {NO_NUMBER: 1})


def test_the_subscription_is_a_tag_in_any_case(receiving: Receiving) -> None:
    (row,) = receiving.rows(b'{"name":"ports","values":{"/a":1}}')
    assert row == ("/a", {"subscription-name": "ports"}, NOW, 1.0)


def test_the_order_of_tags_does_not_matter(receiving: Receiving) -> None:
    first = receiving.decode(body()).points.series.tolist()
    turned = dict(reversed(EVENT["tags"].items()))  # type: ignore[attr-defined]
    assert receiving.decode(body(tags=turned)).points.series.tolist() == first


def test_one_bad_event_costs_only_itself(receiving: Receiving) -> None:
    events = [EVENT, 5, EVENT | {"timestamp": 10**30}, EVENT | {"tags": [1]}]
    decoded = receiving.decode(json.dumps(events).encode())
    assert len(decoded.points) == 3
    assert decoded.rejected == 1 + 3 + 3
    assert decoded.reasons[BAD_TIME] == 3


@pytest.mark.parametrize("bad", [b"", b"[", b"[{]"])
def test_a_body_that_is_no_list_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no JSON list of events"):
        receiving.decode(bad)
