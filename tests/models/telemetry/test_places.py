from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from models.telemetry.places import Places, series_of
from models.telemetry.points import REFUSED, UNMAPPED, Series
from models.telemetry.records import Counts
from models.telemetry.share import Share
from models.telemetry.snapshot import pack, unpack
from models.telemetry.views import Views

MAPPING = Mapping.parse(
    """
name = "places"
key = ["device"]
interval = 5
[[fields]]
name = "{metric}"
metric = ["cpu", "memory"]
[[fields]]
name = "least"
metric = "rate"
aggregate = "min"
[[fields]]
name = "most"
metric = "rate"
aggregate = "max"
"""
)
OF_A_ROUTER = [
    ("cpu", ""),
    ("memory", ""),
    *[("rate", f"port {number}") for number in range(5)],
]


def places(max_keys: int = 100, max_series: int = 1000) -> Places:
    return Places(Views(MAPPING), Counts(), max_keys, max_series, Share())


def series(device: str, metric: str, port: str) -> Series:
    return Series(metric, {"device": device, **({"port": port} if port else {})})


def test_a_series_keeps_its_id_by_whatever_token_it_comes() -> None:
    found = places()
    first = [found.place(series("r1", *what)) for what in OF_A_ROUTER]
    found.members(0)
    assert [found.place(series("r1", *what)) for what in OF_A_ROUTER] == first
    assert found.count == len(OF_A_ROUTER)


@given(st.permutations([(device, what) for device in ("r1", "r2") for what in OF_A_ROUTER]))
def test_the_order_of_a_keys_series_is_that_of_their_names(
    arrival: list[tuple[str, tuple[str, str]]],
) -> None:
    found = places()
    ids = {(device, what): found.place(series(device, *what)) for device, what in arrival}
    what_is = {number: what for (_, what), number in ids.items()}
    members = [found.members(found.slots[device,]) for device in ("r1", "r2")]
    orders = [[what_is[number] for number in member.series.tolist()] for member in members]
    assert orders[0] == orders[1]
    assert sorted(orders[0]) == sorted(OF_A_ROUTER)
    assert series_of(members).tolist() == [*members[0].series, *members[1].series]
    keys = np.repeat([found.slots["r1",], found.slots["r2",]], len(OF_A_ROUTER))
    assert found.key[series_of(members)].tolist() == keys.tolist()


def test_like_keys_share_their_arrays_whether_their_series_come_in_turn_or_one_key_first() -> None:
    for in_turn in (False, True):
        found, devices = places(), [f"r{number}" for number in range(10)]
        pairs = (
            [(device, what) for what in OF_A_ROUTER for device in devices]
            if in_turn
            else [(device, what) for device in devices for what in OF_A_ROUTER]
        )
        for device, what in pairs:
            found.place(series(device, *what))
        first, *others = [found.members(slot) for slot in range(len(devices))]
        for other in others:
            assert other.order is first.order
            assert other.views is first.views
            assert other.at is first.at


def test_what_has_no_place_is_told_from_what_is_one_too_many() -> None:
    found = places(max_keys=2, max_series=4)
    assert found.place(Series("unknown", {"device": "r1"})) == UNMAPPED
    assert found.place(Series("cpu", {"host": "r1"})) == UNMAPPED
    assert found.unkeyed == Series("cpu", {"host": "r1"})
    assert [found.place(series(f"r{n}", "cpu", "")) for n in range(3)] == [0, 1, REFUSED]
    assert [found.place(series("r0", "rate", str(n))) for n in range(3)] == [2, 3, REFUSED]


def of_many_states(count: int) -> Mapping:
    """A mapping of fields that are each read in a way of its own."""
    fields = [
        f'[[fields]]\nname = "f{n}"\nmetric = "m{n}"\nkind = "state"\nstates = {{ s{n} = {n} }}'
        for n in range(count)
    ]
    return Mapping.parse("\n".join(['name = "states"\nkey = ["device"]\ninterval = 5', *fields]))


def test_series_may_be_read_in_more_ways_than_a_byte_tells_apart() -> None:
    found = Places(Views(of_many_states(130)), Counts(), 100, 1000, Share())
    ids = [found.place(series("r1", f"m{n}", "")) for n in range(130)]
    assert ids == [*range(130)]
    assert found.count == 130
    assert found.reading[:130].tolist() == [*range(130)]


def test_a_try_that_fails_uses_up_no_id() -> None:
    found = places()
    found.view = np.empty(0, np.int16)
    for _ in range(3):
        with pytest.raises(IndexError):
            found.place(series("r1", "cpu", ""))
    assert found.count == 0


def test_a_snapshot_that_had_a_byte_for_the_reading_is_taken_up() -> None:
    assembler = Assembler(of_many_states(3))
    for n in range(3):
        assembler.place(series("r1", f"m{n}", ""))
    meta, arrays = unpack(assembler.snapshot(), assembler.mapping.fingerprint)
    arrays["series reading"] = arrays["series reading"].astype(np.int8)
    back = Assembler.restore(assembler.mapping, pack(meta, arrays))
    assert back._places.reading.dtype == np.int16
    assert back._places.reading[:3].tolist() == [0, 1, 2]
