from __future__ import annotations

from service.web.body import ByteBudget
from service.web.problems import OVERLOADED
from tests.support.problems import raises


def test_no_more_bytes_are_held_than_may_be() -> None:
    budget = ByteBudget(100)
    budget.hold(60)
    with raises(OVERLOADED):
        budget.hold(41)
    budget.hold(40)
    budget.release(100)
    assert budget.held == 0
