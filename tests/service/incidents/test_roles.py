from __future__ import annotations

import pytest

from models import UNKNOWN, Class
from service.incidents.roles import Role, Roles


def test_roles_are_those_of_the_manifest() -> None:
    classes = [
        Class(name="fine", good=True, severity="none", centroid=(0.5,), radius=0.1, records=9),
        Class(
            name="far",
            good=False,
            severity="minor",
            centroid=(0.5,),
            radius=0.1,
            records=9,
            echo_of="slow",
            lasting=False,
        ),
    ]
    roles = Roles.of(classes)
    assert roles["fine"] == Role(good=True, severity="cleared")
    assert roles["far"] == Role(severity="minor", echo_of="slow", lasting=False)
    assert roles.good == {"fine"}


@pytest.mark.parametrize(
    ("label", "primary", "spreads"),
    [("new", True, False), ("far", False, False), ("cut", True, True), (UNKNOWN, False, False)],
)
def test_a_label_is_a_fault_of_its_own_unless_it_echoes_another(
    label: str, primary: bool, spreads: bool
) -> None:
    roles = Roles({"far": Role(echo_of="slow"), "cut": Role(echo_of="cut")})
    assert roles.is_primary(label) is primary
    assert roles.spreads(label) is spreads
