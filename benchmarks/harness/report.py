"""What was measured beside what it must reach, as Markdown."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Figure:
    """One measured thing.

    Attributes:
        what: it is.
        measured: in words.
        wanted: what it must be, in words; "" when it only tells something.
        reached: whether it is; None when it only tells something.
    """

    what: str
    measured: str
    wanted: str = ""
    reached: bool | None = None

    @property
    def verdict(self) -> str:
        """In words."""
        return {None: "", True: "reached", False: "**not reached**"}[self.reached]


@dataclass(frozen=True, slots=True)
class Section:
    """What a scenario found.

    Attributes:
        title: its heading.
        text: how it was done.
        figures: what was found.
    """

    title: str
    text: str
    figures: Sequence[Figure]


def told(what: str, value: float | str, unit: str = "") -> Figure:
    """Something to know."""
    return Figure(what, value if isinstance(value, str) else _shown(value, unit))


def below(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Something that must be less than a limit."""
    return Figure(what, _shown(value, unit), f"< {_shown(limit, unit)}", value < limit)


def at_most(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Something that must not be more than a limit."""
    return Figure(what, _shown(value, unit), f"≤ {_shown(limit, unit)}", value <= limit)


def at_least(what: str, value: float, limit: float, unit: str = "") -> Figure:
    """Something that must not be less than a limit."""
    return Figure(what, _shown(value, unit), f"≥ {_shown(limit, unit)}", value >= limit)


def none_of(what: str, number: int, of: int) -> Figure:
    """Something that must not happen, of many times that it could; those must be some."""
    return Figure(what, f"{number:,} of {of:,}", "0", not number and bool(of))


def page(heading: Sequence[str], sections: Sequence[Section], notes: Sequence[str] = ()) -> str:
    """The whole file.

    Args:
        heading: how it was measured, a line each.
        sections: in order.
        notes: what is missing, and why.
    """
    judged = [f for section in sections for f in section.figures if f.reached is not None]
    missed = sum(not figure.reached for figure in judged)
    lines = ["# Resilience", "", *heading]
    lines += [f"- **missing**: {note}" for note in notes]
    lines += [f"- {len(judged)} figures have something to reach; {missed} of them do not", ""]
    for section in sections:
        lines += [f"## {section.title}", "", section.text, "", *_table(section.figures)]
    return "\n".join(lines)


def _table(figures: Sequence[Figure]) -> list[str]:
    lines = ["| what | measured | must be | |", "|---|--:|--:|---|"]
    lines += [f"| {f.what} | {f.measured} | {f.wanted} | {f.verdict} |" for f in figures]
    return [*lines, ""]


def _shown(value: float, unit: str) -> str:
    if math.isnan(value):
        return "nothing"
    digits = 0 if value == int(value) or abs(value) >= 100 else 1 if abs(value) >= 10 else 2
    return f"{value:,.{digits}f}{unit and f' {unit}'}"
