from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from benchmarks.enrolment import acceptance
from benchmarks.enrolment.acceptance import BORROWED, Case, Cells, Points, borrowed, drawn
from benchmarks.harness.report import table
from models.decision import NearestCentroid
from models.support import support_radius
from service.classes import preview


@pytest.fixture
def case() -> Case:
    """Good traffic at 0.1, a fault at 0.9, and two classes in between that the fit never saw."""
    random = np.random.default_rng(1)

    def points(number: int) -> Points:
        middles = np.array([0.1, 0.9, 0.4, 0.6], np.float32)
        places = np.repeat(np.arange(4), number)
        spread = random.normal(scale=0.01, size=(4 * number, 8)).astype(np.float32)
        return Points(middles[places][:, None] + spread, places)

    rule = NearestCentroid(
        centroids=np.array([[0.1] * 8, [0.9] * 8], np.float32),
        radii=np.array([0.001, 0.002], np.float32),
        temperature=0.01,
        scatter=1e-4,
    )
    known = points(20)
    return Case("made", rule, 0.01, ("third", "fourth"), known, known, points(30))


def test_far_classes_get_their_own_records_and_no_others(case: Case) -> None:
    found = list(drawn(case, 5, 4))
    assert len(found) == 4
    for cells in found:
        assert len(cells) == 2
        for each in cells:
            assert each.accepted > 0.9
            assert each.accepted + each.unknown + each.lost == pytest.approx(1)
            assert (each.false, each.known, each.good, each.harmed) == (0, 0, 0, 0)


def test_a_class_that_borrows_too_much_takes_others(case: Case) -> None:
    near = Points(case.test.points.copy(), case.test.classes)
    near.points[near.classes == 0] += 0.2  # good traffic moves towards the third class
    moved = Case("made", case.rule, 0.01, case.held_out, case.known, case.dev, near)
    tight, wide = (list(drawn(moved, 1, 2, borrow)) for borrow in (lambda *_: 0.0, lambda *_: 1.0))
    assert all(cells[0].good == 0 for cells in tight)
    assert all(cells[0].good > 0.9 for cells in wide)
    assert all(cells[0].false == pytest.approx(cells[0].good / 3) for cells in wide)
    assert all(cells[0].known == pytest.approx(cells[0].good / 2) for cells in wide)
    assert all(cells[0].harmed == 0 for cells in wide)  # they were unknown before
    assert not any(each.refused for cells in wide for each in cells)  # its dev rows did not move


def test_a_class_that_takes_over_another_one_is_said_to_be_refused(case: Case) -> None:
    close = Points(case.known.points.copy(), case.known.classes)
    close.points[close.classes == 2] -= 0.28
    dev = Points(case.dev.points.copy(), case.dev.classes)
    dev.points[dev.classes == 0] += 0.02  # good traffic is still accepted, but nearer to the third
    same = Case("made", case.rule, 0.01, case.held_out, close, dev, case.test)
    found = list(drawn(same, 5, 4))
    assert all(third.refused and not fourth.refused for third, fourth in found)
    cells = acceptance._row("made", "third", 5, [third for third, _ in found])
    row = table(acceptance._HEADS, [cells])[2]
    assert row.endswith("| 100 | none |")
    assert (acceptance._SWALLOWED, acceptance._SWALLOWED_GOOD) == (
        preview._SWALLOWED,
        preview._SWALLOWED_GOOD,
    )
    assert row.count("|") == len(acceptance._HEADS) + 1
    assert "(none)" not in acceptance._figure(same, 5, found).measured  # the fourth class passes


def test_support_records_are_not_asked_for_again(case: Case) -> None:
    [cells] = drawn(case, 20, 1, test=False)
    assert [each.accepted for each in cells] == [0, 0]  # all of them are support records
    [cells] = drawn(case, 19, 1, test=False)
    assert {each.accepted + each.unknown + each.lost for each in cells} == {1}


@pytest.mark.parametrize("shots", [1, 5])
def test_the_service_borrows_once_the_median(case: Case, shots: int) -> None:
    points = case.known.of(2)[:shots]
    as_served = support_radius(points, case.rule.radii, case.rate)
    assert borrowed(case, points, BORROWED["1 x median"]) == pytest.approx(as_served)
    assert borrowed(case, points, BORROWED["without end"]) == 1
    assert list(drawn(case, shots, 3)) == [
        [Cells(**cells) for cells in draw] for draw in _as_dicts(case, shots)
    ]


def _as_dicts(case: Case, shots: int) -> Iterator[list[dict[str, Any]]]:
    for draw in drawn(case, shots, 3, BORROWED["1 x median"]):
        yield [{name: getattr(each, name) for name in Cells.__slots__} for each in draw]


def test_the_calibration_has_a_row_for_each_number_of_records_and_a_mean(case: Case) -> None:
    lines = acceptance._calibration([case], 2)
    assert len(lines) == 5
    assert lines[2].startswith("| made | 1 | ")
    assert lines[-1].startswith("| mean | | ")
    assert len({line.count("|") for line in lines}) == 1
