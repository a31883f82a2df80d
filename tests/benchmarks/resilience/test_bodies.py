from __future__ import annotations

from benchmarks.resilience.bodies import cases


def test_bodies_that_hurt_are_within_what_is_taken() -> None:
    found = list(cases())
    assert len({case.name for case in found}) == len(found) > 30
    assert max(len(case.body) for case in found) <= 16 << 20
    assert sum(not case.refused for case in found) == 2
