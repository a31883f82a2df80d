from __future__ import annotations

import math

import pytest

from benchmarks.harness.report import (
    at_least,
    at_most,
    below,
    info,
    none_of,
    table,
)


@pytest.mark.parametrize(
    ("figure", "wanted", "verdict"),
    [
        (info("p99", 3.0, "ms"), "", ""),
        (below("p99", 3.0, 3.0, "ms"), "< 3 ms", "**not reached**"),
        (below("p99", 2.99, 3.0, "ms"), "< 3 ms", "reached"),
        (below("p99", math.nan, 3.0, "ms"), "< 3 ms", "**not reached**"),
        (at_most("ratio", 1.25, 1.25), "≤ 1.25", "reached"),
        (at_least("share", 0.89, 0.9), "≥ 0.90", "**not reached**"),
        (none_of("lost", 0, 7), "0", "reached"),
        (none_of("lost", 1, 7), "0", "**not reached**"),
        (none_of("lost", 0, 0), "0", "**not reached**"),
    ],
)
def test_a_figure_stands_beside_what_it_must_reach(
    figure: object, wanted: str, verdict: str
) -> None:
    assert (figure.target, figure.verdict) == (wanted, verdict)  # type: ignore[attr-defined]


def test_a_table_has_names_to_the_left_and_numbers_to_the_right() -> None:
    lines = table(("who", "n"), [("a|b", "1")])
    assert lines == ["| who | n |", "|---|--:|", "| a/b | 1 |", ""]
