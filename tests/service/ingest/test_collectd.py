from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest

from service.formats.errors import MalformedInputError
from service.ingest import collectd
from service.ingest.decoded import BAD_TIME
from tests.support.points import NOW, Receiving, recorded

OCTETS = {
    "values": [7, 8],
    "dstypes": ["derive", "derive"],
    "dsnames": ["rx", "tx"],
    "time": 1795965610.517,
    "interval": 2.0,
    "host": "router1",
    "plugin": "interface",
    "plugin_instance": "eth0",
    "type": "if_octets",
    "type_instance": "",
}
TAGS = {"host": "router1", "plugin": "interface", "plugin_instance": "eth0"}
T = 1_795_965_610_517_000_000


@pytest.fixture
def receiving() -> Receiving:
    return Receiving(collectd.decode)


def body(**changes: Any) -> bytes:
    return json.dumps([OCTETS | changes]).encode()


def test_every_value_is_a_series(receiving: Receiving) -> None:
    expected = [("if_octets_rx", TAGS, T, 7.0), ("if_octets_tx", TAGS, T, 8.0)]
    assert receiving.rows(body()) == expected
    assert receiving.rows(body()) == expected
    assert len(receiving.placed) == 2


def test_counters_of_a_real_client_are_read(receiving: Receiving) -> None:
    rows = receiving.rows(recorded("collectd-counters.json"))
    assert rows[0] == ("load_shortterm", {"host": "router1", "plugin": "load"}, T, 3.7705078125)
    assert len(rows) == 37
    assert all(time == T for *_, time, _ in rows)


def test_the_first_rates_of_a_real_client_are_not_known_yet(receiving: Receiving) -> None:
    decoded = receiving.decode(recorded("collectd-rates.json"))
    assert (len(decoded.points), decoded.rejected) == (36, 0)
    assert np.isnan(decoded.points.values).all()


def test_a_null_ends_a_series(receiving: Receiving) -> None:
    assert [math.isnan(row[3]) for row in receiving.rows(body(values=[None, 5]))] == [True, False]


def test_a_type_of_one_value_is_called_by_itself(receiving: Receiving) -> None:
    one = body(values=[1], dstypes=["gauge"], dsnames=["value"], type_instance="idle")
    assert receiving.rows(one) == [("if_octets", TAGS | {"type_instance": "idle"}, T, 1.0)]
    without = b'[{"values":[1],"host":"h","plugin":"p","type":"t"}]'
    assert receiving.rows(without) == [("t", {"host": "h", "plugin": "p"}, NOW, 1.0)]


def test_a_counter_that_is_set_to_zero_when_it_is_read_is_a_delta(receiving: Receiving) -> None:
    receiving.decode(body(dstypes=["absolute", "absolute"]))
    receiving.decode(body(type="derive"))
    assert [series.delta for series in receiving.placed] == [True, True, False, False]


def test_one_bad_value_list_costs_only_itself(receiving: Receiving) -> None:
    items = [
        OCTETS | {"values": ["x", 1]},
        OCTETS,
        5,
        OCTETS | {"dsnames": ["one"]},
        OCTETS | {"time": 1e30},
        {"message": "a notification", "severity": "OKAY"},
    ]
    decoded = receiving.decode(json.dumps(items).encode())
    assert len(decoded.points) == 2
    assert decoded.rejected == 1 + 1 + 2 + 2 + 1
    assert decoded.reasons[BAD_TIME] == 2


@pytest.mark.parametrize("bad", [b"", b"[", b"nothing", b"[1,]", b"[" * 100_000])
def test_a_body_that_is_no_list_is_malformed(receiving: Receiving, bad: bytes) -> None:
    with pytest.raises(MalformedInputError, match="no JSON list of value lists"):
        receiving.decode(bad)
