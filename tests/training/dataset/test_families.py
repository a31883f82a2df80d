from __future__ import annotations

import pytest

from training.dataset.families import find_families, name_of

PLACES = [f"link-{side}-{i}" for side in "ab" for i in range(3)]


def test_a_metric_at_places_is_a_family_whatever_the_places_are_called() -> None:
    names = ["cpu", *(f"rx-pps_R1+{place}" for place in PLACES), *(f"errors_{p}" for p in PLACES)]
    assert find_families(names) == (tuple(names[1:7]), tuple(names[7:]))


def test_names_that_differ_in_a_number_are_a_family() -> None:
    names = [f"eth{i}_{metric}" for i in range(5) for metric in ("rx", "tx")]
    assert find_families(names) == (tuple(names[::2]), tuple(names[1::2]))


@pytest.mark.parametrize(
    "names",
    [
        [f"rel_{metric}" for metric in ("routes", "paths", "neighbours", "memory", "prefixes")],
        [f"eth{i}_rx" for i in range(3)],  # too few
        ["ifInOctets11", "ifOutOctets11", "ifInErrors11", "ifOutErrors11"],
    ],
)
def test_other_names_are_none(names: list[str]) -> None:
    assert find_families(names) == ()


def test_a_family_is_called_by_what_its_names_begin_with() -> None:
    assert name_of(("rx-pps_R1+a", "rx-pps_R2+a")) == "rx-pps_R"
    assert name_of(("eth0_rx", "eth1_rx")) == "eth"
    assert name_of(("1_rx", "2_rx")) == "1_rx"
