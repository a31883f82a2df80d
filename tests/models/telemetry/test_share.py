"""Each key has one service, and the services agree without asking each other."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.telemetry.assembler import Assembler
from models.telemetry.mapping import Mapping
from models.telemetry.points import ELSEWHERE, Points, Series
from models.telemetry.share import Share

KEYS = st.lists(st.text(), min_size=1, max_size=3).map(tuple)


def owners(key: tuple[str, ...], services: int) -> list[int]:
    return [n for n in range(1, services + 1) if Share(n, services).owns(key)]


@given(KEYS, st.integers(1, 64))
def test_each_key_has_one_service(key: tuple[str, ...], services: int) -> None:
    assert len(owners(key, services)) == 1


@given(KEYS, st.integers(1, 63))
def test_one_more_service_takes_keys_and_moves_no_other(
    key: tuple[str, ...], services: int
) -> None:
    [before], [after] = owners(key, services), owners(key, services + 1)
    assert after in (before, services + 1)


def test_the_shares_are_about_even() -> None:
    found = Counter(owners((f"router-{n}",), 4)[0] for n in range(4000))
    assert all(900 < found[service] < 1100 for service in range(1, 5))


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "1/65", "-1/2", "1/2/3", "a/b", "1/"])
def test_what_is_no_share_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="such as 2/4"):
        Share.parse(text)


def test_points_of_other_services_are_counted_and_left_out() -> None:
    mapping = Mapping.parse(
        'name = "m"\nkey = ["device"]\ninterval = 5.0\n[[fields]]\nname = "a"\nmetric = "a"'
    )
    assemblers = [Assembler(mapping, share=Share(number, 2)) for number in (1, 2)]
    for device in range(20):
        for assembler in assemblers:
            placed = assembler.series.add(device, Series("a", {"device": f"d{device}"}))
            assert placed == ELSEWHERE or placed >= 0
            points = Points(
                np.array([placed], np.int32), np.array([10**18]), np.array([float(device)])
            )
            assembler.add(points, 1e9)
    one, two = (assembler.counts for assembler in assemblers)
    assert one.elsewhere + two.elsewhere == 20
    assert (one.unmapped, one.refused, two.unmapped, two.refused) == (0, 0, 0, 0)
    assert len(assemblers[0].finish()) + len(assemblers[1].finish()) == 20
    assert 0 < one.elsewhere < 20


def test_a_service_of_more_keeps_of_its_state_only_what_is_its_share() -> None:
    mapping = Mapping.parse(
        'name = "m"\nkey = ["device"]\ninterval = 5.0\n[[fields]]\nname = "a"\nmetric = "a"'
    )
    alone = Assembler(mapping)
    for device in range(20):
        alone.series.add(device, Series("a", {"device": f"d{device}"}))
    alone.series.add("unmapped", Series("b", {"device": "d0"}))
    parts = [
        Assembler.restore(mapping, alone.snapshot(), share=Share(number, 2)) for number in (1, 2)
    ]
    known = [{*part.series.ids} - {"unmapped"} for part in parts]
    assert known[0] | known[1] == {*range(20)}
    assert not known[0] & known[1]
    other = min(device for device in range(20) if device in known[1])
    assert parts[0].series.add(other, Series("a", {"device": f"d{other}"})) == ELSEWHERE
    again = Assembler.restore(mapping, parts[0].snapshot())
    assert other not in again.series.ids  # and so is placed, once it comes
