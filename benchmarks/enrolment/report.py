"""The report of the benchmark: a section for each part, which can be measured anew by itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.harness.report import Figure, Section

_HEAD = """\
# Enrolment

Classes that a running service learns over HTTP. `python -m benchmarks.enrolment` wrote this; each
section says when and how it was measured, for each can be measured by itself (`--only`)."""


def reaching(what: str, value: float, least: float, digits: int = 3) -> Figure:
    """Something that must not be less than a limit, judged before it is rounded."""
    measured, wanted = f"{value:.{digits}f}", f"≥ {least:.{digits}f}"
    return Figure(what, measured, wanted, value >= least)


def shares(values: Sequence[float], digits: int = 1) -> list[str]:
    """Shares of one as percentages, for cells of a table."""
    return [f"{100 * value:.{digits}f}" for value in values]


def section(found: Section, how: Sequence[str]) -> str:
    """A part as Markdown.

    Args:
        found: what it measured.
        how: it was measured, a line each.
    """
    lines = [f"## {found.title}", "", *how, "", found.text, ""]
    lines += ["| what | measured | must be | |", "|---|--:|--:|---|"]
    for figure in found.figures:
        cells = (figure.what, figure.measured, figure.wanted, figure.verdict)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def merged(before: str, sections: Mapping[str, str], order: Sequence[str]) -> str:
    """The whole file, with sections in place of those of the same title.

    Args:
        before: the file as it was, or nothing.
        sections: those that were measured, by title.
        order: of all titles.
    """
    parts = [part.strip() for part in f"\n{before}".split("\n## ")[1:]]
    kept = {part.partition("\n")[0]: f"## {part}" for part in parts}
    after = kept | dict(sections)
    return "\n\n".join([_HEAD, *(after[title] for title in order if title in after)]) + "\n"
